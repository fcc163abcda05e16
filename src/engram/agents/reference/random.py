"""Chance as an agent."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.agents.reference.play import Actions, Rewards, Seen


class RandomAgent:
    """Draws every action with equal probability.

    Args:
        generator: The source of randomness.

    Examples:
        >>> from engram.agents.reference import play
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named
        >>> env = MetaTaskVectorEnv(named.two_step(), 1000)
        >>> bool(abs(play(env, RandomAgent(np.random.default_rng(0)), seed=0).rewards.sum(1).mean() / 50 - 0.5) < 0.01)
        True
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def begin(self, env: Any, seen: Seen) -> None:
        """Begin a lifetime in every environment."""
        self._shape, self._actions = env.num_envs, int(env.single_action_space.n)

    def act(self) -> Actions:
        """Return the next action in every environment."""
        chosen: Actions = self.generator.integers(self._actions, size=self._shape)
        return chosen

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Do nothing with what it is told."""
