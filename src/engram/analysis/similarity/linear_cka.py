"""Centred kernel alignment with linear kernels."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.analysis.similarity.procrustes_angle import centred


def linear_cka(
    X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "_ others"], *, debiased: bool = False
) -> float:
    """The linear CKA, a similarity from 0 to 1.

        ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F), columns centred

    X and Y are the activity of two sets of units in the same samples; both must vary. With more units than samples
    even independent activity has a CKA near 1. Debiased, its mean is near 0, and single values may be below 0:

        K . L / sqrt(K . K  L . L),   K . L = sum over i != j of K_ij L_ij

    where K and L are X X^T and Y Y^T without their diagonals, and centred so that all rows sum to 0 all the same;
    K . L / (n (n - 3)) for n samples is the unbiased estimate of HSIC. It is 1 for activity and itself in both forms.

    Args:
        X: Activity in the samples.
        Y: Activity of other units in the same samples.
        debiased: Whether to use the unbiased estimates of HSIC, which take at least 4 samples.

    Source: Kornblith et al., "Similarity of neural network representations revisited" (2019), section 3; the debiased
    form with the estimates of Song et al., "Feature selection via dependence maximization" (2012), as centred by
    Szekely and Rizzo, "Partial distance correlation with methods for dissimilarities" (2014).

    Examples:
        >>> X, Y = np.random.default_rng(0).normal(size=(2, 20, 100))
        >>> round(linear_cka(X, 3 * X[:, ::-1] + 1), 12), round(linear_cka(X, Y), 1)
        (1.0, 0.8)
        >>> abs(linear_cka(X, Y, debiased=True)) < 0.2
        True
    """
    checks.arguments()
    X, Y = centred(X, Y)
    if debiased:
        return _debiased(X, Y)
    within = np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)
    return min(float(np.linalg.norm(Y.T @ X) ** 2 / within), 1.0)  # rounding can give more


def _debiased(X: Float[np.ndarray, "samples units"], Y: Float[np.ndarray, "samples others"]) -> float:
    if len(X) < 4:
        raise ValueError(f"X has {len(X)} samples: expected at least 4, for debiased = True")
    K, L = _u_centred(X), _u_centred(Y)
    norms = np.linalg.norm(K), np.linalg.norm(L)
    for name, norm, values in (("X", norms[0], X), ("Y", norms[1], Y)):
        if norm <= len(X) * np.finfo(float).eps * float((values**2).sum()):
            raise ValueError(f"{name} has no distances that differ: expected some, for debiased = True")
    return min(float((K * L).sum() / norms[0] / norms[1]), 1.0)


def _u_centred(X: Float[np.ndarray, "samples units"]) -> Float[np.ndarray, "samples samples"]:
    """The products of different samples, centred so that the entries of each row other than the diagonal sum to 0.

    K_ij - sum_k K_ik / (n - 2) - sum_k K_kj / (n - 2) + sum_kl K_kl / ((n - 1) (n - 2)),   0 on the diagonal
    """
    n = len(X)
    K = X @ X.T
    np.fill_diagonal(K, 0)
    sums = K.sum(0) / (n - 2)
    K += K.sum() / ((n - 1) * (n - 2)) - sums - sums[:, None]
    np.fill_diagonal(K, 0)
    return np.asarray(K)
