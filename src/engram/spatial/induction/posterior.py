"""The posterior over maps, as weighted hypotheses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int8

from engram import checks
from engram.numeric.grid_cells import CODES, EMPTY, REWARD, UNOBSERVED, blocked


class Submap(NamedTuple):
    """A part of a map that may occur repeatedly.

    Attributes:
        cells: Its cells, of which some may be unknown.
        support: Number of blocks of the map in which it was seen.
    """

    cells: Int8[np.ndarray, "bh bw"]
    support: int


class Candidate(NamedTuple):
    """Possible content of a slot.

    Attributes:
        cells: Cells of the block.
        submap: Index of its submap; -1: the known part of the block itself, only for this slot.
        cost: Cost of its transformation, in bits.
    """

    cells: Int8[np.ndarray, "bh bw"]
    submap: int
    cost: float


@dataclass(frozen=True, eq=False)
class MapPosterior:
    """Hypotheses about a map.

    Attributes:
        maps: The completed maps, with all known cells; cells that a hypothesis leaves open are unknown.
        weights: Their weights, which add up to 1 if there are any.
        known: The map as known.
        submaps: The submaps of the block size of largest weight, or, if no program is consistent, of the first size
            that has any.
        slots: Rows and columns of each slot of that size, as slices.
        candidates: Possible contents of each slot.
        programs: Number of assignments of submaps to slots that agree with the known cells; a product, not enumerated.
        log_evidence: The log of the summed exp(-lam cost) of the consistent programs of all block sizes.
        unstructured: Weight of the hypothesis that no submap is repeated.
        background: Under this hypothesis, the probability of a reward in each cell.
    """

    maps: Int8[np.ndarray, "n h w"]
    weights: Float64[np.ndarray, "n"]
    known: Int8[np.ndarray, "h w"]
    submaps: tuple[Submap, ...]
    slots: tuple[tuple[slice, slice], ...]
    candidates: tuple[tuple[Candidate, ...], ...]
    programs: int
    log_evidence: float
    unstructured: float
    background: Float64[np.ndarray, "h w"]

    def __len__(self) -> int:
        return len(self.maps)

    def marginal(self, code: int = REWARD) -> Float[np.ndarray, "h w"]:
        """The probability that each cell has a code; for a reward, it includes the hypothesis without structure.

        Args:
            code: One of the codes of cells.

        Raises:
            ValueError: ``code`` is not a code of cells.
        """
        checks.choice("code", code, (*CODES, UNOBSERVED))
        structured = np.einsum("n,nhw->hw", self.weights, self.maps == code, dtype=np.float64)
        if code != REWARD:
            return np.asarray(structured)
        return np.asarray((1 - self.unstructured) * structured + self.unstructured * self.background)

    def map(self) -> Int8[np.ndarray, "h w"] | None:
        """The first hypothesis of largest weight; None if there is none."""
        return self.maps[int(self.weights.argmax())] if len(self) else None

    def sample(self, n: int, rng: np.random.Generator | int | None = None) -> Int8[np.ndarray, "n h w"]:
        """Maps drawn by weight; without structure, rewards are drawn from the background, at most one in each slot.

        Args:
            n: Number of maps.
            rng: A generator or a seed.

        Raises:
            ValueError: There is no hypothesis to draw from.
        """
        n, rng = checks.size("n", n, minimum=0), checks.rng("rng", rng)
        if not len(self):
            raise ValueError("sample: this posterior has no hypothesis to draw from")
        with checks.noted(weights=self.weights):
            maps = self.maps[rng.choice(len(self), size=n, p=self.weights)]
        for index in np.flatnonzero(rng.random(n) < self.unstructured):
            maps[index] = self._without_structure(rng)
        return maps

    def _without_structure(self, rng: np.random.Generator) -> Int8[np.ndarray, "h w"]:
        """The best hypothesis, with rewards in unknown cells drawn from the background instead."""
        best = self.map()
        assert best is not None
        unseen = self.known == UNOBSERVED
        sample = np.where(unseen & (best == REWARD), EMPTY, best).astype(np.int8)
        for rows, columns in self.slots:
            chance = self.background[rows, columns] * unseen[rows, columns]
            total = chance.sum()
            if total > 0 and rng.random() < total:
                cell = rng.choice(chance.size, p=chance.ravel() / total)
                sample[rows, columns].flat[cell] = REWARD
        return sample


def background(
    known: Int8[np.ndarray, "h w"], best: Int8[np.ndarray, "h w"] | None, slots: tuple[tuple[slice, slice], ...]
) -> Float64[np.ndarray, "h w"]:
    """The chance of a reward: one in each slot that showed none, uniform over unseen cells free in ``best``.

    Args:
        known: Codes of cells, 6 where unknown.
        best: The most probable map, or None.
        slots: Rows and columns of each slot.
    """
    chance = np.zeros(known.shape)
    unseen = known == UNOBSERVED
    free = unseen if best is None else unseen & ~blocked(best)
    for slot in slots:
        rewarded = best is not None and bool((best[slot][~unseen[slot]] == REWARD).any())
        if free[slot].any() and not rewarded:
            chance[slot] = free[slot] / free[slot].sum()
    return chance
