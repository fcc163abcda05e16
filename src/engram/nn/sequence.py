"""Checks of the input sequences of recurrent modules and of their precision."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from engram import checks

AXES = ("time", "batch", "feature")
ROWS = ("row", "feature")
UNCHANGED = nullcontext()


def time_first(
    name: str, value: Tensor, features: int, like: Tensor, batch_first: bool = False, *, unbatched: bool = False
) -> Tensor:
    """A checked sequence of shape (time, batch, features).

    Args:
        name: Name of the argument in errors.
        value: The sequence.
        features: Expected number of features.
        like: A tensor of the expected dtype and device.
        batch_first: Whether the sequence is (batch, time, features).
        unbatched: Whether it may also be (time, features), which becomes a batch of one.

    Raises:
        TypeError: Not a tensor.
        ValueError: Wrong shape, dtype or device, an empty batch, or a value that is not finite.
    """
    value = precise(value, like)
    if unbatched and isinstance(value, Tensor) and value.dim() == 2:
        checks.tensor(name, value, ("time", features), like)
        value = value.unsqueeze(0 if batch_first else 1)
    checks.tensor(name, value, ("batch", "time", features) if batch_first else ("time", "batch", features), like)
    sequence = value.transpose(0, 1) if batch_first else value
    if sequence.shape[1] == 0:
        raise ValueError(f"{name}.shape = {tuple(value.shape)}: expected a batch of at least 1")
    checks.finite(name, sequence, AXES)
    return sequence


def packed_rows(name: str, value: PackedSequence, features: int, like: Tensor) -> Tensor:
    """The checked rows of packed sequences, (row, features); the arguments and errors are those of ``time_first``."""
    rows = precise(value.data, like)
    checks.tensor(f"{name}.data", rows, ("row", features), like)
    checks.finite(f"{name}.data", rows, ROWS)
    return rows


def precise(value: Tensor, like: Tensor) -> Tensor:
    """``value``, cast to the dtype of ``like`` if ``torch.autocast`` is enabled."""
    cast = isinstance(value, Tensor) and value.is_floating_point() and autocast(value.device)
    return value.to(like.dtype) if cast else value


def check_precision(parameter: Tensor) -> None:
    """Raise ValueError if parameters beside traces, or that change in small steps, have half precision."""
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the parameters have dtype = {parameter.dtype}: expected torch.float32 or torch.float64, because half "
            "precision loses what is added to a trace or a slow weight; under torch.autocast they keep their precision"
        )


def autocast(device: torch.device) -> bool:
    """Whether ``torch.autocast`` is enabled for this device."""
    kind = device.type  # made anew each time that it is read
    return kind != "meta" and torch.is_autocast_enabled(kind)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """A context without ``torch.autocast``, in which operators compute in the precision of their arguments."""
    return torch.autocast(device.type, enabled=False) if autocast(device) else UNCHANGED
