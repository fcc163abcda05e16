"""The neural dictionary-learning rules of Arora et al., with one thresholding step: NOODL's baselines."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from engram.memory.dictionary.iht import hard_threshold


def unbiased_gradient(
    dictionary: Float[np.ndarray, "atoms features"],
    X: Float[np.ndarray, "samples features"],
    code: Float[np.ndarray, "samples atoms"],
    coef_min: float,
) -> Float[np.ndarray, "atoms features"]:
    """The gradient in which, for each atom, the other atoms are replaced by their parts orthogonal to it.

        B(i)_i = A_i,    B(i)_j = A_j - <A_i, A_j> A_i
        T(i) = H'(B(i) y),    g_i = mean over samples of (B(i)^T T(i) - y) sign(x_i)

    B(i) is never computed: with s = A y and the Gram matrix G, (B(i) y)_j = s_j - G_ij s_i, and B(i)^T T is
    A^T T - A_i sum_{j != i} G_ij T_j; only samples that use atom i matter. The codes are x = H'(A y), and H' keeps
    entries of at least coef_min / 2.

    Args:
        dictionary: Atoms of unit norm, the rows of A.
        X: Samples y in rows.
        code: Their codes x.
        coef_min: Minimum size of the true coefficients.

    Source: Arora, Ge, Ma and Moitra, "Simple, efficient, and neural algorithms for sparse coding" (2015), section 5.
    """
    gram = dictionary @ dictionary.T
    np.fill_diagonal(gram, 0)
    correlations = X @ dictionary.T
    gradient = np.zeros_like(dictionary)
    for i, atom in enumerate(dictionary):
        users = np.flatnonzero(code[:, i])
        if not users.size:
            continue
        residual_correlations = correlations[users] - correlations[users, i, None] * gram[i]
        thresholded = hard_threshold(residual_correlations, coef_min / 2, keep_equal=True)
        sign = np.sign(code[users, i])
        total = sign @ thresholded
        gradient[i] = total @ dictionary - (total @ gram[i]) * atom - sign @ X[users]
    return gradient / len(X)
