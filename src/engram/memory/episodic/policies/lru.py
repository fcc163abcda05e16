"""Least recently used: the rule of MFEC and NEC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.memory.episodic.policies.replacement import replaced
from engram.memory.episodic.policies.table import Batch, Change, Merging, Table


@dataclass(frozen=True)
class LRU:
    """The least recently used row is replaced; answering a look-up and being written both count as use.

    Rows store the time of their last use rather than an age, which every look-up would have to increase.

    Source: Blundell et al., "Model-free episodic control" (2016); Pritzel et al., "Neural episodic control" (2017).
    """

    ages: ClassVar[bool] = True

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Merge samples of known states, and put the others in place of the least recently used rows."""
        return least_recently_used(table, batch, merging)


def least_recently_used(table: Table, batch: Batch, merging: Merging, radius: float = 0.0) -> Change:
    """The change that merges samples of known states, and puts the others in place of the least recently used rows.

    Args:
        table: The table.
        batch: New samples in time order.
        merging: How samples are merged into rows.
        radius: Euclidean distance of keys up to which states are the same; 0: equality of hashes.
    """
    change, _ = replaced(table, batch, merging, table.coef, radius)
    clock = table.clock + 1
    return change._replace(coef=np.full(change.rows.size, float(clock)), clock=clock)
