"""The noise floor of a distance between systems: how far a system is from itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from sklearn.base import clone

from engram import checks
from engram.analysis.similarity.dsa import DSA
from engram.analysis.similarity.trials import Data, as_trials


def split_half_floor(
    systems: Sequence[Data], rng: np.random.Generator, dsa: DSA | None = None, n_splits: int = 10
) -> Float[np.ndarray, "systems splits"]:
    """The distances between the two halves of each system's trials, split at random ``n_splits`` times.

    The data cannot distinguish two systems whose distance is not larger than these.

    Args:
        systems: At least two trials of each system, (trials, time, features) or a list of trials.
        rng: Source of the splits.
        dsa: Estimator of the distance, which is cloned; None: ``DSA(rank="common")``.
        n_splits: Number of splits of each system.

    Raises:
        ValueError: A system has one trial or is not finite, ``n_splits`` is below 1, or ``dsa`` cannot compare the
            halves.

    Examples:
        >>> system = np.random.default_rng(0).normal(size=(6, 100, 2)).cumsum(1)
        >>> split_half_floor([system], np.random.default_rng(0), n_splits=3).shape
        (1, 3)
    """
    checks.arguments()
    floors = np.empty((len(systems), checks.size("n_splits", n_splits)))
    for i, system in enumerate(systems):
        trials = as_trials(system, f"systems[{i}]")
        if len(trials) < 2:
            raise ValueError(f"systems[{i}] has 1 trial: expected at least two, to be split")
        for split in range(n_splits):
            order = rng.permutation(len(trials))
            halves = [[trials[k] for k in indices] for indices in np.array_split(order, 2)]
            floors[i, split] = clone(dsa or DSA(rank="common")).fit_transform(halves)[0, 1]
    return floors
