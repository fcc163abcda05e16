"""A recurrent core that runs over sequences, as ``nn.RNN`` does."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from engram import checks
from engram.nn.packed import ordered, run_packed
from engram.nn.sequence import full_precision, packed_rows, time_first


def run_core(
    core: Any, input: Annotated[Tensor, "time batch input"] | PackedSequence, state: Any
) -> tuple[Tensor | PackedSequence, Any]:
    """The activity of a core at every step of sequences, which are checked, and its state after the last step.

    Args:
        core: A module with ``input_size``, ``weight_ih``, ``drive(input)``, ``init(batch_size)`` and
            ``step(drive, state)``, whose states have an ``activity``.
        input: Sequences, time first, or packed; the activity has the same form.
        state: The state from an earlier call, or None.
    """
    if isinstance(input, PackedSequence):
        rows = packed_rows("input", input, core.input_size, core.weight_ih)
        start = ordered(_start(core, int(input.batch_sizes[0]), state), input.sorted_indices)
        output, state = run_packed(partial(_run, core), rows, input.batch_sizes, start)
        return input._replace(data=output), ordered(state, input.unsorted_indices)
    sequence = time_first("input", input, core.input_size, core.weight_ih)
    return _run(core, sequence, _start(core, sequence.shape[1], state))


def _start(core: Any, batch_size: int, state: Any) -> Any:
    """The checked state before the first step."""
    start = core.init(batch_size)
    if state is None:
        return start
    checks.instance("state", state, type(start))
    for name, tensor, expected in zip(state._fields, state, start, strict=True):
        checks.tensor(f"state.{name}", tensor, tuple(expected.shape), like=expected)
    return state


def _run(core: Any, sequence: Tensor, state: Any) -> tuple[Tensor, Any]:
    """The activity and the last state; under ``torch.autocast``, all but the drive is in the parameters' precision."""
    activities, drives = [], core.drive(sequence).to(core.weight_ih.dtype)
    with full_precision(sequence.device):
        for drive in drives:
            state = core.step(drive, state)
            activities.append(state.activity)
    return torch.stack(activities) if activities else state.activity.new_empty(0, *state.activity.shape), state


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
