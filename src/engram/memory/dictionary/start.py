"""Initial dictionaries made only from samples."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

from engram.numeric.unit_rows import unit_rows

TRIES = 60  # pairs of samples that are tried, for each atom
FIRST, SECOND, NEAR = 0.3, 0.3, 0.7  # minimum of an eigenvalue, maximum of the next, and maximum cosine


def from_samples(X: Float[np.ndarray, "samples features"], atoms: int, rng: Any) -> Float[np.ndarray, "atoms features"]:
    """Random samples of unit norm, none twice and none zero; random directions where there are not enough.

    Args:
        X: Samples in rows.
        atoms: How many to return.
        rng: Source of the choice.
    """
    some = rng.permutation(np.flatnonzero(X.any(axis=1)))[: 10 * atoms]
    _, first = np.unique(X[some], axis=0, return_index=True)
    chosen = unit_rows(X[some[np.sort(first)[:atoms]]])
    random_directions = rng.standard_normal((atoms - len(chosen), X.shape[1])).astype(X.dtype)
    return np.concatenate((chosen, unit_rows(random_directions))) if len(random_directions) else chosen


def from_pairs(
    X: Float[np.ndarray, "samples features"], atoms: int, coef_min: float, rng: Any
) -> Float[np.ndarray, "atoms features"]:
    """Directions that pairs of samples have in common, filled up with samples.

        M = mean over y of <y, u> <y, v> y y^T

    for random samples u and v. Where they share one atom and no other, M has one large eigenvalue and its vector is
    nearly that atom. A vector is taken if its eigenvalue exceeds 0.3 q C^6, the next one is below 0.3 of it, and it
    is not near one taken before; q C^6 is what an atom contributes, q = mean |y|^2 / (C^2 atoms), C = ``coef_min``.

    Args:
        X: Samples y in rows.
        atoms: How many directions to return.
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
        second = abs(values[order[1]]) if len(order) > 1 else 0.0
        atom = vectors[:, order[0]]
        large = abs(values[order[0]]) > threshold and second < SECOND * abs(values[order[0]])
        if large and all(abs(atom @ other) <= NEAR for other in directions):
            directions.append(atom)
    if len(directions) < atoms:
        shortfall = f"found {len(directions)} of {atoms} atoms: samples take the place of the others"
        warnings.warn(f"dict_init = 'pairwise' {shortfall}", RuntimeWarning, stacklevel=5)
    chosen = np.array(directions, X.dtype).reshape(-1, X.shape[1])
    return np.concatenate((chosen, from_samples(X, atoms - len(chosen), rng))) if len(chosen) < atoms else chosen
