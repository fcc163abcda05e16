"""Measures of the shape of activity: how alike two sets of it are, whatever the units."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.spatial.distance import pdist


def procrustes_angle(X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"]) -> float:
    """Return the Procrustes angle: how far two shapes are apart after shift, scale and rotation.

        arccos(||X^T Y||_* / (||X||_F ||Y||_F)), columns centred, in [0, pi / 2]

    X and Y are activity, which must vary, of different units in the same samples (conditions, times, or both).

    Source: Williams et al., "Generalized shape metrics on neural representations" (2021), equation 4.

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(20, 2))
        >>> procrustes_angle(X, 3 * X[:, ::-1] + 1) < 1e-7
        True
    """
    X, Y = centred(X, Y)
    X, Y = X / np.linalg.norm(X), Y / np.linalg.norm(Y)
    # 2 arcsin(d / 2) of the distance d after rotation is exact where arccos of nearly 1 is not.
    cross = X.T @ Y
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    distance = float(np.linalg.norm(X @ left - Y @ right.T))
    apart = float(np.linalg.norm(X - X @ left @ left.T) ** 2 + np.linalg.norm(Y - Y @ right.T @ right) ** 2)
    return float(2 * np.arcsin(min(np.sqrt(distance**2 + apart), np.sqrt(2)) / 2))


def linear_cka(X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"]) -> float:
    """Return the linear CKA, a similarity from 0 to 1; arguments as of ``procrustes_angle``.

        ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F), columns centred

    Source: Kornblith et al., "Similarity of neural network representations revisited" (2019), section 3.

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(20, 2))
        >>> round(linear_cka(X, 3 * X[:, ::-1] + 1), 12)
        1.0
    """
    X, Y = centred(X, Y)
    within = np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)
    return min(float(np.linalg.norm(Y.T @ X) ** 2 / within), 1.0)  # not more by a rounding error


def rsa(
    X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"], metric: Annotated[Any, str] = "correlation"
) -> float:
    """Return the rank correlation between the distances among samples in two sets of activity.

        Spearman correlation of pdist(X) and pdist(Y), in [-1, 1]

    X and Y are as of ``procrustes_angle``, three samples or more, not all as far apart; ``metric`` is one of ``pdist``.

    Source: Kriegeskorte, Mur and Bandettini, "Representational similarity analysis" (2008).

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(20, 3))
        >>> rsa(X, 2 * X)
        1.0
    """
    if len(X) != len(Y) or len(X) < 3:
        raise ValueError(f"X.shape, Y.shape = {X.shape}, {Y.shape}: expected as many samples in both, at least 3")
    distances = [pdist(values, metric) for values in (X, Y)]
    for name, found in zip("XY", distances, strict=True):
        if not np.isfinite(found).all() or np.ptp(found) == 0:
            raise ValueError(f"{name} has distances among samples that are all the same or not finite")
    return float(stats.spearmanr(distances[0], distances[1]).statistic)


def centred(
    X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"]
) -> tuple[Float[np.ndarray, "samples units"], Float[np.ndarray, "samples others"]]:
    """Return both without their means, or raise a ValueError where they cannot be compared."""
    if len(X) != len(Y):
        raise ValueError(f"Y.shape = {Y.shape}: expected {len(X)} samples, as in X")
    both = X - X.mean(0), Y - Y.mean(0)
    for name, values in zip("XY", both, strict=True):
        norm = np.linalg.norm(values)
        if not np.isfinite(norm):
            raise ValueError(f"{name} is not finite: expected finite numbers")
        if norm == 0:
            raise ValueError(f"{name} is the same in all samples: expected activity that varies")
    return both
