"""Recurrent layers one on another, run over all that ``nn.RNN`` takes: a batch, one sequence alone, packed ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from engram import checks
from engram.nn.sequence import AXES, precise, time_first
from engram.numeric import threads
from engram.plasticity.state import each

ROWS = ("row", "feature")


def checked_input(net: Any, input: Any) -> Tensor:
    """Return the input of a network as (time, batch, features), checked; of packed sequences the data, (row, features).

    Raises:
        TypeError, ValueError: As of ``time_first``.
    """
    if not isinstance(input, PackedSequence):
        return time_first("input", input, net.input_size, net.weight_ih, net.batch_first, alone=True)
    data = precise(input.data, net.weight_ih)
    checks.tensor("input.data", data, ("row", net.input_size), net.weight_ih)
    checks.finite("input.data", data, ROWS)
    return data


def upper_layers(kind: Callable[..., nn.Module], number: int, size: int, **options: Any) -> nn.ModuleList | tuple[()]:
    """Return the layers above the first, each with its own copies of ``rule`` and ``neuromodulator``; () for none."""
    owned = ("rule", "neuromodulator")
    if number == 0:
        return ()
    return nn.ModuleList(
        kind(size, size, **{name: copy.deepcopy(item) if name in owned else item for name, item in options.items()})
        for _ in range(number)
    )


def run_layers(net: Any, input: Tensor | PackedSequence, sequence: Tensor, state: Any, **options: Any) -> Any:
    """Return what ``nn.RNN`` would of its input: the output, in the same form, and the state after each last step.

    Args:
        net: The first layer, with the other ones in ``upper``; each has ``run_layer(sequence, state)`` for one layer
            and (time, batch, features), ``initial(batch_size)``, and ``check_state(state, shape)``.
        input: What the network was called with.
        sequence: The same as ``checked_input`` returns it.
        state: What the network was called with.
        options: Of ``run_layer`` of the first layer.
    """
    packed = input if isinstance(input, PackedSequence) else None
    layers, deep, alone = [net, *net.upper], int(len(net.upper) > 0), packed is None and input.dim() == 2  # type: ignore[union-attr]
    batch_size = sequence.shape[1] if packed is None else int(packed.batch_sizes[0])
    if state is None:
        with threads.single_threaded():
            states = [layer.initial(batch_size) for layer in layers]
    else:
        net.check_state(state, (len(layers),) * deep + (batch_size,) * (not alone))
        if alone:
            state = each(lambda t: t.unsqueeze(deep), state)
        elif packed is not None:
            state = _ordered(state, packed.sorted_indices, deep)
        states = [each(lambda t, k=k: t[k], state) for k in range(len(layers))] if deep else [state]
    for k, layer in enumerate(layers):
        if packed is None:
            sequence, states[k] = layer.run_layer(sequence, states[k], **options)
        else:
            sequence, states[k] = _run_packed(layer.run_layer, sequence, packed.batch_sizes, states[k])
        checks.finite(f"activity of layer {k}" if deep else "activity", sequence, AXES if packed is None else ROWS)
        options = {}
    state = stacked(states)
    if packed is not None:
        indices = packed.unsorted_indices
        return PackedSequence(sequence, packed.batch_sizes, packed.sorted_indices, indices), _ordered(
            state, indices, deep
        )
    if alone:
        return sequence.squeeze(1), each(lambda t: t.squeeze(deep), state)
    return (sequence.transpose(0, 1) if net.batch_first else sequence), state


def stacked(states: list[Any]) -> Any:
    """Return the state of a network whose layers have these states."""
    return states[0] if len(states) == 1 else each(lambda *parts: torch.stack(parts), *states)


def _run_packed(run: Callable[..., Any], data: Tensor, batch_sizes: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Run one layer over packed sequences: all of them until the shortest is over, then those that are left."""
    sizes, steps = torch.unique_consecutive(batch_sizes, return_counts=True)
    outputs, ended = [], []
    for part, size in zip(torch.split(data, (sizes * steps).tolist()), sizes.tolist(), strict=True):
        ended.append(each(lambda t, size=size: t[size:], state))
        state = each(lambda t, size=size: t[:size], state)
        output, state = run(part.view(-1, size, part.shape[1]), state)
        outputs.append(output.flatten(0, 1))
    # The longest come first, and the first to end have been at the end.
    return torch.cat(outputs), each(lambda *parts: torch.cat(parts), state, *reversed(ended))


def _ordered(state: Any, indices: Tensor | None, axis: int) -> Any:
    return state if indices is None else each(lambda t: t.index_select(axis, indices), state)
