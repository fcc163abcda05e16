"""What the plastic modules demand of their arguments, said in clear errors."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor


def check_size(name: str, value: int) -> None:
    """Raise unless ``value`` is an integer of at least one."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}: expected an int")
    if value < 1:
        raise ValueError(f"{name} = {value}: expected at least 1")


def check_type(name: str, value: object, kind: type) -> None:
    """Raise unless ``value`` is an instance of ``kind``."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}: expected an instance of {kind.__name__}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} = {value!r}: expected one of {', '.join(map(repr, choices))}")


def check_tensor(name: str, value: Tensor, shape: tuple[int | str, ...], like: Tensor) -> None:
    """Raise unless ``value`` is a tensor of this shape, with the dtype and device of ``like``.

    Args:
        name: What the error calls the tensor.
        value: The tensor.
        shape: For each axis its size, or, where any size will do, its name.
        like: A tensor of the expected dtype and device.
    """
    check_type(name, value, Tensor)
    if value.shape != shape and (
        value.dim() != len(shape)
        or any(isinstance(want, int) and got != want for got, want in zip(value.shape, shape, strict=True))
    ):
        raise ValueError(f"{name}.shape = {tuple(value.shape)}: expected ({', '.join(map(str, shape))})")
    if value.dtype != like.dtype:
        raise ValueError(f"{name}.dtype = {value.dtype}: expected {like.dtype}, as the parameters have")
    if value.device != like.device:
        raise ValueError(f"{name}.device = {value.device}: expected {like.device}, where the parameters are")


def time_first(name: str, value: Tensor, features: int, like: Tensor, batch_first: bool = False) -> Tensor:
    """Return ``value`` as a checked sequence of shape (time, batch, features).

    Args:
        name: What the error calls the sequence.
        value: The sequence, (time, batch, features), or (batch, time, features) if ``batch_first``.
        features: The expected size of the last axis.
        like: A tensor of the expected dtype and device.
        batch_first: Whether the batch is the first axis of ``value``.

    Raises:
        TypeError: Not a tensor.
        ValueError: Wrong shape, dtype or device, an empty batch, or a value that is not finite.
    """
    if isinstance(value, Tensor) and value.is_floating_point() and autocast(value.device):
        value = value.to(like.dtype)
    check_tensor(name, value, ("batch", "time", features) if batch_first else ("time", "batch", features), like)
    sequence = value.transpose(0, 1) if batch_first else value
    if sequence.shape[1] == 0:
        raise ValueError(f"{name}.shape = {tuple(value.shape)}: expected a batch of at least 1")
    check_finite(name, sequence)
    return sequence


def check_finite(name: str, sequence: Tensor) -> None:
    """Raise if a number in a sequence, (time, batch, features), is not finite; say the first step where it is not."""
    # A sum of finite numbers may overflow, but none with another kind among them is finite; and a sum is cheap.
    if readable(sequence) and not math.isfinite(sequence.detach().sum().item()) and not sequence.isfinite().all():
        time, batch, feature = (~sequence.isfinite()).nonzero()[0].tolist()
        raise ValueError(
            f"{name} at (time={time}, batch={batch}, feature={feature}) is {sequence[time, batch, feature]}: "
            "expected a finite number"
        )


def check_precision(parameter: Tensor) -> None:
    """Raise if a module with traces is of half precision, in which their increments are soon lost."""
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the parameters have dtype = {parameter.dtype}: expected torch.float32 or torch.float64, because half "
            "precision loses what is added to a trace; under torch.autocast the traces keep their precision"
        )


def autocast(device: torch.device) -> bool:
    """Return whether ``torch.autocast`` is at work on this device."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def readable(value: Tensor) -> bool:
    """Return whether there are numbers to look at: not while compiling, in a ``torch.func`` transform, or on meta."""
    return not torch.compiler.is_compiling() and not value.is_meta and torch.func.debug_unwrap(value) is value
