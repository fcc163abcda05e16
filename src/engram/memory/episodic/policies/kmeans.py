"""Online k-means of keys with values, and its dynamic form, in which clusters starve."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from engram import checks
from engram.memory.episodic.neighbours import closest
from engram.memory.episodic.policies.replacement import lowest, placed
from engram.memory.episodic.policies.table import (
    Batch,
    Change,
    Merging,
    Table,
    merged_values,
    recognised,
    row_values,
    sums,
    unrounded,
)

WEIGHTINGS = ("count", "author")
FREE = 1e-6  # largest count of a starved cluster


@dataclass(frozen=True)
class KMeans:
    """Online k-means: samples become clusters while rows are empty; then they join the nearest one and move it.

        key <- (c key + sum of its new keys) / (c + m),   c <- c + m

    Hashes and values move in the same way. No row is ever replaced, and the step 1 / (c + 1) of a cluster falls with
    its age.

    Args:
        weighting: ``"count"`` or ``"author"``; see ``DynamicKMeans``.
        merge_radius: Distance of keys up to which states are the same; 0: equality of hashes. ``"author"`` merges
            nothing and needs 0.

    Source: Agostinelli et al. (2019), "k_means" of the published code; MacQueen (1967).
    """

    weighting: str = "count"
    merge_radius: float = 0.0
    ages: ClassVar[bool] = False
    forgets: ClassVar[bool] = False
    averages: ClassVar[bool] = True  # rows are means of samples

    def __post_init__(self) -> None:
        checks.choice("weighting", self.weighting, WEIGHTINGS)
        if checks.number("merge_radius", self.merge_radius, minimum=0) and self.weighting == "author":
            raise ValueError(f"merge_radius = {self.merge_radius}: expected 0 with 'author', which merges nothing")

    @classmethod
    def as_published(cls) -> KMeans:
        """The form of the published code."""
        return cls(weighting="author")

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """Replace starved clusters, then move clusters towards the samples nearest to them."""
        if self.forgets and len(batch.keys) > len(table.keys) / 4:
            large = f"a batch of more than a quarter of capacity = {len(table.keys)}"
            warnings.warn(f"{large}: clusters starve before they are fed", RuntimeWarning, stacklevel=3)
        if self.weighting == "author":
            return clustered_as_published(table, batch, merging, self.forgets)
        horizon = getattr(self, "horizon", np.inf)
        return clustered(table, batch, merging, horizon, self.merge_radius)


@dataclass(frozen=True)
class DynamicKMeans(KMeans):
    """Online k-means whose clusters lose weight over time and make room when they starve.

    A batch of n samples adds n to the counts c and takes n / M from each of the M rows, so that their sum stays near
    h M; a row with no count left is free. A cluster survives if it gets one sample in M. With ``weighting="count"``:

        1. a sample that equals a row (or lies within ``merge_radius``) is merged into it: c <- c + 1, ``value_update``
        2. equal samples among the rest become one, with their number as its count
        3. these take the rows that are free after step 1, in time order
        4. the others join the nearest cluster, as it is now:  key <- (c key + sum of m keys) / (c + m), c <- c + m
        5. c <- c - max(0, sum c - h M) / M everywhere, so that nothing is lost before the sum reaches h M

    Free rows lose as much as the others, and their counts become negative. If states recur so often that few rows hold
    nearly all of the sum, a new row can therefore starve at once.

    With ``horizon=None``, step 5 takes n / M from every row at each batch, also while rows are empty. Whenever a
    starved row is taken, the sum of counts then grows by what this row lacked, so clusters remember longer if batches
    are large. If new samples come one by one, each finds the oldest row starved: the memory is a queue.

    ``weighting="author"`` is the published code: without steps 1 and 2; nearest clusters are found before rows are
    taken; the m samples that join a cluster weigh as one; step 5 takes n / M, or nothing if all samples take free rows.
    Therefore the sum of its counts grows whenever a row is reused, and clusters eventually stop moving, like those of
    ``KMeans``. Those of ``"count"`` never stop; in a stationary stream, a smaller h makes them less exact. Both are
    meant for n much smaller than M; n above a quarter of M gives a warning.

    Args:
        weighting: ``"count"`` or ``"author"``.
        merge_radius: Distance of keys up to which states are the same; 0: equality of hashes.
        horizon: Mean number of samples that a row remembers, h, at least 1; None: the loss of counts is fixed. With
            ``"author"`` 1.

    Source: Agostinelli et al. (2019), algorithm and published code; the corrections are ours.
    """

    horizon: float | None = 1.0
    forgets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        lasts = self.horizon is None or checks.number("horizon", self.horizon, minimum=1) > 1
        if lasts and self.weighting == "author":
            raise ValueError(f"horizon = {self.horizon}: expected 1 with 'author', whose counts grow by themselves")

    @classmethod
    def lasting(cls) -> DynamicKMeans:
        """The corrected form, in which a row remembers 8 samples on average."""
        return cls(horizon=8.0)

    @classmethod
    def with_fixed_loss(cls) -> DynamicKMeans:
        """The corrected form in which each sample takes 1 / M from every row, however large the sum of counts is."""
        return cls(horizon=None)


def clustered(table: Table, batch: Batch, merging: Merging, horizon: float | None, radius: float = 0.0) -> Change:
    """The change of clusters in the corrected form.

    Args:
        table: The table.
        batch: New samples.
        merging: How samples that meet a row are merged.
        horizon: Mean count of a row above which counts decay; None: they decay at every batch.
        radius: Distance of keys up to which states are the same; 0: equality of hashes.
    """
    counts = table.counts.copy()
    recurring, row, new_samples = recognised(table, batch, merging, radius)
    values = merged_values(row_values(table, row, merging), counts[row].clip(0), recurring, merging)
    counts[row] += recurring.weights
    slots = free(counts, len(new_samples.keys))
    fills, remaining = (
        new_samples.take(np.arange(slots.size)),
        new_samples.take(np.arange(slots.size, len(new_samples.keys))),
    )
    counts[slots] = fills.weights
    stays = ~np.isin(row, slots)  # a row with a count far below 0 is free even after a sample was merged into it
    row, values = row[stays], values[stays]
    change = placed(table, row, values, slots, fills, counts=counts[np.concatenate((row, slots))])
    if len(remaining.keys):
        change = _joined(table, change, remaining, _nearest(table, change, remaining, merging), as_one=False)
        counts[change.rows] = change.counts
    excess = batch.weights.sum() if horizon is None else max(0.0, counts.sum() - horizon * counts.size)
    return change._replace(loss=float(excess) / counts.size)


def clustered_as_published(table: Table, batch: Batch, merging: Merging, forgets: bool) -> Change:
    """The change of clusters in the published form.

    Args:
        table: The table.
        batch: New samples.
        merging: Settings; only ``assign`` is used.
        forgets: Whether clusters lose weight.
    """
    n = len(batch.keys)
    stored = batch.hashes if merging.assign == "hash" else batch.keys
    row, _ = closest(table.hashes if merging.assign == "hash" else table.keys, table.n_filled, stored)
    slots = free(table.counts, n)
    fills, remaining = batch.take(np.arange(slots.size)), batch.take(np.arange(slots.size, n))
    change = placed(table, slots[:0], fills.values[:0], slots, fills, counts=np.ones(slots.size))
    if slots.size == n:
        return change
    change = _joined(table, change, remaining, row[slots.size :], as_one=True)
    return change._replace(loss=n / len(table.counts)) if forgets else change


def free(counts: Annotated[np.ndarray, " capacity"], limit: int) -> Annotated[np.ndarray, " slots"]:
    """Up to ``limit`` rows that are empty or starved, those with the lowest counts first."""
    return lowest(counts, min(limit, int((counts <= FREE).sum())))


def _nearest(table: Table, change: Change, batch: Batch, merging: Merging) -> Annotated[np.ndarray, " samples"]:
    """The cluster that each sample joins, after a change of the table."""
    by_hash = merging.assign == "hash"
    stored, changed = (table.hashes, change.hashes) if by_hash else (table.keys, change.keys)
    if change.fresh.any():
        stored = stored.copy()
        stored[change.rows] = changed
    filled = max(table.n_filled, int(change.rows.max(initial=-1)) + 1)
    return closest(stored, filled, batch.hashes if by_hash else batch.keys)[0]


def _joined(table: Table, change: Change, batch: Batch, row: Annotated[np.ndarray, " samples"], as_one: bool) -> Change:
    """A change in which samples also join clusters; ``as_one``: all samples that join a cluster together weigh 1."""
    rows, index = np.unique(np.concatenate((change.rows, row)), return_inverse=True)
    earlier, target = np.split(index, [change.rows.size])
    fresh = np.zeros(rows.size, bool)
    fresh[earlier] = change.fresh
    joins, group = np.unique(target, return_inverse=True)
    weight = np.bincount(group, batch.weights)
    counts = table.counts[rows]
    counts[earlier] = change.counts
    count = counts[joins].clip(0)
    counts[joins] += weight
    share = weight if as_one else np.ones_like(weight)
    added = weight / share

    def updated(which: int, changed: np.ndarray, samples: np.ndarray) -> np.ndarray:
        all_rows = unrounded(table, which, rows)
        all_rows[earlier] = changed
        total = sums(group, weight.size, batch.weights[:, None] * samples) / share[:, None]
        all_rows[joins] = (count[:, None] * all_rows[joins] + total) / (count + added)[:, None]
        return np.asarray(all_rows)

    keys, values, hashes = map(updated, range(3), (change.keys, change.values, change.hashes), batch[:3])
    return Change(rows, keys, values, hashes, fresh, counts, table.coef[rows], table.clock)
