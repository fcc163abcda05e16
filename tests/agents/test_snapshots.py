"""States and copies of agents are whole: what happens to the agent afterwards does not change them."""

import copy
import pickle

import numpy as np
import pytest
import torch
from gymnasium import spaces

from engram.agents import MFEC, NEC, TD3, RecurrentAgent, ReplayBuffer
from engram.agents.bonuses import CheckedBonus
from engram.memory import DND, KeyValueMemory

BOX, TWO = spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(2)


def recurrent(network="lstm", episodes=1):
    return RecurrentAgent(BOX, TWO, rng=np.random.default_rng(0), network=network, episodes=episodes, learning_rate=0.1)


def lived(agent, steps, every=5, seed=1):
    """The agent's actions over some steps of a random environment with episodes of ``every`` steps."""
    rng, actions = np.random.default_rng(seed), []
    for step in range(steps):
        actions.append(agent.act(rng.uniform(-1, 1, 3)))
        agent.observe(float(rng.normal()), step % every == every - 1, False, rng.uniform(-1, 1, 3))
        agent.learn()
    return actions


def mfec():
    return MFEC(KeyValueMemory(50, 3, tables=2), rng=np.random.default_rng(0))


def nec():
    torch.manual_seed(0)
    memory = DND(50, 3, tables=2)
    return NEC(memory, torch.nn.Linear(3, 3), rng=np.random.default_rng(0), k=3, learning_starts=4, batch_size=4)


def plastic():
    return recurrent("plastic")


def pickled(agent):
    return pickle.loads(pickle.dumps(agent))


@pytest.mark.parametrize("make", [recurrent, plastic, mfec, nec])
def test_an_agent_returns_to_a_state_that_it_was_in(make):
    agent = make()
    lived(agent, 17)
    state = agent.state_dict()
    first = lived(agent, 40, seed=2)
    for _ in range(2):  # what it does afterwards does not change what it was loaded from
        agent.load_state_dict(state)
        assert lived(agent, 40, seed=2) == first


def test_a_learner_returns_to_a_state_that_it_was_in():
    generator, rng, no = torch.Generator().manual_seed(0), np.random.default_rng(0), np.zeros(20, bool)
    buffer = ReplayBuffer(20, BOX, BOX)
    states, actions, next_states = rng.uniform(-1, 1, (3, 20, 3)).astype(np.float32)
    buffer.add(states, actions, np.ones(20), next_states, terminated=no, truncated=no)
    agent = TD3(BOX, BOX, generator=generator, hidden=(8,))
    state, before = agent.state_dict(), agent.act(states)
    for _ in range(6):
        agent.update(buffer.sample(8, generator))
    assert not np.array_equal(agent.act(states), before)
    agent.load_state_dict(state)
    np.testing.assert_array_equal(agent.act(states), before)


@pytest.mark.parametrize("network", ["lstm", "plastic", "modulated"])
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_in_mid_episode_goes_on_by_itself(network, copied):
    agent = recurrent(network)
    lived(agent, 8)  # the second episode is at its third step
    twin, same = copied(agent), copied(agent)
    expected = lived(same, 30, seed=2)
    lived(twin, 20, seed=3)
    assert lived(agent, 30, seed=2) == expected


@pytest.mark.parametrize("network", ["lstm", "plastic", "modulated"])
def test_learning_in_mid_episode_is_resumed_exactly(network):
    agent = recurrent(network)
    rng = np.random.default_rng(1)
    for step in range(40):
        agent.act(rng.uniform(-1, 1, 3))
        agent.observe(float(rng.normal()), step % 10 == 9, False)
        if step % 7 == 6:
            agent.learn()
        resumed = recurrent(network)
        resumed.load_state_dict(agent.state_dict())
        next_observation = rng.uniform(-1, 1, 3)
        assert resumed.act(next_observation) == agent.act(next_observation)
        agent.observe(0.0, False, False)


def test_all_transitions_are_a_copy():
    buffer, states, no = ReplayBuffer(3, BOX), np.zeros((3, 3)), np.zeros(3, bool)
    buffer.add(states, None, np.arange(3.0), states, terminated=no, truncated=no)
    transitions = buffer.all()
    transitions.rewards.sub_(1)
    assert buffer.all().rewards.tolist() == [0, 1, 2]


class Size(torch.nn.Module):
    """The bonus is the size of an observation."""

    def bonus(self, next_obs, done):
        return next_obs.abs().sum(-1)

    def update(self, obs, valid=None, envs=None):
        return 0.0


def test_a_bonus_keeps_the_scale_that_it_was_given():
    mean = torch.zeros(2)
    bonus = CheckedBonus(lambda obs_shape, num_envs, generator: Size(), (2,), mean=mean)
    x, done = torch.ones(1, 1, 2), torch.zeros(1, 1, dtype=torch.bool)
    before = bonus.bonus(x, done)
    mean += 5
    assert torch.equal(bonus.bonus(x, done), before)
