"""The one validator of arguments: every error names the argument, its value and what was expected."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from engram.numeric.threads import single_threaded

T = TypeVar("T")
LARGEST = sys.float_info.max

MOST, LIMIT = 10**9, 10**4  # no size exceeds the first; an upper bound above the second is left out of messages


def size(name: str, value: Any, least: int = 1, most: int | None = MOST) -> int:
    """``value`` as an int, within ``least`` and ``most``.

    Args:
        name: What the error calls the argument.
        value: The argument.
        least: The smallest value allowed.
        most: The largest value allowed, by default a number that no size exceeds; None: no bound.

    Raises:
        TypeError: It is no integer; a bool is none.
        ValueError: It is out of range.

    Examples:
        >>> size("k", 0)
        Traceback (most recent call last):
        ValueError: k = 0: expected at least 1
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}: expected an int")
    if value < least or (most is not None and value > most):
        raise ValueError(
            f"{name} = {value}: expected "
            + (f"at least {least}" if most is None or (most >= LIMIT and value < least) else f"{least} to {most}")
        )
    return int(value)


def number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """``value`` as a float: a finite number within the bounds given.

    Args:
        name: What the error calls the argument.
        value: The argument.
        least: The smallest value allowed.
        above: It must be above this.
        most: The largest value allowed.
        below: It must be below this.

    Raises:
        TypeError: It is no real number; a bool is none.
        ValueError: It is not finite, or out of range.

    Examples:
        >>> number("eta", -1, least=0)
        Traceback (most recent call last):
        ValueError: eta = -1: expected a number of at least 0
        >>> number("gamma", 1.5, least=0, most=1)
        Traceback (most recent call last):
        ValueError: gamma = 1.5: expected a number from 0 to 1
    """
    if not isinstance(value, float | int | np.floating | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}: expected {_range(least, above, most, below)}")
    if (
        not -LARGEST <= value <= LARGEST
        or (least is not None and value < least)
        or (above is not None and value <= above)
        or (most is not None and value > most)
        or (below is not None and value >= below)
    ):
        raise ValueError(f"{name} = {value}: expected {_range(least, above, most, below)}")
    return float(value)


def choice(name: str, value: T, choices: Collection[T]) -> T:
    """``value``, one of ``choices``.

    Args:
        name: What the error calls the argument.
        value: The argument.
        choices: What is allowed.

    Raises:
        ValueError: It is none of them.
    """
    if value not in choices:
        raise ValueError(f"{name} = {value!r}: expected one of {', '.join(map(repr, choices))}")
    return value


def instance(name: str, value: Any, kind: type[T]) -> T:
    """``value``, an instance of ``kind``.

    Args:
        name: What the error calls the argument.
        value: The argument.
        kind: A class, or a union of classes.

    Raises:
        TypeError: It is no instance.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} is a {type(value).__name__}: expected an instance of {kind.__name__}")
    return value


def generator(value: Any, name: str = "generator") -> torch.Generator:
    """``value``, a generator of torch; raise TypeError where it is none."""
    if not isinstance(value, torch.Generator):
        raise TypeError(f"{name} = {value!r}: expected a torch.Generator")
    return value


def tensor(name: str, value: Any, shape: tuple[int | str, ...], like: Tensor) -> Tensor:
    """``value``, a tensor of this shape with the dtype and device of ``like``.

    Args:
        name: What the error calls the tensor.
        value: The tensor.
        shape: For each axis its size, or, where any size will do, its name.
        like: A tensor of the expected dtype and device.

    Raises:
        TypeError: Not a tensor.
        ValueError: Another shape, dtype or device.
    """
    instance(name, value, Tensor)
    has_shape(name, value.shape, shape)
    if value.dtype != like.dtype:
        raise ValueError(f"{name}.dtype = {value.dtype}: expected {like.dtype}, as the parameters have")
    if value.device != like.device:
        raise ValueError(f"{name}.device = {value.device}: expected {like.device}, where the parameters are")
    return value  # type: ignore[no-any-return]


def array(name: str, value: Any, shape: tuple[int | str, ...], dtype: Any = np.float64) -> np.ndarray:
    """``value`` as a finite array of this shape.

    Args:
        name: What the error calls the argument.
        value: An array, a tensor, or nested lists of numbers.
        shape: For each axis its size, or, where any size will do, its name.
        dtype: The dtype to convert to.

    Raises:
        ValueError: It is not made of numbers, is of another shape, or holds what is not finite.
    """
    value = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
    try:
        numbers = np.asarray(value)
    except ValueError:  # ragged
        numbers = np.asarray(None)
    if numbers.dtype.kind not in "biuf":
        raise ValueError(f"{name} = {value!r}: expected numbers of shape ({', '.join(map(str, shape))})")
    converted = numbers.astype(dtype)
    has_shape(name, converted.shape, shape)
    finite(name, converted)
    return converted


def finite(name: str, value: np.ndarray | Tensor, axes: tuple[str, ...] = ()) -> None:
    """Raise ValueError where a number is not finite, and say which is the first.

    Args:
        name: What the error calls the argument.
        value: An array, or a tensor; one without readable numbers (while compiling, under a ``torch.func`` transform,
            or on the meta device) is not looked at.
        axes: Names of its axes, for the message.
    """
    if isinstance(value, Tensor):
        if not readable(value):
            return
        # A sum of finite numbers may overflow, but none with another kind among them is finite; and a sum is cheap,
        # if it does not wait for other threads.
        with single_threaded():
            if math.isfinite(value.detach().sum().item()):
                return
        wrong = (~value.isfinite()).nonzero().cpu().numpy()
    else:
        wrong = np.argwhere(~np.isfinite(value))
    if not len(wrong):
        return
    position = tuple(int(index) for index in wrong[0])
    if axes:
        where = ", ".join(f"{axis}={index}" for axis, index in zip(axes, position, strict=True))
        raise ValueError(f"{name} at ({where}) is {value[position]}: expected a finite number")
    what = "NaN" if math.isnan(value[position]) else "infinity (inf)"
    raise ValueError(f"{name}{list(position) if position else ''} is {what}: expected finite numbers")


def readable(value: Tensor) -> bool:
    """Whether there are numbers to look at: not while compiling, in a ``torch.func`` transform, or on meta."""
    return not torch.compiler.is_compiling() and not value.is_meta and torch.func.debug_unwrap(value) is value


def has_shape(name: str, actual: tuple[int, ...], shape: tuple[int | str, ...]) -> None:
    """Raise ValueError unless each axis has its size; one with a name in its place may have any."""
    if len(actual) != len(shape) or any(
        isinstance(want, int) and length != want for length, want in zip(actual, shape, strict=True)
    ):
        raise ValueError(f"{name}.shape = {tuple(actual)}: expected ({', '.join(map(str, shape))})")


def _range(least: float | None, above: float | None, most: float | None, below: float | None) -> str:
    """In words what numbers are allowed."""
    low = f"from {least}" if least is not None else f"above {above}" if above is not None else ""
    high = f"{most}" if most is not None else f"below {below}" if below is not None else ""
    if low and high:
        return f"a number {low}{', at most' if above is not None and most is not None else ' to'} {high}"
    if low:
        return f"a number {low}" if least is None else f"a number of at least {least}"
    return f"a number of at most {high}" if most is not None else f"a number {high}" if high else "a finite number"
