"""Episodes of an agent that learns while it acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from gymnasium import Env

from engram import checks
from engram.agents.exploration import ActionValues, greedy


@runtime_checkable
class OnlineAgent(Protocol):
    """An agent that acts by the values of actions and learns at every step; ``steps`` is how many it has taken."""

    steps: int

    def act(self, observation: Any, identity: Any = None) -> int:
        """An action; observations of equal ``identity`` (by default, the observation) are of the same state."""

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any = None) -> None:
        """Record the outcome of the last action.

        Args:
            reward: Its reward.
            terminated: Whether it terminated the episode.
            truncated: Whether the episode was truncated.
            observation: The next observation; None where the agent does not need it.
        """

    def learn(self) -> dict[str, float]:
        """Learn from the steps recorded; return numbers to log."""

    def values(self, observation: Any) -> ActionValues:
        """The value of each action; the agent does not change."""


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
    """Run one episode in which an agent acts and learns.

    Args:
        env: An environment with discrete actions, counted from 0.
        agent: The agent.
        seed: Seed of the environment; None lets it continue with its own randomness.
        identity: Reads the identity of the state from the environment; the observation if None.

    Examples:
        >>> import gymnasium, numpy as np
        >>> from engram.agents import TabularQ
        >>> agent = TabularQ([0, 0], [16, 4], [17, 5], 4, rng=np.random.default_rng(0))
        >>> play_episode(gymnasium.make("engram.tasks:engram/IMaze-v0"), agent, seed=0).length <= 100
        True
    """

    def act(observation: Any) -> int:
        return agent.act(observation, None if identity is None else identity(env))

    def learn(reward: float, terminated: bool, truncated: bool, observation: Any) -> None:
        agent.observe(reward, terminated, truncated, observation)
        agent.learn()

    return _play(env, act, seed, learn)


def evaluate(env: Env[Any, Any], agent: OnlineAgent, episodes: int, seed: int) -> list[Played]:
    """The outcomes of episodes of the greedy policy, without learning.

    Args:
        env: An environment with discrete actions, counted from 0.
        agent: The agent, which does not change.
        episodes: Number of episodes.
        seed: Seed of the environment, and of the choice between equal actions.
    """
    rng = checks.rng("seed", seed)
    return [
        _play(env, lambda observation: greedy(agent.values(observation), rng), None if episode else seed)
        for episode in range(episodes)
    ]


def _play(
    env: Env[Any, Any], act: Callable[[Any], int], seed: int | None, learn: Callable[..., None] | None = None
) -> Played:
    observation, _ = env.reset(seed=seed)
    total, length, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        if learn is not None:
            learn(float(reward), terminated, truncated, observation)
        total, length, over = total + float(reward), length + 1, terminated or truncated
    return Played(total, length)
