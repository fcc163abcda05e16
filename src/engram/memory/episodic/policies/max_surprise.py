"""Ranking by surprise: the samples that the memory predicted worst are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram import checks
from engram.memory.episodic.estimate import Averaging, fast_estimate
from engram.memory.episodic.neighbours import ALL, exact_neighbours
from engram.memory.episodic.policies.replacement import overwritten
from engram.memory.episodic.policies.table import Batch, Change, Merging, Table, best, groups


@dataclass(frozen=True)
class MaxSurprise:
    """Any new sample replaces the row with the smallest surprise, as published.

        surprise = |R - estimate of the memory|, when the row was written

    Args:
        k: Number of neighbours of the estimate.
        kernel: ``"idw"``, inverse squared distance, or ``"mean"``.
        delta: Added to squared distances; ``"auto"``: their mean over the k neighbours.

    Source: Agostinelli et al. (2019), "max_surprise" of the published code.
    """

    k: int = 11
    kernel: str = "idw"
    delta: float | str = 1e-3
    ages: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks.size("k", self.k)
        Averaging(self.kernel, self.delta).checked()

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Put the most surprising sample for each key in place of the rows with the smallest surprise."""
        neighbours = exact_neighbours(
            table.keys[None], np.array([table.n_filled]), batch.keys, min(self.k, len(table.keys))
        )
        shared_keys = table.hashes is not table.keys
        averaging = Averaging(self.kernel, self.delta, True, merging.empty_value, shared_keys)
        surprise = np.abs(batch.values[:, 0] - fast_estimate(table.values[None], *neighbours, ALL, averaging)[:, 0])
        chosen = best(groups(batch.keys), surprise)
        return overwritten(table, batch.take(chosen), surprise[chosen])
