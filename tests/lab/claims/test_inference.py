"""The interval covers the truth as often as it says; its test decides as often as it may."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from engram.lab.claims.inference import estimate, p_value

RUNS = 5000
THREE_ERRORS = 3 * (0.05 * 0.95 / RUNS) ** 0.5  # of a simulated coverage
DRAWS = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0, "mean", 0.95),
    "log-normal": (lambda rng, n: rng.lognormal(0, 0.5, n), np.exp(0.125), "mean", 0.91),
    "beta": (lambda rng, n: rng.beta(18, 2, n), 0.9, "mean", 0.91),
    "ratio": (lambda rng, n: rng.lognormal(0, 0.5, n) / rng.lognormal(0, 0.5, n), 1.0, "ratio", 0.95),
}


@pytest.mark.parametrize("n", [3, 5, 10, 50])
@pytest.mark.parametrize("name", DRAWS)
def test_the_interval_covers_the_truth_as_often_as_it_says(name, n, effort):
    draw, truth, form, least = DRAWS[name]
    rng = np.random.default_rng(n)
    intervals = [estimate(draw(rng, n).tolist(), form) for _ in range(RUNS * effort)]
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert least - THREE_ERRORS <= covered <= 0.95 + THREE_ERRORS


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_the_interval_of_a_share_is_exact(share):
    rng = np.random.default_rng(0)
    trials = [20, 30]
    covered = [
        estimate([rng.binomial(n, share) / n for n in trials], "share", trials).low <= share <= 1 for _ in range(400)
    ]
    assert np.mean(covered) >= 0.95
    known = stats.binomtest(45, 50).proportion_ci()
    assert estimate([0.9, 0.9], "share", trials)[:3] == pytest.approx((0.9, known.low, known.high))


def test_the_interval_of_a_share_covers_the_truth_where_the_trials_of_a_seed_succeed_together():
    rng = np.random.default_rng(2)
    trials, covered = [50] * 5, []
    for _ in range(2000):
        share = (rng.binomial(50, rng.beta(0.5, 0.5, 5)) / 50).tolist()
        interval = estimate(share, "share", trials)
        covered.append(interval.low <= 0.5 <= interval.high)
    assert np.mean(covered) >= 0.9  # Student's t for numbers near 0 and 1; 0.28 if all trials counted as independent


@pytest.mark.parametrize(("form", "truth"), [("mean", 0.0), ("ratio", 1.0)])
def test_a_claim_on_noise_is_decided_one_time_in_twenty(form, truth):
    rng = np.random.default_rng(1)
    draws = [rng.normal(size=4) if form == "mean" else np.exp(rng.normal(size=4)) for _ in range(RUNS)]
    decided = np.mean([p_value(values.tolist(), truth, form) < 0.05 for values in draws])
    assert decided == pytest.approx(0.05, abs=THREE_ERRORS)


@pytest.mark.parametrize("form", ["mean", "ratio", "share"])
@given(st.lists(st.integers(0, 20), min_size=2, max_size=6), st.floats(0.01, 0.99))
def test_the_p_value_is_small_where_the_interval_leaves_the_threshold_out(form, counts, threshold):
    values = [count / 20 for count in counts]
    trials = [20] * len(values)
    interval, p = estimate(values, form, trials), p_value(values, threshold, form, trials)
    if abs(p - 0.05) > 1e-9:
        assert (interval.low <= threshold <= interval.high) == (p > 0.05)


def test_as_many_seeds_resolve_what_they_say_four_times_in_five():
    rng = np.random.default_rng(2)
    n, effect = 8, 1.15
    intervals = [estimate(rng.normal(effect, 1.0, n).tolist()) for _ in range(RUNS)]
    assert np.mean([interval.resolution for interval in intervals]) == pytest.approx(effect, abs=0.06)
    assert np.mean([interval.low > 0 for interval in intervals]) == pytest.approx(0.8, abs=0.05)


def test_a_share_that_is_none_is_named():
    with pytest.raises(ValueError, match=r"values = \[0.5\]: expected shares of trials = \[1\]"):
        estimate([0.5], "share")


@pytest.mark.parametrize("form", ["mean", "ratio", "median"])
@pytest.mark.parametrize("one", [1.0, 0.3, 1e-12])
def test_values_that_are_equal_up_to_rounding_have_no_spread(form, one):
    values = [one, one * (1 + 2**-51), one, one * (1 - 2**-52), one, one]
    assert estimate(values, form)[:3] == pytest.approx(estimate([one] * 6, form)[:3], rel=1e-14)
    assert estimate(values, form).resolution == pytest.approx(estimate([one] * 6, form).resolution, abs=1e-14 * one)
    for threshold in (one, one * (1 + 2**-52), 2 * one):
        assert p_value(values, threshold, form) == p_value([one] * 6, threshold, form)
    assert p_value(values, one, form) == 1
