"""What lies beyond a truncation counts: one state and a reward of 1 for ever are worth 1 / (1 - gamma)."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from engram.agents import A2C, MFEC, NEC, ActorCritic, RecurrentAgent, TabularQ, a2c_loss, a2c_step, rollout
from engram.memory import DND, KeyValueMemory

GAMMA, STEPS = 0.9, 10
BOX, TWO = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
ENDED = (1 - GAMMA**STEPS) / (1 - GAMMA)  # the return if nothing came after the last step


class OneState(gymnasium.Env):
    """One state, reward 1, truncated after some steps, and terminated there if so asked."""

    observation_space, action_space = BOX, TWO

    def __init__(self, steps=STEPS, terminates=False):
        self.steps, self.terminates = steps, terminates

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.ones(2, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.ones(2, np.float32), 1.0, self.terminates and self.t == self.steps, self.t == self.steps, {}


def play(agent, episodes, terminates=False):
    env = OneState(terminates=terminates)
    for _ in range(episodes):
        observation, over = env.reset()[0], False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(agent.act(observation))
            agent.observe(reward, terminated, truncated, observation)
            agent.learn()
            over = terminated or truncated


def rng():
    return np.random.default_rng(0)


def generator():
    return torch.Generator().manual_seed(0)


def tabular(**options):
    return TabularQ([0, 0], [2, 2], [2, 2], 2, rng=rng(), gamma=GAMMA, learning_rate=0.3)


def mfec(**options):
    return MFEC(KeyValueMemory(20, 2, tables=2, generator=generator()), rng=rng(), gamma=GAMMA, k=1, **options)


def nec(**options):
    encoder = torch.nn.Linear(2, 2)
    memory = DND(20, 2, tables=2, generator=generator())
    return NEC(memory, encoder, rng=rng(), gamma=GAMMA, k=1, learning_rate=0.0, learning_starts=0, **options)


@pytest.mark.parametrize("make", [tabular, mfec, nec], ids=lambda make: make.__name__)
def test_action_values_reach_past_the_truncation(make):
    agent = make()
    play(agent, 40)
    assert agent.values(np.ones(2)).max() == pytest.approx(1 / (1 - GAMMA), rel=0.05)


@pytest.mark.parametrize("make", [mfec, nec], ids=lambda make: make.__name__)
def test_a_truncation_can_be_taken_for_an_end_as_published(make):
    agent = make(truncation="terminal")
    play(agent, 10)
    assert agent.values(np.ones(2)).max() <= ENDED + 1e-5


def values(network, steps=STEPS):
    """The critic's values in an episode of action 0, whose inputs hold the action and reward before."""
    inputs = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]] + [[1.0, 1.0, 1.0, 0.0, 1.0]] * (steps - 1))
    with torch.no_grad():
        return network(inputs[:, None])[0].values[:, 0]


@pytest.mark.parametrize(("truncation", "lives"), [("bootstrap", 250), ("terminal", 100)])
def test_the_critic_of_a_recurrent_agent_reaches_past_the_truncation(truncation, lives):
    options = {"gamma": GAMMA, "hidden_size": 8, "learning_rate": 0.02, "truncation": truncation}
    agent = RecurrentAgent(BOX, TWO, rng=rng(), **options)
    play(agent, lives)
    learned = values(agent.network)
    if truncation == "bootstrap":
        assert learned.mean().item() == pytest.approx(10.0, rel=0.08)
    else:
        assert learned.max() < ENDED + 0.5


def test_a_recurrent_agent_that_terminates_gets_nothing_more():
    agents = []
    for truncation in ("bootstrap", "terminal"):
        agents.append(RecurrentAgent(BOX, TWO, rng=rng(), gamma=GAMMA, hidden_size=4, truncation=truncation))
        play(agents[-1], 3, terminates=True)
    for one, other in zip(*(agent.network.parameters() for agent in agents), strict=True):
        assert torch.equal(one, other)
    agent = RecurrentAgent(BOX, TWO, rng=rng())
    agent.act(np.ones(2))
    with pytest.raises(ValueError, match="observation = None: expected the observation at the truncation"):
        agent.observe(1.0, False, True)
    agent.observe(1.0, False, True, np.ones(2))
    assert "loss" in agent.learn()


@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_a_rollout_holds_the_value_of_what_was_cut_off(mode):
    class Counting(OneState):
        """What is seen is the number of steps, so that the last observation differs from the first."""

        def reset(self, *, seed=None, options=None):
            return 0 * super().reset()[0], {}

        def step(self, action):
            _, *outcome = super().step(action)
            return np.full(2, self.t / 10, np.float32), *outcome

    makers = [lambda: Counting(3), lambda: Counting(5), lambda: Counting(4, terminates=True)]
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        agent = ActorCritic(torch.nn.LSTM(2, 4), actions=2)
    episodes = rollout(SyncVectorEnv(makers, autoreset_mode=mode), agent, generator(), seed=0)
    assert episodes.mask.sum(0).tolist() == [3, 5, 4]
    seen = torch.arange(6.0)[:, None, None].expand(6, 1, 2) / 10
    of_counts = agent(seen)[0].values[:, 0]
    expected = torch.zeros(5, 3)
    expected[2, 0], expected[4, 1] = of_counts[3], of_counts[5]
    torch.testing.assert_close(episodes.next_values, expected)
    ended = rollout(SyncVectorEnv(makers, autoreset_mode=mode), agent, generator(), seed=0, truncation="terminal")
    assert ended.next_values is None
    assert torch.equal(ended.actions, episodes.actions)


def test_the_loss_counts_the_value_after_the_last_step():
    zeros, rewards = torch.zeros(3, 1), torch.ones(3, 1)
    next_values = torch.tensor([[0.0], [0.0], [10.0]])
    options = {"gamma": GAMMA, "value_coefficient": 1.0, "entropy_coefficient": 0.0, "next_values": next_values}
    _, parts = a2c_loss(zeros, zeros, rewards, torch.full((3, 1, 2), 0.5), **options)
    assert parts.advantage[:, 0].tolist() == pytest.approx([10.0] * 3)
    with pytest.raises((TypeError, ValueError), match="next_values"):
        a2c_loss(zeros, zeros, rewards, torch.full((3, 1, 2), 0.5), **options | {"next_values": next_values[1:]})


def test_a2c_learns_the_worth_of_a_life_that_is_cut():
    env, settings = SyncVectorEnv([OneState] * 2), A2C(learning_rate=0.02, gamma=GAMMA, value_coefficient=1.0)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        agent = ActorCritic(torch.nn.RNN(2, 4), actions=2)
    optimizer, draws = settings.optimizer(agent), generator()
    for _ in range(300):
        episodes = rollout(env, agent, draws)
        a2c_step(agent, optimizer, episodes, settings)
    assert agent(episodes.observations)[0].values.detach().numpy() == pytest.approx(np.full((STEPS, 2), 10.0), rel=0.05)
