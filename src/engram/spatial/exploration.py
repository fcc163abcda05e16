"""A walk of an explorer through a world, with curves of what it has seen and how large its map was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from engram import checks
from engram.numeric.grid_view import MOVES, look, mark
from engram.spatial.farmap_explorer import FARMapExplorer
from engram.spatial.frontier_explorer import FrontierExplorer
from engram.spatial.view_model import ViewModel, check_labels

World = Int[np.ndarray, "rows columns"]


@dataclass(frozen=True, eq=False)
class Exploration:
    """A walk, step by step.

    Attributes:
        seen: Number of cells seen up to each step.
        active: Number of cells in the bounding box of the current map.
        stored: Number of cells in the bounding boxes of all maps.
        work: Number of cells examined so far in the search for frontiers and paths.
        poses: Row, column and heading in the world.
        fragment: Index of the current map; always 0 for an explorer with one map.
        first_seen: Step at which each cell of the world was first seen, -1 for never.
        visible: Number of cells that can be seen at all.
        cuts: Steps at which a new map began, without the first map.
        recalls: Steps at which a map was recalled.
        reason: Why the walk ended early: ``"explored"`` or ``"stuck"``; empty if it did not.
    """

    seen: Int[np.ndarray, " steps"]
    active: Int[np.ndarray, " steps"]
    stored: Int[np.ndarray, " steps"]
    work: Int[np.ndarray, " steps"]
    poses: Int[np.ndarray, "steps 3"]
    fragment: Int[np.ndarray, " steps"]
    first_seen: Int[np.ndarray, "rows columns"]
    visible: int
    cuts: list[int]
    recalls: list[int]
    reason: str


def visible_cells(world: World) -> Bool[np.ndarray, "rows columns"]:
    """A mask of the cells that can be seen from somewhere: empty cells, and walls with an empty cell at a side.

    Examples:
        >>> int(visible_cells(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])).sum())
        5
    """
    checks.arguments()
    empty = np.pad(world == 0, 1)
    sides = [np.roll(empty, (int(rows_down), int(columns_right)), (0, 1)) for rows_down, columns_right in MOVES]
    return np.asarray(np.any([empty, *sides], axis=0)[1:-1, 1:-1])


def explore(
    world: World,
    start: tuple[int, int],
    explorer: FrontierExplorer,
    steps: int,
    *,
    view_model: ViewModel | None = None,
) -> Exploration:
    """Let an explorer walk through a world.

    Args:
        world: Labels: 0 for an empty cell, above 0 for a wall; walls may have different labels.
        start: Row and column of an empty cell. The heading is the explorer's.
        explorer: A new explorer.
        steps: Maximum number of steps.
        view_model: Model of what is seen; None: ``ViewModel(explorer.map.view_size)``.

    Returns:
        The walk, which is shorter if the explorer stopped or everything was seen.

    Raises:
        ValueError: The start is not an empty cell, a label is negative, or the explorer is not new.

    Examples:
        >>> world = np.pad(np.zeros((6, 9), dtype=int), 1, constant_values=7)
        >>> walk = explore(world, (4, 4), FrontierExplorer(rng=0), 200)
        >>> walk.reason, int(walk.seen[-1]), walk.visible
        ('explored', 84, 84)
    """
    checks.arguments()
    checks.size("steps", steps)
    model = ViewModel(explorer.map.view_size) if view_model is None else view_model
    if model.size != explorer.map.view_size:
        raise ValueError(f"view_model.size = {model.size}: expected explorer.map.view_size = {explorer.map.view_size}")
    if explorer.work or explorer.reason:
        raise ValueError("explorer has explored already: expected a new one, whose map begins at the start")
    check_labels(world)
    world = np.ascontiguousarray(world, dtype=np.int32)
    row, column, heading = *start, explorer.map.pose.heading
    with checks.noted(start=start):
        view = model.observe(world, (row, column, heading)).copy()
    seen, first_seen = np.zeros(world.shape, dtype=bool), np.full(world.shape, -1)
    rows = np.zeros((steps, 4), dtype=np.int64)
    poses, fragment = np.zeros((steps, 3), dtype=np.int64), np.zeros(steps, dtype=np.int64)
    visible, count, has_moved, step, stored = int(visible_cells(world).sum()), 0, True, -1, 0
    decided = 0
    for step in range(steps):
        look(world, row, column, heading, model._shadows, model._cone, view)
        n_new = mark(seen, view, row, column, heading)
        if n_new:
            first_seen[seen & (first_seen < 0)] = step
        count += n_new
        move = explorer.act(view, moved=has_moved)
        if isinstance(explorer, FARMapExplorer):
            if len(explorer.decisions) > decided or step == 0:
                decided, stored_elsewhere = len(explorer.decisions), explorer.stored_cells - explorer.map.area
            stored, fragment[step] = stored_elsewhere + explorer.map.area, explorer._far.current_id
        else:
            stored = explorer.map.area
        rows[step], poses[step] = (count, explorer.map.area, stored, explorer.work), (row, column, heading)
        if move is None or count == visible:
            break
        heading = move
        ahead = row + int(MOVES[move, 0]), column + int(MOVES[move, 1])
        is_inside = 0 <= ahead[0] < world.shape[0] and 0 <= ahead[1] < world.shape[1]
        has_moved = is_inside and not world[ahead]
        if has_moved:
            row, column = ahead
    steps_taken = slice(step + 1)
    decisions = explorer.decisions if isinstance(explorer, FARMapExplorer) else []
    events = {
        kind: [step_of_event for step_of_event, decision in decisions if decision.kind == kind]
        for kind in ("fragment", "recall")
    }
    reason = "explored" if count == visible else explorer.reason
    counted = {
        "seen": rows[steps_taken, 0],
        "active": rows[steps_taken, 1],
        "stored": rows[steps_taken, 2],
        "work": rows[steps_taken, 3],
    }
    return Exploration(
        **counted,
        poses=poses[steps_taken],
        fragment=fragment[steps_taken],
        first_seen=first_seen,
        visible=visible,
        cuts=events["fragment"],
        recalls=events["recall"],
        reason=reason,
    )


def coverage_curve(walk: Exploration, steps: int) -> Float[np.ndarray, " steps"]:
    """The share of the visible cells that were seen up to each step; constant after the end."""
    checks.arguments()
    return _padded(walk.seen / walk.visible, checks.size("steps", steps))


def active_memory_curve(walk: Exploration, steps: int) -> Float[np.ndarray, " steps"]:
    """The number of cells in the current map over that in the world, at each step; constant after the end."""
    checks.arguments()
    return _padded(walk.active / walk.first_seen.size, checks.size("steps", steps))


def _padded(curve: Float[np.ndarray, " made"], steps: int) -> Float[np.ndarray, " steps"]:
    return np.pad(curve[:steps], (0, max(0, steps - len(curve))), mode="edge")
