"""Greedy planners: go where a reward is likely and near, or to the nearest frontier."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int8

from engram import checks
from engram.numeric.grid_cells import MOVES, REWARD, UNOBSERVED, blocked
from engram.spatial.induction.posterior import MapPosterior
from engram.spatial.induction.world import distances, inside

Cell = tuple[int, int]


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
