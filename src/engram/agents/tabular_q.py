"""Tabular Q-learning on a grid over observations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from engram import checks
from engram.agents.exploration import ActionValues
from engram.agents.tabular import Chosen, States, Tabular
from engram.numeric.finite_mdp import FiniteMDP


class TabularQ(Tabular):
    """Q-learning with the cells of a grid over observations as states.

        Q(s, a) <- Q(s, a) + lr (r + gamma max_b Q(s', b) - Q(s, a)),  the maximum 0 where the episode terminates

    Args:
        low: Lower edge of the grid, (features,); observations beyond the grid are in the outermost cells.
        high: Upper edge, (features,).
        bins: Cells along each axis, (features,).
        actions: Number of actions.
        rng: Source of all randomness.
        initial_value: Initial Q.
        **options: ``exploration``, ``gamma`` and ``learning_rate`` of ``Tabular``.

    Attributes:
        table: Q, (cells, actions).

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
        initial_value: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(low, high, bins, actions, rng=rng, **options)
        self.table = np.full((self.states, self.actions), checks.number("initial_value", initial_value))

    def values(self, observation: Any) -> ActionValues:
        """The value of each action."""
        return np.array(self.table[self.cell(observation)])

    def _fit(self, states: States, actions: Chosen, rewards: Any, next_states: States, terminated: Any) -> None:
        from engram.agents import kernels

        if len(actions) < len(states):
            raise ValueError("actions = None: Q-learning needs to know them; TabularQSS does not")
        rule = self.gamma, self.learning_rate
        kernels.fit_q(self.table, states, actions, rewards, next_states, terminated, rule)

    def _train(self, mdp: FiniteMDP, limits: tuple[Any, ...]) -> int:
        from engram.agents import kernels

        return int(kernels.train_q(mdp, self.table, self.table.argmax(1), (self.gamma, self.learning_rate), *limits))

    def _tables(self) -> dict[str, np.ndarray]:
        return {"table": self.table}
