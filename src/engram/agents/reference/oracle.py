"""An agent that knows the instance."""

from __future__ import annotations

from typing import Any

from engram.agents.reference.play import Actions, Agent, Observations


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
