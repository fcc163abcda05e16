"""First in, first out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from engram.memory.episodic.policies.replacement import replaced
from engram.memory.episodic.policies.table import Batch, Change, Merging, Table


@dataclass(frozen=True)
class FIFO:
    """The row that was written first is replaced, however often its state occurred again."""

    ages: ClassVar[bool] = False

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Merge samples that are there, and put the others in place of the oldest rows."""
        change, met = replaced(table, batch, merging, table.coef)
        new = change.rows.size - met
        change.coef[met:] = table.clock + np.arange(new)
        return change._replace(clock=table.clock + new)
