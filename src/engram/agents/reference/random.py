"""An agent that acts at random."""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.agents.reference.play import Actions, Agent, Observations


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
