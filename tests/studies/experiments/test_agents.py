from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from engram import registry
from engram.agents.reference import OracleAgent, RandomAgent, play
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.studies.experiments import agents
from engram.studies.experiments.agents import (
    FACTORS,
    TASKS,
    Config,
    Exchanged,
    changes_of,
    fits,
    live,
    rates_of,
    trial,
)
from engram.tasks.meta import MetaTaskVectorEnv


def test_actions_change_places_at_half_time():
    env = Exchanged(gymnasium.make("CartPole-v1"), 3)
    plain = gymnasium.make("CartPole-v1")
    for each in (env, plain):
        each.reset(seed=0)
    for given, done in zip((1, 0, 1, 0, 1, 1), (1, 0, 1, 1, 0, 0), strict=True):
        np.testing.assert_array_equal(env.step(given)[0], plain.step(done)[0])


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.chance is not None])
def test_what_is_known_of_a_task_is_what_references_get(name):
    task = TASKS[name]
    env = MetaTaskVectorEnv(gymnasium.make(task.env).unwrapped.batch.tasks[0], 4000)
    for known, agent in ((task.best, OracleAgent()), (task.chance, RandomAgent(np.random.default_rng(0)))):
        returns = play(env, agent, seed=0).rewards.sum(1)
        assert abs(returns.mean() - known) < 4 * returns.std() / np.sqrt(len(returns)) + 1e-9


def test_an_agent_lives_at_the_rate_at_which_another_got_most(monkeypatch, tmp_path):
    rates = []

    def life(config, length, seed, rate, lived=live):
        rates.append((length, seed, rate))
        return lived(config, length, seed, rate)

    monkeypatch.setattr(agents, "live", life)
    run = TrialRun(TrialFolder(tmp_path), 0)
    config = Config(agent="tabular-q", task="i-maze", steps=300, rates=rates_of("tabular-q"))
    result = trial(config, run)
    choice = run.choices["learning_rate"]
    *tried, (length, seed, rate) = rates
    assert length == 300
    assert {other[:2] for other in tried} == {(150, seed + 1)}
    assert rate == choice["chosen"]
    assert set(config.rates) <= {other[2] for other in tried}
    assert result["regret"] == 1 - result["return"]


def test_a_life_is_that_of_its_seed_alone():
    config = Config(agent="lstm", task="t-maze")
    first, again, other = (live(config, 900, seed, 0.01) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.counts.sum() == 9


def test_a_life_in_meta_tasks_is_in_another_one_for_each_seed():
    first, again, other = (agents.world_of("meta-tasks", 1, seed).task for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert (first.n_actions, first.observation_size) == (other.n_actions, other.observation_size)


def test_an_agent_fits_where_it_can_be_made():
    assert rates_of("random") == ()
    assert rates_of("tabular-q") == pytest.approx([0.2 * factor for factor in FACTORS])
    assert fits("lstm", "bandit")
    assert changes_of("random", "bandit") == {"agent": "random", "task": "bandit", "rates": ()}
    assert registry.get("agents", "random").__name__ == "RandomActions"


def test_a_bad_config_is_named():
    with pytest.raises(ValueError, match="agent = 'mfac': expected an agent; did you mean 'mfec'"):
        Config(agent="mfac")


def test_an_agent_that_refuses_a_rate_of_zero_chooses_from_the_others(tmp_path):
    path = tmp_path / "always_learning.py"
    path.write_text(
        "from engram.agents import RecurrentAgent\n"
        "def always_learning(*spaces, rng, learning_rate=0.01):\n"
        "    if not learning_rate:\n"
        "        raise ValueError(f'learning_rate = {learning_rate}: expected more than 0')\n"
        "    return RecurrentAgent(*spaces, rng=rng, learning_rate=learning_rate)\n"
    )
    agent = f"{path}:always_learning"
    assert changes_of(agent, "bandit")["rates"] == pytest.approx([0.01 * factor for factor in FACTORS[1:]])
    assert changes_of("lstm", "bandit")["rates"] == pytest.approx([0.01 * factor for factor in FACTORS])


def test_no_candidate_is_above_the_largest_learning_rate(tmp_path, new_run, monkeypatch):
    path = tmp_path / "fast.py"
    path.write_text(
        "from engram.agents.from_spaces import tabular_q\n"
        "def half(*spaces, rng, learning_rate=0.5):\n"
        "    return tabular_q(*spaces, rng=rng, learning_rate=learning_rate)\n"
        "def whole(*spaces, rng, learning_rate=1.0):\n"
        "    return tabular_q(*spaces, rng=rng, learning_rate=learning_rate)\n"
    )
    assert rates_of(f"{path}:half") == pytest.approx((0, 0.05, 0.15, 0.5, 1))
    assert rates_of(f"{path}:whole") == pytest.approx((0, 0.1, 0.3, 1))
    monkeypatch.setattr(agents, "live", lambda *_: agents.Life(np.ones(20), np.ones(20)))
    config, run = Config(agent=f"{path}:half", task="i-maze", rates=rates_of(f"{path}:half")), new_run()
    assert trial(config, run)["return"] == 1
    assert run.choices["learning_rate"]["candidates"] == pytest.approx(config.rates)
