"""A hash index from keys to the rows of a table, so that a write finds its state without a search."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
from jaxtyping import Int
from torch import Tensor


class KeyIndex:
    """A hash table with open addressing for each table of a memory, from a key to the lowest row that equals it.

    It belongs to two tensors, the keys and the numbers of filled rows. If other code changes them in place, which
    torch's version counter shows, the next write rebuilds the index, which takes as long as a few searches.
    """

    def __init__(self) -> None:
        self._built: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # slots, which hold rows, and each row's hash
        self._twins: set[int] = set()  # tables in which an equal lower row hides another
        self._seen: list[tuple[weakref.ref[Tensor], tuple[int, int]]] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy starts empty."""
        return type(self), ()

    def rows(
        self,
        keys: Annotated[Tensor, "tables capacity features"],
        n_filled: Annotated[Tensor, " tables"],
        table: int,
        queries: Annotated[np.ndarray, "samples features"],
    ) -> Int[np.ndarray, " samples"]:
        """The lowest filled row of a table that equals each finite key, or -1.

        Args:
            keys: Keys of all tables.
            n_filled: Number of rows in use in each table.
            table: Index of the table.
            queries: The finite keys.
        """
        from engram.memory.episodic import kernels

        self._follow(keys, n_filled)
        stored = keys[table].numpy(force=True)
        if table not in self._built:
            # At least half of the slots stay empty, so that probe sequences are short.
            slots, hashes = np.full(1 << (2 * len(stored) - 1).bit_length(), -1), np.zeros(len(stored), np.int64)
            self._built[table] = slots, hashes
            self._twins.discard(table)
            self._add(table, stored, np.arange(int(n_filled[table])))
        matches = np.empty(len(queries), np.int64)
        kernels.find_keys(*self._built[table], stored, queries, bits(queries), matches)
        return matches

    @contextmanager
    def changing(
        self,
        keys: Annotated[Tensor, "tables capacity features"],
        n_filled: Annotated[Tensor, " tables"],
        table: int,
        rows: Annotated[np.ndarray, " rows"],
    ) -> Iterator[None]:
        """Keep the index up to date while the memory changes rows of a table.

        Args:
            keys: Keys of all tables.
            n_filled: Number of rows in use in each table.
            table: Index of the table.
            rows: Rows that change.
        """
        from engram.memory.episodic import kernels

        if not self._built:
            yield
            return
        self._follow(keys, n_filled)
        if table in self._built and kernels.remove_keys(*self._built[table], rows) and table in self._twins:
            del self._built[table]  # a row that was hidden may have to be found
        yield
        self._seen = states((keys, n_filled))
        if table in self._built:
            self._add(table, keys[table].numpy(force=True), rows)

    def _add(self, table: int, stored: np.ndarray, rows: np.ndarray) -> None:
        from engram.memory.episodic import kernels

        if kernels.add_keys(*self._built[table], stored, bits(stored), rows):
            self._twins.add(table)

    def _follow(self, *tensors: Tensor) -> None:
        """Forget everything if these are other tensors, or if other code has changed them."""
        pairs = zip(self._seen, tensors, strict=False)
        unchanged = [ref() is tensor and seen == version_of(tensor) for (ref, seen), tensor in pairs]
        if not unchanged or not all(unchanged):
            self._built.clear()
            self._seen = states(tensors)


def states(tensors: Iterable[Tensor]) -> list[tuple[weakref.ref[Tensor], tuple[int, int]]]:
    """Weak references to tensors, each with its version."""
    return [(weakref.ref(tensor), version_of(tensor)) for tensor in tensors]


def version_of(tensor: Tensor) -> tuple[int, int]:
    """Torch's count of changes to a tensor, and where it is: a parameter's numbers are moved without being counted."""
    return tensor._version, tensor.data_ptr()


def bits(keys: Annotated[np.ndarray, "rows features"]) -> Int[np.ndarray, "rows features"]:
    """The bits of numbers as integers of their size, without a copy."""
    return keys.view(f"i{keys.itemsize}")
