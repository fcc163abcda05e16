"""Whether two abilities are learned together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Num

from engram import checks
from engram.numeric.rounding import varies


@dataclass(frozen=True)
class Coupling:
    """The steps at which two curves first reach a level, their ratio (``index``), and the correlation of the curves.

    A step and ``index`` are NaN if a curve never reaches the level, ``correlation`` if one is constant up to rounding.
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
    """The coupling of two learning curves, which reach the level at the same time if ``index`` is 1.

    Curves with a common condition, such as accuracies that both require a single bump, therefore also rise together.

    Args:
        steps: The steps at which the curves were measured, ascending, above 0.
        curve_x: One curve.
        curve_y: The other.
        level: The value that both curves are to reach.

    Raises:
        ValueError: There is no point, steps are not positive and ascending, or a value is not finite.

    Source: ours, after Liang et al., "Do diffusion models learn semantically meaningful and efficient representations?"
    (2024).

    Examples:
        >>> coupling(np.array([10, 20, 40]), np.array([0.1, 0.9, 0.9]), np.array([0.2, 0.5, 0.9])).index
        0.5
    """
    checks.arguments()
    for name, values in (("steps", steps), ("curve_x", curve_x), ("curve_y", curve_y)):
        checks.finite(name, values)
    if not len(steps) or steps[0] <= 0 or (steps[1:] <= steps[:-1]).any():
        raise ValueError(f"steps = {checks.shown(steps)}: expected at least one, ascending from above 0")
    checks.number("level", level)
    first_x, first_y = (
        next((float(step) for step, value in zip(steps, curve, strict=True) if value >= level), math.nan)
        for curve in (curve_x, curve_y)
    )
    both_vary = varies(curve_x) and varies(curve_y)
    correlation = float(np.corrcoef(curve_x, curve_y)[0, 1]) if both_vary else math.nan
    index = float(np.minimum(first_x, first_y) / np.maximum(first_x, first_y))
    return Coupling(first_x, first_y, index, correlation)
