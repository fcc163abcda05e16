"""Who knows the instance as an agent."""

from __future__ import annotations

from typing import Any

from engram.agents.reference.play import Actions, Rewards, Seen


class OracleAgent:
    """Knows the instance, the state and the flag, and acts as is optimal with discount ``gamma`` if they stay.

    Examples:
        >>> from engram.agents.reference import play
        >>> from engram.tasks.meta import MetaTaskVectorEnv, named
        >>> play(MetaTaskVectorEnv(named.harlow("simultaneous"), 4), OracleAgent(), seed=0).rewards.sum(1).tolist()
        [6.0, 6.0, 6.0, 6.0]
    """

    def __init__(self, gamma: float = 0.95) -> None:
        self.gamma = gamma

    def begin(self, env: Any, seen: Seen) -> None:
        """Begin a lifetime in every environment."""
        self._env = env

    def act(self) -> Actions:
        """Return the next action in every environment."""
        return self._env.optimal_actions(self.gamma)  # type: ignore[no-any-return]

    def learn(self, actions: Actions, rewards: Rewards, seen: Seen) -> None:
        """Do nothing with what it is told: it knows."""
