"""Margin between classes: the smallest distance between two samples with different labels, observed or extrapolated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from engram import checks
from engram.analysis.difficulty.nearest_neighbours import as_points, closest_pair, distinct_up_to_rounding, screen
from engram.numeric.rounding import levelled, varies

METHODS = ("evt", "exact", "sample")
PAIRS_AT_A_TIME = 2**22  # number of entries in the differences of a chunk of pairs


@dataclass(frozen=True)
class Margin:
    """A margin between classes.

    ``smallest`` is the smallest distance observed, between the two samples ``pair``. ``extreme_value_index`` is the
    shape of the tail of inverse distances, which is bounded if the index is below 0; NaN if not fitted.
    ``n_duplicates`` and ``n_conflicts`` count samples left out because they equal one of the same or of another label,
    within a few units in the last place of their numbers.
    """

    value: float
    method: str
    smallest: float
    pair: tuple[int, int]
    extreme_value_index: float
    n_duplicates: int
    n_conflicts: int


def class_margin(
    X: Shaped[np.ndarray, "samples *features"],
    y: Shaped[np.ndarray, " labels"],
    method: str = "evt",
    *,
    n_pairs: int = 4_000_000,
    n_top: int = 2000,
    n_sample: int = 30_000,
    drop_conflicts: bool = False,
    author_evt: bool = False,
    seed: int | np.random.Generator = 0,
) -> Margin:
    """The smallest distance between two samples with different labels.

    Args:
        X: Samples, flattened.
        y: Their labels; numbers that are equal up to rounding are one label.
        method: ``"exact"``: all pairs, in a time that grows with the square of the number of samples; ``"sample"``: all
            pairs among ``n_sample`` random samples; ``"evt"``: extrapolation from random pairs to the number of all
            pairs, by ``extreme_quantile`` of inverse distances, but never above the smallest distance observed.
        n_pairs: Number of pairs that ``"evt"`` draws; if there are no more pairs than this, it uses all of them.
        n_top: Number of nearest pairs to which ``"evt"`` fits the tail.
        n_sample: Number of samples of ``"sample"``.
        drop_conflicts: Leave out equal samples with different labels, instead of raising an error.
        author_evt: Extrapolate as the authors' script does: to n^2 (1 - 1/C) ordered pairs, without the factor for
            bounded tails.
        seed: Seed of all draws, or a generator.

    Raises:
        ValueError: An argument is out of range, samples with different labels are equal, or fewer than two labels are
            left.

    Source: Boopathy et al. (2023), the authors' script.

    Examples:
        >>> class_margin(np.array([[0.0], [1.0], [3.0]]), np.array([0, 0, 1])).value
        2.0
    """
    checks.arguments()
    points = as_points(X)
    checks.choice("method", method, METHODS)
    checks.size("n_sample", n_sample, 2)
    if method == "evt":
        checks.size("n_pairs", n_pairs, 3)  # one more than the fewest that a tail is fitted to
    y = check_labels(y, len(points))
    rng = checks.rng("seed", seed)
    rows, n_duplicates, n_conflicts = _without_duplicates(points, X.dtype, y, drop_conflicts)
    if method == "sample" and n_sample < len(rows):
        rows = np.sort(rng.choice(rows, n_sample, replace=False))
    _, labels, counts = np.unique(y[rows], return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError(f"y: expected at least two labels among the {len(rows)} samples, found {len(counts)}")
    total = (len(rows) ** 2 - int((counts**2).sum())) // 2
    if method == "evt" and total <= n_pairs:
        method = "exact"
    if method != "evt":
        smallest, pair = _closest(points[rows], labels, counts)
        pair = (int(rows[pair[0]]), int(rows[pair[1]]))
        return Margin(smallest, method, smallest, pair, math.nan, n_duplicates, n_conflicts)
    checks.size("n_top", n_top, 2, n_pairs - 1)
    distances, first_rows, second_rows = _random_pairs(points, rows, labels, n_pairs, rng)
    nearest = int(distances.argmin())
    if author_evt:
        total = round(len(points) ** 2 * (1 - 1 / len(counts)))
    largest_inverse, tail_index = extreme_quantile(1 / distances, n_top, total / n_pairs, bounded_factor=not author_evt)
    smallest = float(distances[nearest])
    pair = (int(first_rows[nearest]), int(second_rows[nearest]))
    return Margin(min(1 / largest_inverse, smallest), method, smallest, pair, tail_index, n_duplicates, n_conflicts)


def check_labels(y: Shaped[np.ndarray, " labels"], samples: int) -> Int[np.ndarray, " samples"]:
    """The number of each label, up to rounding; raise ValueError unless each sample has one, and none is NaN."""
    if len(y) != samples:
        raise ValueError(f"y: expected {samples} labels, one for each sample, found {len(y)}")
    if y.dtype.kind == "f" and np.isnan(y).any():
        raise ValueError(f"y has nan as label {int(np.isnan(y).argmax())}: expected none")
    return np.unique(levelled(y) if y.dtype.kind == "f" else y, return_inverse=True)[1]


def extreme_quantile(
    values: Float[np.ndarray, " values"], k: int, ratio: float | int, *, bounded_factor: bool = True
) -> tuple[float, float]:
    """The largest value expected in a population ``ratio`` times as large, and the extreme-value index gamma.

    The means of log(X / u) and of its square over the k values X above u, the (k + 1)-th largest, are M_1 and M_2:

        gamma = M_1 + 1 - 1 / (2 (1 - M_1^2 / M_2))
        x = u + u M_1 (1 - min(gamma, 0)) (a^gamma - 1) / gamma,   a = k ratio

    Args:
        values: More than k positive values.
        k: Number of largest values that the tail is fitted to, at least 2.
        ratio: Size of the population divided by that of ``values``.
        bounded_factor: Whether to include 1 - min(gamma, 0), which the authors' script leaves out.

    Raises:
        ValueError: ``k`` is not from 2 to the number of values - 1, ``ratio`` is not above 0, a value is not finite, k
            or fewer are positive, or the k largest are all equal.

    Source: Dekkers, Einmahl and de Haan, "A moment estimator for the index of an extreme-value distribution" (1989).

    Examples:
        >>> inverse_distances = 1 / np.random.default_rng(0).random(100_000) ** 0.5
        >>> round(extreme_quantile(inverse_distances, 1000, 100)[1], 1)  # distances in two dimensions
        0.5
    """
    checks.arguments()
    checks.size("k", k, 2, len(values) - 1)
    checks.number("ratio", ratio, above=0)
    checks.finite("values", values)
    largest_values = np.partition(values, len(values) - k - 1)[len(values) - k - 1 :]
    u = float(largest_values[0])
    if not u > 0:
        raise ValueError(f"values: the {k + 1}-th largest is {u}: expected more than k = {k} positive ones")
    log_ratios = np.log(largest_values[1:] / u)
    M1, M2 = float(log_ratios.mean()), float((log_ratios**2).mean())
    if not varies(largest_values[1:]) or not M1**2 < M2:
        raise ValueError(
            f"values: the largest {k} are all equal multiples of the next: expected a tail, take a larger k"
        )
    gamma = M1 + 1 - 0.5 / (1 - M1**2 / M2)
    a = k * ratio
    growth = math.expm1(gamma * math.log(a)) / gamma if gamma else math.log(a)
    factor = 1 - min(gamma, 0.0) if bounded_factor else 1.0
    return u + u * M1 * factor * growth, gamma


def _without_duplicates(
    points: np.ndarray, dtype: np.dtype[Any], y: np.ndarray, drop_conflicts: bool
) -> tuple[np.ndarray, int, int]:
    """The first of all equal samples, and the numbers left out as duplicates and for conflicting labels."""
    first_rows, groups = distinct_up_to_rounding(points, dtype)
    conflicting = np.flatnonzero(y != y[first_rows[groups]])
    if len(conflicting) and not drop_conflicts:
        pair = f"{first_rows[groups[conflicting[0]]]} and {conflicting[0]}"
        why = "are equal, up to rounding, and have different labels"
        raise ValueError(f"X: samples {pair} {why}; expected not, or drop_conflicts=True")
    ambiguous = np.zeros(len(first_rows), dtype=bool)
    ambiguous[groups[conflicting]] = True
    n_conflicts = int(ambiguous[groups].sum())
    rows = first_rows[~ambiguous]
    return rows, len(points) - n_conflicts - len(rows), n_conflicts


def _closest(points: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> tuple[float, tuple[int, int]]:
    """The smallest distance over all pairs with different labels, and the pair."""
    order = np.argsort(labels, kind="stable")
    data = screen(points[order])
    class_ends = np.cumsum(counts)
    closest, pair = np.inf, (0, 0)
    for class_start, class_end in zip(class_ends[:-1] - counts[:-1], class_ends[:-1], strict=True):
        closest, closer_pair = closest_pair(
            data, np.arange(class_start, class_end), slice(int(class_end), None), closest
        )
        pair = closer_pair or pair
    return closest, (int(order[pair[0]]), int(order[pair[1]]))


def _random_pairs(
    points: np.ndarray, rows: np.ndarray, labels: np.ndarray, n_pairs: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " pairs"], Int[np.ndarray, " pairs"], Int[np.ndarray, " pairs"]]:
    """The distances of random pairs with different labels, and the pairs."""
    counts = np.bincount(labels)
    starts, n_others = np.cumsum(counts) - counts, len(rows) - counts
    # The class of the first sample is drawn by its number of pairs; the second is any sample of another class.
    class_pairs = counts * n_others.astype(float)
    classes = rng.choice(len(counts), n_pairs, p=class_pairs / class_pairs.sum())
    first_positions = starts[classes] + rng.integers(counts[classes])
    second_positions = rng.integers(n_others[classes])
    second_positions += counts[classes] * (second_positions >= starts[classes])
    by_class = rows[np.argsort(labels, kind="stable")]
    first_rows, second_rows = by_class[first_positions], by_class[second_positions]
    distances = np.empty(n_pairs)
    chunk_size = max(1, PAIRS_AT_A_TIME // points.shape[1])
    for start in range(0, n_pairs, chunk_size):
        chunk = slice(start, start + chunk_size)
        difference = points[first_rows[chunk]] - points[second_rows[chunk]]
        distances[chunk] = np.sqrt(np.einsum("ij,ij->i", difference, difference, dtype=np.float64))
    return distances, first_rows, second_rows
