import numpy as np
import pytest

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.studies.experiments.rule_inference import layer, networks, selection
from engram.studies.experiments.rule_inference.layer import (
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


@pytest.mark.parametrize(
    ("config", "fields", "message"),
    [
        (Config, {"terms": "gated"}, "terms = 'gated' with data = 'activity': expected one of 'all', 'without weight'"),
        (Config, {"data": "choices", "terms": "without weight"}, "terms = 'without weight' with data = 'choices'"),
        (Config, {"data": "choices", "start": "fitted"}, "start = 'fitted' with data = 'choices': expected 'known'"),
        (networks.Config, {"fitted": "history"}, "fitted = 'history' with data = 'recurrent': expected one of 'all'"),
        (networks.Config, {"data": "choices", "fitted": "selected"}, "fitted = 'selected' with data = 'choices'"),
        (selection.Config, {"data": "recurrent"}, "inputs = 4: expected as many as units = 3, one for each"),
    ],
)
def test_what_would_not_be_fitted_is_refused(config, fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)


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


def test_baited_flies_end_with_their_last_trial_and_prefer_what_is_rewarded():
    config = networks.Config(data="choices", sessions=10, held_out=1, trials=60)
    simulated = networks.flies(config, np.random.default_rng(0))
    assert all(choices.sum() == 60 and choices[-1] == 1 for choices in simulated.data.choices)
    assert [len(each) for each in simulated.inputs] == [len(each) for each in simulated.odours]
    late = [np.cumsum(choices) > 10 for choices in simulated.data.choices]
    taken = [
        [choices[(odour == k) & then & (np.cumsum(choices) <= 20)].mean() for k in range(2)]
        for choices, odour, then in zip(simulated.data.choices, simulated.odours, late, strict=True)
    ]
    assert np.mean(taken, axis=0)[1] > np.mean(taken, axis=0)[0] + 0.1  # the second odour pays in the first block
    paid = [np.nansum(rewards) for rewards in simulated.data.rewards]
    assert np.mean(paid) > 0.5 * 60  # more than either odour alone pays over the blocks, since rewards wait


def test_the_history_of_an_offer_is_that_of_the_trials_before():
    features = networks.history(np.array([0, 1, 1, 0]), np.array([1.0, 0, 1, 1]), np.array([1.0, np.nan, 0.0, 1.0]))
    assert features[:, 0].tolist() == [0, 1, 1, 0]
    assert features[0, 1:].tolist() == [0] * 15
    assert features[1, 1:4].tolist() == features[2, 1:4].tolist() == [0, 0, 1]  # the other odour, rewarded
    assert features[3, 1:7].tolist() == [
        0,
        0,
        0,
        1,
        1,
        0,
    ]  # the other one without reward; before, this one with


def test_the_share_of_the_truth_of_a_hidden_layer_is_one_for_the_true_rule():
    config = networks.Config(data="choices", sessions=8, held_out=8, trials=60, hidden=4)
    assert 0.5 < networks.choice_trial(config, np.random.default_rng(0))["share_of_truth"] < 1.1
    simulated = networks.flies(config, np.random.default_rng(0))
    by_regression = networks.regression(simulated, slice(8), slice(8, None))
    best = simulated.log_likelihood(slice(8, None))
    assert by_regression < best < 0


def test_a_recurrent_trial_without_noise_finds_the_rule():
    config = networks.Config(sessions=6, held_out=2, steps=20, units=4, recorded=3, noise=1e-9)
    result = networks.recurrent_trial(config, np.random.default_rng(0))
    assert result["error"] < 1e-3
    assert result["explained"] > 0.999


@pytest.mark.parametrize("module", [layer, networks])
def test_what_was_found_outlives_an_interruption_after_the_loop(module, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "choice_trial", lambda _, rng: {"error": rng.random(), "status": "ok", "terms": {}})
    config, folder = module.Config(data="choices"), TrialFolder(tmp_path)
    first = module.trial(config, TrialRun(folder, 0))
    assert module.trial(config, TrialRun(folder, 0)) == first


def test_what_selection_finds_is_measured_against_the_rule_that_made_the_data():
    rng = np.random.default_rng(0)
    data = selection.simulate(selection.Config(sessions=6, steps=30), OJA, rng)
    right = selection.select(data, OJA)
    assert (right["wrong_terms"], right["among"], right["ok_and_wrong"]) == (0, 1, 0)
    assert right["worse"] == pytest.approx(0, abs=1e-3)
    # Against a rule that did not make them, the one that did is far better, and its terms are wrong.
    wrong = selection.select(data, {"x y": 1.0, "w": 0.5})
    assert (wrong["wrong_terms"], wrong["among"]) == (2, 0)
    assert wrong["worse"] < -10
    assert wrong["given_terms"] <= 0.5


@pytest.mark.parametrize("kind", ["unknown first weights", "recurrent", "choices"])
def test_every_kind_of_data_is_recorded_with_the_options_of_its_fit(kind):
    config = selection.Config(data=kind, sessions=2, steps=6, trials=12, inputs=3, units=3)
    rule = selection.OF_CHOICES[0] if kind == "choices" else selection.OF_ACTIVITY[0]
    data = selection.simulate(config, rule, np.random.default_rng(0))
    assert len(data.inputs) == 2
    assert data.options["order"] == (1 if kind == "choices" else 2)
    assert isinstance(data.options.get("initial_weights", ""), str) == (kind != "recurrent")
