"""Episodes of an agent that learns while it acts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from gymnasium import Env

from engram import checks
from engram.agents.exploration import ActionValues, greedy

REFUSALS = (AssertionError, AttributeError, TypeError, ValueError)
"""The errors that agents may raise for unsuitable spaces; AttributeError is for a ``Box``, which has no ``n``."""


@runtime_checkable
class OnlineAgent(Protocol):
    """An agent that acts and learns step by step: ``act``, ``observe`` and ``learn`` in turn, episode after episode.

    ``engram compare`` makes one by ``make(observation_space, action_space, rng=...)``, with ``learning_rate`` too if
    ``make`` has this argument; it should raise one of ``REFUSALS`` for spaces that it does not support.
    """

    def act(self, observation: Any) -> Any:
        """An action of the action space; after the end of an episode, the first action of the next one."""

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any) -> None:
        """Record the outcome of the last action.

        Args:
            reward: Its reward.
            terminated: Whether it terminated the episode.
            truncated: Whether the episode was truncated.
            observation: The next observation, also at the end of an episode.
        """

    def learn(self) -> Any:
        """Learn from the steps recorded."""


@runtime_checkable
class HasValues(Protocol):
    """An agent that can return the values of its actions."""

    def values(self, observation: Any) -> ActionValues:
        """The estimated value of each action in a state, (actions,); the agent does not change."""


class Played(NamedTuple):
    """The outcome of an episode: the sum of its rewards, and its number of steps."""

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
        env: An environment.
        agent: The agent.
        seed: Seed of the environment; None lets it continue with its own randomness.
        identity: Function that returns the environment's state, for an agent whose ``act`` takes this too; None:
            ``act`` gets only the observation.

    Examples:
        >>> import gymnasium, numpy as np
        >>> from engram.agents import TabularQ
        >>> agent = TabularQ([0, 0], [16, 4], [17, 5], 4, rng=np.random.default_rng(0))
        >>> play_episode(gymnasium.make("engram.tasks:engram/IMaze-v0"), agent, seed=0).length <= 100
        True
    """
    checks.arguments()

    def act(observation: Any) -> Any:
        return agent.act(observation, *([] if identity is None else [identity(env)]))

    def learn(reward: float, terminated: bool, truncated: bool, observation: Any) -> None:
        agent.observe(reward, terminated, truncated, observation)
        agent.learn()

    return _play(env, act, seed, learn)


def evaluate(env: Env[Any, Any], agent: HasValues, episodes: int, seed: int) -> list[Played]:
    """The outcomes of episodes of the greedy policy, without learning.

    Args:
        env: An environment with discrete actions, counted from 0.
        agent: The agent, which does not change.
        episodes: Number of episodes.
        seed: Seed of the environment, and of the choice between actions of equal value.

    Raises:
        ValueError: ``episodes`` or ``seed`` is negative, or the value of an action is NaN.
    """
    checks.arguments()
    checks.size("episodes", episodes, minimum=0)
    rng = checks.rng("seed", seed)
    return [
        _play(env, lambda observation: greedy(agent.values(observation), rng), None if episode else seed)
        for episode in range(episodes)
    ]


def _play(
    env: Env[Any, Any], act: Callable[[Any], Any], seed: int | None, learn: Callable[..., None] | None = None
) -> Played:
    observation, _ = env.reset(seed=seed)
    total, length, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(act(observation))
        if learn is not None:
            learn(float(reward), terminated, truncated, observation)
        total, length, over = total + float(reward), length + 1, terminated or truncated
    return Played(total, length)
