"""Whether labels explain distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.metrics import silhouette_score

from engram import checks


class PermutationTest(NamedTuple):
    """A statistic of labelled distances, and its distribution under the null hypothesis.

    ``p_value`` is the share of arrangements of the labels, the observed one included, whose statistic is at least as
    large; ``null`` has the statistic of each permutation.
    """

    statistic: float
    p_value: float
    null: Float[np.ndarray, " permutations"]


def silhouette(distances: Float[np.ndarray, "systems systems"], labels: Shaped[np.ndarray, " systems"]) -> float:
    """The mean silhouette of labelled systems, from -1 to 1, as scikit-learn computes it.

    Examples:
        >>> points = np.array([0.0, 1.0, 10.0, 11.0])
        >>> round(silhouette(np.abs(points[:, None] - points), np.array([0, 0, 1, 1])), 2)
        0.9
    """
    checks.arguments()
    with checks.noted(distances=distances, labels=labels):
        return float(silhouette_score(distances, labels, metric="precomputed"))


def permutation_test(
    distances: Float[np.ndarray, "systems others"],
    labels: Shaped[np.ndarray, " labels"],
    rng: np.random.Generator,
    n_permutations: int = 999,
    statistic: Callable[[np.ndarray, np.ndarray], float] = silhouette,
) -> PermutationTest:
    """Test whether systems with the same label are closer to each other than by chance.

        p = (1 + number of permutations with a statistic at least as large) / (1 + permutations)

    Args:
        distances: Symmetric matrix of the distances between systems.
        labels: Label of each system.
        rng: Source of the permutations.
        n_permutations: Number of permutations.
        statistic: Function of distances and labels, larger if the labels explain more.

    Raises:
        ValueError: An argument does not fit, or a statistic is not finite, for example as a label occurs once.

    Source: Phipson and Smyth, "Permutation p-values should never be zero" (2010).

    Examples:
        >>> points, labels = np.array([0.0, 1.0, 2.0, 10.0, 11.0, 12.0]), np.repeat([0, 1], 3)
        >>> permutation_test(np.abs(points[:, None] - points), labels, np.random.default_rng(0), 99).p_value < 0.2
        True
    """
    checks.arguments()
    if distances.shape != distances.T.shape or not np.allclose(distances, distances.T):
        raise ValueError(f"distances, of shape {distances.shape}: expected a square and symmetric matrix")
    if len(labels) != len(distances):
        raise ValueError(f"labels: expected {len(distances)}, one for each system, found {len(labels)}")
    checks.size("n_permutations", n_permutations)
    observed = statistic(distances, labels)
    checks.finite("statistic(distances, labels)", np.asarray(observed))  # NaN would be the most significant of all
    null = np.array([statistic(distances, rng.permutation(labels)) for _ in range(n_permutations)])
    checks.finite("the statistics of permuted labels", null)
    # The tolerance makes permutations that only rename the labels count, in spite of rounding errors.
    n_as_large = int((null >= observed - 1e-12 * abs(observed)).sum())
    return PermutationTest(observed, (1 + n_as_large) / (1 + n_permutations), null)
