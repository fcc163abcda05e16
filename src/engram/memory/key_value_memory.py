"""A store of keys and values that never grows: what to keep when it is full is its policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from engram.memory.policies import Policy
from engram.memory.search import Search

VALUE_UPDATES = ("max", "mean", "ema")
KERNELS = ("idw", "mean")


class Recall(NamedTuple):
    """What a memory answers.

    Attributes:
        values: The estimates, (batch, value_dim); (batch, tables, value_dim) if all of several tables answer.
        rows: Rows of the nearest keys, nearest first, -1 where there are fewer than k, (batch, k) or
            (batch, tables, k).
        squared_distances: Squared Euclidean distances to their keys, infinite where there is no row; as ``rows``.
    """

    values: Float[Tensor, "*batch value_dim"]
    rows: Int[Tensor, "*batch k"]
    squared_distances: Float[Tensor, "*batch k"]


class Written(NamedTuple):
    """Rows that a write has changed, each once.

    Attributes:
        tables: Their tables, (changed,).
        rows: Their places in these tables, (changed,).
        fresh: Whether what was there before is gone, and with it all that was kept about it elsewhere, such as an
            optimiser's statistics, (changed,).
    """

    tables: Int[Tensor, " changed"]
    rows: Int[Tensor, " changed"]
    fresh: Bool[Tensor, " changed"]


class KeyValueMemory(nn.Module):
    """Keys with values, asked for the values of what is near a key; one table, or several, such as one an action.

        w_i = 1 / (d_i^2 + delta)        kernel "idw"; 1 for kernel "mean"
        answer = sum_i w_i v_i / sum_i w_i   over the k nearest of the keys that are there, d_i Euclidean

    All is in buffers, so that ``state_dict`` holds everything, the source of random choices included, and a memory that
    is loaded goes on as the other would have. Nothing is learned by gradients; see ``DND`` for that.

    Args:
        capacity: Rows in a table, M, at least 2.
        key_dim: Length of a key, d.
        value_dim: Length of a value. Where values are compared, the first number counts.
        policy: What is kept when there is no room, one of ``engram.memory.policies``; ``LRU()`` if None.
        tables: Number of tables, A, kept in one array and asked in one go; None: one, and answers have no such axis.
        hash_dim: Length of the hashes, which say whether two states are the same, beside keys, which say how alike they
            are; None: keys are their own hashes.
        value_update: What becomes of a row's value v when its state comes again with R: ``"max"``: max(v, R);
            ``"mean"``: the mean over all its samples; ``"ema"``: v + value_step (R - v). Where different states are
            merged into one row, as k-means does, its value is their mean always.
        value_step: Step size of ``"ema"``.
        assign: Which cluster a sample joins under a k-means policy: the one with the nearest ``"key"`` or ``"hash"``.
        empty_value: Answer of a table where nothing is written. With rewards that are never positive, 0 is optimistic.
        search: How neighbours are found: ``ExactSearch()`` if None, or ``FaissSearch()`` for tables too large for it.
        generator: Settles random choices, drawn from once; torch's global one if None.

    Attributes:
        keys: (tables, capacity, key_dim).
        values: (tables, capacity, value_dim).
        hashes: (tables, capacity, hash_dim); of length 0 without ``hash_dim``.
        counts: Samples in each row, as far as the policy lets them count, 64-bit, (tables, capacity).
        coef: What the policy ranks rows by, such as the time of their last use, 64-bit, (tables, capacity).
        n_filled: Rows in use, the first of each table, (tables,).
        clock: Look-ups and writes so far that count as time, (tables,).
        seed: What random choices are drawn from, together with the clock.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument is out of range.

    Source: Blundell et al., "Model-free episodic control" (2016); Pritzel et al., "Neural episodic control" (2017);
    Agostinelli et al., "Memory-efficient episodic control reinforcement learning with dynamic online k-means" (2019).

    Examples:
        >>> memory = KeyValueMemory(100, key_dim=1)
        >>> _ = memory.write(torch.tensor([[1.0], [3.0]]), torch.tensor([10.0, 20.0]))
        >>> memory.query(torch.zeros(1, 1), k=2, delta=0.0).values.tolist()
        [[11.0]]
    """

    keys: Tensor
    values: Tensor
    hashes: Tensor
    counts: Tensor
    coef: Tensor
    n_filled: Tensor
    clock: Tensor
    seed: Tensor

    def __init__(
        self,
        capacity: int,
        key_dim: int,
        value_dim: int = 1,
        policy: Policy | None = None,
        *,
        tables: int | None = None,
        hash_dim: int | None = None,
        value_update: str = "max",
        value_step: float = 0.1,
        assign: str = "key",
        empty_value: float = 0.0,
        search: Search | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        raise NotImplementedError

    def query(
        self,
        x: Annotated[Tensor, "batch key_dim"],
        k: int = 11,
        *,
        kernel: str = "idw",
        delta: float | str = 1e-3,
        exact_match: bool = True,
        tables: Annotated[Tensor, " batch"] | None = None,
        use: bool = True,
    ) -> Recall:
        """Return what values the keys near x have.

        Args:
            x: Keys, (batch, key_dim).
            k: Neighbours. Where fewer rows are filled, all are taken; more than ``capacity`` gives a warning.
            kernel: ``"idw"``, inverse squared distance, or ``"mean"``.
            delta: Added to squared distances; ``"auto"``: the mean squared distance to the k neighbours, which fits any
                scale of keys.
            exact_match: Whether a key that is stored gets its row's value and nothing else (MFEC; NEC: False).
            tables: For each key the one table that answers, (batch,); None: all answer.
            use: Whether rows that answer count as used, which keeps them under ``LRU`` and ``Aggregate``. The rows of
                a batch are used one key after another.

        Raises:
            ValueError: A wrong shape, a number that is not finite, an unknown table, or an argument out of range.
        """
        raise NotImplementedError

    def write(
        self,
        keys: Annotated[Tensor, "batch key_dim"],
        values: Annotated[Tensor, "batch *value_dim"],
        hashes: Annotated[Tensor, "batch hash_dim"] | None = None,
        *,
        tables: Annotated[Tensor, " batch"] | int = 0,
    ) -> Written:
        """Write samples in the order of time; one call is one batch of the policy for each table.

        More samples than a table has rows are written in batches of as many as it has.

        Args:
            keys: (batch, key_dim); none is none.
            values: (batch, value_dim), or (batch,) if ``value_dim`` is 1.
            hashes: (batch, hash_dim), with ``hash_dim``.
            tables: The table of each sample, (batch,), or of all.

        Returns:
            The rows that were changed.

        Raises:
            ValueError: A wrong shape, a number that is not finite, or an unknown table; nothing is written.
        """
        raise NotImplementedError

    @property
    def filled(self) -> Bool[Tensor, "tables capacity"]:
        """Which rows are in use."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        raise NotImplementedError

    def save(self, path: str | Path) -> None:
        """Write the memory to one safetensors file, with the rest as JSON in its header, atomically.

        Args:
            path: The file; an old one is replaced. A process that is killed leaves the old file or the new one.

        Raises:
            TypeError: The policy or the search is none of engram's own.
            CannotWriteError: The old file is as before.
        """
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | Path) -> KeyValueMemory:
        """Read what ``save`` wrote.

        Raises:
            CorruptFileError: The file is truncated, altered, or of something else.
            FileNotFoundError: There is no such file.
        """
        raise NotImplementedError
