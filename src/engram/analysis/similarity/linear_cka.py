"""Centred kernel alignment with linear kernels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from engram.analysis.similarity.procrustes_angle import centred


def linear_cka(X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"]) -> float:
    """The linear CKA, a similarity from 0 to 1.

        ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F), columns centred

    X and Y are the activity of two sets of units in the same samples; both must vary.

    Source: Kornblith et al., "Similarity of neural network representations revisited" (2019), section 3.

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(20, 2))
        >>> round(linear_cka(X, 3 * X[:, ::-1] + 1), 12)
        1.0
    """
    X, Y = centred(X, Y)
    within = np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)
    return min(float(np.linalg.norm(Y.T @ X) ** 2 / within), 1.0)  # rounding can give more
