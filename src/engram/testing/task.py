"""The contract of a task: batches of episodes, determined by a generator alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from engram.tasks import Episode
from engram.testing.promises import BadInput, assert_refused, assert_seeded, check_maker, hold, same

_BATCH = 4


def check_task(task_class: Callable[[], Any]) -> None:
    """Check a task against its contract.

    ``sample(batch_size, generator)`` gives an ``Episode``, or a named tuple that begins like one, with the documented
    shapes and at least one answer that counts; the generator alone determines it; every episode is new; bad input is
    refused.

    Args:
        task_class: The class, or another callable that makes the task without arguments.

    Examples:
        >>> from engram.tasks import PatternCompletion
        >>> check_task(PatternCompletion)
    """
    check_maker("task_class", task_class)
    checks = [_has_the_shapes, _draws_from_its_generator, _is_new_each_time, _refuses_bad_input]
    hold(task_class, checks, task_class())


def _has_the_shapes(task: Any) -> None:
    """``sample`` gives an Episode, time first, with finite inputs and targets and a mask that selects some answers."""
    for batch_size in (1, _BATCH):
        episode = task.sample(batch_size, torch.Generator().manual_seed(0))
        assert getattr(episode, "_fields", ())[:3] == Episode._fields, f"got a {type(episode).__name__}"
        inputs, targets, mask = episode[:3]
        shapes = ", ".join(f"{name} {tuple(t.shape)}" for name, t in episode._asdict().items())
        assert inputs.dim() == targets.dim() == 3, shapes
        assert inputs.shape[:2] == targets.shape[:2] == mask.shape, shapes
        assert mask.shape[1] == batch_size, f"batch_size = {batch_size} gave {shapes}"
        assert inputs.isfinite().all(), "inputs are not finite"
        assert targets.isfinite().all(), "targets are not finite"
        assert mask.dtype == torch.bool, f"mask of {mask.dtype}"
        assert mask.any(0).all(), "in some episode no answer counts"


def _draws_from_its_generator(task: Any) -> None:
    """The generator alone determines the episodes."""
    assert_seeded(lambda generator: task.sample(_BATCH, generator))


def _is_new_each_time(task: Any) -> None:
    """Every sample is new, and so is every episode of a batch."""
    generator = torch.Generator().manual_seed(0)
    first, second = task.sample(_BATCH, generator), task.sample(_BATCH, generator)
    assert not same(first, second), "two samples in succession are equal"
    assert (first.inputs != first.inputs[:, :1]).any(), "the episodes of a batch are equal"


def _refuses_bad_input(task: Any) -> None:
    """Bad input gets a clear error."""
    bad: list[BadInput] = [
        (lambda: task.sample(0, torch.Generator()), ValueError, "batch_size = 0"),
        (lambda: task.sample(1.5, torch.Generator()), TypeError, "batch_size"),
        (lambda: task.sample(1, 0), TypeError, "generator"),
    ]
    assert_refused(bad)
