"""Tabular Q-learning over a grid of observations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engram import checks
from engram.agents.exploration import ActionValues, EpsilonGreedy, Exploration


class TabularQ:
    """Q-learning with the cells of a grid of observations as states.

        Q(s, a) <- Q(s, a) + lr (r + gamma max_b Q(s', b) - Q(s, a)),  the maximum 0 where the episode terminates

    Args:
        low: Lower edge of the grid, (features,); what is beyond counts to the outermost cell.
        high: Upper edge, (features,).
        bins: Cells along each axis, (features,).
        actions: Number of actions.
        rng: Source of all randomness.
        exploration: Policy over the action values; ``EpsilonGreedy()`` if None.
        gamma: Discount for each step, from 0 to 1.
        learning_rate: lr, above 0, at most 1.

    Attributes:
        table: Q, (cells, actions), 0 at first.

    Raises:
        ValueError: An argument is out of range.

    Source: Watkins and Dayan, "Q-learning" (1992).

    Examples:
        >>> TabularQ([0, 0], [16, 4], [17, 5], 4, rng=np.random.default_rng(0)).act([1.0, 1.0]) in range(4)
        True
    """

    def __init__(
        self,
        low: ArrayLike,
        high: ArrayLike,
        bins: ArrayLike,
        actions: int,
        *,
        rng: np.random.Generator,
        exploration: Exploration | None = None,
        gamma: float = 0.99,
        learning_rate: float = 0.1,
    ) -> None:
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)
        self.bins = np.asarray(bins, int)
        if not (self.low < self.high).all():
            raise ValueError(f"low = {low!r}, high = {high!r}: expected each low below its high")
        if not (self.bins >= 1).all():
            raise ValueError(f"bins = {bins!r}: expected at least one cell along each axis")
        self.gamma = checks.number("gamma", gamma, least=0, most=1)
        self.learning_rate = checks.number("learning_rate", learning_rate, above=0, most=1)
        self.exploration, self.rng = exploration or EpsilonGreedy(), rng
        self.table = np.zeros((int(self.bins.prod()), actions))
        self.steps = 0
        self._cell = self._action = 0

    def cell(self, observation: Any) -> int:
        """Return the cell of an observation."""
        place = (np.asarray(observation) - self.low) / (self.high - self.low) * self.bins
        clipped = np.clip(place.astype(int), 0, self.bins - 1)
        return int(np.ravel_multi_index(clipped.tolist(), self.bins.tolist()))

    def values(self, observation: Any) -> ActionValues:
        """Return the value of each action."""
        return np.asarray(self.table[self.cell(observation)])

    def act(self, observation: Any, identity: Any = None) -> int:
        """Return an action; ``identity`` does not matter."""
        self._cell = self.cell(observation)
        self._action = self.exploration(self.table[self._cell], self.steps, self.rng)
        self.steps += 1
        return self._action

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any = None) -> None:
        """Learn from one step; but for a termination it bootstraps from the observation (ValueError: there is none)."""
        if observation is None and not terminated:
            raise ValueError("observation = None: expected the one after the action")
        expected = 0.0 if terminated else self.gamma * self.values(observation).max()
        error = reward + expected - self.table[self._cell, self._action]
        self.table[self._cell, self._action] += self.learning_rate * error

    def learn(self) -> dict[str, float]:
        """Return nothing: all is learned by ``observe``."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes."""
        return {
            "table": self.table.copy(),
            "steps": self.steps,
            "last": [self._cell, self._action],
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier state."""
        self.table[...] = state["table"]
        self.steps, self.rng.bit_generator.state = state["steps"], state["rng"]
        self._cell, self._action = state["last"]
