"""First in, first out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.memory.episodic.policies.replacement import replaced
from engram.memory.episodic.policies.table import Batch, Change, Merging, Table


@dataclass(frozen=True)
class FIFO:
    """The row that was written first is replaced, however often its state has occurred since."""

    ages: ClassVar[bool] = False

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Merge samples of known states, and put the others in place of the oldest rows."""
        change, n_merged = replaced(table, batch, merging, table.coef)
        n_new = change.rows.size - n_merged
        change.coef[n_merged:] = table.clock + np.arange(n_new)
        return change._replace(clock=table.clock + n_new)
