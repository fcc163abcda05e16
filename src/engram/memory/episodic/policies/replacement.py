"""Policies that replace the row of the lowest rank: by age, use, chance, value or surprise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch

from engram import checks
from engram.memory.episodic.estimate import Averaging, fast_estimate
from engram.memory.episodic.neighbours import ALL, exact_neighbours
from engram.memory.episodic.policies.table import (
    Batch,
    Change,
    Merging,
    Table,
    best,
    groups,
    merged_values,
    recognised,
    row_values,
    unrounded,
)
from engram.memory.splitmix import chance, number


def replaced(
    table: Table, batch: Batch, merging: Merging, rank: Annotated[np.ndarray, " capacity"], radius: float = 0.0
) -> tuple[Change, int]:
    """Merge samples of known states into their rows, and put the others in place of the other rows of lowest rank.

    Args:
        table: The table.
        batch: New samples.
        merging: How samples are merged into rows.
        rank: Rank of each row.
        radius: Distance of keys up to which states are the same; 0: equality of hashes.

    Returns:
        The change, with ``coef`` and ``clock`` as they were, and the number of merged rows, which come first in it.
    """
    recurring, row, new_samples = recognised(table, batch, merging, radius)
    if row.size and len(new_samples.keys):
        rank = rank.copy()
        rank[row] = np.inf
    victims = lowest(rank, len(new_samples.keys))
    values = merged_values(row_values(table, row, merging), table.counts[row], recurring, merging)
    counts = np.concatenate((table.counts[row] + recurring.weights, new_samples.weights))
    return placed(table, row, values, victims, new_samples, counts=counts), row.size


def placed(
    table: Table,
    updated_rows: Annotated[np.ndarray, " met"],
    values: Annotated[np.ndarray, "met value_dim"],
    slots: Annotated[np.ndarray, " slots"],
    samples: Batch,
    *,
    counts: Annotated[np.ndarray, " changed"],
) -> Change:
    """A change that updates the values of some rows and replaces some others entirely.

    Args:
        table: The table.
        updated_rows: Rows whose values change.
        values: New values of ``updated_rows``, (rows, value_dim).
        slots: Rows that are replaced.
        samples: Samples that replace them.
        counts: New counts of ``updated_rows``, then of ``slots``.
    """
    rows = np.concatenate((updated_rows, slots))
    keys, hashes = (
        np.concatenate((unrounded(table, 0, updated_rows), samples.keys)),
        np.concatenate((unrounded(table, 2, updated_rows), samples.hashes)),
    )
    fresh = np.arange(rows.size) >= updated_rows.size
    all_values = np.concatenate((values, samples.values))
    return Change(rows, keys, all_values, hashes, fresh, counts, table.coef[rows], table.clock)


def overwritten(table: Table, samples: Batch, rank: Annotated[np.ndarray, " samples"]) -> Change:
    """The change that puts samples in place of the rows of lowest ``coef``, without merging.

    Args:
        table: The table.
        samples: The samples.
        rank: The new ``coef`` of each sample's row.
    """
    rows = lowest(table.coef, len(rank))
    coef = np.asarray(rank, table.coef.dtype)
    return Change(rows, samples.keys, samples.values, samples.hashes, rows >= 0, np.ones(rows.size), coef, table.clock)


def lowest(rank: Annotated[np.ndarray, " capacity"], count: int) -> Annotated[np.ndarray, " count"]:
    """The indices of the ``count`` lowest ranks, in ascending order; ties go to the lowest index."""
    if not count:
        return np.zeros(0, np.int64)
    if count == 1:
        return np.array([rank.argmin()])
    if 8 * count > rank.size:
        return rank.argsort(kind="stable")[:count]
    bound = np.partition(rank, count)[count]
    candidates = np.flatnonzero(rank <= bound)
    return np.asarray(candidates[rank[candidates].argsort(kind="stable")[:count]])


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
