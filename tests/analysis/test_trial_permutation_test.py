from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from engram.analysis import DSA, HankelDMD, trial_permutation_test

DISTANCE = DSA(HankelDMD(2, rank=2))


def rotating(speed, trials, seed, times=(60, 80)):
    """Noisy rotations of the plane, of different lengths, seen by the same four units."""
    rng, units = np.random.default_rng(seed), np.linalg.qr(np.random.default_rng(0).normal(size=(4, 2)))[0]
    turn = 0.98 * np.array([[np.cos(speed), -np.sin(speed)], [np.sin(speed), np.cos(speed)]])
    recording = []
    for trial in range(trials):
        x = np.zeros((times[trial % len(times)], 2))
        for t in range(1, len(x)):
            x[t] = x[t - 1] @ turn.T + rng.normal(size=2)
        recording.append(x @ units.T)
    return recording


def test_recordings_of_other_dynamics_differ_and_those_of_the_same_do_not():
    rng = np.random.default_rng(0)
    test = trial_permutation_test(rotating(0.2, 4, 1), rotating(0.9, 4, 2), rng, DISTANCE, 59)
    assert test.statistic == DISTANCE.fit_transform([rotating(0.2, 4, 1), rotating(0.9, 4, 2)])[0, 1]
    assert test.p_value == (1 + (test.null >= test.statistic * (1 - 1e-12)).sum()) / 60
    assert test.p_value < 0.1
    assert trial_permutation_test(rotating(0.2, 4, 1), rotating(0.2, 4, 2), rng, DISTANCE, 59).p_value > 0.1


def test_the_null_distribution_is_that_of_all_divisions():
    first, second = rotating(0.2, 2, 1), rotating(0.3, 2, 2)
    pooled = [*first, *second]
    divisions = [
        DISTANCE.fit_transform([[pooled[k] for k in own], [pooled[k] for k in range(4) if k not in own]])[0, 1]
        for own in combinations(range(4), 2)
    ]
    null = trial_permutation_test(first, second, np.random.default_rng(0), DISTANCE, 40).null
    assert all(min(abs(np.array(divisions) - distance)) < 1e-6 for distance in null)
    assert len(set(null.round(6))) == math.comb(4, 2) / 2, "every division occurs; swapped recordings are as far apart"


def test_recordings_that_cannot_be_exchanged_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="first has 1 trial: expected at least two"):
        trial_permutation_test(rotating(0.2, 1, 1), rotating(0.2, 4, 2), rng)
    with pytest.raises(ValueError, match="second has 3 features: expected 4, as first"):
        trial_permutation_test(rotating(0.2, 2, 1), [trial[:, :3] for trial in rotating(0.2, 2, 2)], rng)
    with pytest.raises(ValueError, match="n_permutations = 0"):
        trial_permutation_test(rotating(0.2, 2, 1), rotating(0.2, 2, 2), rng, DISTANCE, 0)
