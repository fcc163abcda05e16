"""A recurrent core that runs over sequences, as ``nn.RNN`` does."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from engram import checks
from engram.nn.sequence import time_first


def run_core(core: Any, input: Annotated[Tensor, "time batch input"], state: Any) -> tuple[Tensor, Any]:
    """The activity of a core at every step of sequences, which are checked, and its state after the last step.

    Args:
        core: A module with ``input_size``, ``weight_ih``, ``drive(input)``, ``init(batch_size)`` and
            ``step(drive, state)``, whose states have an ``activity``.
        input: Sequences, time first.
        state: The state from an earlier call, or None.
    """
    sequence = time_first("input", input, core.input_size, core.weight_ih)
    start = core.init(sequence.shape[1])
    if state is None:
        state = start
    else:
        checks.instance("state", state, type(start))
        for name, tensor, expected in zip(state._fields, state, start, strict=True):
            checks.tensor(f"state.{name}", tensor, tuple(expected.shape), like=core.weight_ih)
    activities = []
    for drive in core.drive(sequence):
        state = core.step(drive, state)
        activities.append(state.activity)
    return torch.stack(activities) if activities else start.activity.new_empty(0, *start.activity.shape), state


def check_features(input: Tensor, weight_ih: Tensor) -> None:
    """Raise ValueError unless the input has the number of features, the dtype and the device of the input weights."""
    axes = tuple(f"axis {axis}" for axis in range(input.ndim - 1))
    checks.tensor("input", input, (*axes, weight_ih.shape[1]), like=weight_ih)


def check_step(drive: Tensor, state: Any, kind: type) -> None:
    """Raise unless a drive fits a state of this kind; cheap, since it runs at every step.

    Args:
        drive: The drive, of the shape of the state's activity.
        state: The state before the step.
        kind: The class of the state.
    """
    checks.instance("state", state, kind)
    checks.instance("drive", drive, Tensor)
    if drive.shape != state.activity.shape:
        expected = tuple(state.activity.shape)
        raise ValueError(f"drive.shape = {tuple(drive.shape)}: expected {expected}, as the state has")
