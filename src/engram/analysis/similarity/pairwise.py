"""The matrix of distances between systems, for any distance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from engram import checks


def pairwise(
    systems: Sequence[Any] | Shaped[np.ndarray, "systems ..."], distance: Callable[[Any, Any], float]
) -> Float[np.ndarray, "systems systems"]:
    """The matrix of a symmetric distance, such as ``procrustes_angle``, between all systems, 0 on its diagonal.

    Examples:
        >>> pairwise([1.0, 4.0, 6.0], lambda a, b: abs(a - b))[0]
        array([0., 3., 5.])
    """
    checks.arguments()
    distances = np.zeros((len(systems), len(systems)))
    for i, j in combinations(range(len(systems)), 2):
        distances[i, j] = distances[j, i] = distance(systems[i], systems[j])
    return distances
