"""Local maps, their frontiers and paths on them as numba loops; ``DenseMap`` defines what they compute.

The confidence of a cell is stored, with the time, when it is seen; its decay since then is computed when it is needed.
Counts and frontiers change only around new cells, so that no step goes through the whole map.
"""

import numpy as np

from engram.numeric.grid_view import HIDDEN, MOVES
from engram.numeric.jit import inline, jit

EMPTY, KNOWN, FRONTIER = np.uint8(1), np.uint8(2), np.uint8(4)
N_EMPTY, N_FRONTIER, TIME, TOP, LEFT, BOTTOM, RIGHT = 0, 1, 2, 3, 4, 5, 6


@inline
def place(view_size, i, j, row, column, heading):
    """The row and column on the map of cell (i, j) of a view.

    Args:
        view_size: Side of the view, in cells.
        i: Row in the view.
        j: Column in the view.
        row: The agent's row on the map.
        column: The agent's column on the map.
        heading: The agent's heading, 0 to 3.
    """
    ahead, aside = MOVES[heading]
    far, across = view_size - 1 - i, j - view_size // 2
    return row + far * ahead + across * aside, column + far * aside - across * ahead


@inline
def refresh(flags, counts, row, column):
    """Update whether a cell is a frontier: unknown, and beside or diagonal to a cell that is known to be empty.

    Args:
        flags: The flags of each cell, which are changed.
        counts: The counts of the map, which are changed.
        row: Row of the cell.
        column: Column of the cell.
    """
    frontier = False
    if not flags[row, column] & KNOWN:
        for r in range(max(row - 1, 0), min(row + 2, flags.shape[0])):
            for c in range(max(column - 1, 0), min(column + 2, flags.shape[1])):
                frontier = frontier or flags[r, c] & EMPTY != 0
    if frontier and not flags[row, column] & FRONTIER:
        flags[row, column] |= FRONTIER
        counts[N_FRONTIER] += 1
    elif not frontier and flags[row, column] & FRONTIER:
        flags[row, column] &= ~FRONTIER
        counts[N_FRONTIER] -= 1


@inline
def enter(flags, counts, rows, columns, row, column, empty):
    """Mark a cell as empty or wall, and update counts and the frontiers around it.

    Args:
        flags: The flags of each cell, which are changed.
        counts: The counts of the map, which are changed.
        rows: Number of known cells in each row, which is changed.
        columns: Number of known cells in each column, which is changed.
        row: Row of the cell.
        column: Column of the cell.
        empty: Whether the cell is empty, not a wall.
    """
    if flags[row, column] & KNOWN:
        if (flags[row, column] & EMPTY != 0) == empty:
            return
    else:
        rows[row] += 1
        columns[column] += 1
        counts[TOP], counts[BOTTOM] = min(counts[TOP], row), max(counts[BOTTOM], row)
        counts[LEFT], counts[RIGHT] = min(counts[LEFT], column), max(counts[RIGHT], column)
    counts[N_EMPTY] += 1 if empty else -1 if flags[row, column] & EMPTY else 0
    flags[row, column] = (flags[row, column] & ~EMPTY) | KNOWN | (EMPTY if empty else np.uint8(0))
    for r in range(row - 1, row + 2):
        for c in range(column - 1, column + 2):
            refresh(flags, counts, r, c)


def _update(cells, view, row, column, heading, gamma, first):
    label, confidence, last, flags, rows, columns, counts = cells
    counts[TIME] += 1
    now = counts[TIME]
    for i in range(view.shape[0]):
        for j in range(view.shape[0]):
            if view[i, j] == HIDDEN:
                continue
            r, c = place(view.shape[0], i, j, row, column, heading)
            decayed = 0.0
            if flags[r, c] & KNOWN and label[r, c] == view[i, j]:
                decayed = confidence[r, c] * (gamma if last[r, c] == now - 1 else gamma ** (now - last[r, c]))
            confidence[r, c] = decayed + (1 - gamma)
            last[r, c], label[r, c] = now, view[i, j]
            enter(flags, counts, rows, columns, r, c, view[i, j] == 0)
    if first:
        label[row, column], last[row, column], confidence[row, column] = 0, now, 1 - gamma
        enter(flags, counts, rows, columns, row, column, True)
    return max(row - counts[TOP], counts[BOTTOM] - row, column - counts[LEFT], counts[RIGHT] - column)


update = jit(_update)
"""Let a step pass in which a view is seen; ``first``: the first of a map, which knows its own place to be empty.

Returns how far the farthest row or column of the map is from the agent's.
"""


def _predicted(cells, view, row, column, heading, gamma):
    label, confidence, last, flags, _, _, counts = cells
    total, visible = 0.0, 0
    for i in range(view.shape[0]):
        for j in range(view.shape[0]):
            if view[i, j] == HIDDEN:
                continue
            visible += 1
            r, c = place(view.shape[0], i, j, row, column, heading)
            if flags[r, c] & KNOWN and label[r, c] == view[i, j]:
                age = counts[TIME] - last[r, c]
                total += confidence[r, c] * (gamma**age if age else 1.0)
    return total / visible if visible else 0.0


predicted = jit(_predicted)
"""The mean confidence with which a map predicts the visible cells of a view; 0 where nothing is visible."""


def _cut(cells, top, left, bottom, right):
    _, _, _, flags, rows, columns, counts = cells
    t, e, b, r = counts[TOP], counts[LEFT], counts[BOTTOM], counts[RIGHT]
    for row in range(t, b + 1):
        for column in range(e, r + 1):
            if (top <= row <= bottom and left <= column <= right) or not flags[row, column] & KNOWN:
                continue
            counts[N_EMPTY] -= flags[row, column] & EMPTY
            flags[row, column] &= ~(EMPTY | KNOWN)
            rows[row] -= 1
            columns[column] -= 1
            for r2 in range(row - 1, row + 2):
                for c2 in range(column - 1, column + 2):
                    refresh(flags, counts, r2, c2)
    while counts[TOP] < counts[BOTTOM] and not rows[counts[TOP]]:
        counts[TOP] += 1
    while counts[BOTTOM] > counts[TOP] and not rows[counts[BOTTOM]]:
        counts[BOTTOM] -= 1
    while counts[LEFT] < counts[RIGHT] and not columns[counts[LEFT]]:
        counts[LEFT] += 1
    while counts[RIGHT] > counts[LEFT] and not columns[counts[RIGHT]]:
        counts[RIGHT] -= 1
    if b >= 0 and not rows[counts[TOP]]:  # nothing is left: the bounds are at the ends of the arrays
        counts[TOP], counts[LEFT], counts[BOTTOM], counts[RIGHT] = rows.size, columns.size, -1, -1


cut = jit(_cut)
"""Forget the cells outside a rectangle, ends included."""


def _clusters(flags, counts, least, rows, columns, sizes):
    top, left = max(counts[TOP] - 1, 0), max(counts[LEFT] - 1, 0)
    bottom, right = min(counts[BOTTOM] + 2, flags.shape[0]), min(counts[RIGHT] + 2, flags.shape[1])
    visited = np.zeros((max(bottom - top, 0), max(right - left, 0)), dtype=np.bool_)
    members = np.empty((counts[N_FRONTIER], 2), dtype=np.int64)
    number = 0
    for row in range(top, bottom):
        for column in range(left, right):
            if visited[row - top, column - left] or not flags[row, column] & FRONTIER:
                continue
            visited[row - top, column - left] = True
            members[0] = row, column
            size, done = 1, 0
            while done < size:
                r, c = members[done]
                done += 1
                for r2 in range(max(r - 1, top), min(r + 2, bottom)):
                    for c2 in range(max(c - 1, left), min(c + 2, right)):
                        if flags[r2, c2] & FRONTIER and not visited[r2 - top, c2 - left]:
                            visited[r2 - top, c2 - left] = True
                            members[size] = r2, c2
                            size += 1
            if size < least:
                continue
            row_sum, column_sum = 0, 0
            for k in range(size):
                row_sum += members[k, 0]
                column_sum += members[k, 1]
            # Distances times the size of the cluster are integers, so that ties are exact.
            best, middle_row, middle_column = np.iinfo(np.int64).max, 0, 0
            for k in range(size):
                r, c = members[k]
                distance = abs(r * size - row_sum) + abs(c * size - column_sum)
                if distance < best or (distance == best and (r, c) < (middle_row, middle_column)):
                    best, middle_row, middle_column = distance, r, c
            near, rows[number], columns[number] = 3, middle_row, middle_column
            for r in range(max(middle_row - 1, 0), min(middle_row + 2, flags.shape[0])):
                for c in range(max(middle_column - 1, 0), min(middle_column + 2, flags.shape[1])):
                    away = abs(r - middle_row) + abs(c - middle_column)
                    if flags[r, c] & EMPTY and away < near:
                        near, rows[number], columns[number] = away, r, c
            sizes[number] = size
            number += 1
    return number, (bottom - top) * (right - left)


clusters = jit(_clusters)
"""Write the clusters of frontier cells: the empty cell beside the middle of each, and its size.

Returns how many there are, and how many cells were looked at.
"""


def _path(free, row, column, heading, goal_row, goal_column, headings, steps):
    height, width = free.shape
    move_into = np.full((height, width), np.int8(-1))
    queue = np.empty((height * width, 2), dtype=np.int32)
    queue[0] = row, column
    move_into[row, column] = 4
    size, done = 1, 0
    wanted_row, wanted_column = goal_row - MOVES[headings[0], 0], goal_column - MOVES[headings[0], 1]
    inside = 0 <= goal_row < height and 0 <= goal_column < width and free[goal_row, goal_column]
    while done < size:
        r, c = queue[done]
        if inside and r == wanted_row and c == wanted_column:
            break
        done += 1
        for move in range(4):
            r2, c2 = r + MOVES[move, 0], c + MOVES[move, 1]
            if 0 <= r2 < height and 0 <= c2 < width and free[r2, c2] and move_into[r2, c2] < 0:
                move_into[r2, c2] = move
                queue[size] = r2, c2
                size += 1
    last = -1
    if inside:
        for k in range(4):
            r, c = goal_row - MOVES[headings[k], 0], goal_column - MOVES[headings[k], 1]
            if last < 0 and 0 <= r < height and 0 <= c < width and move_into[r, c] >= 0:
                last = headings[k]
    if last < 0:  # the reachable pose next to the goal
        best = np.iinfo(np.int64).max
        for k in range(size):
            r, c = queue[k]
            distance = abs(r - goal_row) + abs(c - goal_column)
            for move in range(4):
                if (r, c, move) == (row, column, heading):
                    continue
                r2, c2 = r - MOVES[move, 0], c - MOVES[move, 1]
                if not (0 <= r2 < height and 0 <= c2 < width and move_into[r2, c2] >= 0):
                    continue
                order = ((distance * height + r) * width + c) * 4 + move
                if order < best:
                    best, last = order, move
        if last < 0:
            return -1, size
        goal_row, goal_column = best // 4 // width % height, best // 4 % width
    steps[0] = last
    length = 1
    r, c = goal_row - MOVES[last, 0], goal_column - MOVES[last, 1]
    while move_into[r, c] != 4:
        steps[length] = move_into[r, c]
        length += 1
        r, c = r - MOVES[steps[length - 1], 0], c - MOVES[steps[length - 1], 1]
    for k in range(length // 2):
        steps[k], steps[length - 1 - k] = steps[length - 1 - k], steps[k]
    return length, size


path = jit(_path)
"""Write the moves of a shortest path to a cell, arriving with the first of four headings that can be had.

Where the cell cannot be reached, the path leads to the reachable one nearest to it (sum of both distances; then the
first by rows and columns). Returns the number of moves, -1 where there is no path, and the cells that were visited.
"""
