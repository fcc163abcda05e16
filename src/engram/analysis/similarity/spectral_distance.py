"""The distance between the eigenvalues of two operators."""

from __future__ import annotations

from math import lcm
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Complex, Float
from scipy.optimize import linear_sum_assignment

from engram import checks


def spectral_distance(
    A: Float[np.ndarray, "n n"],
    B: Float[np.ndarray, "m m"],
    *,
    squared: bool = False,
    pad: Annotated[Any, Literal["zero", "mass"] | None] = None,
) -> float:
    """The Wasserstein distance between the eigenvalues of two operators, as points in the complex plane.

        W2^2 = (1 / n) min over permutations pi of sum_i |lambda_i - mu_pi(i)|^2

    It depends on the topology of the dynamics, but not on their departure from normality (transient growth).

    Args:
        A: Square operator.
        B: Square operator.
        squared: Return W2^2, as ``dsa-metric`` does.
        pad: With different numbers of eigenvalues, ``"zero"`` adds zeros to the shorter list, and ``"mass"`` gives each
            list a total weight of one; None raises an error.

    Raises:
        ValueError: An operator is empty, not square or not finite, ``pad`` is unknown, or it is None and the operators
            differ in size.

    Source: Redman et al., "Identifying equivalent training dynamics" (2024); ``dsa-metric`` 2.0.

    Examples:
        >>> round(spectral_distance(np.diag([0.5, 0.9]), np.diag([0.9, 0.6]), squared=True), 6)
        0.005
    """
    checks.arguments()
    for name, operator in (("A", A), ("B", B)):
        checks.size(f"len({name})", len(operator))
    eigenvalues_A, eigenvalues_B = (
        np.linalg.eigvals(checks.array(name, operator, ("n", len(operator)))) for name, operator in (("A", A), ("B", B))
    )
    return eigenvalue_distance(eigenvalues_A, eigenvalues_B, squared=squared, pad=pad)


def eigenvalue_distance(
    first: Complex[np.ndarray, " n"] | Float[np.ndarray, " n"],
    second: Complex[np.ndarray, " m"] | Float[np.ndarray, " m"],
    *,
    squared: bool = False,
    pad: Annotated[Any, Literal["zero", "mass"] | None] = None,
) -> float:
    """The Wasserstein distance between two sets of points in the complex plane.

    Args:
        first: Points, as complex numbers.
        second: Points, as complex numbers.
        squared: Return the squared distance.
        pad: ``"zero"``, ``"mass"`` or None, for sets of different sizes; see ``spectral_distance``.
    """
    checks.choice("pad", pad, (None, "zero", "mass"))
    n, m = len(first), len(second)
    if n != m and pad is None:
        raise ValueError(
            f'the operators have {n} and {m} eigenvalues: expected equal numbers, or pad = "zero" or "mass"'
        )
    if n != m and pad == "zero":
        first, second = (np.pad(values, (0, max(n, m) - len(values))) for values in (first, second))
    elif n != m:
        first, second = np.repeat(first, lcm(n, m) // n), np.repeat(second, lcm(n, m) // m)
    cost = np.abs(first[:, None] - second) ** 2
    value = float(cost[linear_sum_assignment(cost)].mean())
    return value if squared else float(np.sqrt(value))
