"""The angle between two sets of activity after the best rotation."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.numeric.rounding import varies


def procrustes_angle(X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"]) -> float:
    """The Procrustes angle between two sets of activity after shift, scale and rotation.

        arccos(||X^T Y||_* / (||X||_F ||Y||_F)), columns centred, in [0, pi / 2]

    X and Y are the activity of two sets of units in the same samples (conditions, times, or both); both must vary.

    Source: Williams et al., "Generalized shape metrics on neural representations" (2021), equation 4.

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(20, 2))
        >>> procrustes_angle(X, 3 * X[:, ::-1] + 1) < 1e-7
        True
    """
    X, Y = centred(X, Y)
    X, Y = X / np.linalg.norm(X), Y / np.linalg.norm(Y)
    # For small angles, 2 arcsin(d / 2) of the distance d after rotation is exact, and arccos of nearly 1 is not.
    cross = X.T @ Y
    left, _, right = np.linalg.svd(cross, full_matrices=False)
    distance = float(np.linalg.norm(X @ left - Y @ right.T))
    outside = float(np.linalg.norm(X - X @ left @ left.T) ** 2 + np.linalg.norm(Y - Y @ right.T @ right) ** 2)
    return float(2 * np.arcsin(min(np.sqrt(distance**2 + outside), np.sqrt(2)) / 2))


def centred(
    X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"]
) -> tuple[Float[np.ndarray, "samples units"], Float[np.ndarray, "samples others"]]:
    """X and Y minus their means; a ValueError if they cannot be compared."""
    checks.arguments()
    if len(X) != len(Y):
        raise ValueError(f"Y.shape = {Y.shape}: expected {len(X)} samples, as in X")
    if not len(X):
        raise ValueError(f"X.shape = {X.shape}: expected at least two samples")
    for name, values in (("X", X), ("Y", Y)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} is not finite: expected finite numbers")
        if not varies(values).any():
            raise ValueError(f"{name} is the same in all samples, up to rounding: expected activity that varies")
    return _centred(X), _centred(Y)


def _centred(X: Float[np.ndarray, "samples units"]) -> Float[np.ndarray, "samples units"]:
    """X minus its mean, in 64 bits, at a scale of at most 1, and exactly 0 for units that are constant."""
    is_constant = ~varies(X)
    scaled = X.astype(np.float64) / np.abs(X).max()  # large numbers would overflow when squared
    return np.asarray(np.where(is_constant, 0.0, scaled - scaled.mean(0)))
