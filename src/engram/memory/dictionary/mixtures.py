"""Atoms that are mixtures of several true ones: their detection, and what the samples that use them have in common."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from engram.numeric.unit_rows import unit_rows

FEW = 4  # fewer samples say nothing about an atom
TOGETHER, SMALL = 0.7, 0.6


def mixtures(code: Float[np.ndarray, "samples atoms"], coef_min: float) -> Bool[np.ndarray, " atoms"]:
    """A mask of the atoms that cannot be true ones.

    True coefficients are at least ``coef_min`` in size, and true atoms occur independently. An atom is therefore
    false if more than 0.7 of its samples also use another atom that is used at least as often: both represent one true
    atom. It is also false if its mean absolute coefficient is below 0.6 ``coef_min``: it only corrects the errors of
    others.
    """
    is_active = (code != 0).astype(code.dtype)
    uses = is_active.sum(axis=0)
    divisor = np.maximum(uses, 1)
    shared = is_active.T @ is_active
    np.fill_diagonal(shared, 0)
    shared[uses[:, None] > uses] = 0
    is_false = (shared.max(axis=1) > TOGETHER * divisor) | (np.abs(code).sum(axis=0) < SMALL * coef_min * divisor)
    return np.asarray(is_false & (uses >= FEW))


def in_common(
    X: Float[np.ndarray, "samples features"], code: Float[np.ndarray, "samples some_atoms"]
) -> Float[np.ndarray, "some_atoms features"]:
    """The mean of the samples that use an atom, each times its coefficient, scaled to unit norm.

    Components that occur by chance have random signs and cancel; the true atom behind the coefficient remains.
    """
    return unit_rows(code.T @ X)
