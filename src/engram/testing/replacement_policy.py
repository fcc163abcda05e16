"""The contract of a replacement policy: a pure function from a table and a batch to the changes of the table."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from engram.memory import KeyValueMemory
from engram.memory.episodic.policies import Batch, Merging, Policy, Table
from engram.memory.episodic.policies.table import check_change
from engram.testing.promises import alike, check_maker, hold, no_global_draws, stored

Make = Callable[[], Policy]

_CAPACITY, _WIDTH, _TABLES, _BATCHES = 12, 2, 2, (1, 5, 3, 1, 12, 4, 30, 1)
_FAR = 10.0  # distance between keys of different states: more than any merging radius


def check_replacement_policy(policy_class: Callable[..., Policy], **options: Any) -> None:
    """Check a replacement policy against its contract, in small memories.

    Its changes fit the table and contain each row at most once; rows are filled in order before any is replaced, and
    their contents lie within the range of the samples. It changes neither table nor batch and has no state of its own:
    tables do not affect each other, a stored memory resumes bit for bit, and the table's seed is the only source of
    randomness. It accepts batches as large as the table, values of several numbers, and hashes.

    Args:
        policy_class: The class, or another callable that makes the policy: called as ``policy_class(**options)``.
        **options: Options of its constructor, to check a variant.

    Raises:
        AssertionError: A promise is broken; the message says which.

    Examples:
        >>> from engram.memory.episodic.policies import LRU
        >>> check_replacement_policy(LRU)
    """
    check_maker("policy_class", policy_class)

    def make() -> Policy:
        return policy_class(**options)

    checks = [
        _is_a_policy,
        _returns_a_valid_change,
        _changes_nothing,
        _draws_from_the_seed_alone,
        _fills_before_it_replaces,
        _stores_values_within_the_samples,
        _treats_tables_independently,
        _resumes_from_a_stored_state,
        _takes_hashes_and_wide_values,
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # about a batch that is large for the table
        hold(policy_class, checks, make)


def _memory(make: Make, seed: int = 0, **options: Any) -> KeyValueMemory:
    generator = torch.Generator().manual_seed(seed)
    return KeyValueMemory(_CAPACITY, _WIDTH, policy=make(), **{"tables": _TABLES, "generator": generator, **options})


def _samples(count: int, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """Keys, drawn from those of 25 states, and their values."""
    return _FAR * torch.randint(5, (count, _WIDTH), generator=draws), torch.rand(count, generator=draws)


def _write_batches(memory: KeyValueMemory, draws: torch.Generator, table: int = 0) -> None:
    """Write some batches to a table, with look-ups between them."""
    for count in _BATCHES:
        keys, values = _samples(count, draws)
        memory.query(keys[:1], 3, tables=torch.tensor([table]))
        memory.write(keys, values, tables=table)


def _seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class _Case(NamedTuple):
    """The arguments of ``write``."""

    table: Table
    batch: Batch
    merging: Merging


def _cases(make: Make) -> Iterator[_Case]:
    """Calls with an empty, a partly filled and a full table, batches of all sizes, and all ways of merging."""
    for update in ("max", "mean", "ema"):
        memory, draws = _memory(make, tables=None, value_update=update), _seeded()
        for count in _BATCHES:
            keys, values = _samples(min(count, _CAPACITY), draws)
            memory.query(keys[:1], 3)
            arrays = [getattr(memory, name)[0].numpy().copy() for name in ("keys", "values", "counts", "coef")]
            filled, clock, seed = (int(getattr(memory, name)[0]) for name in ("n_filled", "clock", "seed"))
            batch = Batch(keys.numpy(), values[:, None].numpy(), keys.numpy(), np.ones(len(keys)))
            yield _Case(
                Table(arrays[0], arrays[1], arrays[0], arrays[2], arrays[3], filled, clock, seed), batch, memory.merging
            )
            memory.write(keys, values)


def _is_a_policy(make: Make) -> None:
    """It has ``write``, and ``ages``, which says whether look-ups count as time steps."""
    policy = make()
    assert isinstance(policy, Policy), f"{policy!r} lacks ages or write"
    assert isinstance(policy.ages, bool), f"ages = {policy.ages!r}: expected True or False"


def _returns_a_valid_change(make: Make) -> None:
    """``write`` returns a ``Change`` with finite numbers, in which each row occurs once and empty rows are in order."""
    for table, batch, merging in _cases(make):
        check_change(make().write(table, batch, merging), table)


def _changes_nothing(make: Make) -> None:
    """``write`` changes neither the table nor the batch nor the policy: called again, it gives the same."""
    for case in _cases(make):
        policy = make()
        before = copy.deepcopy((case, repr(policy), dict(getattr(policy, "__dict__", {}))))
        first = policy.write(*case)
        after = case, repr(policy), dict(getattr(policy, "__dict__", {}))
        assert alike(before[0], after[0]), "the table or the batch was changed in place"
        assert alike(before[1:], after[1:]), f"the policy is {after[1]}, and was {before[1]}"
        assert alike(first, policy.write(*case)), "the second call differs: hidden state"


def _draws_from_the_seed_alone(make: Make) -> None:
    """The tables' seeds determine what is kept, and no global generator is used."""
    memories = []
    with no_global_draws():
        for _ in range(2):
            memory = _memory(make)
            _write_batches(memory, _seeded())
            memories.append(memory)
    assert alike(memories[0].state_dict(), memories[1].state_dict()), "two memories of the same seed differ"


def _fills_before_it_replaces(make: Make) -> None:
    """Different samples are all kept until every row is used; after that the table stays full."""
    memory = _memory(make, tables=None)
    keys = _FAR * torch.arange(2.0 * _CAPACITY * _WIDTH).view(-1, _WIDTH)
    for number, key in enumerate(keys):
        memory.write(key[None], torch.ones(1))
        filled, expected = int(memory.n_filled), min(number + 1, _CAPACITY)
        assert filled == expected, f"after {number + 1} different samples {filled} rows are in use, not {expected}"
        if number < _CAPACITY:
            is_stored = (memory.keys[0, :filled, None] == keys[None, : number + 1]).all(-1).any(0)
            assert is_stored.all(), f"of {number + 1} different samples only {int(is_stored.sum())} are there"


def _stores_values_within_the_samples(make: Make) -> None:
    """Keys and values lie within the range of the samples."""
    memory, draws = _memory(make, tables=None), _seeded()
    keys, values = _samples(60, draws)
    for key, value in zip(keys, values, strict=True):
        memory.write(key[None], value[None])
    for name, samples in (("keys", keys), ("values", values[:, None])):
        rows = getattr(memory, name)[memory.filled]
        low, high = samples.amin(0) - 1e-4, samples.amax(0) + 1e-4
        assert ((rows >= low) & (rows <= high)).all(), f"{name} beyond those of all samples: {rows.tolist()}"


def _treats_tables_independently(make: Make) -> None:
    """Writing to one table does not affect another."""
    single, accompanied = _memory(make), _memory(make)
    _write_batches(accompanied, _seeded(2), table=1)
    for memory in (single, accompanied):
        _write_batches(memory, _seeded())
    for name, tensor in single.state_dict().items():
        assert torch.equal(tensor[0], accompanied.state_dict()[name][0]), f"{name} of table 0 depends on table 1"


def _resumes_from_a_stored_state(make: Make) -> None:
    """A new memory with a new policy that loads the ``state_dict`` continues bit for bit."""
    memory = _memory(make)
    _write_batches(memory, _seeded())
    resumed = _memory(make, seed=3)
    resumed.load_state_dict(stored(dict(memory.state_dict())))
    for each in (memory, resumed):
        _write_batches(each, _seeded(4))
    assert alike(dict(memory.state_dict()), dict(resumed.state_dict())), "the continuation differs"


def _takes_hashes_and_wide_values(make: Make) -> None:
    """Values may have several numbers, and states may be identified by hashes."""
    memory, draws = _memory(make, value_dim=3, hash_dim=1, assign="hash"), _seeded()
    for count in _BATCHES:
        keys = torch.rand(count, _WIDTH, generator=draws)
        hashes = _FAR * torch.randint(20, (count, 1), generator=draws)
        memory.write(keys, torch.rand(count, 3, generator=draws), hashes)
    assert all(tensor.isfinite().all() for tensor in memory.state_dict().values()), "numbers that are not finite"
    assert int(memory.n_filled[0]) > 0, "nothing is stored"
