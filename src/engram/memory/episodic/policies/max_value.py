"""Ranking by value: the samples with the highest returns are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engram.memory.episodic.policies.replacement import overwritten
from engram.memory.episodic.policies.table import Batch, Change, Merging, Table, best, groups


@dataclass(frozen=True)
class MaxValue:
    """Any new sample replaces the row with the smallest value, as published.

    Samples are not compared with rows: a state that recurs gets another row, and a new sample can replace a better one.

    Source: Agostinelli et al. (2019), "max_rewards" of the published code.
    """

    ages: ClassVar[bool] = False

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Put the best sample of each state in place of the rows with the smallest values."""
        best_samples = batch.take(best(groups(batch.hashes), batch.values[:, 0]))
        return overwritten(table, best_samples, best_samples.values[:, 0])
