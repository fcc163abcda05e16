"""The quality of a learned dictionary: its distance from the true one, in any order, and the share it explains."""

from __future__ import annotations

import warnings
from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from engram import checks
from engram.numeric.unit_rows import unit_rows


class DictionaryMatch(NamedTuple):
    """The assignment of learned atoms to true ones."""

    permutation: Int[np.ndarray, " atoms"]  # index of the learned atom for each true atom
    sign: Float[np.ndarray, " atoms"]  # 1 or -1: sign[:, None] * dictionary[permutation] is near the true dictionary
    cosine: Float[np.ndarray, " atoms"]  # of each pair, with that sign
    error: float  # Frobenius norm of the difference over that of the true dictionary, for atoms of unit norm


def match_dictionaries(
    dictionary: Annotated[np.ndarray, "learned features"], true: Annotated[np.ndarray, "atoms features"]
) -> DictionaryMatch:
    """The one-to-one match of learned atoms to true ones that maximises the sum of the absolute cosines.

    Args:
        dictionary: Learned atoms in rows, not fewer than true atoms; their norms do not matter.
        true: True atoms in rows.

    Raises:
        ValueError: The dictionaries differ in their numbers of features, there are fewer learned atoms than true ones,
            or a number is not finite.

    Source: The Hungarian method of SciPy's ``linear_sum_assignment``; the error is that of Rambhatla, Li and Haupt,
    "NOODL" (2019), who need no match since they start near the truth.

    Examples:
        >>> match = match_dictionaries(np.array([[0.0, -2.0], [1.0, 0.0]]), np.eye(2))
        >>> match.permutation.tolist(), match.sign.tolist(), match.error
        ([1, 0], [1.0, -1.0], 0.0)
    """
    from scipy.optimize import linear_sum_assignment  # takes as long to import as the rest

    checks.arguments()
    checks.has_shape("dictionary", dictionary.shape, ("learned", "features"))
    checks.has_shape("true", true.shape, ("atoms", "features"))
    if dictionary.shape[1] != true.shape[1] or len(dictionary) < len(true):
        expected = f"{true.shape[1]} features and at least {len(true)} atoms, as the true dictionary has"
        raise ValueError(f"dictionary.shape = {dictionary.shape}: expected {expected}")
    checks.finite("dictionary", dictionary)
    checks.finite("true", true)
    unit_atoms, true = unit_rows(dictionary), unit_rows(true)
    cosines = true @ unit_atoms.T
    atoms, permutation = linear_sum_assignment(np.abs(cosines), maximize=True)
    cosine = cosines[atoms, permutation]
    sign = np.where(cosine < 0, -1.0, 1.0)
    error = relative_error(sign[:, None] * unit_atoms[permutation], true)
    return DictionaryMatch(permutation, sign, np.abs(cosine).astype(float), error)


def relative_error(estimate: Float[np.ndarray, "*shape"], true: Float[np.ndarray, "*shape"]) -> float:
    """The Frobenius norm of the difference over that of the truth.

    Examples:
        >>> relative_error(np.array([3.0, 5.0]), np.array([3.0, 4.0]))
        0.2
    """
    checks.arguments()
    return float(np.linalg.norm(estimate - true) / np.linalg.norm(true))


def explained_share(
    dictionary: Float[np.ndarray, "atoms features"], X: Float[np.ndarray, "samples features"], nonzero: int
) -> float:
    """The share of the squared norm of samples that a few atoms per sample explain, by orthogonal matching pursuit.

    Args:
        dictionary: Atoms in rows; their norms do not matter.
        X: Samples in rows.
        nonzero: Number of atoms per sample.

    Raises:
        ValueError: Atoms and samples differ in their numbers of features, a number is not finite, all samples are zero,
            or ``nonzero`` is not from 1 to the number of atoms.

    Examples:
        >>> explained_share(np.eye(2), np.array([[3.0, 4.0]]), 1)
        0.64
    """
    checks.arguments()
    checks.finite("dictionary", dictionary)
    checks.finite("X", X)
    if not X.any():
        raise ValueError("X is zero: expected at least one sample with a norm")
    checks.size("nonzero", nonzero, maximum=len(dictionary))
    from sklearn.decomposition import sparse_encode

    atoms = unit_rows(dictionary)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # with dependent atoms it uses fewer
        code = sparse_encode(X, atoms, algorithm="omp", n_nonzero_coefs=nonzero)
    return float(1 - ((X - code @ atoms) ** 2).sum() / (X**2).sum())
