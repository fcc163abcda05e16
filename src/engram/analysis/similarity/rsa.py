"""Representational similarity analysis."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.spatial.distance import pdist

from engram import checks

TIES = 10  # decimals of distances, relative to the largest, that are compared


def rsa(
    X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"], metric: Annotated[Any, str] = "correlation"
) -> float:
    """The rank correlation between the distances among samples in two sets of activity.

        Spearman correlation of pdist(X) and pdist(Y), in [-1, 1]

    Args:
        X: Activity in three samples or more; the distances among samples must not all be equal.
        Y: Activity of other units in the same samples.
        metric: Name of a distance in ``scipy.spatial.distance.pdist``.

    Source: Kriegeskorte, Mur and Bandettini, "Representational similarity analysis" (2008).

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(20, 3))
        >>> rsa(X, 2 * X)
        1.0
    """
    checks.arguments()
    if len(X) != len(Y) or len(X) < 3:
        raise ValueError(f"X.shape, Y.shape = {X.shape}, {Y.shape}: expected equal numbers of samples, at least 3")
    distances = [_rounded(pdist(values, metric)) for values in (X, Y)]
    for name, values in zip("XY", distances, strict=True):
        if not np.isfinite(values).all() or np.ptp(values) == 0:
            raise ValueError(
                f"distances between samples of {name} are all equal, or not finite: expected some that differ"
            )
    return float(stats.spearmanr(distances[0], distances[1]).statistic)


def _rounded(distances: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """Distances relative to the largest, rounded so that a rotation of the samples leaves equal distances tied."""
    largest_distance = float(np.abs(distances).max())
    return np.asarray(np.round(distances / largest_distance, TIES)) if 0 < largest_distance < np.inf else distances
