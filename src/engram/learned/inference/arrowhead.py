"""Normal equations of a rule and of unknown first weights: an arrow matrix, solved by a Schur complement."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

NEGLIGIBLE = 1e-14  # eigenvalues of a scaled matrix below this share of the largest are rounding errors


class Arrow(NamedTuple):
    """The curvature and slope of a loss, by the coefficients of a rule and by blocks of first weights.

        [ A    B_1  B_2 ... ]
        [ B_1' C_1          ]
        [ B_2'      C_2     ]

    Blocks do not interact, since no unit of a feed-forward layer depends on another.

    Attributes:
        by_theta: A.
        mixed: B; no blocks if the first weights are known.
        by_initial: C.
        slope: By the coefficients.
        slope_initial: By the first weights.
    """

    by_theta: Float[np.ndarray, "part part"]
    mixed: Float[np.ndarray, "block part input"]
    by_initial: Float[np.ndarray, "block input input"]
    slope: Float[np.ndarray, " part"]
    slope_initial: Float[np.ndarray, "block input"]

    def damped(self, damping: float) -> Arrow:
        """The same with its diagonal times 1 + ``damping``."""
        A, C = self.by_theta.copy(), self.by_initial.copy()
        A[np.diag_indices(len(A))] *= 1 + damping
        places = np.arange(C.shape[-1])
        C[:, places, places] *= 1 + damping
        return self._replace(by_theta=A, by_initial=C)

    def reduced(self) -> tuple[Float[np.ndarray, "part part"], Float[np.ndarray, " part"]]:
        """The Schur complement A - sum B C^-1 B', and the slope that remains, of the coefficients alone."""
        if not len(self.mixed):
            return self.by_theta, self.slope
        gain = self._gain()
        # One product of matrices, rather than a sum over blocks.
        complement = self.by_theta - np.einsum("bpi,bqi->pq", gain, self.mixed, optimize=True)
        return (complement + complement.T) / 2, self.slope - np.einsum("bpi,bi->p", gain, self.slope_initial)

    def step(self, damping: float) -> tuple[Float[np.ndarray, " part"], Float[np.ndarray, "block input"]]:
        """Minus the inverse times the slope: the change of the coefficients and of the first weights.

        Args:
            damping: Added to the diagonal, as a share of it. Directions without curvature are left as they are.
        """
        system = self.damped(damping)
        matrix, slope = system.reduced()
        theta = -inverse(matrix, np.sqrt(np.diag(self.by_theta))) @ slope
        if not len(self.mixed):
            return theta, self.slope_initial
        remaining = self.slope_initial + np.einsum("bpi,p->bi", self.mixed, theta)
        initial = -np.einsum("bij,bj->bi", system._inverse_blocks(), remaining)
        return theta, initial

    def _gain(self) -> Float[np.ndarray, "block part input"]:
        product: np.ndarray = np.matmul(self.mixed, self._inverse_blocks())
        return product

    def _inverse_blocks(self) -> Float[np.ndarray, "block input input"]:
        values, vectors = np.linalg.eigh(self.by_initial)
        floor = NEGLIGIBLE * np.maximum(values[:, -1:], np.finfo(float).tiny)
        reciprocals = np.where(values > floor, 1 / np.maximum(values, floor), 0.0)
        product: np.ndarray = np.matmul(vectors * reciprocals[:, None, :], vectors.transpose(0, 2, 1))
        return product


def inverse(
    matrix: Float[np.ndarray, "part part"], scale: Float[np.ndarray, " part"]
) -> Float[np.ndarray, "part part"]:
    """The inverse of a symmetric matrix, zero along directions without curvature.

    Args:
        matrix: The matrix.
        scale: The square root of its diagonal, or of a larger one, by which rows and columns are divided first.
    """
    divisor = np.where(scale > 0, scale, 1.0)
    values, vectors = np.linalg.eigh(matrix / np.outer(divisor, divisor))
    known = values > NEGLIGIBLE * values.max(initial=np.finfo(float).tiny)
    vectors = vectors[:, known] / divisor[:, None]
    product: np.ndarray = (vectors / values[known]) @ vectors.T
    return product
