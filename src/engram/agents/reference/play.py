"""Lifetimes of an agent in many environments at once."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Float, Int

Actions = Int[np.ndarray, "num_envs"]
Observations = Float[np.ndarray, "num_envs features"]
Rewards = Float[np.ndarray, "num_envs"]


@runtime_checkable
class Agent(Protocol):
    """An agent that acts in many environments at once, each with its own lifetime."""

    def reset(self, env: Any, observations: Observations) -> None:
        """Start a lifetime in every environment, with the first ``observations``."""

    def act(self) -> Actions:
        """The next action in every environment."""

    def learn(self, actions: Actions, rewards: Rewards, observations: Observations) -> None:
        """Learn from the last step; by default, nothing.

        Args:
            actions: The last actions.
            rewards: Their rewards, (num_envs,).
            observations: The observations after them, (num_envs, features).
        """
        return  # without a body, the type checker would consider the method abstract


class Lifetimes(NamedTuple):
    """One lifetime in each environment, step by step; after its end, actions and rewards are 0, and states -1."""

    states: Int[np.ndarray, "num_envs steps"]  # before the steps
    actions: Int[np.ndarray, "num_envs steps"]
    rewards: Float[np.ndarray, "num_envs steps"]
    reached: Int[np.ndarray, "num_envs steps"]  # states after the steps
    lengths: Int[np.ndarray, "num_envs"]


def play(env: VectorEnv[Any, Any, Any], agent: Agent, *, seed: int | None = None) -> Lifetimes:
    """Let an agent live one lifetime in each environment.

    Args:
        env: A ``MetaTaskVectorEnv``, or a wrapper around it.
        agent: The agent.
        seed: Seed of the environments; None lets them continue with their own randomness.

    Examples:
        >>> from engram.agents.reference import OracleAgent
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named
        >>> env = MetaTaskVectorEnv(named.dependent_bandit("easy"), 1000)
        >>> bool(abs(play(env, OracleAgent(), seed=0).rewards.mean() - 0.9) < 0.005)
        True
    """
    observations, _ = env.reset(seed=seed)
    inner: Any = env.unwrapped
    agent.reset(inner, observations)
    running = np.ones(env.num_envs, dtype=bool)
    steps = []
    while running.any():
        state = np.where(running, inner.lives.state, -1)
        actions = agent.act()
        observations, rewards, terminations, truncations, _ = env.step(actions)
        agent.learn(actions, rewards, observations)
        reached = np.where(running, inner.lives.state, -1)
        steps.append((state, np.where(running, actions, 0), np.where(running, rewards, 0.0), reached))
        running = running & ~(terminations | truncations)
    states, all_actions, all_rewards, all_reached = (np.stack(column, 1) for column in zip(*steps, strict=True))
    return Lifetimes(states, all_actions, all_rewards, all_reached, (states >= 0).sum(1))


class OracleAgent(Agent):
    """An agent that knows instance, state and flag; optimal with discount ``gamma`` if variables do not change.

    Examples:
        >>> from engram.agents.reference import play
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named
        >>> play(MetaTaskVectorEnv(named.harlow("simultaneous"), 4), OracleAgent(), seed=0).rewards.sum(1).tolist()
        [6.0, 6.0, 6.0, 6.0]
    """

    def __init__(self, gamma: float = 0.95) -> None:
        self.gamma = gamma

    def reset(self, env: Any, observations: Observations) -> None:
        """Start a lifetime in every environment; ``env`` tells the agent its instance, and observations are ignored."""
        self._env = env

    def act(self) -> Actions:
        """The next action in every environment."""
        return self._env.optimal_actions(self.gamma)  # type: ignore[no-any-return]


class RandomAgent(Agent):
    """An agent that draws every action with equal probability.

    Examples:
        >>> from engram.agents.reference import play
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named
        >>> play(MetaTaskVectorEnv(named.two_step(), 3), RandomAgent(np.random.default_rng(0))).actions.shape
        (3, 100)
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def reset(self, env: Any, observations: Observations) -> None:
        """Start a lifetime in every environment."""
        self._shape, self._actions = env.num_envs, int(env.single_action_space.n)

    def act(self) -> Actions:
        """The next action in every environment."""
        actions: Actions = self.rng.integers(self._actions, size=self._shape)
        return actions
