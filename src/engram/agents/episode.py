"""How an agent that learns while it acts meets an environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from gymnasium import Env

from engram.agents.exploration import ActionValues, greedy


@runtime_checkable
class Agent(Protocol):
    """What acts and learns on the way.

    Attributes:
        steps: Steps taken.
    """

    steps: int

    def act(self, observation: Any, identity: Any = None) -> int:
        """Return an action; ``identity`` tells whether two states are the same, where the observation does not."""
        ...

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any = None) -> None:
        """Take in what came of it, and what is seen now."""
        ...

    def learn(self) -> dict[str, float]:
        """Learn from what was observed; return what there is to log."""
        ...

    def values(self, observation: Any) -> ActionValues:
        """Return what each action is expected to give; nothing of the agent changes."""
        ...


class Played(NamedTuple):
    """How an episode went.

    Attributes:
        total: Sum of its rewards.
        length: Its steps.
    """

    total: float
    length: int


def play_episode(
    env: Env[Any, Any],
    agent: Agent,
    seed: int | None = None,
    identity: Callable[[Env[Any, Any]], Any] | None = None,
) -> Played:
    """Let an agent act and learn through one episode.

    Args:
        env: An environment with discrete actions counted from 0.
        agent: The agent.
        seed: Seed of the environment; None lets it go on with its own randomness.
        identity: Reads from the environment what tells whether two states are the same; None: the observation does.

    Examples:
        >>> import gymnasium
        >>> from engram.agents import TabularQ
        >>> env = gymnasium.make("engram.tasks:engram/IMaze-v0")
        >>> agent = TabularQ([0, 0], [16, 4], [17, 5], 4, rng=np.random.default_rng(0))
        >>> play_episode(env, agent, seed=0).length <= 100
        True
    """
    observation, _ = env.reset(seed=seed)
    total, length, over = 0.0, 0, False
    while not over:
        action = agent.act(observation, None if identity is None else identity(env))
        observation, reward, terminated, truncated, _ = env.step(action)
        agent.observe(float(reward), terminated, truncated, observation)
        agent.learn()
        total, length, over = total + float(reward), length + 1, terminated or truncated
    return Played(total, length)


def evaluate(env: Env[Any, Any], agent: Agent, episodes: int, seed: int) -> list[Played]:
    """Let an agent take what it holds for the best actions, without learning; equal ones are drawn from ``seed``.

    Args:
        env: An environment with discrete actions counted from 0.
        agent: The agent; nothing of it changes.
        episodes: How many episodes.
        seed: Seed of the environment.
    """
    rng, played = np.random.default_rng(seed), []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed if episode == 0 else None)
        total, length, over = 0.0, 0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(greedy(agent.values(observation), rng))
            total, length, over = total + float(reward), length + 1, terminated or truncated
        played.append(Played(total, length))
    return played
