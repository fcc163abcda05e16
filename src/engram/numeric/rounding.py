"""Which differences between numbers are more than the rounding of their own precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Shaped

SINGLE, DOUBLE = float(np.finfo(np.float32).eps), float(np.finfo(np.float64).eps)
FEW = 4  # units in the last place that numbers may differ by although they stand for the same


def precision(dtype: np.dtype[Any]) -> float:
    """The unit in the last place of a number of this type, relative to the number; 0 for whole numbers."""
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0


def varies(values: Shaped[np.ndarray, "..."], axis: int | None = 0) -> Bool[np.ndarray, "..."]:
    """Whether real numbers differ along an axis, or along all if it is None, by more than their rounding.

        max - min > 4 eps max |x|,   eps the precision of their type

    A constant that was computed in several ways, as 0.1 + 0.2 and 0.3, does not vary, however small its scale. What is
    not finite does.

    Examples:
        >>> varies(np.array([[0.1 + 0.2, 1.0], [0.3, 1.001]])).tolist()
        [False, True]
    """
    low, high = values.min(axis).astype(np.float64), values.max(axis).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # a difference that overflows is large
        rounding = FEW * precision(values.dtype) * np.maximum(np.abs(low), np.abs(high))
        return np.asarray(~((high - low <= rounding) & np.isfinite(rounding)))


def relative_rounding(numbers: Shaped[np.ndarray, "..."]) -> float:
    """How much numbers may differ by rounding alone, relative to the larger one: 4 units in their last place.

    Numbers of 64 bits that are all numbers of 32 bits, but not all whole, were computed in 32 bits.

    Examples:
        >>> relative_rounding(np.array([0.1, 0.2])) < 1e-15 < relative_rounding(np.float32([0.1, 0.2]).astype(float))
        True
    """
    dtype = numbers.dtype
    if dtype == np.float64:
        finite = numbers[np.isfinite(numbers)]
        with np.errstate(over="ignore"):
            is_single = (finite.astype(np.float32) == finite).all()
        dtype = np.dtype(np.float32) if is_single and (finite % 1).any() else dtype
    return FEW * precision(dtype)


def levelled(numbers: Sequence[float] | Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Numbers of which those that differ by rounding alone are equal: each becomes the smallest of its group.

    A group are the numbers x >= a with x - a <= ``relative_rounding`` max(|a|, |x|), from the smallest number a on.

    Examples:
        >>> levelled([0.1 + 0.2, 1.0, 0.3]).tolist()
        [0.3, 1.0, 0.3]
    """
    given = np.asarray(numbers)
    values, unit, first = given.astype(np.float64).tolist(), relative_rounding(given), np.nan
    for index in np.argsort(given, kind="stable").tolist():
        value = values[index]
        if not value - first <= unit * max(abs(value), abs(first)) < np.inf:
            first = value
        values[index] = first
    return np.array(values)


def are_equal(numbers: Sequence[float] | Float[np.ndarray, " n"]) -> bool:
    """Whether finite numbers, at least one, are all equal up to rounding.

    Examples:
        >>> are_equal([0.3, 0.1 + 0.2]), are_equal([0.3, 0.3001])
        (True, False)
    """
    # min() of an array would take a thousand times as long as its own
    ends = (numbers.min(), numbers.max()) if isinstance(numbers, np.ndarray) else (min(numbers), max(numbers))
    low, high = float(ends[0]), float(ends[1])
    largest = max(abs(low), abs(high))
    if low == high or not high - low <= FEW * SINGLE * largest < np.inf:
        return low == high
    return high - low <= relative_rounding(np.asarray(numbers)) * largest


Numbers = TypeVar("Numbers", float, Float[np.ndarray, "..."])


def difference(a: Numbers, b: Numbers) -> Numbers:
    """A - b, which is 0 if the numbers of 64 bits are equal up to rounding; of arrays element by element.

    Examples:
        >>> difference(0.1 + 0.2, 0.3), difference(0.5, 0.25)
        (0.0, 0.25)
    """
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        unit = FEW * DOUBLE * np.maximum(np.abs(a), np.abs(b))
        return np.where((np.abs(a - b) <= unit) & (unit < np.inf), 0.0, a - b)
    return 0.0 if abs(a - b) <= FEW * DOUBLE * max(abs(a), abs(b)) < np.inf else a - b
