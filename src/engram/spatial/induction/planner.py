"""Planners for partly known worlds: with all hypotheses, the best one, or none; by search, or greedily."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int8

from engram import checks
from engram.numeric.grid_cells import MOVES, REWARD, UNOBSERVED, Views, blocked
from engram.spatial.induction.grammar import SubmapGrammar
from engram.spatial.induction.kernels import POSITION_BITS, World
from engram.spatial.induction.posterior import MapPosterior
from engram.spatial.induction.world import RoomModel, distances, inside, make_world
from engram.spatial.pomcp import POMCP, SearchTree

DRAWS = 32  # maps that stand for the hypothesis of no structure in a search
ACTIONS = {"moves8": 8, "moves4": 4}
Cell = tuple[int, int]


class MapInductionPlanner:
    """A planner that guesses the unknown part of a map from the known part, and plans in the guess.

    At each step the grammar proposes hypotheses about the map. A search (POMCP) simulates episodes in maps completed by
    them: each step draws a hypothesis by weight, moves in it, pays 1 for a reward, reveals what would be seen, and
    drops the hypotheses that this contradicts; an episode ends when the agent does not move. Since rewards are mostly
    beyond the horizon, a shaping term also attracts the agent to likely rewards:

        author:     sum_h p_h^sharpness max_g D_{h,g}(c)      at every step, and U(c) times ``optimism``
        potential:  gamma Phi(s') - Phi(s),  Phi = sum_h p_h max_{g left} D_{h,g}(c),  which changes no optimal policy

    with D and U of ``goal_nearness`` and ``unknown_nearness``. Greedy planning goes to argmax r(c) / d(c), the
    probability of a reward divided by its distance in the best hypothesis.

    Args:
        grammar: Source of hypotheses (default: ``SubmapGrammar()``).
        mode: Which of them count: all by weight (``"distribution"``), the best (``"map"``), or none (``"uniform"``):
            unknown cells are then empty. Greedy planning then goes to the nearest unknown cell or reward.
        planner: ``"pomcp"`` or ``"greedy"``.
        shaping: The shaping term: ``"author"``; ``"visible"``, the same plus the first reward in sight, in every mode;
            ``"potential"``; or None.
        optimism: Weight of nearness to unknown cells.
        sharpness: Exponent of the weights.
        unseen: Worth that greedy planning adds to each unknown cell.
        replan: ``"every_step"``, or ``"on_news"``: the tree is followed until something new is seen.
        action_set: ``"moves8"`` or ``"moves4"``, as in the world.
        collect_on_path: Whether a move collects the rewards that it passes; it must be as in the world.
        random_state: A seed, or a generator, for the search and the draws of maps.
        **search: ``depth``, ``n_queries``, ``discount``, ``ucb`` and ``ucb_scale`` of ``POMCP``.

    Attributes:
        posterior_: The hypotheses of the last step; None in mode ``"uniform"``.
        exhausted_: Whether no hypothesis is left, although there was one since the last reset, or although there are
            submaps. The first time there is a warning, and unknown cells count as empty, as in mode ``"uniform"``,
            until there is a hypothesis again.
        tree_: The last tree of the search.
        goals_seen: Cells in which a reward was seen since the last reset.

    Raises:
        ValueError: An argument is out of range, or a map has more than 65,536 cells.

    Source: Sharma et al., "Map Induction" (2021); greedy planning and the potential are ours.

    Examples:
        >>> planner = MapInductionPlanner(planner="greedy")
        >>> known = np.tile(np.array([[3, 2, 3], [0, 0, 0]]), (5, 1))
        >>> known[:6] = 6
        >>> planner.act({"known": known, "position": (9, 0)})  # to the right, where the reward in sight is nearer
        3
    """

    tree_: SearchTree
    posterior_: MapPosterior | None

    __repr__ = checks.described

    def __init__(
        self,
        grammar: SubmapGrammar | None = None,
        *,
        mode: str = "distribution",
        planner: str = "pomcp",
        shaping: str | None = "potential",
        optimism: float = 2e-5,
        sharpness: float = 4.0,
        unseen: float = 0.02,
        replan: str = "every_step",
        action_set: str = "moves8",
        collect_on_path: bool = False,
        random_state: int | np.random.Generator | None = None,
        **search: Any,
    ) -> None:
        checks.arguments()
        self.grammar = SubmapGrammar() if grammar is None else checks.instance("grammar", grammar, SubmapGrammar)
        self.mode = checks.choice("mode", mode, ("distribution", "map", "uniform"))
        self.planner = checks.choice("planner", planner, ("pomcp", "greedy"))
        self.shaping = checks.choice("shaping", shaping, ("author", "visible", "potential", None))
        self.optimism = checks.number("optimism", optimism, minimum=0)
        self.sharpness = checks.number("sharpness", sharpness, above=0)
        self.unseen = checks.number("unseen", unseen, minimum=0)
        self.replan = checks.choice("replan", replan, ("every_step", "on_news"))
        self.n_actions = ACTIONS[checks.choice("action_set", action_set, tuple(ACTIONS))]
        self.collect_on_path = bool(collect_on_path)
        self.rng = checks.rng("random_state", random_state)
        for name in search:
            checks.choice("search", name, ("depth", "n_queries", "discount", "ucb", "ucb_scale"))
        self.search = POMCP(RoomModel(self.n_actions), **search, avoid_terminal=True, random_state=self.rng)
        self.reset()

    def reset(self, views: Views | None = None) -> None:
        """Forget the map and the rewards seen.

        Args:
            views: The view from each cell, as in the world (``RoomGrid.views``; default: the cell alone).

        Raises:
            ValueError: The views do not fit each other.
        """
        checks.arguments()
        self.views = None if views is None else _checked(views)
        self.goals_seen: set[tuple[int, int]] = set()
        self.posterior_, self._known, self._node = None, b"", 0
        self.exhausted_ = self._had_some = self._has_warned = False
        self._world: World | None = None

    def act(self, observation: Mapping[str, Any]) -> int:
        """Choose a move.

        Args:
            observation: The map as ``known``, (h, w), the ``position``, and where ``rewards`` were seen, as
                ``RoomGrid`` returns them; without ``rewards``, all that were ever in sight count.

        Raises:
            ValueError: The map has another size than the views, or the position is outside the map or a wall.
        """
        if not isinstance(observation, Mapping) or not {"known", "position"} <= set(observation):
            raise ValueError(f"observation = {checks.shown(observation)}: expected 'known' and 'position'")
        known_map = checks.array("known", observation["known"], ("h", "w"), np.int8)
        row, column = (int(index) for index in checks.array("position", observation["position"], (2,), np.int64))
        if not (0 <= row < len(known_map) and 0 <= column < known_map.shape[1]):
            raise ValueError(f"position = ({row}, {column}): expected a cell of a map of {known_map.shape}")
        if blocked(known_map[row, column]):
            raise ValueError(f"position = ({row}, {column}): expected a cell that is not a wall")
        if known_map.size > 2**POSITION_BITS:
            raise ValueError(f"known has {known_map.size} cells: expected at most {2**POSITION_BITS}")
        rewarded = checks.array("rewards", observation.get("rewards", known_map == REWARD), known_map.shape, np.bool_)
        goals_seen = {(down, right) for down, right in np.argwhere(rewarded | (known_map == REWARD)).tolist()}
        goals_seen |= self.goals_seen
        is_new = known_map.tobytes() != self._known
        if is_new:
            self._known = b""  # so that a refused map is refused again, and not taken for a known one
            self._induce(known_map, goals_seen)
            self._known = known_map.tobytes()
        self.goals_seen = goals_seen
        if self.planner == "greedy":
            return greedy_action(known_map, (row, column), self.posterior_, self.unseen)
        cell = row * known_map.shape[1] + column
        if self.replan == "on_news" and not is_new and self._follow(cell):
            return self._best(self._node)
        self._node = 0
        return self._search_from(cell)

    def _search_from(self, cell: int) -> int:
        """Search from a cell of the map last seen, an index row by row."""
        assert self._world is not None
        action = self.search.plan((self._world, cell))
        self.tree_ = self.search.tree_
        return action

    def _induce(self, known_map: Int8[np.ndarray, "h w"], goals_seen: set[tuple[int, int]]) -> None:
        """Form hypotheses about a map with these rewards, and a world for the search."""
        self.posterior_ = None
        maps, weights = np.zeros((0, *known_map.shape), np.int8), np.zeros(0)
        if self.mode != "uniform":
            self.posterior_ = self.grammar.posterior(known_map, goals_seen)
            self._note_exhaustion(self.posterior_)
            maps, weights = self._hypotheses(self.posterior_)
        if self.planner == "greedy":
            return
        if not len(maps) and self.shaping == "potential":  # rewards in sight attract even so
            maps, weights = known_map[None], np.ones(1)
        self._world = make_world(
            known_map, maps, weights, self._views(known_map), n_moves=self.n_actions, shaping=self.shaping,
            optimism=self.optimism, sharpness=self.sharpness, discount=self.search.discount,
            collect_on_path=self.collect_on_path,
        )  # fmt: skip

    def _note_exhaustion(self, posterior: MapPosterior) -> None:
        none_fits = bool(posterior.submaps) and not posterior.programs
        unknown = bool((posterior.known == UNOBSERVED).any())
        self.exhausted_ = not len(posterior) and unknown and (self._had_some or none_fits)
        self._had_some |= len(posterior) > 0
        if self.exhausted_ and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                "no hypothesis is left that agrees with the map and has a reward to collect: unknown cells are taken "
                "for empty, as in mode 'uniform'",
                RuntimeWarning,
                stacklevel=4,
            )

    def _hypotheses(self, posterior: MapPosterior) -> tuple[Int8[np.ndarray, "n h w"], Float64[np.ndarray, "n"]]:
        if not len(posterior):
            return posterior.maps, posterior.weights
        if self.mode == "map":
            best = posterior.map()
            assert best is not None
            return best[None], np.ones(1)
        if not posterior.unstructured:
            return posterior.maps, posterior.weights
        samples = np.stack([posterior._without_structure(self.rng) for _ in range(DRAWS)])
        share = posterior.unstructured
        return np.concatenate([posterior.maps, samples]), np.concatenate(
            [(1 - share) * posterior.weights, np.full(DRAWS, share / DRAWS)]
        )

    def _views(self, known_map: Int8[np.ndarray, "h w"]) -> Views:
        if self.views is None:
            return Views(np.full(known_map.size, -1), np.zeros(1, np.int64), np.zeros(0, np.int64))
        if len(self.views.view) != known_map.size:
            raise ValueError(f"known has {known_map.size} cells: expected {len(self.views.view)}, as views has")
        return self.views

    def _follow(self, cell: int) -> bool:
        """Go to the tree's node for the agent's cell; return whether the tree has grown there."""
        children = np.flatnonzero((self.tree_.parent == self._node) & (self.tree_.action == self._best(self._node)))
        observed = np.array([self.tree_.observations[child] for child in children], np.int64)
        nodes = children[RoomModel.positions(observed) == cell]
        expanded = nodes[self.tree_.visits[nodes] >= self.n_actions]
        if len(expanded):
            self._node = int(expanded[self.tree_.visits[expanded].argmax()])
        return bool(len(expanded))

    def _best(self, node: int) -> int:
        good = (self.tree_.counts[node] > 0) & ~self.tree_.ended[node]
        return int(np.where(good, self.tree_.values[node], -np.inf).argmax())


def _checked(views: Views) -> Views:
    """The views as arrays of one type; ValueError unless they contain what a search may look up without checks."""
    view = checks.array("views.view", views.view, ("cells",), np.int64)
    starts = checks.array("views.starts", views.starts, ("views_and_end",), np.int64)
    cells = checks.array("views.cells", views.cells, ("seen",), np.int64)
    if not len(starts) or starts[0] != 0 or starts[-1] != len(cells) or (np.diff(starts) < 0).any():
        expected = f"a list that rises from 0 to {len(cells)}, the number of views.cells"
        raise ValueError(f"views.starts = {checks.shown(starts)}: expected {expected}")
    for name, values, low, high in (("view", view, -1, len(starts) - 2), ("cells", cells, 0, len(view) - 1)):
        if len(values) and not low <= values.min() <= values.max() <= high:
            raise ValueError(f"views.{name} = {checks.shown(values)}: expected numbers from {low} to {high}")
    return Views(*map(np.ascontiguousarray, (view, starts, cells)))


def worth(known: Int8[np.ndarray, "h w"], posterior: MapPosterior | None, unseen: float) -> Float[np.ndarray, "h w"]:
    """The worth of reaching each cell: 1 for a seen reward, its probability plus ``unseen`` where unknown, else 0.

    Without a posterior, unknown cells are worth as much as a seen reward.

    Args:
        known: Codes of cells, 6 where unknown.
        posterior: The posterior over maps, or None.
        unseen: Worth added to each unknown cell.
    """
    unknown = known == UNOBSERVED
    expected = 1.0 if posterior is None else posterior.marginal(REWARD) + unseen
    return np.where(known == REWARD, 1.0, np.where(unknown, expected, 0.0))


def greedy_action(
    known: Int8[np.ndarray, "h w"], position: Cell, posterior: MapPosterior | None = None, unseen: float = 0.02
) -> int:
    """The first move to the cell of largest worth divided by distance.

        argmax_c r(c) / d(c),   d by the walls of the best hypothesis

    Args:
        known: The map as known, 0 where the agent is.
        position: Row and column of the agent.
        posterior: Hypotheses about the map; None: go to the nearest unknown cell or reward.
        unseen: Worth that is added to that of each unknown cell.

    Returns:
        The index of the move; 0 if there is nowhere to go.

    Raises:
        ValueError: ``position`` is outside the map or in a wall, ``unseen`` is negative, or ``posterior`` is of a map
            of another shape.

    Examples:
        >>> greedy_action(np.array([[2, 3], [0, 0]], np.int8), (1, 1))  # left
        2
    """
    checks.arguments()
    inside("position", position, known.shape)
    if blocked(known[position]):
        raise ValueError(f"position = {position}: expected a cell that is not a wall")
    checks.number("unseen", unseen, minimum=0)
    if posterior is not None and posterior.known.shape != known.shape:
        raise ValueError(f"posterior is of a map of {posterior.known.shape}: expected one of {known.shape}, as known")
    shape: tuple[int, int] = (len(known), len(known[0]))
    value, start = worth(known, posterior, unseen).ravel(), np.array([position[0] * shape[1] + position[1]])
    best = None if posterior is None else posterior.map()
    for layout in ([] if best is None else [best]) + [known]:
        passable = ~blocked(layout).ravel()
        steps = distances(passable, start, shape)
        rate = np.where(steps > 0, value / np.maximum(steps, 1), 0.0)
        if rate.max() > 0:
            steps_to_goal = distances(passable, np.array([int(rate.argmax())]), shape).reshape(shape)
            neighbours = [(position[0] + down, position[1] + right) for (down, right), _ in MOVES[:4]]
            next_steps = steps_to_goal[position] - 1
            return next(
                move
                for move, (row, column) in enumerate(neighbours)
                if 0 <= row < shape[0] and 0 <= column < shape[1] and steps_to_goal[row, column] == next_steps
            )
    return 0
