"""How the nearest keys are found: all of them looked at, or candidates from an index."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int

from engram.threads import in_ranges

BLOCK = 2048  # keys in one matrix product
FEW = 8  # samples for which a matrix product is no faster
SAMPLES = 1024  # in one matrix product
WORK = 2**24  # multiplications worth a thread
Found = tuple[Int[np.ndarray, "pairs k"], Float[np.ndarray, "pairs k"]]


@runtime_checkable
class Search(Protocol):
    """What finds the keys nearest to samples."""

    def neighbours(
        self,
        keys: Annotated[np.ndarray, "tables capacity features"],
        filled: Annotated[np.ndarray, " tables"],
        x: Annotated[np.ndarray, "samples features"],
        k: int,
        tables: Annotated[np.ndarray, " samples_or_none"],
    ) -> Found:
        """Return rows and squared distances of the k nearest of the first ``filled`` keys of tables, nearest first.

        Row -1 at an infinite distance stands where there are fewer. Without ``tables`` all are searched for every
        sample, and the results are (samples x tables, k), tables first.
        """

    def written(self, table: int, rows: Annotated[np.ndarray, " rows"]) -> None:
        """Take note that these keys of a table are no longer what they were."""

    def reset(self) -> None:
        """Forget everything: all keys may be others."""


class ExactSearch:
    """All keys are looked at: one after another, or for large batches by matrix products and exact distances after.

    Examples:
        >>> keys = np.array([[[0.0], [3.0]]], np.float32)
        >>> ExactSearch().neighbours(keys, np.array([2]), keys[0, 1:], 1, np.zeros(0, int))[0].tolist()
        [[1]]
    """

    def neighbours(
        self,
        keys: Annotated[np.ndarray, "tables capacity features"],
        filled: Annotated[np.ndarray, " tables"],
        x: Annotated[np.ndarray, "samples features"],
        k: int,
        tables: Annotated[np.ndarray, " samples_or_none"],
    ) -> Found:
        """Return the nearest keys; see ``Search``."""
        return exact_neighbours(keys, filled, x, k, tables)

    def written(self, table: int, rows: Annotated[np.ndarray, " rows"]) -> None:
        """Nothing is kept."""

    def reset(self) -> None:
        """Nothing is kept."""


class FaissSearch:
    """Candidates from an index of faiss, the extra ``engram[faiss]``; for tables too large to look through.

    Rows that were written since the index was built are all looked at, so that it never lags behind, and distances are
    exact. Which neighbours are missed depends on when it was built: a memory that is loaded builds it anew and may
    answer otherwise than one that was not stored.

    Args:
        index: What index, as faiss's ``index_factory`` has it.
        rebuild: Share of the rows written since, from which on it is built anew.
        smallest: Rows up to which all are looked at, without an index.

    Raises:
        ImportError: faiss is not installed.
        ValueError: An argument is out of range.
    """

    def __init__(self, index: str = "HNSW32", rebuild: float = 0.05, smallest: int = 10_000) -> None:
        try:
            import faiss
        except ImportError as error:
            raise ImportError("FaissSearch needs faiss: pip install 'engram[faiss]'") from error
        if not 0 < rebuild <= 1:
            raise ValueError(f"rebuild = {rebuild}: expected above 0, at most 1")
        if smallest < 1:
            raise ValueError(f"smallest = {smallest}: expected at least 1")
        self._faiss = faiss
        self.index, self.rebuild, self.smallest = index, rebuild, smallest
        self.reset()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy starts without an index."""
        return type(self), (self.index, self.rebuild, self.smallest)

    def reset(self) -> None:
        """Forget all indices."""
        self._built: dict[int, Any] = {}
        self._stale: dict[int, set[int]] = {}

    def written(self, table: int, rows: Annotated[np.ndarray, " rows"]) -> None:
        """Take note that these rows of a table are to be looked at."""
        if table in self._built:
            self._stale[table].update(rows.tolist())

    def neighbours(
        self,
        keys: Annotated[np.ndarray, "tables capacity features"],
        filled: Annotated[np.ndarray, " tables"],
        x: Annotated[np.ndarray, "samples features"],
        k: int,
        tables: Annotated[np.ndarray, " samples_or_none"],
    ) -> Found:
        """Return near keys, mostly the nearest; see ``Search``."""
        every = not tables.size
        rows = np.full((len(x) * (len(keys) if every else 1), k), -1)
        distances = np.full(rows.shape, np.inf, keys.dtype)
        for table in range(len(keys)) if every else np.unique(tables):
            which = np.arange(len(x)) if every else np.flatnonzero(tables == table)
            pairs = which * len(keys) + table if every else which
            rows[pairs], distances[pairs] = self._of_one(int(table), keys[table], int(filled[table]), x[which], k)
        return rows, distances

    def _of_one(self, table: int, keys: np.ndarray, filled: int, x: np.ndarray, k: int) -> Found:
        from engram.memory.kernels import neighbours

        if filled <= self.smallest:
            self._built.pop(table, None)
            return exact_neighbours(keys[None], np.array([filled]), x, k, np.zeros(0, np.int64))
        if table not in self._built or len(self._stale[table]) > self.rebuild * filled:
            index = self._faiss.index_factory(keys.shape[1], self.index)
            index.train(keys[:filled])
            index.add(keys[:filled])
            self._built[table], self._stale[table] = index, set()
        stale = np.array(sorted(self._stale[table]), np.int64)
        candidates = self._built[table].search(x, min(2 * k + 16, filled))[1]
        candidates[np.isin(candidates, stale)] = -1
        candidates = np.hstack((candidates, np.broadcast_to(stale, (len(x), stale.size))))
        candidates.sort(axis=1)
        rows, distances = np.empty((len(x), k), np.int64), np.empty((len(x), k), keys.dtype)
        neighbours.nearest_among(keys, candidates, x, rows, distances)
        return rows, distances


def exact_neighbours(
    keys: Annotated[np.ndarray, "tables capacity features"],
    filled: Annotated[np.ndarray, " tables"],
    x: Annotated[np.ndarray, "samples features"],
    k: int,
    tables: Annotated[np.ndarray, " samples_or_none"],
) -> Found:
    """Return the nearest keys; see ``Search``."""
    from engram.memory.kernels import neighbours

    every = not tables.size
    pairs = len(x) * (len(keys) if every else 1)
    rows, distances = np.empty((pairs, k), np.int64), np.empty((pairs, k), keys.dtype)
    if len(x) > FEW and every and keys.shape[2] > FEW:
        for table in range(len(keys)):
            place = slice(table, None, len(keys))
            rows[place], distances[place] = by_products(keys[table], int(filled[table]), x, k)
        return rows, distances
    work = pairs * keys.shape[1] * keys.shape[2]
    search = partial(neighbours.nearest_of_all, keys, filled, x, tables, rows, distances)
    if work > WORK:
        in_ranges(search, pairs, torch.get_num_threads())
    else:
        search(0, pairs)
    return rows, distances


def by_products(
    keys: Annotated[np.ndarray, "capacity features"], filled: int, x: Annotated[np.ndarray, "samples features"], k: int
) -> Found:
    """Return the nearest of the first ``filled`` keys: matrix products first, exact distances where they decide."""
    from engram.memory.kernels import neighbours

    norms, squares = np.empty(filled, keys.dtype), np.empty(len(x), keys.dtype)
    largest = neighbours.squares(keys, filled, norms), neighbours.squares(x, len(x), squares)
    rows, distances = np.full((len(x), k), -1), np.full((len(x), k), np.inf, keys.dtype)
    if not np.isfinite(2 * sum(largest)):  # too large for their products
        filled_only, every = np.array([filled]), np.zeros(0, np.int64)
        neighbours.nearest_of_all(keys[None], filled_only, x, every, rows, distances, 0, len(x))
        return rows, distances
    slack = 4 * (keys.shape[1] + 4) * np.finfo(keys.dtype).eps
    stored, samples = torch.from_numpy(keys), torch.from_numpy(x)
    threads = torch.get_num_threads() if filled * x.size > WORK else 1
    for begin in range(0, len(x), SAMPLES):
        for offset in range(0, filled, BLOCK):
            block = samples[begin : begin + SAMPLES] @ stored[offset : min(offset + BLOCK, filled)].T
            args = (keys, norms, largest[0], slack, block.numpy(), offset, begin, x, squares, rows, distances)
            in_ranges(partial(neighbours.refine, *args), len(block), threads)
    return rows, distances
