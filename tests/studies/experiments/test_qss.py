import numpy as np
import pytest

from engram.studies.experiments import qss

ARMS = {name: arm.config for name, arm in qss.experiment.arms("laptop").items()}


def test_what_is_measured_of_returns():
    returns = np.full((2, 25_000), -500.0)
    returns[0, 10_000:] = -18.0
    returns[1, 24_000:] = -18.0
    results = qss.measure(returns)
    assert results["solved_20k"] == 0.5
    assert results["solved"] == 1.0
    assert results["solved_at"] == 17_000
    assert results["mean_return"] == pytest.approx((-259.0 - 500.0) / 2)
    assert results["first_200"] == -500.0
    assert results["late_return"] == -18.0
    assert qss.measure(np.full((1, 100), -18.0))["solved_at"] == 0


def test_a_learner_is_what_its_arm_says():
    rng = np.random.default_rng(0)
    known = qss.build(ARMS["qss-noise-0.5"], 0.1, rng)
    assert known.actions_for(0, 0) == [0, 2]
    assert known.actions_for(0, 11) == [1]
    learned = qss.build(ARMS["qss-400"], 0.3, rng)
    assert learned.actions == 400
    assert learned.learning_rate == 0.3
    assert learned.actions_for(0, 11) == []
    assert qss.build(ARMS["qsa-cliff"], 0.1, rng).table.shape == (132, 4)
    assert learned.exploration.epsilon(50_000) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": ()}, "rates = .*: expected at least one"),
        ({"episodes": 250}, "episodes = 250: expected a multiple of 100"),
        ({"evaluations": 0}, "evaluations = 0: expected at least 1"),
        ({"inverse": "known", "renamed": True}, "inverse = 'known': expected 'learned'"),
        ({"inverse": "known", "source_episodes": 100}, "inverse = 'known': expected 'learned'"),
    ],
)
def test_a_bad_config_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        qss.Grid(**options)


def test_values_of_transitions_on_a_cliff_are_those_of_its_cells(performed):
    config = qss.Grid(cliff=True, source_episodes=10, episodes=100, rates=(1.0,), agents=1)
    result, _ = performed(qss.trial, config)
    assert np.shape(result["shown"]["transitions"]) == (132, 4)
