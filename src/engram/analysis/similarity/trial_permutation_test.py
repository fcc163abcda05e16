"""Whether two recordings of the same units differ in their dynamics."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone

from engram import checks
from engram.analysis.similarity.dsa import DSA
from engram.analysis.similarity.permutation_test import PermutationTest
from engram.analysis.similarity.trials import Data, as_trials


def trial_permutation_test(
    first: Data, second: Data, rng: np.random.Generator, dsa: DSA | None = None, n_permutations: int = 199
) -> PermutationTest:
    """Test whether two recordings of the same units are further apart than a random division of all their trials.

        p = (1 + number of divisions with a distance at least as large) / (1 + divisions)

    Under the null hypothesis the trials of both recordings can be exchanged, which needs the same units in the same
    order, as under two conditions. For recordings of different units, compare their distance with that of
    ``split_half_floor`` instead.

    Args:
        first: At least two trials, (trials, time, features) or a list of trials, which may differ in length.
        second: The same of the other recording, with the same features.
        rng: Source of the divisions.
        dsa: Estimator of the distance, which is cloned; None: ``DSA(rank="common")``.
        n_permutations: Number of divisions, each of which takes as long as one distance.

    Raises:
        ValueError: A recording has one trial, or the recordings differ in their number of features.

    Source: Phipson and Smyth, "Permutation p-values should never be zero" (2010).

    Examples:
        >>> from scipy.signal import lfilter
        >>> from engram.analysis import HankelDMD
        >>> rng, dsa = np.random.default_rng(0), DSA(HankelDMD(1, rank=2))
        >>> noise = rng.normal(size=(2, 5, 80)) + 1j * rng.normal(size=(2, 5, 80))
        >>> turning = [lfilter([1], [1, -0.98 * np.exp(1j * speed)], z) for speed, z in zip((0.2, 0.9), noise)]
        >>> slow, fast = (np.stack([z.real, z.imag], axis=-1) for z in turning)
        >>> trial_permutation_test(slow, fast, rng, dsa, n_permutations=19).p_value
        0.05
    """
    checks.arguments()
    checks.size("n_permutations", n_permutations)
    trials = {"first": as_trials(first, "first"), "second": as_trials(second, "second")}
    for name, own in trials.items():
        if len(own) < 2:
            raise ValueError(f"{name} has 1 trial: expected at least two, to be exchanged")
    pooled, features = [*trials["first"], *trials["second"]], trials["first"][0].shape[1]
    if trials["second"][0].shape[1] != features:
        raise ValueError(
            f"second has {trials['second'][0].shape[1]} features: expected {features}, as first, because the trials of "
            "both are exchanged; for other units compare the distance with split_half_floor"
        )
    n_first = len(trials["first"])

    def distance(order: np.ndarray) -> float:
        parts = [[pooled[k] for k in indices] for indices in np.split(order, [n_first])]
        return float(clone(dsa or DSA(rank="common")).fit_transform(parts)[0, 1])

    observed = distance(np.arange(len(pooled)))
    null = np.array([distance(rng.permutation(len(pooled))) for _ in range(n_permutations)])
    # The tolerance makes divisions that only swap the recordings count, in spite of rounding errors.
    n_as_large = int((null >= observed - 1e-12 * abs(observed)).sum())
    return PermutationTest(observed, (1 + n_as_large) / (1 + n_permutations), null)
