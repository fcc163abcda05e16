"""Initial dictionaries made from samples alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from engram.numeric.unit_rows import unit_rows


def from_samples(X: Float[np.ndarray, "samples features"], atoms: int, rng: Any) -> Float[np.ndarray, "atoms features"]:
    """Random samples scaled to unit norm, without repeated or zero ones; random directions if there are too few.

    Args:
        X: Samples in rows.
        atoms: Number of atoms to return.
        rng: Source of the choice.
    """
    candidates = rng.permutation(np.flatnonzero(X.any(axis=1)))[: 10 * atoms]
    _, first_rows = np.unique(X[candidates], axis=0, return_index=True)
    sampled = unit_rows(X[candidates[np.sort(first_rows)[:atoms]]])
    random_directions = rng.standard_normal((atoms - len(sampled), X.shape[1])).astype(X.dtype)
    return np.concatenate((sampled, unit_rows(random_directions))) if len(random_directions) else sampled
