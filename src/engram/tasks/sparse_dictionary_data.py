"""Samples made of a few atoms of a known dictionary, and dictionaries to start from."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from engram import checks
from engram.numeric.unit_rows import unit_rows

Randomness = Annotated[Any, int | np.random.Generator | None]


def make_sparse_dictionary_data(
    n_samples: int,
    *,
    n_features: int = 200,
    n_components: int = 250,
    n_nonzero: int = 8,
    exact: bool = False,
    coef_min: float = 1.0,
    amplitude: str = "constant",
    noise: float = 0.0,
    dictionary: Float[np.ndarray, "atoms features"] | None = None,
    random_state: Randomness = None,
) -> tuple[
    Float[np.ndarray, "samples features"], Float[np.ndarray, "atoms features"], Float[np.ndarray, "samples atoms"]
]:
    """Samples that are sparse combinations of the atoms of a random dictionary, the dictionary, and the codes.

        y = A^T x + noise * N(0, I),    x has n nonzero entries, n uniform on 1 .. n_nonzero, at random places

    Args:
        n_samples: Number of samples.
        n_features: Number of features, unless ``dictionary`` is given.
        n_components: Number of atoms, unless ``dictionary`` is given.
        n_nonzero: Maximum number k of atoms in a sample.
        exact: Whether every sample has exactly k atoms.
        coef_min: Smallest absolute value C of a nonzero coefficient.
        amplitude: ``"constant"``: coefficients of +C or -C; ``"uniform"``: of random sign, uniform between C and 2 C.
        noise: Standard deviation of Gaussian noise in each feature.
        dictionary: Atoms in rows, to draw another batch; None: random Gaussian atoms of unit norm.
        random_state: A seed or a generator.

    Raises:
        ValueError: An argument is out of range, such as ``n_nonzero`` above the number of atoms.

    Source: Rambhatla, Li and Haupt, "NOODL" (2019), the published demonstration; exact, uniform and noise are ours.

    Examples:
        >>> X, dictionary, code = make_sparse_dictionary_data(5, n_features=20, n_components=30, random_state=0)
        >>> X.shape, dictionary.shape, bool(np.allclose(code @ dictionary, X))
        ((5, 20), (30, 20), True)
    """
    checks.arguments()
    rng = checks.rng("random_state", random_state)
    if dictionary is None:
        shape = checks.size("n_components", n_components), checks.size("n_features", n_features)
        dictionary = unit_rows(rng.standard_normal(shape))
    else:
        dictionary = dictionary.copy()
    atoms, features = dictionary.shape
    checks.size("n_samples", n_samples)
    checks.size("n_nonzero", n_nonzero, maximum=atoms)
    checks.choice("amplitude", amplitude, ("constant", "uniform"))
    checks.number("coef_min", coef_min, above=0)
    checks.number("noise", noise, minimum=0)
    counts = np.full(n_samples, n_nonzero) if exact else rng.integers(1, n_nonzero + 1, n_samples)
    # The indices of the n smallest of random numbers are a draw without replacement.
    numbers = rng.random((n_samples, atoms))
    indices = np.argpartition(numbers, n_nonzero - 1)[:, :n_nonzero]
    order = np.take_along_axis(numbers, indices, 1).argsort(axis=1)
    indices = np.take_along_axis(indices, order, 1)
    values = coef_min * rng.choice([-1.0, 1.0], (n_samples, n_nonzero))
    if amplitude == "uniform":
        values *= rng.uniform(1, 2, values.shape)
    values[np.arange(n_nonzero) >= counts[:, None]] = 0
    code = np.zeros((n_samples, atoms))
    np.put_along_axis(code, indices, values, 1)
    X = code @ dictionary
    if noise:
        X += noise * rng.standard_normal((n_samples, features))
    return X, dictionary, code


def perturb_dictionary(
    dictionary: Float[np.ndarray, "atoms features"], radius: float | None = None, random_state: Randomness = None
) -> Float[np.ndarray, "atoms features"]:
    """A dictionary near another one, to start from.

        A0_i = normalised(A_i + radius u_i),    u_i a random direction

    Args:
        dictionary: Atoms of unit norm in rows.
        radius: Distance that an atom moves before it is normalised; None: 2 / log(features).
        random_state: A seed or a generator.

    Raises:
        ValueError: ``radius`` is negative.

    Source: Rambhatla, Li and Haupt, "NOODL" (2019), the published demonstration.

    Examples:
        >>> perturb_dictionary(np.eye(3), 0.0).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    checks.arguments()
    if radius is None:
        radius = 2 / math.log(max(dictionary.shape[1], 2))
    checks.number("radius", radius, minimum=0)
    if not isinstance(random_state, np.random.Generator):
        # A separate stream, since with the seed of the dictionary the directions would be its atoms.
        with checks.noted(random_state=random_state):
            random_state = np.random.SeedSequence(random_state, spawn_key=(1,))
    rng = checks.rng("random_state", random_state)
    directions = unit_rows(rng.standard_normal(dictionary.shape)).astype(dictionary.dtype)
    return unit_rows(dictionary + dictionary.dtype.type(radius) * directions)


def turn_dictionary(
    dictionary: Float[np.ndarray, "atoms features"], towards: Float[np.ndarray, "atoms features"], degrees: float
) -> Float[np.ndarray, "atoms features"]:
    """A dictionary with its atoms turned towards given directions.

        A'_i = cos(angle) A_i + sin(angle) normalised(B_i - <A_i, B_i> A_i)

    Args:
        dictionary: Atoms A of unit norm in rows.
        towards: Directions B towards which the atoms turn.
        degrees: Angle of the turn, in degrees.

    Raises:
        ValueError: A direction is parallel to its atom, up to rounding.

    Examples:
        >>> turn_dictionary(np.eye(2), np.ones((2, 2)), 90.0).round(2).tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    checks.arguments()
    angle = math.radians(checks.number("degrees", degrees))
    sideways = towards - (towards * dictionary).sum(axis=1, keepdims=True) * dictionary
    rounding = 16 * np.finfo(sideways.dtype).eps * np.linalg.norm(towards, axis=1)
    parallel = np.linalg.norm(sideways, axis=1) <= rounding
    if angle and parallel.any():
        row = int(parallel.argmax())
        raise ValueError(f"towards[{row}] is parallel to dictionary[{row}]: expected another direction to turn to")
    return math.cos(angle) * dictionary + math.sin(angle) * unit_rows(sideways)
