"""Whether overlapping training examples form one connected whole."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from engram import checks


def percolation_ratio(positions: Float[np.ndarray, "n 2"], sigma: float, threshold: float = 0.005) -> float:
    """The share of bumps in the largest group that is connected by overlaps.

    Two bumps at distance r are connected if their overlap, the cosine of the two in the continuum, is above the
    threshold: exp(-r^2 / (4 sigma^2)), so r < 2 sigma sqrt(-log threshold), 4.604 sigma for 0.005.

    Args:
        positions: Position (x, y) of each bump.
        sigma: Width (standard deviation) of the bumps.
        threshold: Smallest overlap that connects, between 0 and 1.

    Raises:
        ValueError: There is no position, or a value is out of range or not finite.

    Source: Liang et al., "How diffusion models learn to factorize and compose" (2024), figure 6, for the threshold; the
    definition of the overlap is ours.

    Examples:
        >>> percolation_ratio(np.array([[0.0, 0.0], [0.0, 4.0], [9.0, 9.0]]), sigma=1.0).__round__(3)
        0.667
    """
    checks.arguments()
    if not len(positions):
        raise ValueError(f"positions.shape = {positions.shape}: expected at least one")
    checks.finite("positions", positions)
    checks.number("sigma", sigma, above=0)
    reach = 2 * sigma * math.sqrt(-math.log(checks.number("threshold", threshold, above=0, below=1)))
    pairs = cKDTree(positions).query_pairs(reach, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs), dtype=bool), pairs.T), shape=(len(positions),) * 2)
    _, component = connected_components(graph, directed=False)
    return float(np.bincount(component).max() / len(positions))
