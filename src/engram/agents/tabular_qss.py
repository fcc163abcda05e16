"""Tabular QSS: values of transitions between states, and apart from them which actions cause a transition."""

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

NEW_NEIGHBOURS = 4  # room for so many more, when there is no more


class Transitions(NamedTuple):
    """The transitions from each state as compact lists; what does not count yet is beyond ``degree`` and ``known``."""

    q: Float[np.ndarray, "states room"]  # Q(s, s')
    neighbours: Int32[np.ndarray, "states room"]  # s'
    degree: Int[np.ndarray, "states"]
    actions: Int32[np.ndarray, "states room actions"]  # I(s, s')
    known: Int[np.ndarray, "states room"]  # how many of them count
    place: Int32[np.ndarray, "states room actions"]  # of each action in I(s, s'); -1: not in it
    caused: Int32[np.ndarray, "states actions"]  # which neighbour each action led to last; -1: none


class TabularQSS(Tabular):
    """QSS-learning: the values of transitions, which do not depend on what actions there are.

        Q(s, s') <- Q(s, s') + lr (r + gamma max_{s'' in N(s')} Q(s', s'') - Q(s, s'))    the maximum 0 at a termination
        policy: a from I(s, argmax_{s' in N(s)} Q(s, s')), any action where that is empty

    N(s) are the states reached from s in one step, and I(s, s') the actions that cause the transition. Redundant
    actions cost nothing; when the actions change, ``clear_inverse`` keeps the values; and a log without actions is
    enough to learn them. It needs an environment that is deterministic, or nearly: the best next state counts as
    reached for certain. A RuntimeWarning says when an action led to two different states.

    Args:
        low: Lower edge of the grid, (features,); what is beyond counts to the outermost cell.
        high: Upper edge, (features,).
        bins: Cells along each axis, (features,).
        actions: Number of actions.
        rng: Source of all randomness.
        neighbours: N(s) as a function of the cell, states as cells in the order in which ties are broken; None: those
            that were reached.
        inverse: I: ``"learned"``, the actions that were seen to cause a transition; ``"recent"``, those whose last
            effect it was, for actions that change while it learns; or a function of two cells, known beforehand, which
            needs ``neighbours``.
        initial_value: Q at first.
        learning_rate: lr, above 0, at most 1.
        **options: As of ``Tabular``: ``exploration`` and ``gamma``.

    Raises:
        ValueError: The neighbours of a cell are none, or no cells; the inverse is empty, or names no action.

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
        """Return the value of each action: that of the best transition it is known to cause, -inf where it causes none.

        While no action is known to cause the best transition, they are all worth as much as it.
        """
        t, s = self.transitions, self.cell(observation)
        best = int(t.q[s, : max(t.degree[s], 1)].argmax())
        found = np.full(self.actions, -np.inf if t.known[s, best] else t.q[s, best])
        if t.known[s, best]:
            for j in range(t.degree[s]):
                causing = t.actions[s, j, : t.known[s, j]]
                found[causing] = np.maximum(found[causing], t.q[s, j])
        return found

    def transition_values(self) -> Float[np.ndarray, "states states"]:
        """Return Q(s, s'), NaN where s' is no neighbour of s."""
        t, found = self.transitions, np.full((self.states, self.states), np.nan)
        row, slot = np.nonzero(np.arange(t.q.shape[1]) < t.degree[:, None])
        found[row, t.neighbours[row, slot]] = t.q[row, slot]
        return found

    def actions_for(self, observation: Any, following: Any) -> list[int]:
        """Return I(s, s'), the actions that are known to cause a transition.

        Raises:
            ValueError: The second state is no neighbour of the first.
        """
        t, s, there = self.transitions, self.cell(observation), self.cell(following)
        slot = np.flatnonzero(t.neighbours[s, : t.degree[s]] == there)
        if not len(slot):
            raise ValueError(f"following = {following!r}: expected a neighbour of {observation!r}")
        return sorted(t.actions[s, slot[0], : t.known[s, slot[0]]].tolist())

    def clear_inverse(self) -> None:
        """Forget which actions cause which transition, since they have changed; the values stay."""
        if callable(self.inverse):
            raise ValueError("the inverse was given: expected one that is learned, which can be forgotten")
        self.transitions.known[...], self.transitions.place[...], self.transitions.caused[...] = 0, -1, -1

    def _set_neighbours(self, neighbours: Callable[[int], Sequence[int]]) -> None:
        lists = [list(dict.fromkeys(int(there) for there in neighbours(s))) for s in range(self.states)]
        for s, list_ in enumerate(lists):
            if not list_ or not 0 <= min(list_) <= max(list_) < self.states:
                raise ValueError(f"neighbours({s}) = {list_}: expected one at least, from 0 to {self.states - 1}")
        self._make_room(max(map(len, lists)))
        for s, list_ in enumerate(lists):
            self.transitions.neighbours[s, : len(list_)], self.transitions.degree[s] = list_, len(list_)

    def _set_inverse(self, inverse: Callable[[int, int], Sequence[int]]) -> None:
        t = self.transitions
        for s in range(self.states):
            for j in range(t.degree[s]):
                known = list(dict.fromkeys(int(a) for a in inverse(s, int(t.neighbours[s, j]))))
                if not known or not 0 <= min(known) <= max(known) < self.actions:
                    what = f"inverse({s}, {t.neighbours[s, j]}) = {known}"
                    raise ValueError(f"{what}: expected one action at least, from 0 to {self.actions - 1}")
                t.actions[s, j, : len(known)], t.known[s, j] = known, len(known)
                t.place[s, j, known] = np.arange(len(known))

    def _make_room(self, room: int) -> None:
        """Let each state have as many neighbours."""
        old = self.transitions
        self.transitions = _empty(self.states, self.actions, room, self.initial_value)
        for name in ("q", "neighbours", "actions", "known", "place"):
            getattr(self.transitions, name)[:, : old.q.shape[1]] = getattr(old, name)
        self.transitions.degree[...], self.transitions.caused[...] = old.degree, old.caused

    @property
    def _kind(self) -> int:
        from engram.agents import kernels

        return kernels.KNOWN if callable(self.inverse) else getattr(kernels, str(self.inverse).upper())

    def _fit(self, states: States, actions: Chosen, rewards: Any, following: States, terminated: Any) -> None:
        from engram.agents import kernels

        log, conflict = (states, actions, rewards, following, terminated), np.full(2, -1)
        done, rule = 0, (self.gamma, self.learning_rate)
        while done < len(states):
            left = (part[done:] for part in log)
            done += kernels.fit_qss(self.transitions, *left, rule, self._kind, self._given, conflict)
            if done < len(states):
                self._refuse_or_make_room(int(states[done]), int(following[done]))
        self._warn(conflict)

    def _refuse_or_make_room(self, state: int, following: int) -> None:
        if self._given:
            t = self.transitions
            expected = t.neighbours[state, : t.degree[state]].tolist()
            raise ValueError(f"following: cell {following} was reached from cell {state}: expected one of {expected}")
        self._make_room(self.transitions.q.shape[1] + NEW_NEIGHBOURS)

    def _train(self, mdp: FiniteMDP, limits: tuple[Any, ...]) -> int:
        from engram.agents import kernels

        t = self.transitions
        most = 0
        for s in np.flatnonzero(~mdp.terminal):
            possible = mdp.successors[s][mdp.probabilities[s] > 0]
            known = t.neighbours[s, : t.degree[s]]
            new = np.setdiff1d(possible, known)
            if self._given and len(new):
                self._refuse_or_make_room(int(s), int(new[0]))
            most = max(most, len(known) + len(new))
        if most > t.q.shape[1]:
            self._make_room(most)
        conflict = np.full(2, -1)
        rule, (schedule, *others) = (self.gamma, self.learning_rate), limits
        taken = kernels.train_qss(mdp, self.transitions, rule, schedule, self._kind, *others, conflict)
        self._warn(conflict)
        return int(taken)

    def _warn(self, conflict: Int[np.ndarray, "2"]) -> None:
        if conflict[0] >= 0 and not self._warned:
            self._warned = True
            what = f"TabularQSS: action {conflict[1]} led from cell {conflict[0]} to two different cells"
            why = "the environment is stochastic, which QSS takes for deterministic, or its actions have changed"
            warnings.warn(f"{what}: {why}, and then call clear_inverse", RuntimeWarning, stacklevel=4)

    def _knows_an_end(self, terminated: bool) -> bool:
        return False  # the last state is part of what is learned

    def _tables(self) -> dict[str, np.ndarray]:
        return self.transitions._asdict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier state."""
        self.transitions = _empty(self.states, self.actions, state["q"].shape[1], self.initial_value)
        super().load_state_dict(state)


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
