"""Whether a representation is a sum of one part per factor, and the angles between these parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.numeric.rounding import FEW, levelled, precision, varies


@dataclass(frozen=True)
class Factorization:
    """The R^2 of an additive model of a representation, and the mean |cos| between factors and within one factor."""

    additive_r2: float
    between_cos: float
    within_cos: float


def factorization(
    H: Float[np.ndarray, "n features"],
    labels: Float[np.ndarray, "n 2"],
    separation: float = 3.0,
    *,
    centred: bool = True,
) -> Factorization:
    """Additivity of a representation of a grid of two factors, H(a, b) ~ m + u(a) + w(b).

    u(a) is the mean of H(a, b) over b, minus the overall mean m, and w(b) likewise. The measures are the R^2 of the
    sum; the mean |cos| between u(a) and w(b), which is 0 for orthogonal factors; and that between u(a) and u(a') (and
    so for w) of values further apart than ``separation``, which is small if each value has a separate direction. A
    value that has no effect has a cosine of 0 with any other; the R^2 of a constant representation is NaN.

    Args:
        H: The representation.
        labels: The values of the two factors for each row; each pair of values occurs once.
        separation: Distance above which two values of one factor are compared.
        centred: Whether directions are relative to the mean m; if not, they are relative to 0.

    Raises:
        ValueError: The labels are not a grid of two factors with at least two values each, no two values are further
            apart than ``separation``, or a value is not finite.

    Source: ours, after Liang et al., "How diffusion models learn to factorize and compose" (2024).

    Examples:
        >>> codes, labels = np.eye(4), np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2).astype(float)
        >>> a, b = labels.astype(int).T
        >>> factorization(np.concatenate([codes[a], codes[b]], 1), labels, 1.0).additive_r2
        1.0
    """
    checks.arguments()
    checks.finite("H", H)
    checks.finite("labels", labels)
    checks.number("separation", separation, minimum=0)
    labels = np.apply_along_axis(levelled, 0, labels)
    values = [np.unique(column) for column in labels.T]
    shape = tuple(map(len, values))
    cell = np.ravel_multi_index(
        [np.searchsorted(factor_values, label) for factor_values, label in zip(values, labels.T, strict=True)], shape
    )
    if min(shape) < 2 or len(labels) != shape[0] * shape[1] or len(np.unique(cell)) != len(cell):
        raise ValueError(f"labels: expected each pair of {shape[0]} and {shape[1]} values once, two or more of each")
    grid = np.empty((*shape, H.shape[1]))
    grid[np.unravel_index(cell, shape)] = H
    mean = grid.mean((0, 1))
    deviations = grid.mean(1) - mean, grid.mean(0) - mean
    total_variation = ((grid - mean) ** 2).sum()
    explained_variation = sum(size * (vectors**2).sum() for size, vectors in zip(shape[::-1], deviations, strict=True))
    unit = max(np.finfo(float).eps * len(H), FEW * precision(H.dtype))  # of the sums here, and of the numbers
    rounding = unit * float(np.abs(H).max()) * np.sqrt(H.shape[1])
    u, w = (_directions(vectors if centred else vectors + mean, rounding) for vectors in deviations)
    within = []
    for vectors, value in ((u, values[0]), (w, values[1])):
        apart = np.abs(value[:, None] - value) > separation
        within.append(np.abs(vectors @ vectors.T)[apart])
    if not (within_cosines := np.concatenate(within)).size:
        raise ValueError(f"separation = {separation}: expected less than the largest distance of two values")
    r2 = float(explained_variation / total_variation) if varies(H).any() else np.nan
    return Factorization(r2, float(np.abs(u @ w.T).mean()), float(within_cosines.mean()))


def _directions(vectors: Float[np.ndarray, "n features"], rounding: float) -> Float[np.ndarray, "n features"]:
    """The vectors divided by their lengths, or 0 where these are rounding errors: this value has no effect."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > rounding, vectors / np.where(lengths > rounding, lengths, 1), 0)
