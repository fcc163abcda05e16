"""Packed sequences, run by any module that takes a batch of sequences and a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def each(function: Callable[..., Tensor], *states: Any) -> Any:
    """Apply a function to corresponding tensors of states, and return the resulting state."""
    if isinstance(states[0], Tensor):
        return function(*states)
    return type(states[0])(*(each(function, *fields) for fields in zip(*states, strict=True)))


def ordered(state: Any, indices: Tensor | None, axis: int = 0) -> Any:
    """A state whose samples, along this axis, are in another order; the same if ``indices`` is None."""
    return state if indices is None else each(lambda t: t.index_select(axis, indices), state)


def run_packed(
    run: Callable[..., tuple[Tensor, Any]], data: Tensor, batch_sizes: Tensor, state: Any
) -> tuple[Tensor, Any]:
    """Output and state of a layer over packed sequences: over all until the shortest ends, then over the others.

    Args:
        run: The layer, as a function of a sequence (time, batch, features) and a state.
        data: The rows of all sequences, (row, features).
        batch_sizes: Number of sequences at each step.
        state: The state before the first step.
    """
    sizes, steps = torch.unique_consecutive(batch_sizes, return_counts=True)
    outputs, ended = [], []
    for rows, size in zip(torch.split(data, (sizes * steps).tolist()), sizes.tolist(), strict=True):
        ended.append(each(lambda t, size=size: t[size:], state))
        state = each(lambda t, size=size: t[:size], state)
        output, state = run(rows.reshape(-1, size, rows.shape[1]), state)
        outputs.append(output.flatten(0, 1))
    # The longest sequences come first in a batch, so those that ended first are the last ones.
    return torch.cat(outputs), each(lambda *tensors: torch.cat(tensors), state, *reversed(ended))
