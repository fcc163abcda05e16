"""The decision process that a planner searches in: the known part of a map, completed by hypotheses."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int8

from engram import checks
from engram.numeric.grid_cells import EMPTY, MOVES, REWARD, UNOBSERVED, Views, blocked
from engram.spatial.induction.kernels import POSITION_BITS, World, fill_field, sample, search_rooms, spread, step


def distances(passable: Any, sources: Int[np.ndarray, "sources"], shape: tuple[int, int]) -> Int[np.ndarray, "cells"]:
    """The number of steps from the nearest source to each cell over passable cells, -1 if there is no path.

    Args:
        passable: Mask of the cells that may be entered, flat; a path may start from a source that is not passable.
        sources: Cells from which distances are counted.
        shape: Rows and columns.
    """
    queue, steps = np.full(len(passable), -1), np.full(len(passable), -1)
    queue[: len(sources)], steps[sources] = sources, 0
    spread(np.ascontiguousarray(passable), shape[1], queue, steps)
    return steps


def inside(name: str, cell: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Raise a ValueError if a cell is outside a map.

    Args:
        name: The name of the argument, for the error.
        cell: Row and column.
        shape: Rows and columns of the map.
    """
    if not (0 <= cell[0] < shape[0] and 0 <= cell[1] < shape[1]):
        raise ValueError(f"{name} = {tuple(cell)}: expected a cell of a map of {shape}")


def nearness(steps: Int[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """1 / (1 + distance), 0 if there is no path."""
    return np.asarray(np.where(steps >= 0, 1.0 / (1.0 + np.maximum(steps, 0)), 0.0))


def goal_nearness(
    grid: Int8[np.ndarray, "h w"], goal: tuple[int, int], *, through_rewards: bool = True
) -> Float64[np.ndarray, "h w"]:
    """D, how near each cell is to a reward: 1 / (1 + steps over cells that are empty or unknown).

    Args:
        grid: A map, in which cells may be unknown.
        goal: Row and column of the reward.
        through_rewards: Whether paths may cross other rewards; as published, they do not.

    Examples:
        >>> goal_nearness(np.array([[2, 0, 3, 0]], np.int8), (0, 0)).tolist()
        [[1.0, 0.5, 0.0, 0.0]]
    """
    checks.arguments()
    inside("goal", goal, grid.shape)
    passable = ~blocked(grid) if through_rewards else np.isin(grid, (EMPTY, UNOBSERVED))
    source = np.array([goal[0] * grid.shape[1] + goal[1]])
    return nearness(distances(passable.ravel(), source, (len(grid), len(grid[0])))).reshape(grid.shape)


def unknown_nearness(grid: Int8[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    """U, how near each cell is to an unknown one, over cells that are empty or unknown; 0 if there is no path.

    Args:
        grid: The map as known.

    Examples:
        >>> unknown_nearness(np.array([[6, 0, 3, 0]], np.int8)).tolist()
        [[1.0, 0.5, 0.0, 0.0]]
    """
    checks.arguments()
    passable = np.isin(grid, (EMPTY, UNOBSERVED)).ravel()
    unknown = np.flatnonzero(grid == UNOBSERVED)
    return nearness(distances(passable, unknown, (len(grid), len(grid[0])))).reshape(grid.shape)


def make_world(
    known: Int8[np.ndarray, "h w"],
    maps: Int8[np.ndarray, "n h w"],
    weights: Float64[np.ndarray, "n"],
    views: Views,
    *,
    n_moves: int = 8,
    shaping: str | None = "potential",
    optimism: float = 2e-5,
    sharpness: float = 4.0,
    discount: float = 0.9,
    collect_on_path: bool = False,
) -> World:
    """The tables that a search needs of a map and of the hypotheses about it, computed once for all its episodes.

    Args:
        known: The map as known, 0 where the agent is.
        maps: Hypotheses, which include the known cells.
        weights: Their weights.
        views: The view from each cell.
        n_moves: Number of moves; the first of the eight are used.
        shaping: The term that attracts the agent to rewards: ``"author"``, ``"visible"``, ``"potential"`` or None.
        optimism: Weight of nearness to unknown cells.
        sharpness: Exponent of the weights in the shaping term, unless it is a potential.
        discount: Discount for each step.
        collect_on_path: Whether rewards are collected in passing.
    """
    shape, cells = (len(known), len(known[0])), known.size
    flat, hypotheses = known.ravel(), np.ascontiguousarray(maps.reshape(len(maps), cells))
    open_goals = np.isin(flat, (UNOBSERVED, REWARD))
    holds_all = (hypotheses == REWARD) & open_goals
    goals = np.flatnonzero(holds_all.any(0) | (flat == REWARD))
    goal_at = np.full(cells, -1)
    goal_at[goals] = np.arange(len(goals))
    holds = np.ascontiguousarray(holds_all[:, goals])
    walls = blocked(hypotheses)
    _, layout_rows, layout = np.unique(np.packbits(walls, axis=1), axis=0, return_index=True, return_inverse=True)
    layout = layout.reshape(len(maps))
    attracts = shaping is not None
    near = np.zeros((len(layout_rows), len(goals), cells if attracts else 1), np.float32)
    if attracts:
        for number, row in enumerate(layout_rows):
            for goal in np.flatnonzero(holds[layout == number].any(0)):
                near[number, goal] = nearness(distances(~walls[row], goals[goal : goal + 1], shape))
    plain = np.where(hypotheses == REWARD, UNOBSERVED, hypotheses)  # the search does not distinguish these
    lowest = np.where(plain == UNOBSERVED, 127, plain).min(0, initial=127)
    varies = (np.where(plain == UNOBSERVED, -1, plain).max(0, initial=-1) > lowest) & (flat == UNOBSERVED)
    varies |= (hypotheses == UNOBSERVED).any(0) & (flat == UNOBSERVED)  # another fills it, or it is empty
    bonus = optimism * unknown_nearness(known).ravel()
    visible = np.flatnonzero(flat == REWARD)
    if (shaping == "visible" or (shaping == "author" and not len(maps))) and len(visible):
        first_goal = divmod(int(visible[0]), shape[1])
        bonus = bonus + goal_nearness(known, first_goal, through_rewards=False).ravel()
    moves = np.array([(*direction, length) for direction, length in MOVES[:n_moves]])
    potential = shaping == "potential"
    power = 1.0 if potential else float(sharpness)
    is_collected, is_seen = np.zeros(len(goals), np.bool_), np.zeros(max(1, len(views.starts) - 1), np.bool_)
    world = World(
        shape, hypotheses, weights.astype(np.float64), flat.copy(), *views, varies, goals, goal_at, holds,
        layout.astype(np.int64), near, np.zeros(cells), bonus, power, float(discount), potential, bool(collect_on_path),
        moves, flat.copy(), weights.astype(np.float64), is_collected, is_seen,
        np.empty(len(maps), np.int64),
    )  # fmt: skip
    if attracts and len(maps):
        fill_field(world)
    return world


class RoomModel:
    """The generative model of a ``World`` for POMCP.

    A root is a world and the agent's cell; an observation is a hash of the cells seen, with the agent's cell in its
    last bits.
    """

    step, sample = staticmethod(step), staticmethod(sample)

    def __init__(self, n_actions: int) -> None:
        self.n_actions = n_actions

    @staticmethod
    def compiled_search(root: Any, rng: np.random.Generator, tree: Any, *options: Any) -> int:
        """The search of POMCP, compiled once and cached on disk."""
        state = rng.integers(2**63, size=1).astype(
            np.uint64
        )  # with a generator, compiled code cannot be cached on disk
        return int(search_rooms(root, state, tree, *options))

    @staticmethod
    def positions(observations: Int[np.ndarray, "nodes"]) -> Int[np.ndarray, "nodes"]:
        """The agent's cell in each observation."""
        return np.asarray(observations & (2**POSITION_BITS - 1))
