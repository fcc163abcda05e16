"""A map that is built while walking and forgets: the label seen in each cell, with a decaying confidence."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from engram import checks
from engram.numeric.grid_view import LARGEST, MOVES
from engram.spatial import kernels

View = Int[np.ndarray, "size size"]
_MOVES = MOVES.tolist()
_MARGIN = 2  # cells around a view whose frontiers may change


class Pose(NamedTuple):
    """A place on a map and a heading: 0 up, 1 down, 2 left, 3 right. A map begins at row 0 and column 0."""

    row: int
    column: int
    heading: int


class Clusters(NamedTuple):
    """Clusters of frontier cells.

    Attributes:
        rows: Row of the empty cell that is nearest to the middle of each.
        columns: Its column.
        sizes: Number of cells of each.
        work: Number of cells examined to find them.
    """

    rows: Int[np.ndarray, " clusters"]
    columns: Int[np.ndarray, " clusters"]
    sizes: Int[np.ndarray, " clusters"]
    work: int


class Path(NamedTuple):
    """A path: its moves, None if there is none, and the number of cells that were visited to find it."""

    moves: list[int] | None
    work: int


class LocalMap:
    r"""A map that stores for every cell its label and the confidence of seeing it again.

        M_t = gamma M_{t-1} + (1 - gamma) O_t        for each cell and label, O_t 1 where it is seen as such
        c_t = mean over visible cells of M_t(cell, label that is seen)
        frontier: cells that were never seen and touch an empty one, by a side or a corner
        q = |frontier| / |empty|

    Labels are 0 for an empty cell and above 0 for the colour of a wall. Each cell has one label, the one seen last; for
    worlds in which colours change use ``DenseMap``, which is also the reference that this map is tested against. The
    cost of an update depends on the size of a view, not of the map.

    Args:
        view_size: Cells along a side of a view, odd; the viewer is in the middle of the bottom row and looks up.
        gamma: Decay of confidence in a step.
        heading: The heading at the start.
        reach: Distance from the agent, in rows and in columns, up to which cells are kept; None: all are.

    Attributes:
        pose: Where the agent is.
        time: Number of updates so far.

    Source: Hwang et al., "Grid cell-inspired fragmentation and recall for efficient map building" (2024).

    Examples:
        >>> view = np.full((3, 3), -1)
        >>> view[:, 1] = 5, 0, 0
        >>> local_map = LocalMap(3)
        >>> local_map.update(view)
        >>> round(local_map.confidence(view), 6), local_map.bbox, local_map.move(0)
        (0.1, (-2, 0, 0, 0), Pose(row=-1, column=0, heading=0))
    """

    _room = 2  # views that fit to each side before the arrays have to grow

    __repr__ = checks.described

    def __init__(self, view_size: int = 15, gamma: float = 0.9, *, heading: int = 0, reach: int | None = 250) -> None:
        if checks.size("view_size", view_size, 3, LARGEST) % 2 == 0:
            raise ValueError(f"view_size = {view_size}: expected an odd number")
        self.view_size = view_size
        self._view_shape = (view_size, view_size)
        self.gamma = checks.number("gamma", gamma, minimum=0, below=1)
        self.reach = None if reach is None else checks.size("reach", reach, minimum=view_size)
        self.pose = Pose(0, 0, checks.size("heading", heading, 0, 3))
        self.time = 0
        side = 2 * self._room * (view_size + _MARGIN) + 1
        self._origin = (side // 2, side // 2)  # where row 0 and column 0 are in the arrays
        self._allocate(side, side)

    def _allocate(self, height: int, width: int) -> None:
        self._label = np.zeros((height, width), dtype=np.int32)
        self._confidence = np.zeros((height, width))
        self._last = np.zeros((height, width), dtype=np.int32)
        self._flags = np.zeros((height, width), dtype=np.uint8)
        self._rows, self._columns = np.zeros(height, dtype=np.int32), np.zeros(width, dtype=np.int32)
        self._counts = np.array([0, 0, 0, height, width, -1, -1])
        arrays = (self._label, self._confidence, self._last, self._flags, self._rows, self._columns)
        self._cells: tuple[np.ndarray, ...] = (*arrays, self._counts)

    def place(self, pose: Pose) -> None:
        """Move the agent to another pose."""
        checks.arguments()
        row = checks.size("pose.row", pose.row, -checks.LARGEST_SIZE)
        column = checks.size("pose.column", pose.column, -checks.LARGEST_SIZE)
        self.pose = Pose(row, column, checks.size("pose.heading", pose.heading, 0, 3))

    def move(self, action: int) -> Pose:
        """Move the agent one cell up, down, left or right, heading that way; return its pose."""
        rows, columns = _MOVES[checks.size("action", action, 0, 3)]
        self.pose = Pose(self.pose.row + rows, self.pose.column + columns, action)
        return self.pose

    def update(self, view: View) -> None:
        """Update the map by one step, with the view from the agent's pose.

        Args:
            view: Labels, -1 for cells that are not visible, (view_size, view_size).
        """
        row, column = self._in_arrays()
        first = self.time == 0
        far = kernels.update(self._cells, self.checked(view), row, column, self.pose.heading, self.gamma, first)
        self.time += 1
        if self.reach is not None and far > self.reach:
            ends = (row - self.reach, column - self.reach, row + self.reach, column + self.reach)
            kernels.cut(self._cells, *ends)

    def confidence(self, view: View) -> float:
        """The mean confidence in the visible cells of a view from the agent's pose; 0 if nothing is visible."""
        row, column = self._in_arrays()
        return float(kernels.predicted(self._cells, self.checked(view), row, column, self.pose.heading, self.gamma))

    @property
    def q(self) -> float:
        """The number of frontier cells per empty cell; 0 for a map without empty cells."""
        empty, frontier = self._counts[:2].tolist()
        return frontier / empty if empty else 0.0

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """First row, first column, last row and last column of the known cells; (0, 0, -1, -1) if there are none."""
        top, left, bottom, right = self._counts[kernels.TOP :].tolist()
        if bottom < 0:
            return 0, 0, -1, -1
        row, column = self._origin
        return top - row, left - column, bottom - row, right - column

    @property
    def area(self) -> int:
        """The number of cells in the bounding box of the known cells, which determines the memory of the map."""
        top, left, bottom, right = self.bbox
        return (bottom - top + 1) * (right - left + 1)

    def known_empty(self) -> Bool[np.ndarray, "rows columns"]:
        """A mask of the cells that are known to be empty, over the bounding box with one cell around it."""
        return self._around(kernels.EMPTY)

    def known_wall(self) -> Bool[np.ndarray, "rows columns"]:
        """A mask of the cells that are known to be walls, with the shape of ``known_empty``."""
        return np.asarray(self._around(kernels.KNOWN) & ~self._around(kernels.EMPTY))

    def frontier(self) -> Bool[np.ndarray, "rows columns"]:
        """A mask of the cells that are unknown and touch an empty cell, with the shape of ``known_empty``."""
        return self._around(kernels.FRONTIER)

    def is_empty(self, row: int, column: int) -> bool | None:
        """Whether a cell is empty; None if it was never seen."""
        check_cell(row, column)
        array_row, array_column = row + self._origin[0], column + self._origin[1]
        inside = 0 <= array_row < self._flags.shape[0] and 0 <= array_column < self._flags.shape[1]
        flags = int(self._flags[array_row, array_column]) if inside else 0
        return bool(flags & kernels.EMPTY) if flags & kernels.KNOWN else None

    def clusters(self, min_size: int = 2) -> Clusters:
        """The clusters of frontier cells that touch each other, ordered by row and column of their first cell."""
        checks.size("min_size", min_size)
        maximum = max(1, int(self._counts[kernels.N_FRONTIER]))
        rows, columns, sizes = np.zeros(maximum, np.int64), np.zeros(maximum, np.int64), np.zeros(maximum, np.int64)
        count, work = kernels.clusters(self._flags, self._counts, min_size, rows, columns, sizes)
        return Clusters(rows[:count] - self._origin[0], columns[:count] - self._origin[1], sizes[:count], int(work))

    def path(self, row: int, column: int, headings: tuple[int, int, int, int]) -> Path:
        """A shortest path over empty cells to a cell or, if it cannot be reached, to the nearest one that can.

        Args:
            row: Row of the cell, from where the agent started.
            column: Its column.
            headings: Headings to arrive with; the first that is possible is taken.
        """
        check_goal(row, column, headings)
        top, left, bottom, right = self._counts[kernels.TOP :].tolist()
        agent = self._in_arrays()
        if self.is_empty(*self.pose[:2]) is not True:
            return Path(None, 0)
        free = (self._flags[top : bottom + 1, left : right + 1] & kernels.EMPTY).astype(np.bool_)
        steps = np.zeros(free.size + 4, dtype=np.int64)
        start = (agent[0] - top, agent[1] - left, self.pose.heading)
        goal = (row + self._origin[0] - top, column + self._origin[1] - left)
        length, work = kernels.path(free, *start, *goal, np.asarray(headings), steps)
        return Path(None if length < 0 else steps[:length].tolist(), int(work))

    def _around(self, flag: np.uint8) -> Bool[np.ndarray, "rows columns"]:
        top, left, bottom, right = self._counts[kernels.TOP :].tolist()
        if bottom < 0:
            return np.zeros((0, 0), dtype=bool)
        framed: np.ndarray = self._flags[top - 1 : bottom + 2, left - 1 : right + 2]
        return (framed & flag).astype(bool)

    def checked(self, view: View) -> View:
        """The view, after a check of its shape and type; raise ValueError if it is not one of this map's views."""
        if not isinstance(view, np.ndarray) or view.shape != self._view_shape or view.dtype.kind != "i":
            raise ValueError(f"view = {checks.shown(view)}: expected integers of shape {self._view_shape}")
        return view

    def _in_arrays(self) -> tuple[int, int]:
        """The agent's row and column in the arrays, which grow if a view from there would not fit."""
        margin = self.view_size + _MARGIN
        row, column = self.pose.row + self._origin[0], self.pose.column + self._origin[1]
        height, width = self._flags.shape
        if margin <= row < height - margin and margin <= column < width - margin:
            return row, column
        missing_before = np.maximum(margin - np.array([row, column]), 0)
        missing_after = np.maximum(np.array([row + margin + 1 - height, column + margin + 1 - width]), 0)
        self._grow(missing_before, missing_after)
        return self.pose.row + self._origin[0], self.pose.column + self._origin[1]

    def _grow(self, before: np.ndarray, after: np.ndarray) -> None:
        """Add the cells that each side needs, and half the arrays' length beyond them, so that arrays seldom grow."""
        shape = np.array(self._flags.shape)
        before, after = before + shape // 2 * (before > 0), after + shape // 2 * (after > 0)
        rows, columns = (slice(start, start + length) for start, length in zip(before, shape, strict=True))
        height, width = (shape + before + after).tolist()
        previous_cells, counts = self._cells, self._counts
        self._allocate(height, width)
        for array, larger in zip(previous_cells[:4], self._cells, strict=False):
            larger[rows, columns] = array
        self._rows[rows], self._columns[columns] = previous_cells[4:6]
        self._origin = (self._origin[0] + int(before[0]), self._origin[1] + int(before[1]))
        if counts[kernels.BOTTOM] < 0:  # nothing is known yet: the bounds are at the ends of the arrays
            counts[kernels.TOP :] = (height, width, -1, -1)
        else:
            counts[kernels.TOP :] += np.tile(before, 2)
        self._counts[:] = counts


def check_cell(row: Any, column: Any) -> None:
    """Raise TypeError or ValueError unless these are the row and the column of a cell."""
    checks.size("row", row, -checks.LARGEST_SIZE)
    checks.size("column", column, -checks.LARGEST_SIZE)


def check_goal(row: Any, column: Any, headings: Any) -> None:
    """Raise TypeError or ValueError unless these are a cell and four headings to arrive with, each 0 to 3."""
    check_cell(row, column)
    is_list = isinstance(headings, tuple | list | np.ndarray) and len(headings) == 4
    if not is_list or not all(isinstance(heading, int | np.integer) and 0 <= heading < 4 for heading in headings):
        raise ValueError(f"headings = {checks.shown(headings)}: expected a tuple of four ints, each 0 to 3")
