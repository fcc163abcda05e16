"""Codes for the cells of a map, which worlds show and planners complete, and the view from each cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int8
from numpy.lib.stride_tricks import sliding_window_view

EMPTY, REWARD, WALL, UNOBSERVED = 0, 2, 3, 6
LANDMARKS = (7, 8)  # coloured walls
BLOCKING = (WALL, *LANDMARKS)
CODES = (EMPTY, REWARD, *BLOCKING)
NO_ROOM = -1
UP, LEFT, RIGHT, DOWN = ((-1, 0), (0, -1), (0, 1), (1, 0))
MOVES = tuple((direction, length) for length in (1, 5) for direction in (UP, DOWN, LEFT, RIGHT))
"""The eight moves: forward, backward, left and right by a cell, then the same by up to five."""


class Views(NamedTuple):
    """The view from each cell; a view is a contiguous run of ``cells``, and several cells may share one.

    Attributes:
        view: Number of the view from each cell, row by row; -1 where nothing is seen.
        starts: Index in ``cells`` at which each view begins, and finally that at which the last one ends.
        cells: The cells seen, as indices into the flat map.
    """

    view: Int[np.ndarray, "cells"]
    starts: Int[np.ndarray, "views_and_end"]
    cells: Int[np.ndarray, "seen"]


def views_of_rooms(rooms: Int[np.ndarray, "h w"], reveal_walls: bool) -> Views:
    """Views in which each cell sees its whole room and, with ``reveal_walls``, the walls around it.

    Args:
        rooms: Number of each cell's room, -1 for walls.
        reveal_walls: Whether cells without a room are seen from the rooms of their eight neighbours.
    """
    framed = np.pad(rooms, 1, constant_values=NO_ROOM)
    around = sliding_window_view(framed, (3, 3)).reshape(*rooms.shape, 9)
    visible_cells = []
    for room in range(int(rooms.max(initial=NO_ROOM)) + 1):
        is_shown = rooms == room
        if reveal_walls:
            is_shown |= (rooms == NO_ROOM) & (around == room).any(-1)
        visible_cells.append(np.flatnonzero(is_shown))
    return _views(rooms.ravel(), visible_cells)


def views_of_radius(shape: tuple[int, int], radius: int) -> Views:
    """Views in which each cell sees the square around it, with sides of ``2 radius + 1`` cells."""
    cells = np.arange(shape[0] * shape[1]).reshape(shape)
    visible_cells = [
        cells[max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1].ravel()
        for row, column in np.ndindex(shape)
    ]
    return _views(cells.ravel(), visible_cells)


def _views(view: Int[np.ndarray, "cells"], visible_cells: list[Int[np.ndarray, "some"]]) -> Views:
    starts = np.cumsum([0, *(len(cells) for cells in visible_cells)])
    return Views(view.astype(np.int64), starts, np.concatenate(visible_cells or [np.zeros(0, np.int64)]))


def blocked(grid: Int8[np.ndarray, "*shape"]) -> np.ndarray:
    """Mask of the cells that are walls, coloured or not."""
    return np.isin(grid, BLOCKING)
