"""POMCP: search in the tree of actions and observations, by simulated episodes of a generative model."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numba import njit
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError

from engram import checks
from engram.spatial.pomcp.kernels import Tree, compiled_search, empty_tree, search

MOST_QUERIES = 10**7  # more would not fit into memory


@runtime_checkable
class GenerativeModel(Protocol):
    """A model for POMCP: a number of actions, and a random step.

    A model may also have ``sample(root, rng)``, which draws the initial state of a simulated episode from what is known
    (default: the argument of ``plan`` is this state). ``step`` must not change a state in place, unless ``sample``
    makes a copy. If ``step``, and ``sample`` if there is one, are compiled by ``numba.njit``, the whole search is
    compiled; observations are then integers, which the tree keeps as signed ones of 64 bits.

    Attributes:
        n_actions: Number of actions, which are counted from 0.
    """

    n_actions: int

    def step(self, state: Any, action: int, rng: np.random.Generator) -> tuple[Any, Hashable, float, bool]:
        """The next state, what is observed, the reward, and whether the episode ends.

        Args:
            state: A state, which must not be changed in place.
            action: An action, from 0.
            rng: Source of all randomness.
        """
        ...


class Path(NamedTuple):
    """A path through the tree to an action after which there is no belief node yet.

    Attributes:
        nodes: Belief nodes from the root on.
        action: The action taken in the last of them.
        taken: Number of times that it was taken there.
    """

    nodes: tuple[int, ...]
    action: int
    taken: int


class SearchTree:
    """A tree of belief nodes; the root has index 0.

    Attributes:
        visits: Number of visits of each belief node.
        counts: Number of times that each of its actions was taken.
        values: Mean return after each action, 0 before the first.
        ended: Whether an episode ended with this action.
        parent: The belief node before each; -1 for the root.
        action: The action that led to each; -1 for the root.
        observations: The observation that led to each; None for the root.
    """

    __repr__ = checks.described

    def __init__(self, tree: Tree, size: int, observations: list[Any]) -> None:
        checks.arguments()
        self.visits, self.counts, self.values, self.ended, self.child, _, self.parent, self.action, _ = (
            part[:size] for part in tree
        )
        self.observations = observations

    def __len__(self) -> int:
        return len(self.visits)

    @property
    def root_values(self) -> Float[np.ndarray, "actions"]:
        """Mean return after each action at the root."""
        return np.asarray(self.values[0])

    @property
    def root_visits(self) -> Int[np.ndarray, "actions"]:
        """The number of times that each action was taken at the root."""
        return np.asarray(self.counts[0])

    def paths(self) -> list[Path]:
        """All paths from the root to an action after which there is no belief node yet."""
        nodes_to: list[tuple[int, ...]] = [(0,)]
        for node in range(1, len(self)):  # a parent comes before its children
            nodes_to.append((*nodes_to[self.parent[node]], node))
        return [
            Path(nodes_to[node], int(action), int(self.counts[node, action]))
            for node, action in np.argwhere(self.child < 0)
        ]


class POMCP:
    """Partially observable Monte-Carlo planning for any generative model.

        a = argmax_a v(h a),    v(h a) the mean of  r_1 + gamma r_2 + ...  over simulated episodes that took a after h,
        which choose, where the tree has grown,  argmax_a v(h a) + c sqrt(ln N(h) / n(h a)),  and beyond it by a rollout

    A model in plain Python is used as it is. If its functions are compiled by numba, the search is compiled with them,
    at the first plan of a process (a few seconds), and then takes microseconds for an episode. Both draw the same
    random numbers in the same order, so that the tree is the same, compiled or not.

    Args:
        model: The model to plan in; see ``GenerativeModel``.
        depth: Maximum number of steps of a simulated episode.
        n_queries: Number of simulated episodes for a plan.
        discount: Discount for each step, above 0, at most 1.
        ucb: c, in units of the return.
        ucb_scale: ``"range"``: c is in units of the range of all simulated returns; None: in units of the return.
        rollout: How an episode continues beyond the tree: ``"random"`` actions, or those of ``rollout(state, rng)``,
            which has to be compiled if the model is.
        avoid_terminal: Whether an action that once ended a simulated episode is avoided if there is another.
        random_state: A seed, or the generator to draw from.

    Attributes:
        tree_: The tree of the last plan.

    Raises:
        TypeError: The model has no ``n_actions`` or no ``step``; or ``step`` does not return four values, the second
            hashable, the third a number and the last a bool.
        ValueError: A reward is not finite, or an argument is out of range.

    Source: Silver and Veness, "Monte-Carlo planning in large POMDPs" (2010).

    Examples:
        >>> class Walk:
        ...     n_actions = 2
        ...     def step(self, state, action, rng):
        ...         state += 2 * action - 1
        ...         return state, state, float(state == 3), state == 3
        >>> planner = POMCP(Walk(), depth=4, n_queries=200, random_state=0)
        >>> planner.plan(0), round(float(planner.tree_.root_values.max()), 2)
        (1, 0.77)
    """

    tree_: SearchTree

    __repr__ = checks.described

    def __init__(
        self,
        model: Any,
        *,
        depth: int = 20,
        n_queries: int = 1000,
        discount: float = 0.9,
        ucb: float = 1.0,
        ucb_scale: str | None = None,
        rollout: Any = "random",
        avoid_terminal: bool = False,
        random_state: int | np.random.Generator | None = None,
    ) -> None:
        checks.arguments()
        if not callable(getattr(model, "step", None)) or not hasattr(model, "n_actions"):
            raise TypeError(f"model = {checks.shown(model)}: expected n_actions and step(state, action, rng)")
        self.model = model
        self.n_actions = checks.size("model.n_actions", model.n_actions, maximum=10**6)
        self.depth = checks.size("depth", depth, maximum=10**6)
        self.n_queries = checks.size("n_queries", n_queries, maximum=MOST_QUERIES)
        self.discount = checks.number("discount", discount, above=0, maximum=1)
        self.ucb = checks.number("ucb", ucb, minimum=0)
        self.ucb_scale = checks.choice("ucb_scale", ucb_scale, (None, "range"))
        if not (callable(rollout) or (isinstance(rollout, str) and rollout == "random")):
            raise ValueError(f"rollout = {checks.shown(rollout)}: expected 'random' or a function of state and rng")
        self.rollout = rollout
        self.avoid_terminal = bool(checks.instance("avoid_terminal", avoid_terminal, bool | np.bool_))  # type: ignore[arg-type]
        self.rng = checks.rng("random_state", random_state)

    @property
    def compiled(self) -> bool:
        """Whether the model's functions are compiled, and the search with them."""
        functions = [self.model.step, getattr(self.model, "sample", None), self.rollout]
        return isinstance(functions[0], Dispatcher) and all(
            part is None or part == "random" or isinstance(part, Dispatcher) for part in functions[1:]
        )

    def plan(self, state: Any) -> int:
        """The best action; the last one if several are equally good.

        Args:
            state: The present state, or the argument from which the model's ``sample`` draws it.

        Raises:
            TypeError: ``step`` does not return four values, the second hashable, the third a number and the last a
                bool.
            ValueError: A reward is not finite.
        """
        tree = empty_tree(self.n_queries + 1, self.n_actions)
        scaled = self.ucb_scale == "range"
        options = (self.depth, self.n_queries, self.discount, self.ucb, scaled, self.avoid_terminal)
        model_search = getattr(self.model, "compiled_search", None)
        if model_search is not None:
            size, observation_by_number = model_search(state, self.rng, tree, *options), None
        elif self.compiled:
            size, observation_by_number = self._compiled(state, tree, options), None
        else:
            numbers: dict[Hashable, int] = {}
            size = search(*self._functions(numbers), state, self.rng, tree, *options)  # type: ignore[no-untyped-call]
            observation_by_number = list(numbers)
        observed = tree.observation[1:size].tolist()
        observations = [
            None,
            *(observed if observation_by_number is None else [observation_by_number[number] for number in observed]),
        ]
        self.tree_ = SearchTree(tree, size, observations)
        checks.finite("returns of model.step", self.tree_.values)
        return self._answer()

    def _answer(self) -> int:
        values = self.tree_.root_values.copy()
        values[self.tree_.root_visits == 0] = -np.inf
        if self.avoid_terminal:
            good = ~self.tree_.ended[0] & (self.tree_.root_visits > 0)
            values[~good] = -np.inf if good.any() else values[~good]
        return int(np.flatnonzero(values == values.max())[-1])

    def _functions(self, numbers: dict[Hashable, int]) -> tuple[Any, Any, Any]:
        """The functions step, sample and rollout; step checks its return value and numbers the observations."""
        step, rollout = self.model.step, self.rollout
        sample = getattr(self.model, "sample", None) or _itself

        def checked(state: Any, action: int, rng: np.random.Generator) -> tuple[Any, int, float, bool]:
            result = step(state, action, rng)
            if not isinstance(result, tuple) or len(result) != 4:
                raise TypeError(
                    f"model.step returned {checks.shown(result)}: expected (state, observation, reward, done)"
                )
            state, observation, reward, ended = result
            try:
                number, reward = numbers.setdefault(observation, len(numbers)), float(reward)
            except (TypeError, ValueError) as error:
                raise TypeError(
                    f"model.step returned the observation {checks.shown(observation)} and the reward "
                    f"{checks.shown(reward)}: expected something hashable, and a number"
                ) from error
            if not math.isfinite(reward):
                raise ValueError(f"model.step returned the reward {reward}: expected a finite number")
            return state, number, reward, _ended(ended)

        def acted(state: Any, rng: np.random.Generator) -> int:
            return checks.size("action of rollout", rollout(state, rng), 0, self.n_actions - 1)

        return checked, sample, None if rollout == "random" else acted

    def _compiled(self, state: Any, tree: Tree, options: tuple[Any, ...]) -> int:
        sample = getattr(self.model, "sample", None) or _itself_compiled
        rollout = None if self.rollout == "random" else self.rollout
        other_rng = np.random.default_rng(0)  # for a first step that does not affect the search
        try:
            result = self.model.step(sample(state, other_rng), 0, other_rng)
            if not isinstance(result, tuple) or len(result) != 4 or not isinstance(result[1], int | np.integer):
                raise TypeError(
                    f"model.step returned {checks.shown(result)}: expected (state, observation, reward, done), and of "
                    "a compiled model an integer observation"
                )
            _ended(result[3])
            return int(compiled_search(self.model.step, sample, rollout, state, self.rng, tree, *options))
        except NumbaError as error:
            raise TypeError(
                "model.step, model.sample or rollout cannot be compiled with the search: expected a state of one type, "
                f"an integer observation, a number and a bool; numba says: {error}"
            ) from error


def _ended(done: Any) -> bool:
    if not isinstance(done, bool | np.bool_):
        raise TypeError(f"model.step returned done = {checks.shown(done)}: expected a bool")
    return bool(done)


def _itself(root: Any, rng: np.random.Generator) -> Any:
    return root


_itself_compiled = njit(lambda root, rng: root)
