"""Ranking by value: the samples of highest return stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engram.memory.episodic.policies.replacement import overwritten
from engram.memory.episodic.policies.table import Batch, Change, Merging, Table, best, groups


@dataclass(frozen=True)
class MaxValue:
    """Replacement of the rows with the smallest values by any new sample, as published.

    Samples are not compared with rows: a state that occurs again gets another row, and new samples replace better ones.

    Source: Agostinelli et al. (2019), "max_rewards" of the published code.
    """

    ages: ClassVar[bool] = False

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Put the best of equal samples in place of the rows with the smallest values."""
        new = batch.take(best(groups(batch.hashes), batch.values[:, 0]))
        return overwritten(table, new, new.values[:, 0])
