"""What vector environments of any package return is read alike: ends in any type, autoreset modes in any spelling."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from engram.agents import ActorCritic, vector_episodes
from engram.agents.a2c import rollout
from engram.vector_steps import autoreset_mode, end_flags


@pytest.mark.parametrize("make", [np.bool_, np.int8, np.uint8, np.int64, np.float32, torch.tensor, list])
def test_flags_of_any_type_are_booleans(make):
    given = [True, False, True]
    flags = end_flags("terminated", make(given) if make in (torch.tensor, list) else np.array(given).astype(make), 3)
    assert flags.dtype == bool
    assert flags.tolist() == given


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([0, 2, 0], r"truncated\[1\] = 2: expected booleans, or 0 and 1"),
        ([0.5, 1.0, 0.0], r"truncated\[0\] = 0.5"),
        ([np.nan, 0.0, 1.0], r"truncated\[0\] = nan"),
        ([[True], [False], [True]], r"truncated has the shape \(3, 1\): expected \(3,\)"),
        ([True], r"truncated has the shape \(1,\)"),
    ],
)
def test_what_is_no_flag_for_each_environment_is_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        end_flags("truncated", np.array(flags), 3)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_a_mode_has_many_spellings(mode):
    for stated in (mode, mode.name, mode.value, mode.name.lower(), str(mode), mode.value.upper()):
        assert autoreset_mode(SimpleNamespace(metadata={"autoreset_mode": stated})) is mode


@pytest.mark.parametrize("metadata", [None, {}, {"autoreset_mode": "sometimes"}, {"autoreset_mode": True}])
def test_a_missing_mode_is_refused(metadata):
    with pytest.raises(ValueError, match=r"env.metadata\['autoreset_mode'\] = .*expected an AutoresetMode"):
        autoreset_mode(SimpleNamespace(metadata=metadata))


class Restarting(VectorEnv):
    """Environment i shows the step of its episode, of 2 + i steps, and starts again within the step that ends it."""

    def __init__(self, mode, final="final_obs", flags=np.uint8):
        self.num_envs, self.metadata, self.final, self.flags = 2, {"autoreset_mode": mode}, final, flags
        self.single_observation_space, self.single_action_space = spaces.Box(0, 9, (1,)), spaces.Discrete(2)
        self.observation_space = batch_space(self.single_observation_space, 2)
        self.action_space = batch_space(self.single_action_space, 2)

    def reset(self, seed=None, options=None):
        self.steps = np.zeros(2)
        return self.steps[:, None].astype(np.float32), {}

    def step(self, actions):
        self.steps += 1
        cut, last = self.steps >= [2, 3], self.steps[:, None].astype(np.float32)
        final = np.array([row if is_cut else None for row, is_cut in zip(last, cut, strict=True)], dtype=object)
        self.steps[cut] = 0
        infos = {self.final: final} if cut.any() else {}
        shown = self.steps[:, None].astype(np.float32)
        return shown, np.ones(2), np.zeros(2, self.flags), cut.astype(self.flags), infos


class Same(torch.nn.Module):
    hidden_size = 1

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, state=None):
        return self.one * x, None


@pytest.mark.parametrize("final", ["final_obs", "final_observation"])
@pytest.mark.parametrize("mode", ["same_step", AutoresetMode.SAME_STEP])
def test_cut_episodes_are_worth_what_follows_their_last_observation(mode, final):
    agent = ActorCritic(Same(), 2)
    with torch.no_grad():
        agent.value.weight.fill_(10.0)
        agent.value.bias.zero_()
    values = rollout(Restarting(mode, final), agent, torch.Generator().manual_seed(0)).next_values
    assert [values[1, 0].item(), values[2, 1].item()] == [20.0, 30.0]


def test_last_observations_that_are_missing_are_asked_for_only_where_they_are_recorded():
    env = Restarting("SameStep", final="something_else")
    assert vector_episodes(env, lambda x: np.zeros(2, int)).tolist() == [2.0, 3.0]
    with pytest.raises(ValueError, match=r"infos\['final_obs'\] has no observation of environment 0"):
        vector_episodes(env, lambda x: np.zeros(2, int), record=lambda *columns, **ends: None)
