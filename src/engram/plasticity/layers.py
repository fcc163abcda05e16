"""Stacked recurrent layers, run over any input that ``nn.RNN`` takes: a batch, a single sequence, packed sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from engram import checks
from engram.copying import copied
from engram.nn.hooks import alteration
from engram.nn.packed import each, ordered
from engram.nn.sequence import AXES, ROWS, packed_rows, time_first
from engram.numeric import threads


def checked_input(net: Any, input: Any) -> Tensor:
    """The checked input of a network, (time, batch, features); for packed sequences their data, (row, features).

    Raises:
        TypeError, ValueError: It is not a floating-point sequence of ``net.input_size`` features, or is not finite; or
            a layer above the first has hooks or a forward of its own, which would be skipped, since it is not called
            as a module.
        RuntimeError: The caller is ``torch.jit.trace``, which would fix the number of steps and the batch size to those
            of its example.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        raise RuntimeError(f"torch.jit.trace cannot follow {type(net).__name__}: use torch.export.export")
    for k, layer in enumerate(net.upper):
        if reason := alteration(layer):
            verb = "do" if "hooks" in reason else "does"
            raise ValueError(f"upper[{k}] {reason}, which {verb} not run: expected them on the whole network only")
    if not isinstance(input, PackedSequence):
        return time_first("input", input, net.input_size, net.weight_ih, net.batch_first, unbatched=True)
    return packed_rows("input", input, net.input_size, net.weight_ih)


def upper_layers(kind: Callable[..., nn.Module], number: int, size: int, **options: Any) -> nn.ModuleList | tuple[()]:
    """The layers above the first, each with its own copies of ``rule`` and ``neuromodulator``; () for none.

    Args:
        kind: The class of the layers.
        number: Number of these layers.
        size: Number of units in each.
        **options: Keyword arguments of the class.
    """
    if number == 0:
        return ()
    owned = {name: item for name in ("rule", "neuromodulator") if (item := options.get(name)) is not None}
    return nn.ModuleList(
        kind(size, size, **options | {name: copied(item) for name, item in owned.items()}) for _ in range(number)
    )


def check_layers(num_layers: int, dropout: float, bidirectional: bool) -> float:
    """The checked dropout of a network; ValueError if it, or a second direction, makes no sense.

    Args:
        num_layers: Number of layers.
        dropout: Dropout between layers; must be 0 for one layer.
        bidirectional: Must be False.
    """
    if bidirectional:
        raise ValueError("bidirectional = True: expected False, because traces are the memory of what came before")
    if checks.number("dropout", dropout, minimum=0, maximum=1) and num_layers == 1:
        raise ValueError(f"dropout = {dropout}: expected 0, because num_layers = 1 leaves no layer below another")
    return float(dropout)


def dropped(net: Any, k: int, sequence: Tensor) -> Tensor:
    """The input of layer k; while training, dropout is applied to it above the first layer, as in ``nn.RNN``.

    Args:
        net: The first layer.
        k: Index of the layer, from 0.
        sequence: The input before dropout.
    """
    return functional.dropout(sequence, net.dropout, net.training) if k and net.dropout else sequence


def layer_states(net: Any, input: Tensor | PackedSequence, sequence: Tensor, state: Any) -> list[Any]:
    """The state of each layer before the first step, as a batch in the order of ``sequence``.

    Args:
        net: The first layer, with the others in ``upper``.
        input: The network's input.
        sequence: The same input, as ``checked_input`` returns it.
        state: The state with which the network was called; None: the start of an episode.
    """
    layers = [net, *net.upper]
    packed, unbatched = isinstance(input, PackedSequence), not isinstance(input, PackedSequence) and input.dim() == 2
    batch_size = int(input.batch_sizes[0]) if isinstance(input, PackedSequence) else sequence.shape[1]
    if state is None:
        with threads.single_threaded():
            return [layer.init_layer(batch_size) for layer in layers]
    net.check_state(state, (len(layers), *(() if unbatched else (batch_size,))))
    if unbatched:
        state = each(lambda t: t.unsqueeze(1), state)
    elif packed:
        state = ordered(state, input.sorted_indices, 1)  # type: ignore[union-attr]
    return [each(lambda t, k=k: t[k], state) for k in range(len(layers))]


def check_activity(net: Any, k: int, sequence: Tensor) -> None:
    """Raise unless the activity of layer k, (time, batch, features) or (row, features), is finite.

    Args:
        net: The first layer.
        k: Index of the layer, from 0.
        sequence: Its activity.
    """
    checks.finite(
        f"activity of layer {k}" if net.upper else "activity", sequence, AXES if sequence.dim() == 3 else ROWS
    )


def layer_results(net: Any, input: Tensor | PackedSequence, sequence: Tensor, states: list[Any]) -> tuple[Any, Any]:
    """The output in the form of the input, and the state in the order of the input, as ``nn.RNN`` returns them.

    Args:
        net: The first layer.
        input: The network's input.
        sequence: The output of the last layer.
        states: The state of each layer after the last step.
    """
    state = stacked(states)
    if isinstance(input, PackedSequence):
        unsorted = input.unsorted_indices
        packed = PackedSequence(sequence, input.batch_sizes, input.sorted_indices, unsorted)
        return packed, ordered(state, unsorted, 1)
    if input.dim() == 2:
        return sequence.squeeze(1), each(lambda t: t.squeeze(1), state)
    return (sequence.transpose(0, 1) if net.batch_first else sequence), state


def stacked(states: list[Any]) -> Any:
    """The state of a network whose layers have these states."""
    if len(states) == 1:
        return each(lambda t: t.unsqueeze(0), states[0])  # a view: traces are large
    return each(lambda *tensors: torch.stack(tensors), *states)
