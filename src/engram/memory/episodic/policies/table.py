"""The interface of policies, from a table and a batch to a change; how they find and merge equal states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from engram import checks
from engram.memory.episodic.neighbours import closest


class Table(NamedTuple):
    """One table of a memory, read-only."""

    keys: Float[np.ndarray, "capacity key_dim"]
    values: Float[np.ndarray, "capacity value_dim"]
    hashes: Float[np.ndarray, "capacity hash_dim"]  # the keys if there are no hashes; also in batches
    counts: Float[np.ndarray, " capacity"]  # weight of the samples in each row
    coef: Float[np.ndarray, " capacity"]  # ranks of rows
    n_filled: int  # number of rows in use, the first ones
    clock: int  # look-ups and writes so far that count as time
    seed: int  # source of random choices, together with the clock
    find: Callable[[np.ndarray], np.ndarray] | None = None  # the lowest row of each hash, or -1; None: search instead
    rounding: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # what rounding took from keys, values, hashes


class Batch(NamedTuple):
    """Samples to be written to a table, in time order."""

    keys: Float[np.ndarray, "samples key_dim"]
    values: Float[np.ndarray, "samples value_dim"]
    hashes: Float[np.ndarray, "samples hash_dim"]
    weights: Float[np.ndarray, " samples"]  # number of samples that were combined into each

    def take(self, which: Annotated[np.ndarray, " some"]) -> Batch:
        """The samples with the indices ``which``, or those where this mask is true."""
        return Batch(self.keys[which], self.values[which], self.hashes[which], self.weights[which])


class Change(NamedTuple):
    """The change of a table by a batch."""

    rows: Int[np.ndarray, " changed"]  # each once
    keys: Float[np.ndarray, "changed key_dim"]
    values: Float[np.ndarray, "changed value_dim"]
    hashes: Float[np.ndarray, "changed hash_dim"]
    fresh: Bool[np.ndarray, " changed"]  # the old content was replaced
    counts: Float[np.ndarray, " changed"]
    coef: Float[np.ndarray, " changed"]
    clock: int
    loss: float = 0.0  # subtracted from the counts of all rows afterwards


class Merging(NamedTuple):
    """How samples are merged into rows; the arguments of ``KeyValueMemory`` with the same names."""

    value_update: str = "max"
    value_step: float = 0.1
    assign: str = "key"
    empty_value: float = 0.0


@runtime_checkable
class Policy(Protocol):
    """The policy of a full memory."""

    @property
    def ages(self) -> bool:
        """Whether look-ups advance the clock and set the ``coef`` of the answering rows to its time."""

    def write(self, table: Table, batch: Batch, merging: Merging) -> Change:
        """The change of a table by a batch of samples.

        Args:
            table: The table, read-only.
            batch: New samples, at least one and at most one for each row of the table.
            merging: How samples are merged into rows.
        """


def unrounded(table: Table, which: int, rows: Annotated[np.ndarray, " rows"]) -> Annotated[np.ndarray, "rows width"]:
    """Rows of the keys (0), the values (1) or the hashes (2) of a table, with what rounding took from means.

    Args:
        table: The table.
        which: 0, 1 or 2.
        rows: The rows.
    """
    stored = np.asarray((table.keys, table.values, table.hashes)[which][rows])
    return stored if table.rounding is None else stored + table.rounding[which][rows].astype(np.float64)


def check_change(change: Change, table: Table) -> None:
    """Raise ValueError unless a change fits a table, names each row once and has finite numbers.

    Args:
        change: The change that a policy's ``write`` returned.
        table: The table that it was called with.
    """
    rows, capacity = np.asarray(change.rows), len(table.keys)
    if rows.ndim != 1 or rows.dtype.kind != "i":
        raise ValueError(f"rows of shape {rows.shape}, {rows.dtype}: expected integers, (changed,)")
    if not 0 <= rows.min(initial=0) <= rows.max(initial=0) < capacity or np.unique(rows).size < rows.size:
        raise ValueError(f"rows = {rows.tolist()}: expected each once, from 0 to {capacity - 1}")
    added = np.sort(rows[rows >= table.n_filled])
    if (added != table.n_filled + np.arange(added.size)).any():
        raise ValueError(f"rows = {rows.tolist()}: expected empty ones in their order, from {table.n_filled} on")
    for name in ("keys", "values", "hashes", "counts", "coef"):
        numbers, expected = np.asarray(getattr(change, name)), (rows.size, *getattr(table, name).shape[1:])
        if numbers.shape != expected:
            raise ValueError(f"{name} of shape {numbers.shape}: expected {expected}")
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name} = {numbers}: expected finite numbers")
    if np.shape(change.fresh) != rows.shape or np.asarray(change.fresh).dtype != bool:
        raise ValueError(f"fresh = {change.fresh}: expected booleans, ({rows.size},)")
    if not (isinstance(change.clock, int | np.integer) and change.clock >= table.clock):
        raise ValueError(f"clock = {change.clock!r}: expected an integer, at least {table.clock}")
    checks.number("loss", change.loss, minimum=0)


def first_coef(capacity: int) -> Float[np.ndarray, " capacity"]:
    """The ``coef`` of an empty table: empty rows are taken in order, before any row in use is replaced."""
    return np.arange(capacity) - 2.0**60


class Recognised(NamedTuple):
    """Samples of known and of new states, equal ones combined into one."""

    met: Batch  # samples whose state has a row
    rows: Int[np.ndarray, " met"]  # these rows, each once
    new: Batch  # the others, in time order


def recognised(table: Table, batch: Batch, merging: Merging, radius: float = 0.0) -> Recognised:
    """The rows that samples belong to: those of equal hashes, or of the nearest key within a radius above 0.

    Samples are compared with the table first, then with each other.

    Args:
        table: The table.
        batch: New samples.
        merging: How equal samples are merged.
        radius: Distance of keys up to which states are the same; 0: equality of hashes.
    """
    if table.find is not None and not radius:
        row = table.find(batch.hashes)
        is_known = row >= 0
    else:
        stored, queries = (table.keys, batch.keys) if radius else (table.hashes, batch.hashes)
        row, distance = closest(stored, table.n_filled, queries)
        # The square of a tiny difference may be 0.
        is_known = distance <= radius**2 if radius else (row >= 0) & (stored[row] == queries).all(axis=1)
    rows, group = np.unique(row[is_known], return_inverse=True)
    new_samples = batch.take(~is_known)
    new_group = groups(new_samples.hashes) if radius == 0 else aggregated(new_samples.keys, radius)
    return Recognised(_combined(batch.take(is_known), group, merging), rows, _combined(new_samples, new_group, merging))


def groups(hashes: Annotated[np.ndarray, "samples hash_dim"]) -> Int[np.ndarray, " samples"]:
    """The group of each sample, (samples,): equal hashes, (samples, hash_dim), form a group, numbered as they occur."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in hashes], np.int64)


def aggregated(keys: Annotated[np.ndarray, "samples key_dim"], radius: float) -> Int[np.ndarray, " samples"]:
    """The group of each key, (samples,): the group with the nearest first key within ``radius``, else a new group."""
    first_keys, group = np.empty_like(keys), np.empty(len(keys), np.int64)
    count = 0
    for i, key in enumerate(keys):
        squared_distances = ((first_keys[:count] - key) ** 2).sum(1)
        nearest = squared_distances.argmin() if count else 0
        if count and squared_distances[nearest] <= radius**2:
            group[i] = nearest
        else:
            first_keys[count], group[i] = key, count
            count += 1
    return group


def _combined(batch: Batch, group: Annotated[np.ndarray, " samples"], merging: Merging) -> Batch:
    """The sample of largest value in each group; it gets the mean value of its group if values are averaged."""
    if not group.size or group.max() + 1 == group.size:
        return batch.take(group.argsort())
    merged = batch.take(best(group, batch.values[:, 0]))
    weights = np.bincount(group, batch.weights)
    if merging.value_update == "mean":
        values = sums(group, len(weights), batch.weights[:, None] * batch.values) / weights[:, None]
        merged = merged._replace(values=values.astype(batch.values.dtype))
    return merged._replace(weights=weights)


def best(
    group: Annotated[np.ndarray, " samples"], rank: Annotated[np.ndarray, " samples"]
) -> Int[np.ndarray, " groups"]:
    """The index of the sample of highest ``rank`` in each ``group``, (groups,); ties go to the first sample."""
    order = np.lexsort((np.arange(rank.size), -rank, group))
    return order[np.unique(group[order], return_index=True)[1]]


def sums(
    group: Annotated[np.ndarray, " samples"], count: int, x: Annotated[np.ndarray, "samples width"]
) -> Float[np.ndarray, "groups width"]:
    """The sums over groups, in 64 bits.

    Args:
        group: Group of each sample.
        count: Number of groups.
        x: The numbers to add, (samples, width).
    """
    total = np.zeros((count, x.shape[1]))
    np.add.at(total, group, x)
    return total


def row_values(table: Table, rows: Annotated[np.ndarray, " rows"], merging: Merging) -> np.ndarray:
    """The values of rows as ``merged_values`` takes them: those of means as they were before rounding."""
    return unrounded(table, 1, rows) if merging.value_update == "mean" else np.asarray(table.values[rows])


def merged_values(
    row_values: Annotated[np.ndarray, "rows value_dim"],
    counts: Annotated[np.ndarray, " rows"],
    batch: Batch,
    merging: Merging,
) -> Float[np.ndarray, "rows value_dim"]:
    """The new values of rows whose states recurred.

    Args:
        row_values: Old values of the rows, (rows, value_dim).
        counts: Old counts of the rows, (rows,).
        batch: The recurring samples, one for each row.
        merging: The rule by which values are updated.
    """
    if merging.value_update == "max":
        return np.where(
            batch.values[:, :1] > row_values[:, :1], batch.values, row_values
        )  # the whole vector, as in ``best``
    if merging.value_update == "ema":
        return np.asarray(row_values + row_values.dtype.type(merging.value_step) * (batch.values - row_values))
    row_weights, sample_weights = counts[:, None], batch.weights[:, None]
    return np.asarray(
        (row_weights * row_values + sample_weights * batch.values) / (row_weights + sample_weights), row_values.dtype
    )
