"""The exact nearest keys of a table: by differences, or, for large batches, by matrix products first."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int

from engram.nn.sequence import full_precision
from engram.numeric.threads import in_ranges

BLOCK = 2048  # keys in one matrix product
FEW = 8  # up to this many samples or features a matrix product is no faster
SAMPLES = 1024  # samples in one matrix product
WORK = 2**24  # multiplications that are worth several threads
ALL = np.zeros(0, np.int64)  # stands for all tables, in place of the table of each sample
Neighbours = tuple[Int[np.ndarray, "pairs k"], Float[np.ndarray, "pairs k"]]


def exact_neighbours(
    keys: Annotated[np.ndarray, "tables capacity features"],
    filled: Annotated[np.ndarray, " tables"],
    x: Annotated[np.ndarray, "samples features"],
    k: int,
    tables: Annotated[np.ndarray, " samples_or_none"] = ALL,
) -> Neighbours:
    """Rows and squared distances of the k nearest keys, nearest first; ties go to the lowest row.

    If there are fewer keys, the rest is row -1 at an infinite distance.

    Args:
        keys: Keys of all tables.
        filled: Number of rows in use in each table; they are the first ones.
        x: Samples.
        k: Number of neighbours.
        tables: Table of each sample; if empty, all tables, with pairs ordered by sample, then by table.
    """
    from engram.memory.episodic import kernels

    all_tables = not tables.size
    counts = filled.tolist()  # of few tables, on which an operation of NumPy takes as long as a small search
    if filled.shape != keys.shape[:1] or min(counts, default=0) < 0 or max(counts, default=0) > keys.shape[1]:
        raise ValueError(f"filled = {filled}: expected {len(keys)} counts of keys, at most {keys.shape[1]}")
    if not all_tables and (tables.shape != x.shape[:1] or not ((tables >= 0) & (tables < len(keys))).all()):
        raise ValueError(f"tables = {tables}: expected one of {len(keys)} tables for each of {len(x)} samples")
    pairs = len(x) * (len(keys) if all_tables else 1)
    rows, distances = np.empty((pairs, k), np.int64), np.empty((pairs, k))
    if len(x) > FEW and all_tables and keys.shape[2] > FEW:
        for table in range(len(keys)):
            of_table = slice(table, None, len(keys))
            rows[of_table], distances[of_table] = _by_products(keys[table], int(filled[table]), x, k)
        return rows, distances
    arguments = keys, filled, x, tables, rows, distances
    if pairs * keys.shape[1] * keys.shape[2] > WORK:
        in_ranges(partial(kernels.nearest_of_all, *arguments), pairs, torch.get_num_threads())
    else:
        kernels.nearest_of_all(*arguments, 0, pairs)
    return rows, distances


def closest(
    keys: Annotated[np.ndarray, "capacity features"], filled: int, x: Annotated[np.ndarray, "samples features"]
) -> tuple[Int[np.ndarray, " samples"], Float[np.ndarray, " samples"]]:
    """The row of the key nearest to each sample, -1 if there is none, and its squared distance.

    Args:
        keys: Keys of one table.
        filled: Number of rows in use; they are the first ones.
        x: Samples.
    """
    rows, distances = exact_neighbours(keys[None], np.array([filled]), x, 1)
    return rows[:, 0], distances[:, 0]


def _by_products(
    keys: Annotated[np.ndarray, "capacity features"], filled: int, x: Annotated[np.ndarray, "samples features"], k: int
) -> Neighbours:
    """The nearest of the first ``filled`` keys: matrix products first, exact distances only where they matter."""
    from engram.memory.episodic import kernels

    norms, squares = np.empty(filled, keys.dtype), np.empty(len(x), keys.dtype)
    largest_norms = kernels.squares(keys, filled, norms), kernels.squares(x, len(x), squares)
    rows, distances = np.full((len(x), k), -1), np.full((len(x), k), np.inf)
    if not np.isfinite(2 * sum(largest_norms)):  # their products would overflow
        kernels.nearest_of_all(keys[None], np.array([filled]), x, ALL, rows, distances, 0, len(x))
        return rows, distances
    slack = 4 * (keys.shape[1] + 4) * np.finfo(keys.dtype).eps
    stored, samples = torch.from_numpy(keys), torch.from_numpy(x)
    threads = torch.get_num_threads() if filled * x.size > WORK else 1
    for begin in range(0, len(x), SAMPLES):
        for offset in range(0, filled, BLOCK):
            with full_precision(samples.device):
                block = samples[begin : begin + SAMPLES] @ stored[offset : min(offset + BLOCK, filled)].T
            arguments = (
                keys,
                norms,
                largest_norms[0],
                slack,
                block.numpy(),
                offset,
                begin,
                x,
                squares,
                rows,
                distances,
            )
            in_ranges(partial(kernels.refine, *arguments), len(block), threads)
    return rows, distances
