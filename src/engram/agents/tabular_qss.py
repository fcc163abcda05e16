"""Tabular QSS: values of transitions between states and, separately, the actions that cause them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32
from numpy.typing import ArrayLike

from engram import checks
from engram.agents.exploration import ActionValues
from engram.agents.tabular import Chosen, States, Tabular
from engram.numeric.finite_mdp import FiniteMDP
from engram.state import Axes, check_state

NEW_NEIGHBOURS = 4  # of each state, for which room is made when none is left


class Transitions(NamedTuple):
    """The transitions from each state as lists in arrays, whose lengths are ``degree`` and ``known``."""

    q: Float[np.ndarray, "states room"]  # Q(s, s')
    neighbours: Int32[np.ndarray, "states room"]  # s'
    degree: Int[np.ndarray, "states"]  # number of neighbours
    actions: Int32[np.ndarray, "states room actions"]  # I(s, s')
    known: Int[np.ndarray, "states room"]  # number of actions in I(s, s')
    place: Int32[np.ndarray, "states room actions"]  # index of each action in I(s, s'); -1: not in it
    caused: Int32[np.ndarray, "states actions"]  # the neighbour that each action led to last; -1: none


class TabularQSS(Tabular):
    """QSS-learning: values of transitions between states, which do not depend on the set of actions.

        Q(s, s') <- Q(s, s') + lr (r + gamma max_{s'' in N(s')} Q(s', s'') - Q(s, s'))    the maximum 0 at a termination
        policy: a from I(s, argmax_{s' in N(s)} Q(s, s')), any action if I is empty

    N(s) are the states reached from s in one step, and I(s, s') the actions that cause the transition. Redundant
    actions cost nothing; when the actions change, ``clear_inverse`` keeps the values; and a log without actions is
    enough to learn the values. The environment has to be deterministic, or nearly: the best next state is assumed to be
    reached for certain. Warns when an action has led from a state to two different ones.

    Args:
        low: Lower edge of the grid, (features,); observations beyond the grid are in the outermost cells.
        high: Upper edge, (features,).
        bins: Cells along each axis, (features,).
        actions: Number of actions.
        rng: Source of all randomness.
        neighbours: N(s) as a function of the cell; ties go to the first of its cells. None: the cells reached so far.
        inverse: I: ``"learned"``, the actions that have caused the transition; ``"recent"``, those whose latest effect
            it was, for actions that change during learning; or a known function of two cells, which needs
            ``neighbours``.
        initial_value: Initial Q.
        learning_rate: lr, from 0 (no learning) to 1.
        **options: ``exploration`` and ``gamma`` of ``Tabular``.

    Raises:
        ValueError: A cell has no neighbours, or a neighbour that is not a cell; or the inverse of a transition is
            empty, or contains a number that is not an action.

    Source: Edwards et al., "Estimating Q(s,s') with deep deterministic dynamics gradients" (2020), section 3.

    Examples:
        >>> agent = TabularQSS([0], [3], [3], 2, rng=np.random.default_rng(0), learning_rate=1.0)
        >>> agent.partial_fit(np.array([1, 0]), None, np.array([1.0, 0.0]), np.array([2, 1]), np.array([True, False]))
        >>> agent.transition_values()[0].tolist()
        [nan, 0.99, nan]
    """

    def __init__(
        self,
        low: ArrayLike,
        high: ArrayLike,
        bins: ArrayLike,
        actions: int,
        *,
        rng: np.random.Generator,
        neighbours: Callable[[int], Sequence[int]] | None = None,
        inverse: Literal["learned", "recent"] | Callable[[int, int], Sequence[int]] = "learned",
        initial_value: float = 0.001,
        learning_rate: float = 0.01,
        **options: Any,
    ) -> None:
        checks.arguments()
        super().__init__(low, high, bins, actions, rng=rng, learning_rate=learning_rate, **options)
        self.initial_value = checks.number("initial_value", initial_value)
        self.inverse = inverse if callable(inverse) else checks.choice("inverse", inverse, ("learned", "recent"))
        self._given = neighbours is not None
        if callable(inverse) and neighbours is None:
            raise ValueError("neighbours = None: expected those of each cell, since the inverse is known beforehand")
        self.transitions = _empty(self.states, self.actions, 0, self.initial_value)
        self._warned = False
        if neighbours is not None:
            self._set_neighbours(neighbours)
        if callable(inverse):
            self._set_inverse(inverse)

    def values(self, observation: Any) -> ActionValues:
        """The value of each action: that of the best transition it is known to cause; -inf if there is none.

        While no action is known to cause the best transition, all actions have its value.
        """
        transitions, cell = self.transitions, self.cell(observation)
        best = int(transitions.q[cell, : max(transitions.degree[cell], 1)].argmax())
        values = np.full(self.actions, -np.inf if transitions.known[cell, best] else transitions.q[cell, best])
        if transitions.known[cell, best]:
            for j in range(transitions.degree[cell]):
                causing = transitions.actions[cell, j, : transitions.known[cell, j]]
                values[causing] = np.maximum(values[causing], transitions.q[cell, j])
        return values

    def transition_values(self) -> Float[np.ndarray, "states states"]:
        """Q(s, s'), NaN where s' is not a neighbour of s."""
        transitions, values = self.transitions, np.full((self.states, self.states), np.nan)
        row, slot = np.nonzero(np.arange(transitions.q.shape[1]) < transitions.degree[:, None])
        values[row, transitions.neighbours[row, slot]] = transitions.q[row, slot]
        return values

    def actions_for(self, observation: Any, next_observation: Any) -> list[int]:
        """I(s, s'), the actions that are known to cause a transition.

        Raises:
            ValueError: The second state is not a neighbour of the first.
        """
        transitions, cell = self.transitions, self.cell(observation)
        with checks.noted(next_observation=next_observation):
            next_cell = self.cell(next_observation)
        slot = np.flatnonzero(transitions.neighbours[cell, : transitions.degree[cell]] == next_cell)
        if not len(slot):
            raise ValueError(f"next_observation = {next_observation!r}: expected a neighbour of {observation!r}")
        return sorted(transitions.actions[cell, slot[0], : transitions.known[cell, slot[0]]].tolist())

    def clear_inverse(self) -> None:
        """Forget which actions cause which transition, when the actions have changed; the values stay."""
        if callable(self.inverse):
            raise ValueError("the inverse is a given function: expected a learned inverse, which can be cleared")
        self.transitions.known[...], self.transitions.place[...], self.transitions.caused[...] = 0, -1, -1

    def _set_neighbours(self, neighbours: Callable[[int], Sequence[int]]) -> None:
        with checks.noted(neighbours=neighbours):
            lists = [list(dict.fromkeys(int(cell) for cell in neighbours(s))) for s in range(self.states)]
        for s, cells in enumerate(lists):
            if not cells or not 0 <= min(cells) <= max(cells) < self.states:
                raise ValueError(f"neighbours({s}) = {cells}: expected at least one cell, from 0 to {self.states - 1}")
        self._make_room(max(map(len, lists)))
        for s, cells in enumerate(lists):
            self.transitions.neighbours[s, : len(cells)], self.transitions.degree[s] = cells, len(cells)

    def _set_inverse(self, inverse: Callable[[int, int], Sequence[int]]) -> None:
        transitions = self.transitions
        for s in range(self.states):
            for j in range(transitions.degree[s]):
                with checks.noted(inverse=inverse):
                    causes = list(dict.fromkeys(int(a) for a in inverse(s, int(transitions.neighbours[s, j]))))
                if not causes or not 0 <= min(causes) <= max(causes) < self.actions:
                    value = f"inverse({s}, {transitions.neighbours[s, j]}) = {causes}"
                    raise ValueError(f"{value}: expected at least one action, from 0 to {self.actions - 1}")
                transitions.actions[s, j, : len(causes)], transitions.known[s, j] = causes, len(causes)
                transitions.place[s, j, causes] = np.arange(len(causes))

    def _make_room(self, room: int) -> None:
        """Make room for ``room`` neighbours of each state."""
        old_transitions = self.transitions
        self.transitions = _empty(self.states, self.actions, room, self.initial_value)
        for name in ("q", "neighbours", "actions", "known", "place"):
            getattr(self.transitions, name)[:, : old_transitions.q.shape[1]] = getattr(old_transitions, name)
        self.transitions.degree[...], self.transitions.caused[...] = old_transitions.degree, old_transitions.caused

    @property
    def _kind(self) -> int:
        from engram.agents import kernels

        return kernels.KNOWN if callable(self.inverse) else getattr(kernels, str(self.inverse).upper())

    def _fit(self, states: States, actions: Chosen, rewards: Any, next_states: States, terminated: Any) -> None:
        from engram.agents import kernels

        log, conflict = (states, actions, rewards, next_states, terminated), np.full(2, -1)
        if self._given and len(states) > 1:  # all are checked before one is learned
            transitions = self.transitions
            in_use = np.arange(transitions.q.shape[1]) < transitions.degree[states, None]
            expected = ((transitions.neighbours[states] == next_states[:, None]) & in_use).any(1)
            for i in np.flatnonzero(~expected)[:1]:
                self._refuse_or_make_room(int(states[i]), int(next_states[i]))
        n_fitted, rule = 0, (self.gamma, self.learning_rate)
        while n_fitted < len(states):
            remaining = (column[n_fitted:] for column in log)
            n_fitted += kernels.fit_qss(self.transitions, *remaining, rule, self._kind, self._given, conflict)
            if n_fitted < len(states):
                self._refuse_or_make_room(int(states[n_fitted]), int(next_states[n_fitted]))
        self._warn(conflict)

    def _refuse_or_make_room(self, state: int, next_state: int) -> None:
        if self._given:
            transitions = self.transitions
            expected = transitions.neighbours[state, : transitions.degree[state]].tolist()
            raise ValueError(f"next_observations: cell {next_state} follows cell {state}: expected one of {expected}")
        self._make_room(self.transitions.q.shape[1] + NEW_NEIGHBOURS)

    def _train(self, mdp: FiniteMDP, limits: tuple[Any, ...]) -> int:
        from engram.agents import kernels

        transitions = self.transitions
        room = 0
        for s in np.flatnonzero(~mdp.terminal):
            successors = mdp.successors[s][mdp.probabilities[s] > 0]
            neighbours = transitions.neighbours[s, : transitions.degree[s]]
            new_neighbours = np.setdiff1d(successors, neighbours)
            if self._given and len(new_neighbours):
                self._refuse_or_make_room(int(s), int(new_neighbours[0]))
            room = max(room, len(neighbours) + len(new_neighbours))
        if room > transitions.q.shape[1]:
            self._make_room(room)
        conflict = np.full(2, -1)
        rule, (schedule, *other_limits) = (self.gamma, self.learning_rate), limits
        n_steps = kernels.train_qss(mdp, self.transitions, rule, schedule, self._kind, *other_limits, conflict)
        self._warn(conflict)
        return int(n_steps)

    def _warn(self, conflict: Int[np.ndarray, "2"]) -> None:
        if conflict[0] >= 0 and not self._warned:
            self._warned = True
            effect = f"TabularQSS: action {conflict[1]} led from cell {conflict[0]} to"
            cause = "the environment is stochastic, which is not allowed, or its actions have changed"
            if callable(self.inverse):
                message = f"{effect} a cell that the given inverse does not expect, or to two different cells: {cause}"
            else:
                message = f"{effect} two different cells: {cause}; in the second case, call clear_inverse"
            warnings.warn(message, RuntimeWarning, stacklevel=4)

    def _can_learn_without_next(self, terminated: bool) -> bool:
        return False  # the last state is part of what is learned

    def _tables(self) -> dict[str, np.ndarray]:
        return self.transitions._asdict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        checks.arguments()
        check_state(state, self._form())
        self.transitions = _empty(self.states, self.actions, state["q"].shape[1], self.initial_value)
        super().load_state_dict(state)

    def _form(self) -> dict[str, Any]:
        tables = {
            name: Axes((self.states, *("neighbours", self.actions)[: table.ndim - 1]), table)
            for name, table in self._tables().items()
            if name not in ("degree", "caused")
        }
        return super()._form() | tables


def _empty(states: int, actions: int, room: int, initial_value: float) -> Transitions:
    room = max(room, 1)
    return Transitions(
        q=np.full((states, room), initial_value),
        neighbours=np.zeros((states, room), np.int32),
        degree=np.zeros(states, np.int64),
        actions=np.zeros((states, room, actions), np.int32),
        known=np.zeros((states, room), np.int64),
        place=np.full((states, room, actions), -1, np.int32),
        caused=np.full((states, actions), -1, np.int32),
    )
