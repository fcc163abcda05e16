"""Policies that replace the rows of lowest rank, and what they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch

from engram import checks
from engram.memory.counted_random import chance, number
from engram.memory.episodic.neighbours import ALL, Averaging, exact_neighbours, fast_estimate
from engram.memory.episodic.policies.table import Batch, Change, Merging, Table, best, groups, merged_values, recognised


@dataclass(frozen=True)
class LRU:
    """The row that was not used for longest makes room; every look-up that it answers and every write uses a row.

    Rows keep the time of their last use, in place of an age that every look-up would have to raise.

    Source: Blundell et al., "Model-free episodic control" (2016); Pritzel et al., "Neural episodic control" (2017).
    """

    ages: ClassVar[bool] = True

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Merge samples that are there, and put the others in place of the rows unused for longest."""
        return least_recently_used(table, batch, merging)


@dataclass(frozen=True)
class Aggregate:
    """A sample within a radius of a key counts as its state; for others the least recently used row makes room.

    A row keeps the key that it began with. Of several keys within the radius, Euclidean and above 0, the nearest wins.

    Source: Pinto, "Model-free episodic control with state aggregation" (2020), here with a bound on the table.
    """

    radius: float
    ages: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.number("radius", self.radius, above=0)

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Merge samples near a key, and put the others in place of the rows that were not used for longest."""
        return least_recently_used(table, batch, merging, self.radius)


@dataclass(frozen=True)
class FIFO:
    """The row that was written first makes room, however often its state came again."""

    ages: ClassVar[bool] = False

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Merge samples that are there, and put the others in place of the oldest rows."""
        change, met = replaced(table, batch, merging, table.coef)
        coef, new = table.coef.copy(), change.rows[met:]
        coef[new] = table.clock + np.arange(new.size)
        return change._replace(coef=coef, clock=table.clock + new.size)


@dataclass(frozen=True)
class RandomReplacement:
    """A random row makes room, once there is no empty one."""

    ages: ClassVar[bool] = False

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Merge samples that are there, and put the others in place of random rows."""
        capacity = len(table.keys)
        place = torch.arange(table.clock, table.clock + capacity)
        drawn = chance(number(torch.tensor(table.seed), place)).numpy().astype(np.float64)
        rank = np.where(np.arange(capacity) < table.n_filled, drawn, table.coef)
        change, _ = replaced(table, batch, merging, rank)
        return change._replace(clock=table.clock + capacity)


@dataclass(frozen=True)
class MaxValue:
    """The rows with the smallest values make room, whatever comes, as published.

    Samples are not compared with rows: a state that comes again gets another, and new samples replace better ones.

    Source: Agostinelli et al. (2019), "max_rewards" of the published code.
    """

    ages: ClassVar[bool] = False

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Put the best of equal samples in place of the rows with the smallest values."""
        new = batch.take(best(groups(batch.hashes), batch.values[:, 0]))
        return overwritten(table, new, new.values[:, 0])


@dataclass(frozen=True)
class MaxSurprise:
    """The rows with the smallest surprise make room, whatever comes, as published.

        surprise = |R - estimate of the memory|, when the row was written

    Args:
        k: Neighbours of the estimate; this, ``kernel`` and ``delta`` as in ``KeyValueMemory.query``.

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
        """Put the most surprising of equal samples in place of the rows with the smallest surprise."""
        found = exact_neighbours(table.keys[None], np.array([table.n_filled]), batch.keys, min(self.k, len(table.keys)))
        how = Averaging(self.kernel, self.delta, True, merging.empty_value)
        surprise = np.abs(batch.values[:, 0] - fast_estimate(table.values[None], *found, ALL, how)[:, 0])
        which = best(groups(batch.keys), surprise)
        return overwritten(table, batch.take(which), surprise[which])


def least_recently_used(table: Table, batch: Batch, merging: Merging, radius: float = 0.0) -> Change:
    """Merge samples within a radius of a key, and put the others in place of the rows that were not used longest."""
    change, _ = replaced(table, batch, merging, table.coef, radius)
    coef, now = table.coef.copy(), table.clock + 1
    coef[change.rows] = now
    return change._replace(coef=coef, clock=now)


def replaced(
    table: Table, batch: Batch, merging: Merging, rank: Annotated[np.ndarray, " capacity"], radius: float = 0.0
) -> tuple[Change, int]:
    """Merge samples into the rows of their states, which make no room, and put the others in those of lowest rank.

    Return the change, ``coef`` and ``clock`` as they were, and how many of its rows, the first, were met.
    """
    met, row, new = recognised(table, batch, merging, radius)
    rank = rank.copy()
    rank[row] = np.inf
    victims = lowest(rank, len(new.keys))
    values = merged_values(table.values[row], table.counts[row], met, merging)
    counts = table.counts.copy()
    counts[row] += met.weights
    counts[victims] = new.weights
    return placed(table._replace(counts=counts), row, values, victims, new), row.size


def placed(
    table: Table,
    met: Annotated[np.ndarray, " met"],
    values: Annotated[np.ndarray, "met value_dim"],
    slots: Annotated[np.ndarray, " slots"],
    new: Batch,
) -> Change:
    """Return a change of the values of some rows, and of all that some others hold; counts are those of the table."""
    rows = np.concatenate((met, slots))
    keys, hashes = np.concatenate((table.keys[met], new.keys)), np.concatenate((table.hashes[met], new.hashes))
    fresh = np.arange(rows.size) >= met.size
    return Change(
        rows, keys, np.concatenate((values, new.values)), hashes, fresh, table.counts, table.coef, table.clock
    )


def overwritten(table: Table, new: Batch, rank: Annotated[np.ndarray, " samples"]) -> Change:
    """Put samples in place of the rows of the lowest ``coef``, which becomes their rank, whatever is stored."""
    rows = lowest(table.coef, len(rank))
    counts, coef = table.counts.copy(), table.coef.copy()
    counts[rows], coef[rows] = 1, rank
    return Change(rows, new.keys, new.values, new.hashes, rows >= 0, counts, coef, table.clock)


def lowest(rank: Annotated[np.ndarray, " capacity"], count: int) -> Annotated[np.ndarray, " count"]:
    """Return the ``count`` lowest, in order, the first of equal ones before the others."""
    if not count:
        return np.zeros(0, np.int64)
    if count == 1:
        return np.array([rank.argmin()])
    if 8 * count > rank.size:
        return rank.argsort(kind="stable")[:count]
    bound = np.partition(rank, count)[count]
    among = np.flatnonzero(rank <= bound)
    return np.asarray(among[rank[among].argsort(kind="stable")[:count]])
