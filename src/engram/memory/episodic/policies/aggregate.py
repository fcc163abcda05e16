"""Online state aggregation: states within a radius count as the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from engram import checks
from engram.memory.episodic.policies.lru import least_recently_used
from engram.memory.episodic.policies.table import Batch, Change, Merging, Table


@dataclass(frozen=True)
class Aggregate:
    """A sample within a radius of a key counts as the same state; others replace the least recently used row.

    A row keeps its first key. If several keys are within the radius, the nearest wins.

    Args:
        radius: Euclidean distance of keys up to which states are the same, above 0.

    Source: Pinto, "Model-free episodic control with state aggregation" (2020), here with a bound on the table.
    """

    radius: float
    ages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number("radius", self.radius, above=0)

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Merge samples near a key, and put the others in place of the least recently used rows."""
        return least_recently_used(table, batch, merging, self.radius)
