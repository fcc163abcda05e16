"""Episodes of an agent that learns while it acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from gymnasium import Env

from engram.agents.exploration import ActionValues, greedy


@runtime_checkable
class OnlineAgent(Protocol):
    """An agent that acts by the values of actions and learns at every step; ``steps`` is how many it has taken."""

    steps: int

    def act(self, observation: Any, identity: Any = None) -> int:
        """Return an action; states are the same whose ``identity`` is, by default the observation."""

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any = None) -> None:
        """Record the reward of the last action, whether the episode is over, and the next observation."""

    def learn(self) -> dict[str, float]:
        """Learn from the steps recorded; return what there is to log."""

    def values(self, observation: Any) -> ActionValues:
        """Return the value of each action; the agent does not change."""


class Played(NamedTuple):
    """The outcome of an episode: the sum of its rewards, and its steps."""

    total: float
    length: int


def play_episode(
    env: Env[Any, Any],
    agent: OnlineAgent,
    seed: int | None = None,
    identity: Callable[[Env[Any, Any]], Any] | None = None,
) -> Played:
    """Run one episode in which an agent acts and learns; the actions of the environment are counted from 0.

    Args:
        env: An environment with discrete actions.
        agent: The agent.
        seed: Seed of the environment; None lets it go on with its own randomness.
        identity: Reads the identity of the state from the environment; the observation if None.

    Examples:
        >>> import gymnasium
        >>> from engram.agents import TabularQ
        >>> agent = TabularQ([0, 0], [16, 4], [17, 5], 4, rng=np.random.default_rng(0))
        >>> play_episode(gymnasium.make("engram.tasks:engram/IMaze-v0"), agent, seed=0).length <= 100
        True
    """

    def learned(reward: float, terminated: bool, truncated: bool, observation: Any) -> None:
        agent.observe(reward, terminated, truncated, observation)
        agent.learn()

    return _played(env, lambda seen: agent.act(seen, None if identity is None else identity(env)), seed, learned)


def evaluate(env: Env[Any, Any], agent: OnlineAgent, episodes: int, seed: int) -> list[Played]:
    """Run episodes of the greedy policy, without learning; ``seed`` settles environment and ties."""
    rng = np.random.default_rng(seed)
    return [
        _played(env, lambda seen: greedy(agent.values(seen), rng), None if episode else seed)
        for episode in range(episodes)
    ]


def _played(
    env: Env[Any, Any], act: Callable[[Any], int], seed: int | None, learned: Callable[..., None] | None = None
) -> Played:
    observation, _ = env.reset(seed=seed)
    total, length, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        if learned is not None:
            learned(float(reward), terminated, truncated, observation)
        total, length, over = total + float(reward), length + 1, terminated or truncated
    return Played(total, length)
