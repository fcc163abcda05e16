"""Random replacement: the baseline that any policy should beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from engram.memory.counted_random import chance, number
from engram.memory.episodic.policies.replacement import replaced
from engram.memory.episodic.policies.table import Batch, Change, Merging, Table


@dataclass(frozen=True)
class RandomReplacement:
    """A random row is replaced when no row is empty."""

    ages: ClassVar[bool] = False

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Merge samples of known states, and put the others in place of random rows."""
        capacity = len(table.keys)
        count = torch.arange(table.clock, table.clock + capacity)
        random_rank = chance(number(torch.tensor(table.seed), count)).numpy().astype(np.float64)
        rank = np.where(np.arange(capacity) < table.n_filled, random_rank, table.coef)
        change, _ = replaced(table, batch, merging, rank)
        return change._replace(clock=table.clock + capacity)
