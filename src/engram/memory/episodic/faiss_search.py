"""The nearest keys of large tables by an index of faiss."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from engram import checks, extras
from engram.memory.episodic.neighbours import Neighbours, exact_neighbours


class FaissSearch:
    """Candidates from a faiss index (the extra ``engram-torch[faiss]``), for tables too large to search exhaustively.

    Rows written since the index was built are always searched, so that the result is never out of date, and distances
    are exact. Which neighbours are missed depends on when the index was built: a memory that is saved and loaded builds
    a new one and may give other answers. Raises ImportError if faiss is not installed.

    Args:
        index: Kind of index, as a string for faiss's ``index_factory``.
        rebuild: The index is rebuilt when more than this share of the rows was written since, above 0, at most 1.
        smallest: Largest number of rows that are searched without an index.
    """

    __repr__ = checks.described

    def __init__(self, index: str = "HNSW32", rebuild: float = 0.05, smallest: int = 10_000) -> None:
        try:
            import faiss
        except ModuleNotFoundError as error:
            raise extras.missing("faiss", "FaissSearch", error) from error
        self._faiss, self.index = faiss, index
        self.rebuild = checks.number("rebuild", rebuild, above=0, maximum=1)
        self.smallest = checks.size("smallest", smallest)
        self.reset()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy starts without an index."""
        return type(self), (self.index, self.rebuild, self.smallest)

    def reset(self) -> None:
        """Forget all indexes, since all keys may have changed."""
        self._built: dict[int, Any] = {}
        self._stale: dict[int, set[int]] = {}

    def written(self, table: int, rows: Annotated[np.ndarray, " rows"]) -> None:
        """Note that these rows of a table have changed and must be searched."""
        if table in self._built:
            self._stale[table].update(rows.tolist())

    def neighbours(
        self,
        keys: Annotated[np.ndarray, "tables capacity features"],
        filled: Annotated[np.ndarray, " tables"],
        x: Annotated[np.ndarray, "samples features"],
        k: int,
        tables: Annotated[np.ndarray, " samples_or_none"],
    ) -> Neighbours:
        """Rows and squared distances of near keys, mostly the nearest.

        Args:
            keys: Keys of all tables.
            filled: Number of rows in use in each table; they are the first ones.
            x: Samples.
            k: Number of neighbours.
            tables: Table of each sample; if empty, all tables, with pairs ordered by sample, then by table.
        """
        all_tables = not tables.size
        rows = np.full((len(x) * (len(keys) if all_tables else 1), k), -1)
        distances = np.full(rows.shape, np.inf)
        for table in range(len(keys)) if all_tables else np.unique(tables):
            samples = np.arange(len(x)) if all_tables else np.flatnonzero(tables == table)
            pairs = samples * len(keys) + table if all_tables else samples
            rows[pairs], distances[pairs] = self._of_one(int(table), keys[table], int(filled[table]), x[samples], k)
        return rows, distances

    def _of_one(self, table: int, keys: np.ndarray, filled: int, x: np.ndarray, k: int) -> Neighbours:
        from engram.memory.episodic import kernels

        if filled <= self.smallest:
            self._built.pop(table, None)
            return exact_neighbours(keys[None], np.array([filled]), x, k)
        if table not in self._built or len(self._stale[table]) > self.rebuild * filled:
            index = self._faiss.index_factory(keys.shape[1], self.index)
            # Some indexes multiply out squares, which loses the distances of keys that are far from 0.
            centre = keys[:filled].mean(0, dtype=np.float64).astype(keys.dtype)
            index.train(keys[:filled] - centre)
            index.add(keys[:filled] - centre)
            self._built[table], self._stale[table] = (index, centre), set()
        stale = np.array(sorted(self._stale[table]), np.int64)
        index, centre = self._built[table]
        candidates = index.search(x - centre, min(2 * k + 16, filled))[1]
        candidates[np.isin(candidates, stale)] = -1
        candidates = np.hstack((candidates, np.broadcast_to(stale, (len(x), stale.size))))
        candidates.sort(axis=1)
        rows, distances = np.empty((len(x), k), np.int64), np.empty((len(x), k))
        kernels.nearest_among(keys, candidates, x, rows, distances)
        return rows, distances
