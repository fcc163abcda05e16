"""Atoms that are mixtures of several true ones: which they are, and what the samples that use them have in common."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from engram.numeric.unit_rows import unit_rows

FEW = 4  # samples that say nothing about an atom
TOGETHER, SMALL = 0.7, 0.6


def mixtures(code: Float[np.ndarray, "samples atoms"], coef_min: float) -> Bool[np.ndarray, " atoms"]:
    """Return which atoms cannot be true ones, if coefficients are at least ``coef_min`` and atoms come independently.

    Such an atom goes with another, used no less, in more than 0.7 of its samples: two stand for one true atom. Or its
    mean coefficient, without sign, is below 0.6 ``coef_min``: it mends what others leave.
    """
    used = (code != 0).astype(code.dtype)
    uses = used.sum(axis=0)
    some = np.maximum(uses, 1)
    together = used.T @ used
    np.fill_diagonal(together, 0)
    together[uses[:, None] > uses] = 0
    bad = (together.max(axis=1) > TOGETHER * some) | (np.abs(code).sum(axis=0) < SMALL * coef_min * some)
    return np.asarray(bad & (uses >= FEW))


def in_common(
    X: Float[np.ndarray, "samples features"], code: Float[np.ndarray, "samples some_atoms"]
) -> Float[np.ndarray, "some_atoms features"]:
    """Return the mean of the samples that use an atom, each times its coefficient, of unit norm.

    What is there by chance has random signs and cancels; the true atom that the coefficient follows stays.
    """
    return unit_rows(code.T @ X)
