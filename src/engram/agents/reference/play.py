"""Lifetimes of an agent in many environments at once."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from gymnasium.vector import VectorEnv
from jaxtyping import Float, Int

Actions = Int[np.ndarray, "num_envs"]
Seen = Float[np.ndarray, "num_envs features"]
Rewards = Float[np.ndarray, "num_envs"]


@runtime_checkable
class Agent(Protocol):
    """Who acts in many environments at once, each of which is in a lifetime of its own."""

    def begin(self, env: Any, seen: Seen) -> None:
        """Begin a lifetime in every environment, which has shown what is ``seen``."""

    def act(self) -> Actions:
        """Return the next action in every environment."""

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Be told what was done, what it gave, and what is seen now."""


class Lifetimes(NamedTuple):
    """One lifetime of each environment, step by step; after its end actions and rewards are 0, states -1."""

    states: Int[np.ndarray, "num_envs steps"]  # acted from
    actions: Int[np.ndarray, "num_envs steps"]
    rewards: Float[np.ndarray, "num_envs steps"]
    reached: Int[np.ndarray, "num_envs steps"]  # the states after the steps
    lengths: Int[np.ndarray, "num_envs"]


def play(env: VectorEnv[Any, Any, Any], agent: Agent, *, seed: int | None = None) -> Lifetimes:
    """Let an agent live one lifetime in each environment of a ``MetaTaskVectorEnv``, or a wrapper around it.

    Examples:
        >>> from engram.agents.reference import OracleAgent
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named
        >>> env = MetaTaskVectorEnv(named.dependent_bandit("easy"), 1000)
        >>> bool(abs(play(env, OracleAgent(), seed=0).rewards.mean() - 0.9) < 0.005)
        True
    """
    seen, _ = env.reset(seed=seed)
    inner: Any = env.unwrapped
    agent.begin(inner, seen)
    running = np.ones(env.num_envs, dtype=bool)
    steps = []
    while running.any():
        state = np.where(running, inner.lives.state, -1)
        chosen = agent.act()
        seen, rewards, terminations, truncations, _ = env.step(chosen)
        agent.learn(chosen, rewards, seen)
        reached = np.where(running, inner.lives.state, -1)
        steps.append((state, np.where(running, chosen, 0), np.where(running, rewards, 0.0), reached))
        running = running & ~(terminations | truncations)
    states, actions, gained, after = (np.stack(column, 1) for column in zip(*steps, strict=True))
    return Lifetimes(states, actions, gained, after, (states >= 0).sum(1))
