"""Replacement, shared by policies: replace the rows of lowest rank, with or without merging known states first."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from engram.memory.episodic.policies.table import (
    Batch,
    Change,
    Merging,
    Table,
    merged_values,
    recognised,
    row_values,
    unrounded,
)


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
