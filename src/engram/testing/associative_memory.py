"""The contract of an associative memory: it recalls stored patterns, cue by cue, and resumes from a stored state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from engram.memory import AssociativeMemory, apply_recall, apply_store, corrupt
from engram.testing.promises import (
    alike,
    assert_refused,
    assert_states_are_refused,
    check_maker,
    default_dtype,
    hold,
    in_threads,
    no_global_draws,
    stored,
)

Make = Callable[..., AssociativeMemory]

_UNITS, _PATTERNS, _NOISE = 60, 4, 0.1


def check_associative_memory(memory_class: Make, **options: Any) -> None:
    """Check an associative memory against its contract, with a few patterns of 60 units.

    It recalls patterns exactly, whether they were stored together or one by one, and a single pattern from a cue with a
    tenth of its units flipped. Its answers are determined by its generator and do not depend on the other cues; recall
    stores nothing. It resumes from a stored state bit for bit, and refuses a state of another form by an error that
    names it. The number of weights that it reports is at least a quarter of the numbers that it stores. Torch's default
    dtype and other threads make no difference. Bad input is refused.

    Args:
        memory_class: The class, or another callable that makes the memory: called as ``memory_class(units,
            generator=...)``.
        **options: Further options of its constructor, to check a variant.

    Raises:
        AssertionError: A promise is broken; the message says which.

    Examples:
        >>> from engram.memory.associative.hopfield import hebb
        >>> check_associative_memory(hebb)
    """
    check_maker("memory_class", memory_class)

    def make(units: int = _UNITS, generator: Any = None) -> AssociativeMemory:
        generator = torch.Generator().manual_seed(1) if generator is None else generator
        return memory_class(units, **{"generator": generator, **options})

    checks = [
        _is_an_associative_memory,
        _recalls_stored_patterns,
        _keeps_patterns_stored_one_by_one,
        _completes_a_pattern,
        _is_determined_by_its_generator,
        _answers_each_cue_alone,
        _stores_nothing_while_it_recalls,
        _resumes_from_a_stored_state,
        _refuses_other_states,
        _counts_what_it_keeps,
        _takes_any_default_dtype,
        _is_the_same_in_eight_threads,
        _refuses_bad_input,
    ]
    hold(memory_class, checks, make)


def _signs(count: int, seed: int) -> Tensor:
    """Random patterns, or cues that are near no pattern."""
    return 1.0 - 2 * torch.randint(0, 2, (count, _UNITS), generator=torch.Generator().manual_seed(seed)).float()


def _noisy(patterns: Tensor) -> Tensor:
    return corrupt(patterns, _NOISE, generator=torch.Generator().manual_seed(2))


def _filled(make: Make) -> tuple[AssociativeMemory, Tensor]:
    """A memory, and the patterns that it has stored."""
    memory, patterns = make(), _signs(_PATTERNS, 3)
    apply_store(memory, patterns)
    return memory, patterns


def _mixed(patterns: Tensor) -> Tensor:
    """Cues near the patterns, and cues near none."""
    return torch.cat((_noisy(patterns), _signs(8, 4)))


def _wrong(recalled: Tensor, patterns: Tensor) -> str:
    return f"{int((recalled != patterns).sum())} of {patterns.numel()} units are wrong"


def _is_an_associative_memory(make: Make) -> None:
    """It is an ``AssociativeMemory`` with the requested number of units."""
    for units in (2, 7, _UNITS):
        memory = make(units)
        assert isinstance(memory, AssociativeMemory), f"a {type(memory).__name__}"
        assert memory.units == units, f"made with {units} units it has {memory.units}"


def _recalls_stored_patterns(make: Make) -> None:
    """A few random patterns are recalled exactly."""
    memory, patterns = _filled(make)
    recalled = apply_recall(memory, patterns)
    assert torch.equal(recalled, patterns), _wrong(recalled, patterns)


def _keeps_patterns_stored_one_by_one(make: Make) -> None:
    """Patterns stored later are kept in addition to those stored before."""
    memory, patterns = make(), _signs(_PATTERNS, 3)
    for pattern in torch.split(patterns, 1):
        apply_store(memory, pattern)
    recalled = apply_recall(memory, patterns)
    assert torch.equal(recalled, patterns), f"stored one by one, {_wrong(recalled, patterns)}"


def _completes_a_pattern(make: Make) -> None:
    """One stored pattern comes back from a cue with a tenth of its units flipped."""
    memory, pattern = make(), _signs(1, 5)
    apply_store(memory, pattern)
    recalled = apply_recall(memory, _noisy(pattern))
    assert torch.equal(recalled, pattern), _wrong(recalled, pattern)


def _is_determined_by_its_generator(make: Make) -> None:
    """The same generator gives the same answers, and no global one is used."""

    def answers() -> Tensor:
        memory, patterns = _filled(make)
        return apply_recall(memory, _mixed(patterns))

    with no_global_draws():
        first = answers()
    torch.rand(1)
    assert torch.equal(first, answers()), "two memories that were made alike answer differently"


def _answers_each_cue_alone(make: Make) -> None:
    """The answer to a cue near a pattern is the same alone and among others."""
    memory, patterns = _filled(make)
    answers_together = apply_recall(memory, _mixed(patterns))[:_PATTERNS]
    answers_alone = torch.cat([apply_recall(memory, cue) for cue in torch.split(_noisy(patterns), 1)])
    assert torch.equal(answers_together, answers_alone), (
        f"alone and among others {int((answers_together != answers_alone).sum())} units differ"
    )


def _stores_nothing_while_it_recalls(make: Make) -> None:
    """``recall`` changes nothing but the generator."""
    memory, patterns = _filled(make)
    before = memory.state_dict()
    apply_recall(memory, _mixed(patterns))
    after = memory.state_dict()
    changed_names = [name for name in before if name != "generator" and not alike(before[name], after[name])]
    assert not changed_names, f"it changed {', '.join(changed_names)}"


def _resumes_from_a_stored_state(make: Make) -> None:
    """A new memory that loads the ``state_dict`` from a file answers bit for bit as the old one, and can store more."""
    memory, patterns = _filled(make)
    resumed = make(generator=torch.Generator().manual_seed(6))
    resumed.load_state_dict(stored(memory.state_dict()))
    more = _signs(2, 7)
    for number in range(2):
        answers = [apply_recall(each, _mixed(patterns)) for each in (memory, resumed)]
        assert torch.equal(*answers), f"answers differ {'after more was stored' if number else 'at once'}"
        for each in (memory, resumed):
            apply_store(each, more)


def _refuses_other_states(make: Make) -> None:
    """A state of another form is refused, by an error that names the entry, and changes nothing."""
    memory, _ = _filled(make)
    assert_states_are_refused(memory, make(_UNITS - 1).state_dict())


def _counts_what_it_keeps(make: Make) -> None:
    """``n_weights`` is at least a quarter of the numbers that change when it stores."""
    memory = make()
    before = memory.state_dict()
    apply_store(memory, _signs(_PATTERNS, 3))
    after = memory.state_dict()
    old, new = ([leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)] for state in (before, after))
    n_changed = sum(leaf.numel() for leaf in new if not any(alike(leaf, old_leaf) for old_leaf in old))
    count = memory.n_weights
    assert isinstance(count, int), f"n_weights is a {type(count).__name__}"
    assert n_changed, "nothing of its state changes: name what storing changes in stored"
    assert 4 * count >= n_changed, f"n_weights is {count}, but {n_changed} numbers changed"


def _takes_any_default_dtype(make: Make) -> None:
    """With float64 as torch's default dtype it keeps what it stored."""
    with default_dtype(torch.float64):
        memory, patterns = _filled(make)
        recalled = apply_recall(memory, patterns)
    assert torch.equal(recalled, patterns), _wrong(recalled, patterns)


def _is_the_same_in_eight_threads(make: Make) -> None:
    """In eight threads at once, each with its own memory, the answers are the same as in one thread."""

    def answers() -> Tensor:
        memory, patterns = _filled(make)
        return apply_recall(memory, _mixed(patterns))

    expected = answers()
    assert all(torch.equal(expected, recalled) for recalled in in_threads(answers)), "threads differ"


def _refuses_bad_input(make: Make) -> None:
    """Invalid units, generators, patterns and cues are refused, and the message names them."""
    memory, patterns = _filled(make)
    assert_refused(
        [
            (lambda: make(0), ValueError, "units = 0"),
            (lambda: make(generator=3), TypeError, "generator"),
            (lambda: apply_store(memory, 0 * patterns), ValueError, "patterns"),
            (lambda: apply_store(memory, patterns[:, 1:]), ValueError, "patterns"),
            (lambda: apply_recall(memory, patterns[0]), ValueError, "cues"),
            (lambda: apply_recall(memory, torch.nan * patterns), ValueError, "cues"),
        ]
    )
