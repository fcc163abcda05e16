import numpy as np
import pytest

from engram.experiments.rule_inference.layer import (
    FLY,
    OJA,
    Config,
    activity_trial,
    choice_trial,
    flies,
    recorded_of,
)


def test_units_that_are_not_recorded_are_the_same_in_all_sessions_and_shuffled_steps_stay_in_theirs():
    rng = np.random.default_rng(0)
    activity = [np.arange(12.0).reshape(4, 3) + 100 * k for k in range(2)]
    seen = recorded_of(Config(units=3, recorded=2, shuffled=True), activity, rng)
    hidden = [np.isnan(y).all(axis=0) for y in seen]
    np.testing.assert_array_equal(hidden[0], hidden[1])
    assert hidden[0].sum() == 1
    for y, recorded in zip(activity, seen, strict=True):
        np.testing.assert_array_equal(np.sort(recorded[:, ~hidden[0]], axis=0), y[:, ~hidden[0]])


def test_more_units_cannot_be_recorded_than_there_are():
    with pytest.raises(ValueError, match="recorded = 4: expected at most units = 3"):
        Config(units=3, recorded=4)


def test_without_noise_the_rule_is_found_and_the_measures_say_so():
    result = activity_trial(
        Config(sessions=6, held_out=2, steps=20, units=4, recorded=4, noise=1e-9), np.random.default_rng(0)
    )
    assert result["error"] < 1e-4
    assert result["explained"] == pytest.approx(1, abs=1e-6)
    assert result["identified"] == 1
    assert {name: round(theta, 3) for name, theta in result["coefficients"].items() if abs(theta) > 1e-3} == OJA


def test_flies_of_the_true_rule_prefer_what_is_rewarded():
    config = Config(data="choices", sessions=20, held_out=1, trials=120)
    offers, data = flies(config, np.random.default_rng(0), FLY)
    accepted = np.array(data.choices)[:, 25:40]  # at the end of a block in which the second odour pays
    second = np.array(offers)[:, 25:40, 1] == 1
    assert accepted[second].mean() > accepted[~second].mean() + 0.2


def test_the_share_of_the_truth_is_one_for_the_true_rule():
    config = Config(data="choices", sessions=20, held_out=10, trials=90, terms="gated")
    result = choice_trial(config, np.random.default_rng(1))
    assert 0.3 < result["share_of_truth"] < 1.05
