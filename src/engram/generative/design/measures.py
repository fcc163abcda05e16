"""The fitness, diversity and novelty of designed sequences, with distances counted in edits."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from engram import checks
from engram.generative.design.sequences import Measurements, check_tokens
from engram.numeric.rounding import are_equal
from engram.numeric.threads import in_ranges

Tokens = UInt8[np.ndarray, "sequences length"]


class Fitness(NamedTuple):
    """Statistics of fitness, scaled so that 0 is the lowest and 1 the highest known fitness."""

    median: float
    mean: float
    most: float
    std: float


def fitness(values: Float[np.ndarray, "sequences"], known: Float[np.ndarray, "all_known"]) -> Fitness:
    r"""Fitness normalised by the range of all known sequences, (g - min Y) / (max Y - min Y).

    Args:
        values: Fitness g of the designed sequences.
        known: Fitness Y of all known sequences, including the best ones, which the designer has not seen.

    Raises:
        ValueError: An array is empty or not finite, or all known values are equal.

    Source: Kirjner et al., ICLR 2024, section 5.1.

    Examples:
        >>> fitness(np.array([2.0, 3.0, 6.0]), np.array([1.0, 5.0])).median
        0.5
    """
    checks.arguments()
    for name, numbers in (("values", values), ("known", known)):
        if not len(numbers):
            raise ValueError(f"{name}.shape = (0,): expected at least one")
        checks.finite(name, numbers)
    low, high = float(known.min()), float(known.max())
    if are_equal(known):
        raise ValueError(f"known: expected different numbers, not {low} alone")
    scaled = (values - low) / (high - low)
    return Fitness(*(float(measure(scaled)) for measure in (np.median, np.mean, np.max, np.std)))


def diversity(tokens: Tokens) -> float:
    """The mean number of edits between pairs of sequences; 0 for a single sequence.

    Source: the published code of Kirjner et al., ICLR 2024; the paper writes a median.

    Examples:
        >>> diversity(np.array([[0, 0, 0], [1, 1, 1]], dtype=np.uint8))
        3.0
    """
    from engram.generative.design import kernels

    checks.arguments()
    check_tokens("tokens", tokens, 256)
    edits = np.zeros(len(tokens) * (len(tokens) - 1) // 2, np.int64)
    kernels.pairs(np.ascontiguousarray(tokens), edits)
    return float(edits.mean()) if len(edits) else 0.0


def novelty(tokens: Tokens, start: UInt8[np.ndarray, "starts length"]) -> float:
    """The median over sequences of the number of edits to the nearest initial sequence.

    Source: the published code of Kirjner et al., ICLR 2024.

    Examples:
        >>> novelty(np.array([[0, 0, 1]], dtype=np.uint8), np.zeros((1, 3), np.uint8))
        1.0
    """
    checks.arguments()
    return float(np.median(edits_to(tokens, start)))


def edits_to(
    tokens: Tokens, others: UInt8[np.ndarray, "others length"], most: int | None = None
) -> Int[np.ndarray, "sequences"]:
    """The number of edits (Levenshtein distance) from each sequence to the nearest of some others.

    Args:
        tokens: The sequences.
        others: The other sequences, of the same length.
        most: Larger numbers of edits are reported as this one, for speed; None: no limit.

    Raises:
        ValueError: An array is empty, lengths differ, or ``most`` is negative.

    Examples:
        >>> edits_to(np.array([[0, 1, 2]], dtype=np.uint8), np.array([[1, 2, 0]], dtype=np.uint8)).tolist()
        [2]
    """
    from engram.generative.design import kernels

    checks.arguments()
    check_tokens("tokens", tokens, 256)
    check_tokens("others", others, 256)
    bound = tokens.shape[1] if most is None else checks.size("most", most, 0)
    out = np.zeros(len(tokens), np.int64)
    rows, columns = np.ascontiguousarray(tokens), np.ascontiguousarray(others)
    in_ranges(lambda first, stop: kernels.nearest(rows, columns, bound, first, stop, out), len(rows), None)
    return out


def split(
    known: Measurements,
    percentile: tuple[float, float] = (0.0, 0.3),
    gap: int = 7,
    top: float = 0.99,
    distance: str = "levenshtein",
) -> Int[np.ndarray, "rows"]:
    """The rows that a designer may start from: of low fitness, and far from all the best ones.

    These lie between two quantiles of fitness, bounds included, and at least ``gap`` edits from every row at or above
    the quantile ``top``. Quantiles are taken over all rows, with linear interpolation.

    Args:
        known: All measured sequences.
        percentile: The two quantiles of fitness, from 0 to 1, between which the rows lie.
        gap: Fewest edits to the best rows; 0: no limit, with a warning, since rows near the best give them away.
        top: The quantile of fitness from which on a row counts as one of the best.
        distance: ``"levenshtein"``, the number of edits, or ``"hamming"``, the number of differing letters.

    Raises:
        ValueError: An argument is out of range, the rows overlap the best, or no row is left; the message then says
            how many rows are left for each gap.

    Source: Kirjner et al., ICLR 2024, section 5.1 and appendix.

    Examples:
        >>> known = Measurements(np.eye(4, dtype=np.uint8), np.array([0.0, 1.0, 2.0, 3.0]))
        >>> split(known, (0.0, 0.5), gap=2).tolist()
        [0, 1]
    """
    checks.arguments()
    tokens, scores = known
    check_tokens("known.tokens", tokens, 256)
    checks.has_shape("known.scores", scores.shape, (len(tokens),))
    checks.finite("known.scores", scores)
    checks.choice("distance", distance, ("levenshtein", "hamming"))
    gap = checks.size("gap", gap, 0)
    low, high = (checks.number(f"percentile[{n}]", percentile[n], minimum=0, maximum=1) for n in (0, 1))
    if not low < high <= checks.number("top", top, above=0, maximum=1):
        raise ValueError(f"percentile = {percentile}: expected a lower and a higher one, of at most top = {top}")
    lowest, highest, best = np.quantile(scores, (low, high, top))
    rows = np.flatnonzero((lowest <= scores) & (scores <= highest))
    if highest >= best:
        raise ValueError(
            f"percentile = {percentile}: its upper end, {highest}, is already among the best (top = {top})"
        )
    good = tokens[scores >= best]
    if distance == "levenshtein":
        edits = edits_to(tokens[rows], good, gap or None)
    else:
        edits = np.min([(tokens[rows] != row).sum(1) for row in good], axis=0)
    if gap == 0:
        warnings.warn(f"gap = 0: the start may hold the best: one is {edits.min()} edits away", UserWarning,
                      stacklevel=2)  # fmt: skip
    if not (edits >= gap).any():
        rows_by_gap = ", ".join(f"{least}: {int((edits >= least).sum())}" for least in range(gap + 1))
        raise ValueError(f"gap = {gap}: no row is so far from the best; rows by gap are {rows_by_gap}")
    return rows[edits >= gap]
