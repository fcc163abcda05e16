"""Initial dictionaries made from samples alone."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

from engram.numeric.unit_rows import unit_rows

TRIES = 60  # pairs of samples that are tried per atom
FIRST, SECOND, NEAR = 0.3, 0.3, 0.7  # minimum of an eigenvalue, maximum of the next, and maximum cosine


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


def from_pairs(
    X: Float[np.ndarray, "samples features"], atoms: int, coef_min: float, rng: Any
) -> Float[np.ndarray, "atoms features"]:
    """Directions that pairs of samples have in common, filled up with samples.

        M = mean over y of <y, u> <y, v> y y^T

    for random samples u and v. If they share exactly one atom, M has one large eigenvalue, and its eigenvector is
    nearly that atom. An eigenvector is taken if its eigenvalue exceeds 0.3 q C^6, the next eigenvalue is below 0.3 of
    it, and its absolute cosine with those taken before is at most 0.7. An atom contributes q C^6, with
    q = mean |y|^2 / (C^2 atoms) and C = ``coef_min``.

    Args:
        X: Samples y in rows.
        atoms: Number of directions to return.
        coef_min: Minimum size C of the true coefficients.
        rng: Source of the pairs.

    Source: Arora, Ge, Ma and Moitra, "Simple, efficient, and neural algorithms for sparse coding" (2015), algorithm 3;
    the estimate of q and the number of tries are ours.
    """
    directions: list[np.ndarray] = []
    threshold = FIRST * coef_min**4 * float((X**2).sum(axis=1).mean()) / atoms
    for _ in range(TRIES * atoms if len(X) > 1 else 0):
        if len(directions) == atoms:
            break
        u, v = X[rng.choice(len(X), 2, replace=False)]
        weighted = ((X @ u) * (X @ v) / len(X))[:, None] * X
        values, vectors = np.linalg.eigh(X.T @ weighted)
        order = np.abs(values).argsort()[::-1]
        second_eigenvalue = abs(values[order[1]]) if len(order) > 1 else 0.0
        atom = vectors[:, order[0]]
        is_dominant = abs(values[order[0]]) > threshold and second_eigenvalue < SECOND * abs(values[order[0]])
        if is_dominant and all(abs(atom @ direction) <= NEAR for direction in directions):
            directions.append(atom)
    if len(directions) < atoms:
        shortfall = f"found {len(directions)} of {atoms} atoms: samples take the place of the others"
        warnings.warn(f"dict_init = 'pairwise' {shortfall}", RuntimeWarning, stacklevel=5)
    paired = np.array(directions, X.dtype).reshape(-1, X.shape[1])
    return np.concatenate((paired, from_samples(X, atoms - len(paired), rng))) if len(paired) < atoms else paired
