"""The common part of tabular learners: the cells of a grid over observations as states, and three ways to learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import ArrayLike

from engram import checks
from engram.agents.exploration import ActionValues, EpsilonGreedy, Exploration
from engram.numeric.finite_mdp import FiniteMDP
from engram.state import check_state

States = Int[np.ndarray, "transitions"]
Chosen = Int[np.ndarray, "chosen"]


class Tabular(ABC):
    """A tabular learner, which learns step by step, from a log, or from the tables of a decision process.

    Args:
        low: Lower edge of the grid, (features,); observations beyond the grid are in the outermost cells.
        high: Upper edge, (features,).
        bins: Cells along each axis, (features,). For states 0 to n - 1, low is [0], high and bins are [n].
        actions: Number of actions.
        rng: Source of all randomness.
        exploration: Policy over the action values; ``EpsilonGreedy()`` if None.
        gamma: Discount for each step, from 0 to 1.
        learning_rate: lr, from 0 (no learning) to 1.

    Attributes:
        steps: Number of steps taken.
    """

    __repr__ = checks.described

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
        self.low = checks.array("low", low, ("features",))
        self.high = checks.array("high", high, self.low.shape)
        self.bins = checks.array("bins", bins, self.low.shape, np.int64)
        if not (self.low < self.high).all():
            raise ValueError(f"low = {low!r}, high = {high!r}: expected each low below its high")
        if not (self.bins >= 1).all():
            raise ValueError(f"bins = {bins!r}: expected at least one cell along each axis")
        self.states = int(self.bins.prod())
        self.actions = checks.size("actions", actions)
        self.gamma = checks.number("gamma", gamma, minimum=0, maximum=1)
        self.learning_rate = checks.number("learning_rate", learning_rate, minimum=0, maximum=1)
        self.exploration, self.rng = exploration or EpsilonGreedy(), rng
        self.steps = 0
        self._cell = self._action = -1  # no action waits for its reward

    def cell(self, observation: Any) -> int:
        """The cell of an observation."""
        with checks.noted(observation=observation):
            numbers = np.asarray(checks.as_array(observation), np.float64).reshape(-1)
        if numbers.shape != self.low.shape or np.isnan(numbers).any():
            raise ValueError(f"observation = {checks.shown(observation)}: expected {len(self.low)} numbers")
        return int(np.ravel_multi_index(self._indices(numbers), self.bins.tolist()))

    @abstractmethod
    def values(self, observation: Any) -> ActionValues:
        """The value of each action; the learner does not change."""

    def value(self, observation: Any) -> float:
        """The largest action value."""
        return float(self.values(observation).max())

    def act(self, observation: Any, identity: Any = None) -> int:
        """An action; ``identity`` is ignored."""
        self._action = self.exploration(self.values(observation), self.steps, self.rng)
        self._cell = self.cell(observation)
        self.steps += 1
        return self._action

    def observe(self, reward: float, terminated: bool, truncated: bool, observation: Any = None) -> None:
        """Learn from one step.

        Args:
            reward: Reward of the last action.
            terminated: Whether it terminated the episode.
            truncated: Not used: a truncated step bootstraps.
            observation: The next observation; None only where the value of the next state is not needed.

        Raises:
            RuntimeError: There is no action to learn from.
            ValueError: The reward is not finite, or the next observation is missing or invalid.
        """
        if self._action < 0:
            raise RuntimeError("observe was called without an action: expected act before it")
        checks.instance("terminated", terminated, bool | np.bool_)  # type: ignore[arg-type]
        if observation is None and not self._can_learn_without_next(terminated):
            raise ValueError("observation = None: expected the observation after the action")
        reward = checks.number("reward", reward)
        next_cell = 0 if observation is None else self.cell(observation)
        self._fit(*map(np.array, ([self._cell], [self._action], [reward], [next_cell], [terminated])))
        self._action = -1

    def learn(self) -> dict[str, float]:
        """Do nothing, since ``observe`` learns."""
        return {}

    def partial_fit(
        self,
        observations: Shaped[np.ndarray, "transitions *features"],
        actions: Int[np.ndarray, "transitions"] | None,
        rewards: Float[np.ndarray, "transitions"],
        next_observations: Shaped[np.ndarray, "transitions *features"],
        terminated: Bool[np.ndarray, "transitions"],
    ) -> None:
        """Learn from a log of transitions of any policy, one after another.

        Args:
            observations: Observations before the steps.
            actions: The actions; None if the log has none, for a learner that does not need them.
            rewards: Rewards of the steps.
            next_observations: Observations after the steps.
            terminated: Whether a step terminated its episode; False where it was truncated.

        Raises:
            ValueError: The arrays differ in length, a number is not finite, or an action is out of range.
        """
        rewards = checks.array("rewards", rewards, ("transitions",))
        n_transitions = len(rewards)
        terminations = checks.array("terminated", terminated, (n_transitions,), bool)
        states = self._cells("observations", observations, n_transitions)
        next_states = self._cells("next_observations", next_observations, n_transitions)
        action_array = (
            np.zeros(0, np.int64) if actions is None else checks.array("actions", actions, (n_transitions,), np.int64)
        )
        if len(action_array) and not 0 <= action_array.min() <= action_array.max() < self.actions:
            raise ValueError(
                f"actions from {action_array.min()} to {action_array.max()}: expected 0 to {self.actions - 1}"
            )
        self._fit(states, action_array, rewards, next_states, terminations)

    def train(
        self, mdp: FiniteMDP, episodes: int, *, max_steps: int = 500, evaluations: int = 1
    ) -> Float[np.ndarray, "episodes"]:
        """Run episodes in a decision process given by tables, in compiled code, at millions of steps a second.

        The exploration has to be ``EpsilonGreedy``, and continues from ``steps``; ties go to the first action.

        Args:
            mdp: The decision process; its states are the cells.
            episodes: Number of episodes.
            max_steps: Steps after which an episode is truncated.
            evaluations: Number of greedy episodes, without learning, before each episode.

        Returns:
            The mean undiscounted return of the greedy episodes before each episode; 0 without evaluations.

        Raises:
            TypeError: The exploration is not ``EpsilonGreedy``.
            ValueError: A number of episodes or steps is out of range; or ``mdp`` has another number of states or
                actions, a successor that is no state, probabilities that are negative or do not add up to 1, or a
                reward that is not finite.
        """
        checks.size("episodes", episodes, minimum=0)
        checks.size("max_steps", max_steps)
        checks.size("evaluations", evaluations, minimum=0)
        epsilon = checks.instance("exploration", self.exploration, EpsilonGreedy)
        mdp, returns = self._checked(mdp), np.zeros(episodes)
        seed = np.uint64(self.rng.integers(2**63))
        schedule = float(epsilon.final), float(epsilon.start), float(epsilon.end)
        limits = episodes, max_steps, evaluations, seed, self.steps, returns
        self.steps += self._train(mdp, (schedule, *limits))
        return returns

    def _checked(self, mdp: FiniteMDP) -> FiniteMDP:
        checks.instance("mdp", mdp, FiniteMDP)
        shape = np.shape(mdp.successors)
        if len(shape) != 3 or shape[:2] != (self.states, self.actions) or not shape[2]:
            raise ValueError(f"mdp.successors.shape = {shape}: expected ({self.states}, {self.actions}, outcomes)")
        successors = checks.array("mdp.successors", mdp.successors, shape, np.int32)
        if successors.min() < 0 or successors.max() >= self.states:
            raise ValueError(f"mdp.successors: expected states from 0 to {self.states - 1}")
        probabilities = checks.array("mdp.probabilities", mdp.probabilities, shape)
        if (probabilities < 0).any() or not np.allclose(probabilities.sum(2), 1):
            raise ValueError("mdp.probabilities: expected none below 0, and the sum 1 over the outcomes")
        rewards = checks.array("mdp.rewards", mdp.rewards, shape)
        terminal = checks.array("mdp.terminal", mdp.terminal, (self.states,), bool)
        # Of one layout, so that the loops over them are compiled once.
        successors, probabilities, rewards = map(np.ascontiguousarray, (successors, probabilities, rewards))
        return FiniteMDP(
            successors, probabilities, rewards, terminal, checks.size("mdp.start", mdp.start, 0, self.states - 1)
        )

    def _cells(self, name: str, observations: Any, transitions: int) -> States:
        values = np.asarray(checks.as_array(observations))
        values = checks.array(name, values[:, None] if values.ndim == 1 else values, (transitions, len(self.bins)))
        return np.asarray(np.ravel_multi_index(self._indices(values), self.bins.tolist()))

    def _indices(self, numbers: Float[np.ndarray, "*batch features"]) -> tuple[Any, ...]:
        """The cell's index along each axis; clipped as a float, since huge numbers overflow as integers."""
        position = (numbers - self.low) * self.bins / (self.high - self.low)  # exact for whole numbers
        return tuple(np.clip(position, 0, self.bins - 1).astype(int).T)

    def _can_learn_without_next(self, terminated: bool) -> bool:
        return terminated

    @abstractmethod
    def _fit(self, states: States, actions: Chosen, rewards: Any, next_states: States, terminated: Any) -> None:
        """Learn from transitions between cells; ``actions`` is empty if they are unknown."""

    @abstractmethod
    def _train(self, mdp: FiniteMDP, limits: tuple[Any, ...]) -> int:
        """Run the compiled loop; return the number of steps."""

    @abstractmethod
    def _tables(self) -> dict[str, np.ndarray]:
        """The arrays that learning changes."""

    def state_dict(self) -> dict[str, Any]:
        """All state, including that of the random generator."""
        return {
            **{name: table.copy() for name, table in self._tables().items()},
            "steps": self.steps,
            "last": [self._cell, self._action],
            "rng": self.rng.bit_generator.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        checks.arguments()
        check_state(state, self._form())
        for name, table in self._tables().items():
            table[...] = state[name]
        self.steps, self.rng.bit_generator.state = state["steps"], state["rng"]
        self._cell, self._action = state["last"]

    def _form(self) -> dict[str, Any]:
        return self.state_dict()
