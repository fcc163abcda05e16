"""Prioritising by surprise: what the memory predicted worst stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from engram.checks import size as check_size
from engram.memory.estimate import check_estimate, fast_estimate
from engram.memory.policies.replacement import lowest
from engram.memory.policies.table import Batch, Change, Merging, Table, best, groups
from engram.memory.search import exact_neighbours


@dataclass(frozen=True)
class MaxSurprise:
    """The rows with the smallest surprise make room, whatever comes, as published.

        surprise = |R - estimate of the memory|, when the row was written

    Args:
        k: Neighbours of the estimate.
        kernel: Its kernel, as in ``KeyValueMemory.query``.
        delta: What is added to squared distances, as there.

    Raises:
        ValueError: An argument is out of range.

    Source: Agostinelli et al. (2019), "max_surprise" of the published code.

    Examples:
        >>> MaxSurprise(k=5).kernel
        'idw'
    """

    k: int = 11
    kernel: str = "idw"
    delta: float | str = 1e-3
    ages: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_size("k", self.k)
        check_estimate(self.kernel, self.delta)

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Put the most surprising of equal samples in place of the rows with the smallest surprise."""
        surprise = np.abs(batch.values[:, 0] - self._estimate(table, batch, merging))
        which = best(groups(batch.keys), surprise)
        new, rank = batch.take(which), surprise[which]
        rows = lowest(table.coef, rank.size)
        counts, coef = table.counts.copy(), table.coef.copy()
        counts[rows], coef[rows] = 1, rank
        return Change(rows, new.keys, new.values, new.hashes, rows >= 0, counts, coef, table.clock)

    def _estimate(self, table: Table, batch: Batch, merging: Merging) -> np.ndarray:
        every, k = np.zeros(0, np.int64), min(self.k, len(table.keys))
        found = exact_neighbours(table.keys[None], np.array([table.n_filled]), batch.keys, k, every)
        how: dict[str, Any] = {"kernel": self.kernel, "delta": self.delta, "empty_value": merging.empty_value}
        return fast_estimate(table.values[None], *found, every, exact_match=True, **how)[:, 0]
