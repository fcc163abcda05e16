"""Whether two things are learned together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num

from engram import checks


@dataclass(frozen=True)
class Coupling:
    """When two curves first reach a level, the ratio of the earlier to the later, and the curves' correlation.

    NaN if a curve never reaches the level, or is constant.
    """

    first_x: float
    first_y: float
    index: float
    correlation: float


def coupling(
    steps: Num[np.ndarray, " points"],
    curve_x: Float[np.ndarray, " points"],
    curve_y: Float[np.ndarray, " points"],
    level: float = 0.8,
) -> Coupling:
    """How closely two learning curves go together: an index of 1 means that they reach the level at the same time.

    Two curves that share a further condition, as accuracies of single bumps do, rise together for that reason too.

    Args:
        steps: The steps at which the curves were measured, ascending, above 0.
        curve_x: One curve.
        curve_y: The other.
        level: The level.

    Raises:
        ValueError: There is no point, steps do not ascend from above 0, or a value is not finite.

    Source: ours, after Liang et al., "Do diffusion models learn semantically meaningful and efficient representations?"
    (2024).

    Examples:
        >>> coupling(np.array([10, 20, 40]), np.array([0.1, 0.9, 0.9]), np.array([0.2, 0.5, 0.9])).index
        0.5
    """
    checks.arguments()
    for name, values in (("steps", steps), ("curve_x", curve_x), ("curve_y", curve_y)):
        checks.finite(name, values)
    if not len(steps) or steps[0] <= 0 or (np.diff(steps) <= 0).any():
        raise ValueError(f"steps = {checks.shown(steps)}: expected at least one, ascending from above 0")
    checks.number("level", level)
    first_x, first_y = (
        next((float(step) for step, value in zip(steps, curve, strict=True) if value >= level), math.nan)
        for curve in (curve_x, curve_y)
    )
    varies = curve_x.std() > 0 and curve_y.std() > 0
    correlation = float(np.corrcoef(curve_x, curve_y)[0, 1]) if varies else math.nan
    index = float(np.minimum(first_x, first_y) / np.maximum(first_x, first_y))
    return Coupling(first_x, first_y, index, correlation)
