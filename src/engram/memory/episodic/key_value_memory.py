"""A store of keys and values with fixed capacity; a policy decides which rows are replaced."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from engram import checks
from engram.memory.episodic import policies
from engram.memory.episodic.estimate import Averaging, estimate, fast_estimate
from engram.memory.episodic.faiss_search import FaissSearch
from engram.memory.episodic.key_index import KeyIndex
from engram.memory.episodic.neighbours import ALL, exact_neighbours
from engram.memory.episodic.policies.table import Batch, Change, Merging, Policy, Table, check_change, first_coef
from engram.memory.splitmix import seeds
from engram.storage.saveable import Saveable

VALUE_UPDATES = ("max", "mean", "ema")
MANY = 4096  # samples of a mean from which on its steps are comparable with the rounding of 32 bits


class Recall(NamedTuple):
    """The answer of a memory; if several tables answer, their axis follows that of the batch."""

    values: Float[Tensor, "*batch value_dim"]
    rows: Int[Tensor, "*batch k"]  # of the nearest keys, nearest first, filled up with -1 if there are fewer than k
    squared_distances: Float[Tensor, "*batch k"]  # Euclidean, infinite where there is no row


class Written(NamedTuple):
    """Rows that a write or a deletion has changed, each once."""

    tables: Int[Tensor, " changed"]
    rows: Int[Tensor, " changed"]
    fresh: Bool[Tensor, " changed"]  # the row was replaced, so that an optimiser's state for it is void


class KeyValueMemory(Saveable, nn.Module):
    """Keys with values, queried for the values near a key; one table, or several, such as one for each action.

        w_i = 1 / (d_i^2 + delta)        kernel "idw"; 1 for kernel "mean"
        answer = sum_i w_i v_i / sum_i w_i   over the k nearest stored keys, d_i Euclidean

    Everything is in buffers, so that ``state_dict`` is complete, including the seed of random choices, and a loaded
    memory continues exactly as the saved one would have. Searches and writes run on the CPU, whatever the device. The
    answers have no gradients; those of ``DND`` have.

    Args:
        capacity: Rows in a table, M, at least 2.
        key_dim: Length of a key, d.
        value_dim: Length of a value. Comparisons of values use its first number.
        policy: Replacement policy for a full table, one of ``engram.memory.episodic.policies``; ``LRU()`` if None.
        tables: Number of tables, A, which are stored in one array and queried together; None: one table, and answers
            have no table axis.
        hash_dim: Length of the hashes, by which states are recognised as equal; None: keys are their own hashes.
        value_update: How a row's value v changes when its state occurs again with value R: ``"max"``: max(v, R);
            ``"mean"``: the mean over all its samples; ``"ema"``: v + value_step (R - v). If a state occurs several
            times in a batch, R is the largest of its values, or the mean for ``"mean"``. Where different states are
            merged into one row, as k-means does, its value is always their mean.
        value_step: Step size of ``"ema"``.
        assign: Whether a sample joins the cluster with the nearest ``"key"`` or ``"hash"``, under a k-means policy.
        empty_value: Answer of an empty table. With rewards that are never positive, 0 is optimistic.
        search: How neighbours are found: exactly if None, or by ``FaissSearch()``.
        generator: Source of a seed for all random choices; torch's global one if None.

    Attributes:
        keys, values, hashes: (tables, capacity, ...); hashes of length 0 without ``hash_dim``.
        counts: Samples in each row, weighted by the policy, 64-bit, (tables, capacity).
        coef: The policy's ranks of rows, such as the time of their last use, 64-bit, (tables, capacity).
        n_filled: Number of rows in use, the first of each table, (tables,).
        clock: Look-ups and writes so far that count as time, (tables,).
        seed: Source of random choices, together with the clock.

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
    rounding: Tensor
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
        search: FaissSearch | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.capacity = checks.size("capacity", capacity, minimum=2)
        self.key_dim, self.value_dim = checks.size("key_dim", key_dim), checks.size("value_dim", value_dim)
        self.tables = None if tables is None else checks.size("tables", tables)
        self.hash_dim = None if hash_dim is None else checks.size("hash_dim", hash_dim)
        if assign == "hash" and hash_dim is None:
            raise ValueError("hash_dim = None: expected the length of hashes with assign = 'hash'")
        self.merging = Merging(
            checks.choice("value_update", value_update, VALUE_UPDATES),
            checks.number("value_step", value_step, above=0, maximum=1),
            checks.choice("assign", assign, ("key", "hash")),
            checks.number("empty_value", empty_value),
        )
        policy = policies.LRU() if policy is None else policy
        self.policy: Policy = checks.instance("policy", policy, Policy)  # type: ignore[type-abstract]
        self._index = KeyIndex()
        # A copy, as another memory may have the same one.
        self.search = None if search is None else copy.copy(checks.instance("search", search, FaissSearch))
        self._searched = 0, 0
        count = 1 if tables is None else tables
        self.register_buffer("keys", torch.zeros(count, capacity, key_dim))
        self.register_buffer("values", torch.zeros(count, capacity, value_dim))
        self.register_buffer("hashes", torch.zeros(count, capacity, hash_dim or 0))
        self.register_buffer("counts", torch.zeros(count, capacity, dtype=torch.float64))
        self.register_buffer("coef", torch.from_numpy(first_coef(capacity)).repeat(count, 1))
        self.register_buffer("n_filled", torch.zeros(count, dtype=torch.long))
        self.register_buffer("clock", torch.zeros(count, dtype=torch.long))
        # What rounding took from rows that are means of many samples, whose small steps would be lost.
        averages = value_update == "mean" or getattr(self.policy, "averages", False)
        width = (key_dim + value_dim + (hash_dim or 0)) if averages else 0
        self.register_buffer("rounding", torch.zeros(count, capacity, width))
        self.register_buffer("seed", seeds(count, generator, torch.device("cpu")))
        self.register_load_state_dict_pre_hook(_check_loaded)  # type: ignore[no-untyped-call]

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
        """The estimate from the values of the keys near x.

        Args:
            x: Keys, (batch, key_dim).
            k: Number of neighbours; all filled rows if there are fewer. More than ``capacity`` gives a warning.
            kernel: ``"idw"``, inverse squared distance, or ``"mean"``.
            delta: Added to squared distances; ``"auto"``: their mean over the k neighbours, which fits any scale.
            exact_match: Whether the answer for a stored key is the value of its row alone (MFEC; NEC: not so). For
                several states with one key, told apart by hashes, it is the mean of their rows, up to k.
            tables: Table that answers each key, (batch,); None: all tables answer.
            use: Whether the neighbours count as used, one key after another; see ``LRU`` and ``Aggregate``.

        Raises:
            ValueError: A number is not finite, a table is unknown, or another argument is out of range.
        """
        averaging = self._averaging(kernel, delta, exact_match)
        rows, distances, table_of = self._neighbours(x, k, tables, use)
        if not self._stored("keys").is_cpu:
            return self._gathered(x.detach(), torch.from_numpy(rows), tables, averaging)
        values = fast_estimate(array(self._stored("values")), rows, distances, table_of, averaging)
        return self._by_table(map(torch.from_numpy, (values, rows, distances)), len(x), tables)

    def forward(self, *args: Any, **kwargs: Any) -> Recall:
        """The answer of ``query``."""
        return self.query(*args, **kwargs)

    def write(
        self,
        keys: Annotated[Tensor, "batch key_dim"],
        values: Annotated[Tensor, "batch *value_dim"],
        hashes: Annotated[Tensor, "batch hash_dim"] | None = None,
        *,
        tables: Annotated[Tensor, " batch"] | int = 0,
    ) -> Written:
        """Write samples in time order, one batch of the policy for each table, and return the rows changed.

        If there are more samples for a table than rows, they are written in batches of at most ``capacity``.

        Args:
            keys: (batch, key_dim).
            values: (batch, value_dim), or (batch,) if ``value_dim`` is 1.
            hashes: (batch, hash_dim); None without ``hash_dim``.
            tables: Table of each sample, (batch,), or one table for all.

        Raises:
            ValueError: A shape is wrong, a number is not finite, or a table is unknown; then nothing is written. Or the
                policy returned an invalid change.
        """
        samples = self._checked("keys", keys, self.key_dim) + 0.0  # turns -0 into 0
        checks.instance("values", values, Tensor)
        column = values[:, None] if values.dim() == 1 and self.value_dim == 1 else values
        contents = self._checked("values", column, self.value_dim)
        if (hashes is None) != (self.hash_dim is None):
            raise ValueError(f"hashes: expected {'none without' if self.hash_dim is None else 'some with'} hash_dim")
        state_hashes = samples if hashes is None else self._checked("hashes", hashes, self.hash_dim or 0) + 0.0
        for name, array in (("values", contents), ("hashes", state_hashes)):
            if len(array) != len(samples):
                raise ValueError(f"{name} has {len(array)} samples: expected {len(samples)}, one for each key")
        if isinstance(tables, int):
            with checks.noted(tables=tables):
                tables = torch.full((len(samples),), tables)
        table_of = self._chosen(tables, len(samples))
        batch = Batch(samples, contents, state_hashes, np.ones(len(samples)))
        flat_rows, fresh = [np.zeros(0, np.int64)], [np.zeros(0, bool)]
        for table in np.unique(table_of).tolist():
            members = np.flatnonzero(table_of == table)
            for start in range(0, members.size, self.capacity):
                chunk = batch.take(members[start : start + self.capacity])
                stored = self._table(table)
                change = self.policy.write(stored, chunk, self.merging)
                with checks.noted(policy=self.policy):
                    check_change(change, stored)
                self._change(table, change)
                flat_rows.append(table * self.capacity + change.rows)
                fresh.append(change.fresh)
        unique, group = np.unique(np.concatenate(flat_rows), return_inverse=True)
        is_fresh = np.bincount(group, np.concatenate(fresh), unique.size) > 0
        return Written(*map(torch.from_numpy, (unique // self.capacity, unique % self.capacity, is_fresh)))

    @torch.no_grad()
    def delete(
        self, rows: Annotated[Tensor, " deleted"], *, tables: Annotated[Tensor, " deleted"] | int = 0
    ) -> Written:
        """Remove rows; the last rows of the table take their places.

        ``query(keys, k=1)`` finds the rows of keys: those with a squared distance of 0.

        Args:
            rows: Rows in use, (deleted,), each once or several times.
            tables: Table of each row, (deleted,), or one table for all.

        Returns:
            The rows whose content has changed, those included that are now empty.

        Raises:
            ValueError: A table is unknown or a row is not in use; then nothing is removed.

        Examples:
            >>> memory = KeyValueMemory(100, key_dim=1)
            >>> _ = memory.write(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([10.0, 20.0, 30.0]))
            >>> memory.delete(torch.tensor([0])).rows.tolist(), memory.keys[0, :2].tolist()
            ([0, 2], [[5.0], [3.0]])
        """
        checks.instance("rows", rows, Tensor)
        if isinstance(tables, int):
            with checks.noted(tables=tables):
                tables = torch.full((len(rows) if rows.dim() else 0,), tables)
        if rows.dim() != 1 or rows.is_floating_point() or rows.dtype == torch.bool:
            raise ValueError(f"rows of shape {tuple(rows.shape)}, {rows.dtype}: expected integers, (deleted,)")
        with checks.noted(rows=rows):
            row_of = array(rows.long())
        table_of = self._chosen(tables, len(rows))
        for table, row in zip(table_of.tolist(), row_of.tolist(), strict=True):
            checks.size("rows", row, 0, int(self.n_filled[table]) - 1)
        changed = [np.zeros(0, np.int64)]
        for table in np.unique(table_of).tolist():
            deleted, count = np.unique(row_of[table_of == table]), int(self.n_filled[table])
            left = count - deleted.size
            moved = torch.from_numpy(np.setdiff1d(np.arange(left, count), deleted))
            holes = torch.from_numpy(deleted[deleted < left])
            empty_count = float(self.counts[table, count]) if count < self.capacity else 0.0
            for name in ("keys", "values", "hashes", "counts", "coef", "rounding"):
                content = getattr(self, name)[table]
                content[holes] = content[moved]
                content[left:count] = 0
            self.counts[table, left:count] = empty_count  # as of other empty rows, which are filled in their order
            self.coef[table, left:count] = torch.from_numpy(first_coef(self.capacity)[left:count]).to(self.coef)
            self.n_filled[table] = left
            changed.append(table * self.capacity + np.concatenate((holes.numpy(), np.arange(left, count))))
        flat = torch.from_numpy(np.concatenate(changed))
        return Written(flat // self.capacity, flat % self.capacity, torch.ones_like(flat, dtype=torch.bool))

    @property
    def filled(self) -> Bool[Tensor, "tables capacity"]:
        """Mask of the rows in use."""
        return torch.arange(self.capacity, device=self.n_filled.device) < self.n_filled[:, None]

    @property
    def nbytes(self) -> int:
        """Size of the memory's state in bytes."""
        return sum(tensor.nbytes for tensor in self.state_dict().values())

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        tables = "" if self.tables is None else f"tables={self.tables}, "
        return f"{self.capacity}, key_dim={self.key_dim}, {tables}policy={self.policy}, {self.merging}"

    def _content(self) -> dict[str, Any]:
        name = type(self.policy).__name__
        if getattr(policies, name, None) is not type(self.policy):
            raise TypeError(f"policy is a {name}: expected one of engram.memory.episodic.policies, which can be stored")
        names = ("capacity", "key_dim", "value_dim", "tables", "hash_dim")
        arguments = {
            **{name: getattr(self, name) for name in names},
            **self.merging._asdict(),
            "policy": [name, vars(self.policy)],
            "search": self.search and list(self.search.__reduce__()[1]),
        }
        return {"arguments": arguments, "state": dict(self.state_dict())}

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> KeyValueMemory:
        arguments = content["arguments"]
        name, fields = arguments.pop("policy")
        search = arguments.pop("search")
        policy = getattr(policies, name)(**fields)
        memory = cls(policy=policy, search=search and FaissSearch(*search), **arguments)
        for name, stored in (*memory.named_buffers(), *memory.named_parameters()):  # of the dtypes that were saved
            stored.data = stored.data.to(content["state"][name].dtype)
        memory.load_state_dict(content["state"])
        return memory

    def _checked(self, name: str, value: Tensor, width: int) -> np.ndarray:
        """A finite batch as an array of the keys' dtype."""
        from engram.memory.episodic import kernels

        checks.instance(name, value, Tensor)
        dtype = self._stored("keys").dtype
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"keys.dtype = {dtype}: expected a memory of float32 or float64")
        if value.dim() != 2 or value.shape[1] != width:
            raise ValueError(f"{name}.shape = {tuple(value.shape)}: expected (batch, {width})")
        numbers = np.ascontiguousarray(array(value if value.dtype == dtype else value.to(dtype)))
        if not kernels.all_finite(numbers):
            row, column = np.argwhere(~np.isfinite(numbers))[0]
            raise ValueError(f"{name}[{row}, {column}] = {value[row, column].item()}: expected a finite number")
        return numbers

    def _chosen(self, tables: Tensor | None, samples: int) -> np.ndarray:
        """The table of each sample; empty if all tables answer."""
        if tables is None:
            return ALL
        checks.instance("tables", tables, Tensor)
        if tables.shape != (samples,) or tables.is_floating_point() or tables.dtype == torch.bool:
            raise ValueError(f"tables of shape {tuple(tables.shape)}, {tables.dtype}: expected integers, ({samples},)")
        table_of = array(tables.long())
        if samples and not 0 <= table_of.min() <= table_of.max() < len(self.keys):
            raise ValueError(f"tables from {table_of.min()} to {table_of.max()}: expected 0 .. {len(self.keys) - 1}")
        return table_of

    def _averaging(self, kernel: str, delta: float | str, exact_match: bool) -> Averaging:
        """How neighbours are averaged; states with hashes may share a key."""
        settings = kernel, delta, exact_match, self.merging.empty_value, self.hash_dim is not None
        is_plain = isinstance(kernel, str) and isinstance(delta, float | int | str) and isinstance(exact_match, bool)
        return _checked_averaging(*settings) if is_plain else Averaging(*settings).checked()

    def _neighbours(
        self, x: Tensor, k: int, tables: Tensor | None, use: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows and squared distances of neighbours, and the table of each sample; marks the rows as used."""
        from engram.memory.episodic import kernels

        checks.size("k", k)
        samples = self._checked("x", x, self.key_dim)
        table_of = self._chosen(tables, len(samples))
        if k > self.capacity:
            warnings.warn(f"k = {k}: only {self.capacity} rows can be neighbours", RuntimeWarning, stacklevel=3)
        if self.search is not None and (version := self._version_of_keys()) != self._searched:
            self.search.reset()  # keys were loaded, deleted, or moved by an optimiser
            self._searched = version
        search = exact_neighbours if self.search is None else self.search.neighbours
        keys, filled = array(self._stored("keys")), array(self._stored("n_filled"))
        rows, distances = search(keys, filled, samples, min(k, self.capacity), table_of)
        if use and self.policy.ages:
            stored_coef, stored_clock = self._stored("coef"), self._stored("clock")
            coef, clock = array(stored_coef), array(stored_clock)
            kernels.use(coef, clock, rows, table_of)
            if not stored_coef.is_cpu:
                stored_coef.copy_(torch.from_numpy(coef))
                stored_clock.copy_(torch.from_numpy(clock))
        return rows, distances, table_of

    def _gathered(self, x: Tensor, rows: Tensor, tables: Tensor | None, averaging: Averaging) -> Recall:
        """The answer from given rows, (pairs, k), with all gradients."""
        n_tables = len(self.keys) if tables is None else 1
        table = torch.arange(len(rows), device=x.device) % n_tables if tables is None else tables.long().to(x.device)
        rows = rows.to(x.device)
        index = (table[:, None], rows.clamp(min=0))
        differences = x.repeat_interleave(n_tables, 0)[:, None] - self.keys[index]
        distances = differences.double().square().sum(-1)  # 32 bits may be too few
        distances = distances.masked_fill(rows < 0, torch.inf)
        return self._by_table((estimate(self.values[index], distances, averaging), rows, distances), len(x), tables)

    def _by_table(self, pair_results: Iterable[Tensor], samples: int, tables: Tensor | None) -> Recall:
        """The parts of an answer for pairs, with a table axis if ``tables`` was set and all tables answer."""
        if self.tables is None or tables is not None:
            return Recall(*pair_results)
        return Recall(
            *(pair_result.reshape(samples, self.tables, pair_result.shape[1]) for pair_result in pair_results)
        )

    def _table(self, table: int) -> Table:
        keys, values, counts, coef = (
            array(buffer[table]) for buffer in (self.keys, self.values, self.counts, self.coef)
        )
        hashes = keys if self.hash_dim is None else array(self.hashes[table])
        filled, clock, seed = (int(tensor[table]) for tensor in (self.n_filled, self.clock, self.seed))
        # Keys that an optimiser moves would have to be hashed at every write, which is no faster than a search.
        moving = self._hashed.requires_grad or self._hashed.is_inference()
        find_rows = None if moving else partial(self._index.rows, self._hashed, self.n_filled, table)
        return Table(keys, values, hashes, counts, coef, filled, clock, seed, find_rows, self._rounding(table))

    def _rounding(self, table: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """What rounding took from the keys, values and hashes of a table; None if no row is a mean."""
        if not self.rounding.shape[2] or self.keys.dtype == torch.float64:
            return None
        keys, values, hashes = torch.split(
            self.rounding[table], [self.key_dim, self.value_dim, self.hash_dim or 0], dim=1
        )
        return array(keys), array(values), array(keys if self.hash_dim is None else hashes)

    def _stored(self, name: str) -> Tensor:
        """A buffer or parameter by its name; the module's own look-up takes as long as a small search."""
        tensor = self._buffers.get(name)
        return getattr(self, name) if tensor is None else tensor

    @property
    def _hashed(self) -> Tensor:
        """The hashes of all tables, which identify states."""
        return self.keys if self.hash_dim is None else self.hashes

    @torch.no_grad()
    def _change(self, table: int, change: Change) -> None:
        rows = torch.from_numpy(change.rows)
        is_followed = self.search is not None and self._searched == self._version_of_keys()
        new_values = {"keys": change.keys, "values": change.values}
        if self.hash_dim is not None:
            new_values["hashes"] = change.hashes
        with self._index.changing(self._hashed, self.n_filled, table, change.rows):
            for name, new in new_values.items():
                tensor = getattr(self, name)
                tensor[table, rows] = torch.from_numpy(new).to(tensor)
            if self.rounding.shape[2] and self.keys.dtype != torch.float64:
                taken = [new - array(getattr(self, name)[table, rows]) for name, new in new_values.items()]
                is_of_many = (change.counts >= MANY)[:, None]
                lost = torch.from_numpy(np.where(is_of_many, np.concatenate(taken, axis=1), 0.0))
                self.rounding[table, rows] = lost.to(self.rounding)
            self.n_filled[table] = max(int(self.n_filled[table]), int(change.rows.max(initial=-1)) + 1)
        self.counts[table, rows] = torch.from_numpy(change.counts).to(self.counts)
        if change.loss:
            self.counts[table] -= change.loss
        self.coef[table, rows] = torch.from_numpy(change.coef).to(self.coef)
        self.clock[table] = change.clock
        if self.search is not None:
            self.search.written(table, change.rows)
            self._searched = self._version_of_keys() if is_followed else (0, 0)

    def _version_of_keys(self) -> tuple[int, int]:
        """Which tensor the keys are, and torch's count of changes to it."""
        keys = self._stored("keys")
        return id(keys), keys._version


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as an array, which shares its memory if it is on the CPU."""
    shares = tensor.is_cpu and not tensor.requires_grad
    return np.asarray(tensor.numpy() if shares else tensor.numpy(force=True))


@lru_cache(maxsize=64, typed=True)
def _checked_averaging(*settings: Any) -> Averaging:
    """The settings of a look-up; most look-ups have those of the one before."""
    return Averaging(*settings).checked()


def _check_loaded(memory: KeyValueMemory, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Raise ValueError unless a state fits a memory of this capacity; torch would load the parts that do."""
    if prefix + "keys" in state:  # which was saved before memories kept what rounding takes
        state.setdefault(prefix + "rounding", torch.zeros_like(memory.rounding))
    for name, current in (*memory.named_buffers(), *memory.named_parameters()):
        tensor = state.get(prefix + name)
        if isinstance(tensor, Tensor):
            checks.has_shape(f"state_dict[{prefix + name!r}]", tuple(tensor.shape), tuple(current.shape))
    for name, maximum in {"n_filled": memory.capacity, "clock": None}.items():
        tensor = state.get(prefix + name)
        if isinstance(tensor, Tensor) and tensor.numel():
            for extreme in (int(tensor.min()), int(tensor.max())):
                checks.size(f"state_dict[{prefix + name!r}]", extreme, minimum=0, maximum=maximum)
    for name in ("keys", "values", "hashes"):
        tensor = state.get(prefix + name)
        if isinstance(tensor, Tensor):
            checks.finite(f"state_dict[{prefix + name!r}]", tensor)
