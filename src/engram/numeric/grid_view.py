"""The view from one cell of a grid: tables of the shadows that obstacles cast, and a numba kernel that applies them.

A view is a square; the viewer stands in the middle of its bottom row and looks up. A row is stored as bits of an
integer.
"""

import math

import numpy as np

from engram.numeric.jit import jit

MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
"""Up, down, left and right, as rows and columns; also the four headings."""
HIDDEN = -1
LARGEST = 61  # most cells along a side, so that the bits of a row fit an integer


def shadow(size: int, row: int, column: int) -> np.ndarray:
    """Mask of the cells of a view that an obstacle hides, (size, size) of bool.

    Args:
        size: Number of cells along a side of the view.
        row: Row of the obstacle.
        column: Column of the obstacle.
    """
    hides = np.zeros((size, size), dtype=bool)
    middle, last_row = size // 2, size - 1
    if column == middle:
        hides[:row, column] = True
        return hides
    outer, inner = (column + 1, column) if column < middle else (column, column + 1)
    for shadowed_column in range(column + 1) if column < middle else range(column, size):
        row_range = []
        for below, edge in ((row, outer), (row + 1, inner)):
            slope = (size - below) / (size / 2 - edge)
            row_range.append(math.ceil(min(max(last_row - slope * (middle - shadowed_column), 0), row)))
        hides[row_range[0] : row_range[1], shadowed_column] = True
    return hides


def cone(size: int, ratio: float) -> np.ndarray:
    """Mask of the cells of a view that are too far to the side to be seen, (size, size) of bool."""
    hides = np.zeros((size, size), dtype=bool)
    for i in range(size // 2):
        rows = max(1, math.floor(size * ratio - 2 * ratio * (i + 1)))
        hides[size - rows :, [i, size - 1 - i]] = True
    return hides


def as_bits(masks: np.ndarray) -> np.ndarray:
    """Masks, (..., columns), as integers whose lowest bit is the first column."""
    return (masks.astype(np.int64) << np.arange(masks.shape[-1])).sum(-1)


def tables(size: int, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """The masks, as bits, of the rows of each cell's shadow, (size * size, size), and of the cone, (size,)."""
    shadows = [shadow(size, *divmod(cell, size)) for cell in range(size * size)]
    return as_bits(np.array(shadows)), as_bits(cone(size, ratio))


def _look(world, row, column, heading, shadows, beyond, view):
    size = view.shape[0]
    middle = size // 2
    ahead, aside = MOVES[heading]
    one = np.int64(1)
    empty, wall, hidden = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64)
    for i in range(size):
        far = size - 1 - i
        for j in range(size):
            across = j - middle
            world_row, world_column = row + far * ahead + across * aside, column + far * aside - across * ahead
            view[i, j] = HIDDEN
            if 0 <= world_row < world.shape[0] and 0 <= world_column < world.shape[1]:
                view[i, j] = world[world_row, world_column]
                if world[world_row, world_column] == 0:
                    empty[i] |= one << j
                else:
                    wall[i] |= one << j
                    for k in range(i):
                        hidden[k] |= shadows[i * size + j, k]
    for turn in range(2):
        below = one << middle  # the viewer's own cell
        for i in range(size - 1, -1, -1):
            free = empty[i] & ~hidden[i]
            flood, previous_flood = below & free, np.int64(-1)
            while flood != previous_flood:
                previous_flood = flood
                flood = (flood | (flood << 1) | (flood >> 1)) & free
            touched = (below | (flood << 1) | (flood >> 1)) & wall[i] & ~hidden[i]
            below = flood
            hidden[i] = ~(flood | touched)
            if turn == 0:
                hidden[i] |= beyond[i]
    for i in range(size):
        for j in range(size):
            if hidden[i] >> j & 1:
                view[i, j] = HIDDEN


look = jit(_look)
"""Write into ``view`` the labels of visible cells, -1 for hidden ones: 0 is an empty cell, above 0 a wall."""


def _mark(seen, view, row, column, heading):
    size = view.shape[0]
    middle = size // 2
    ahead, aside = MOVES[heading]
    count = 0
    for i in range(size):
        for j in range(size):
            if view[i, j] != HIDDEN:
                far, across = size - 1 - i, j - middle
                world_row, world_column = row + far * ahead + across * aside, column + far * aside - across * ahead
                if not seen[world_row, world_column]:
                    seen[world_row, world_column] = True
                    count += 1
    return count


mark = jit(_mark)
"""Note which cells of a world a view shows; return how many of them are new."""
