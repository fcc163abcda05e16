"""Which differences between numbers are more than the rounding of their own precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

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
