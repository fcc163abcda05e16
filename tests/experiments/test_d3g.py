import dataclasses

import numpy as np
import pytest
import torch

from engram.agents import BCO, D3G
from engram.experiments import d3g
from engram.experiments.d3g import learning, pendulum, point
from engram.lab import Run

CONFIG = d3g.experiment.presets["laptop"].config


class Loop(Run):
    """A run without a folder."""

    def __init__(self, seed=0):
        self.device = torch.device("cpu")
        self.generator, self.rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)

    def steps(self, total, **state):
        return range(total)

    def log(self, step, **values):
        return values


def test_the_arms_differ_as_their_names_say():
    arms = {name: arm.config for name, arm in d3g.arms(CONFIG).items()}
    assert {name: arm.learner for name, arm in arms.items()} == {
        "pendulum-d3g": "d3g",
        "pendulum-no-cycle": "no-cycle",
        "pendulum-td3": "td3",
        "transfer-d3g": "d3g",
        "scratch-d3g": "d3g",
        "transfer-td3": "td3",
        "point-no-cycle": "no-cycle",
        "observed-d3g": "observed",
        "observed-bco": "bco",
    }
    assert arms["scratch-d3g"] == dataclasses.replace(arms["transfer-d3g"], source_episodes=0)
    assert arms["transfer-d3g"].judged_after * point.EPISODE == 800
    assert arms["observed-d3g"].episodes * point.EPISODE == 480
    assert arms["observed-d3g"].walks * point.EPISODE == 10_000
    assert arms["pendulum-d3g"].episodes * pendulum.EPISODE == 12_000
    built = {name: learning.build(name, learning.Settings(), *point.SPACES, Loop()) for name in ("no-cycle", "bco")}
    assert built["no-cycle"].cycle == "none"
    assert isinstance(built["bco"], BCO)


def test_random_steps_come_first_and_teach_nothing(monkeypatch):
    agent = learning.build("d3g", learning.Settings(width=4), *point.SPACES, Loop())
    buffer, acted, batches = point.new_buffer(8, Loop()), [], []
    monkeypatch.setattr(agent, "act", lambda seen, noise: acted.append(noise) or np.zeros((len(seen), 2)))
    options = {"settings": learning.Settings(batch_size=8), "random_steps": 60, "update": batches.append}
    learning.live(point.points(1), agent, buffer, Loop(), **options)
    assert acted == []
    learning.live(point.points(1), agent, buffer, Loop(), **options, reward_scale=0.0)
    assert acted == [0.1] * 20
    assert len(batches) == 20
    assert {len(batch.states) for batch in batches} == {8}
    found = buffer.all()
    assert (found.actions[:60].abs() > 0).all()
    assert not found.actions[60:].any()
    assert found.rewards[:40].all()
    assert not found.rewards[40:].any()


def test_the_pendulum_is_seen_in_one_scale():
    env = pendulum.pendulum(3)
    seen, _ = env.reset(seed=0)
    env.env.envs[0].unwrapped.state = np.array([0.0, 8.0])
    for _ in range(20):
        seen, *_ = env.step(np.full((3, 1), 2.0, np.float32))
        assert np.abs(seen).max() <= 1.0
        assert np.hypot(seen[:, 0], seen[:, 1]) == pytest.approx(1, abs=1e-6)
    assert env.single_observation_space.shape == (3,)


def test_after_the_turn_only_actions_are_learned(monkeypatch):
    """The values of the arm that keeps them are those of the source, from scratch they are not."""
    made = []
    build = point.build
    monkeypatch.setattr(point, "build", lambda *args: made.append(build(*args)) or made[-1])
    kept = {}
    reset = D3G.reset_inverse

    def noted(agent):
        kept.update({name: value.clone() for name, value in agent.critic.state_dict().items()})
        reset(agent)

    monkeypatch.setattr(D3G, "reset_inverse", noted)
    settings = learning.Settings(width=4, batch_size=4)
    config = point.Transfer("d3g", settings, 2, 10, 2, 10, 1, 1, evaluations=2)
    found = point.transfer(config, Loop())
    after = made[0].critic.state_dict()
    assert kept
    assert all(torch.equal(value, after[name]) for name, value in kept.items())
    assert {"source_return", "largest_step", "proposals", "return"} <= set(found)
    scratch = point.transfer(dataclasses.replace(config, source_episodes=0), Loop())
    assert set(scratch) == {"return"}
    assert made[1].updates == 70


def test_the_log_has_no_actions(monkeypatch):
    logs = []
    monkeypatch.setattr(D3G, "update", lambda agent, batch: logs.append(batch))
    settings = learning.Settings(width=4, batch_size=4)
    config = point.Observed("observed", settings, 2, 5, 1, 2, 3, 3, evaluations=2)
    found = point.observed(config, Loop())
    assert [batch.actions for batch in logs] == [None] * 5
    assert found["first_round"] == found["last_round"]
