"""Matrices with rows of unit norm, such as the atoms of a dictionary."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def unit_rows(matrix: Float[np.ndarray, "rows columns"]) -> Float[np.ndarray, "rows columns"]:
    """The rows divided by their Euclidean norms; a row of zeros stays as it is.

    Examples:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    # Divide by the largest entry first, so that no square overflows.
    peak = np.abs(matrix).max(axis=1, keepdims=True)
    scaled = matrix / np.where(peak > 0, peak, peak.dtype.type(1))
    norm = np.sqrt(np.einsum("ij,ij->i", scaled, scaled))[:, None]
    return np.asarray(scaled / np.where(norm > 0, norm, norm.dtype.type(1)))
