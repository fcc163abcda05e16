"""The best sets of terms by a quadratic approximation of the loss, found by leaps and bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

WIDTH = 1 << 14  # sets of one size that are extended; with 27 terms all of up to four are 20,853
RIDGE = 1e-10  # share of a term's own curvature, so that sets of dependent terms can be solved


class Expansion(NamedTuple):
    """A loss to second order around a fit: loss(theta) = floor + theta' F theta / 2 - pull' theta.

    Attributes:
        information: F, of all terms.
        pull: F theta - slope at the point of expansion.
        floor: The loss without any term.
        fitted_to: Number of observations whose variance is fitted too, so that the criterion is that of the logarithm
            of the loss; 0 for choices.
    """

    information: Float[np.ndarray, "term term"]
    pull: Float[np.ndarray, " term"]
    floor: float
    fitted_to: int

    def deviance(self, gain: Float[np.ndarray, " set"]) -> Float[np.ndarray, " set"]:
        """Minus two log-likelihoods, up to a constant, of sets of terms that lower the loss by half of these gains."""
        loss = 2 * self.floor - gain
        if not self.fitted_to:
            return loss
        # Below a share of the noise the approximation cannot be right.
        return self.fitted_to * np.log(np.maximum(loss, 1e-3 * self.fitted_to))

    def minimum(self, support: tuple[int, ...]) -> Float[np.ndarray, " part"]:
        """The coefficients of some terms at which the approximation is smallest.

        Args:
            support: Places of the terms.
        """
        places = np.array(support, dtype=int)
        scale = _scale(self.information)[places]
        matrix = self.information[np.ix_(places, places)] / np.outer(scale, scale) + RIDGE * np.eye(len(places))
        minimum: np.ndarray = np.linalg.solve(matrix, self.pull[places] / scale) / scale
        return minimum


class Ranked(NamedTuple):
    """A set of terms.

    Attributes:
        support: Places of its terms, ascending.
        criterion: Its criterion by the approximation, up to the constant of ``Expansion.deviance``.
    """

    support: tuple[int, ...]
    criterion: float


def best_subsets(expansion: Expansion, price: float, margin: float, at_most: int) -> list[Ranked]:
    """The sets of terms whose criterion is the smallest or exceeds it by at most a margin, the best first.

    Sets are extended term by term, the strongest terms first. A set is not extended if even all terms that could follow
    it, at the price of one, would leave it above the margin (leaps and bounds). No set within the margin is missed
    unless one size has more than 2^14 sets that pass, of which those with the best bounds are extended.

    Args:
        expansion: The loss.
        price: What each term adds to the criterion.
        margin: How much more than the smallest criterion a set may have.
        at_most: Number of sets that are returned.

    Source: Furnival and Wilson, "Regressions by leaps and bounds" (1974).

    Examples:
        >>> loss = Expansion(np.eye(3), np.array([3.0, 0.1, 2.0]), 10.0, 0)
        >>> [found.support for found in best_subsets(loss, 1.0, 3.5, 9)]
        [(0, 2), (0, 1, 2), (0,)]
    """
    used = np.flatnonzero(np.diag(expansion.information) > 0)
    scale = _scale(expansion.information)[used]
    F, pull = expansion.information[np.ix_(used, used)] / np.outer(scale, scale), expansion.pull[used] / scale
    F = F + RIDGE * np.eye(len(F))
    inverse = np.linalg.inv(F)
    order = np.argsort(-np.abs(inverse @ pull) / np.sqrt(np.abs(np.diag(inverse))), kind="stable")
    F, pull = F[np.ix_(order, order)], pull[order]
    tails = [_after(F, pull, first) for first in range(len(pull) + 1)]
    empty = float(expansion.deviance(np.zeros(1))[0])
    found: list[Ranked] = [Ranked((), empty)]
    least, sets = empty, np.zeros((1, 0), int)
    for size in range(1, len(pull) + 1):
        sets = _extended(sets, len(pull))
        if not len(sets):
            break
        criteria = expansion.deviance(_gains(F, pull, sets)) + price * size
        least = min(least, float(criteria.min(initial=np.inf)))
        near = np.flatnonzero(criteria <= least + margin)
        near = near[np.argsort(criteria[near], kind="stable")[:at_most]]
        named = np.sort(used[order[sets[near]]], axis=1).tolist()
        found += [Ranked(tuple(each), value) for each, value in zip(named, criteria[near].tolist(), strict=True)]
        bounds = expansion.deviance(_reach(tails, sets)) + price * (size + 1)
        open_ = np.flatnonzero((bounds <= least + margin) & (sets[:, -1] < len(pull) - 1))
        sets = sets[open_[np.argsort(bounds[open_], kind="stable")[:WIDTH]]]
    return sorted((each for each in found if each.criterion <= least + margin), key=lambda each: each.criterion)[
        :at_most
    ]


class _Tail(NamedTuple):
    """What all terms from one place on gain together, and what is left for those before it."""

    gain: float
    information: Float[np.ndarray, "term term"]
    pull: Float[np.ndarray, " term"]


def _after(F: np.ndarray, pull: np.ndarray, first: int) -> _Tail:
    rest = F[first:, first:]
    solved = np.linalg.solve(rest, np.column_stack([pull[first:], F[first:, :first]]))
    mixed = F[first:, :first]
    complement = F[:first, :first] - mixed.T @ solved[:, 1:]
    return _Tail(float(pull[first:] @ solved[:, 0]), complement, pull[:first] - mixed.T @ solved[:, 0])


def _extended(sets: Int[np.ndarray, "set size"], terms: int) -> Int[np.ndarray, "more larger"]:
    """Every set with one more term after its last."""
    last = sets[:, -1] if sets.shape[1] else np.full(len(sets), -1)
    kept: Bool[np.ndarray, "set term"] = np.arange(terms) > last[:, None]
    rows, added = np.nonzero(kept)
    return np.column_stack([sets[rows], added])


def _gains(F: np.ndarray, pull: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """What each set gains, pull' F^-1 pull."""
    matrices, pulls = F[sets[:, :, None], sets[:, None, :]], pull[sets]
    gains: np.ndarray = (pulls * np.linalg.solve(matrices, pulls[:, :, None])[:, :, 0]).sum(axis=1)
    return gains


def _reach(tails: list[_Tail], sets: np.ndarray) -> np.ndarray:
    """What each set would gain together with all terms after its last."""
    gains = np.zeros(len(sets))
    for last in np.unique(sets[:, -1]):
        tail, rows = tails[last + 1], np.flatnonzero(sets[:, -1] == last)
        # Terms that depend on those after them gain nothing more.
        information = tail.information + RIDGE * np.eye(len(tail.information))
        gains[rows] = tail.gain + _gains(information, tail.pull, sets[rows])
    return gains


def _scale(information: np.ndarray) -> np.ndarray:
    diagonal = np.diag(information)
    return np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
