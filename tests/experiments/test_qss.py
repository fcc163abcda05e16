import numpy as np
import pytest

from engram.experiments import qss

ARMS = {name: arm.config for name, arm in qss.arms(qss.Config()).items()}


def test_the_arms_differ_as_their_names_say():
    told = {
        name: (c.n_actions, c.noise, c.renamed, c.source_episodes, c.episodes, c.evaluations, c.inverse, c.cliff)
        for name, c in ARMS.items()
        if c.learner == "qss"
    }
    assert told == {
        "qss-4": (4, 0.0, False, 0, 50_000, 1, "learned", False),
        "qss-40": (40, 0.0, False, 0, 50_000, 1, "learned", False),
        "qss-400": (400, 0.0, False, 0, 50_000, 1, "learned", False),
        "qss-transfer": (4, 0.0, True, 50_000, 10_000, 1, "learned", False),
        "qss-scratch": (4, 0.0, True, 0, 10_000, 1, "learned", False),
        "qss-noise-0.25": (4, 0.25, False, 0, 20_000, 10, "known", False),
        "qss-noise-0.5": (4, 0.5, False, 0, 20_000, 10, "known", False),
        "qss-noise-0.75": (4, 0.75, False, 0, 20_000, 10, "known", False),
        "qss-cliff": (4, 0.0, False, 0, 50_000, 0, "learned", True),
    }
    assert [name.replace("qsa", "qss") for name, c in ARMS.items() if c.learner == "qsa"] == list(told)


def test_what_is_measured_of_returns():
    returns = np.full((2, 25_000), -500.0)
    returns[0, 10_000:] = -18.0
    returns[1, 24_000:] = -18.0
    found = qss.measured(returns)
    assert found["solved_20k"] == 0.5
    assert found["solved"] == 1.0
    assert found["solved_at"] == 17_000
    assert found["mean_return"] == pytest.approx((-259.0 - 500.0) / 2)
    assert found["first_200"] == -500.0
    assert found["late_return"] == -18.0
    assert qss.measured(np.full((1, 100), -18.0))["solved_at"] == 0


def test_a_learner_is_what_its_arm_says():
    rng = np.random.default_rng(0)
    known = qss.build(ARMS["qss-noise-0.5"], rng)
    assert known.actions_for(0, 0) == [0, 2]
    assert known.actions_for(0, 11) == [1]
    learned = qss.build(ARMS["qss-400"], rng)
    assert learned.actions == 400
    assert learned.actions_for(0, 11) == []
    assert qss.build(ARMS["qsa-cliff"], rng).table.shape == (132, 4)
    assert learned.exploration.epsilon(50_000) == pytest.approx(0.55)
