"""Chance as an agent."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.agents.reference.play import Actions, Rewards, Seen


class RandomAgent:
    """Draws every action with equal probability.

    Examples:
        >>> from engram.agents.reference import play
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named
        >>> play(MetaTaskVectorEnv(named.two_step(), 3), RandomAgent(np.random.default_rng(0))).actions.shape
        (3, 100)
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
