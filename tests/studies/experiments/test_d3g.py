import dataclasses

import numpy as np
import pytest
import torch

from engram.agents import BCO, D3G
from engram.studies.experiments.d3g import learning, pendulum, point

TINY = {"width": 4, "batch_size": 4, "evaluations": 2}


def test_a_learner_is_what_its_config_says(new_run):
    build = learning.build
    assert build(learning.Agent(learner="no-cycle"), *point.SPACES, new_run()).cycle == "none"
    assert isinstance(build(learning.Agent(learner="bco"), *point.SPACES, new_run()), BCO)


def test_random_steps_come_first_and_teach_nothing(monkeypatch, new_run):
    config = learning.Agent(width=4, batch_size=8)
    agent = learning.build(config, *point.SPACES, new_run())
    buffer, acted, batches = point.new_buffer(8, new_run()), [], []
    monkeypatch.setattr(agent, "act", lambda seen, noise: acted.append(noise) or np.zeros((len(seen), 2)))
    options = {"random_steps": 60, "update": batches.append}
    learning.live(point.points(1), agent, buffer, config, new_run(), **options)
    assert acted == []
    learning.live(point.points(1), agent, buffer, config, new_run(), **options, reward_scale=0.0)
    assert acted == [0.1] * 20
    assert len(batches) == 20
    assert {len(batch.states) for batch in batches} == {8}
    steps = buffer.all()
    assert (steps.actions[:60].abs() > 0).all()
    assert not steps.actions[60:].any()
    assert steps.rewards[:40].all()
    assert not steps.rewards[40:].any()


def test_the_pendulum_is_seen_in_one_scale():
    env = pendulum.pendulum(3)
    seen, _ = env.reset(seed=0)
    env.env.envs[0].unwrapped.state = np.array([0.0, 8.0])
    for _ in range(20):
        seen, *_ = env.step(np.full((3, 1), 2.0, np.float32))
        assert np.abs(seen).max() <= 1.0
        assert np.hypot(seen[:, 0], seen[:, 1]) == pytest.approx(1, abs=1e-6)
    assert env.single_observation_space.shape == (3,)


def test_after_the_turn_only_actions_are_learned(monkeypatch, new_run):
    """The values of the arm that keeps them are those of the source, from scratch they are not."""
    made = []
    build = point.build
    monkeypatch.setattr(point, "build", lambda *args: made.append(build(*args)) or made[-1])
    before = {}
    reset = D3G.reset_inverse

    def noted(agent):
        before.update({name: value.clone() for name, value in agent.critic.state_dict().items()})
        reset(agent)

    monkeypatch.setattr(D3G, "reset_inverse", noted)
    episodes = {"source_episodes": 2, "source_random_steps": 10, "target_episodes": 2, "target_random_steps": 10}
    config = point.Transfer(**TINY, **episodes, look_every=1, judged_after=1)
    result = point.transfer(config, new_run())
    after = made[0].critic.state_dict()
    assert before
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert {"source_return", "largest_step", "shown", "return"} <= set(result)
    scratch = point.transfer(dataclasses.replace(config, source_episodes=0), new_run())
    assert set(scratch) == {"return"}
    assert made[1].updates == 70


def test_the_log_has_no_actions(monkeypatch, new_run):
    logs = []
    monkeypatch.setattr(D3G, "update", lambda agent, batch: logs.append(batch))
    steps = {"walks": 2, "updates": 5, "rounds": 1, "episodes": 2, "inverse_updates": 3, "cloning_updates": 3}
    result = point.learn_from_log(point.Observed(learner="observed", **TINY, **steps), new_run())
    assert [batch.actions for batch in logs] == [None] * 5
    assert result["first_round"] == result["last_round"]


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (point.Transfer, {"look_every": 3}, "judged_after = 20: expected a multiple of look_every = 3"),
        (point.Transfer, {"target_episodes": 10}, "judged_after = 20: expected .* up to target_episodes = 10"),
        (point.Transfer, {"learner": "bco"}, "learner"),  # it needs a log
        (pendulum.Pendulum, {"learner": "bco"}, "learner"),
        (point.Observed, {"learner": "td3"}, "learner"),  # it needs actions
    ],
)
def test_a_bad_config_is_named(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)
    assert point.Transfer(target_episodes=0).judged_after == 20  # then nothing is judged
