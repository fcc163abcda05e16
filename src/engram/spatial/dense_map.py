"""The reference implementation of a local map: its equations over all cells and labels, in plain NumPy."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Bool

from engram import checks
from engram.numeric.grid_view import HIDDEN, MOVES
from engram.spatial.local_map import Clusters, LocalMap, Path, View, check_cell, check_goal

_AROUND = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]


class DenseMap(LocalMap):
    """A local map with a confidence for each label of each cell; all confidences decay at each step.

    Use it for worlds in which colours change; in other worlds it equals ``LocalMap``, which is tested against it.
    Arguments and methods are the same, but the cost of a step grows with the numbers of cells and labels of the map.

    Examples:
        >>> view = np.full((3, 3), -1)
        >>> view[:, 1] = 5, 0, 0
        >>> dense = DenseMap(3)
        >>> dense.update(view)
        >>> round(dense.confidence(view), 6), dense.known_empty().astype(int).tolist()
        (0.1, [[0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]])
    """

    _room = 1  # small, since every step goes through all cells

    def _allocate(self, height: int, width: int) -> None:
        self._labels = [0]
        self._maps = np.zeros((1, height, width))
        self._seen = np.zeros((1, height, width), dtype=bool)  # separate, since a confidence can decay to 0

    def update(self, view: View) -> None:
        """Update the map by one step, with the view from the agent's pose."""
        view, agent = self.checked(view), self._in_arrays()
        self._maps *= self.gamma
        for array_row, array_column, label in self._visible(view):
            if label not in self._labels:
                self._labels.append(label)
                self._maps = np.concatenate([self._maps, np.zeros_like(self._maps[:1])])
                self._seen = np.concatenate([self._seen, np.zeros_like(self._seen[:1])])
            channel = self._labels.index(label)
            self._maps[channel, array_row, array_column] = min(
                self._maps[channel, array_row, array_column] + 1 - self.gamma, 1.0
            )
            self._seen[channel, array_row, array_column] = True
        if self.time == 0:
            self._maps[0, agent[0], agent[1]], self._seen[0, agent[0], agent[1]] = 1 - self.gamma, True
        self.time += 1
        if self.reach is not None:
            rows, columns = np.indices(self._maps.shape[1:])
            far = np.maximum(abs(rows - agent[0]), abs(columns - agent[1])) > self.reach
            self._maps[:, far], self._seen[:, far] = 0.0, False

    def confidence(self, view: View) -> float:
        """The mean confidence in the visible cells of a view from the agent's pose; 0 if nothing is visible."""
        visible = self._visible(self.checked(view))
        confidences = [
            self._maps[self._labels.index(k), array_row, array_column]
            for array_row, array_column, k in visible
            if k in self._labels
        ]
        return float(sum(confidences)) / len(visible) if visible else 0.0

    @property
    def q(self) -> float:
        """The number of frontier cells per empty cell; 0 for a map without empty cells."""
        empty = int(self.known_empty().sum())
        return int(self.frontier().sum()) / empty if empty else 0.0

    @property
    def bbox(self) -> tuple[int, int, int, int]:
        """First row, first column, last row and last column of the known cells; (0, 0, -1, -1) if there are none."""
        known_cells = np.argwhere(self._seen.any(0))
        if not len(known_cells):
            return 0, 0, -1, -1
        (top, left), (bottom, right) = known_cells.min(0) - self._origin, known_cells.max(0) - self._origin
        return int(top), int(left), int(bottom), int(right)

    def known_empty(self) -> Bool[np.ndarray, "rows columns"]:
        """A mask of the cells that are known to be empty, over the bounding box with one cell around it.

        If a cell was seen with several labels, the label of largest confidence counts; at a tie, 0 (empty).
        """
        return self._framed(np.asarray(self._seen[0] & (self._maps.argmax(0) == 0)))

    def known_wall(self) -> Bool[np.ndarray, "rows columns"]:
        """A mask of the cells that are known to be walls, with the shape of ``known_empty``."""
        return np.asarray(self._framed(np.any(self._seen, axis=0)) & ~self.known_empty())

    def frontier(self) -> Bool[np.ndarray, "rows columns"]:
        """A mask of the cells that are unknown and touch an empty cell, with the shape of ``known_empty``."""
        empty = np.pad(self.known_empty(), 1)
        touched = np.any([np.roll(empty, shift, (0, 1)) for shift in _AROUND], axis=0)[1:-1, 1:-1]
        return np.asarray(touched & ~self._framed(np.any(self._seen, axis=0)))

    def is_empty(self, row: int, column: int) -> bool | None:
        """Whether a cell is empty; None if it was never seen."""
        check_cell(row, column)
        array_row, array_column = np.array([row, column]) - self.bbox[:2] + 1
        empty = self.known_empty()
        if not (0 <= array_row < empty.shape[0] and 0 <= array_column < empty.shape[1]):
            return None
        return True if empty[array_row, array_column] else False if self.known_wall()[array_row, array_column] else None

    def clusters(self, min_size: int = 2) -> Clusters:
        """The clusters of frontier cells that touch each other, ordered by row and column of their first cell."""
        checks.size("min_size", min_size)
        frontier = {(int(row), int(column)) for row, column in np.argwhere(self.frontier())}
        empty, centres = np.argwhere(self.known_empty()), []
        for first in sorted(frontier):
            if first not in frontier:
                continue
            members, queue = [], deque([first])
            frontier.discard(first)
            while queue:
                row, column = queue.popleft()
                members.append((row, column))
                for neighbour in [(row + rows_down, column + columns_right) for rows_down, columns_right in _AROUND]:
                    if neighbour in frontier:
                        frontier.discard(neighbour)
                        queue.append(neighbour)
            if len(members) >= min_size:
                size, total = len(members), np.sum(members, axis=0)
                centre = min(members, key=lambda cell: (int(abs(np.array(cell) * size - total).sum()), cell))
                nearest = empty[((empty - centre) ** 2).sum(1).argmin()]
                centres.append((*(nearest - 1 + self.bbox[:2]).tolist(), size))
        rows, columns, sizes = np.array(centres, dtype=np.int64).reshape(-1, 3).T
        return Clusters(rows, columns, sizes, self.known_empty().size)

    def path(self, row: int, column: int, headings: tuple[int, int, int, int]) -> Path:
        """A shortest path over empty cells to a cell or, if it cannot be reached, to the nearest one that can.

        Args:
            row: Row of the cell, from where the agent started.
            column: Its column.
            headings: Headings to arrive with; the first that is possible is taken.

        Raises:
            ValueError: A heading is not 0 to 3, or there are not four.
        """
        check_goal(row, column, headings)
        cells = np.argwhere(self.known_empty()) - 1 + self.bbox[:2]
        free = {(int(r), int(c)) for r, c in cells}
        start, moves = (self.pose.row, self.pose.column), [(int(r), int(c)) for r, c in MOVES]
        if start not in free:
            return Path(None, 0)
        move_into: dict[tuple[int, int], int | None] = {start: None}
        queue, order = deque([start]), [start]

        def cell_before(cell: tuple[int, int], move: int) -> tuple[int, int]:
            return cell[0] - moves[move][0], cell[1] - moves[move][1]

        while queue:
            r, c = queue.popleft()
            if (row, column) in free and (r, c) == cell_before((row, column), headings[0]):
                break
            for move, (rows_down, columns_right) in enumerate(moves):
                neighbour = (r + rows_down, c + columns_right)
                if neighbour in free and neighbour not in move_into:
                    move_into[neighbour] = move
                    queue.append(neighbour)
                    order.append(neighbour)
        near = sorted(move_into, key=lambda cell: (abs(cell[0] - row) + abs(cell[1] - column), cell))
        ends = [((row, column), heading) for heading in headings if (row, column) in free]
        ends += [(cell, heading) for cell in near for heading in range(4) if (*cell, heading) != tuple(self.pose)]
        for cell, heading in ends:
            if cell_before(cell, heading) in move_into:
                steps, reached = [heading], cell_before(cell, heading)
                while (arrived := move_into[reached]) is not None:
                    steps.append(arrived)
                    reached = cell_before(reached, arrived)
                return Path(steps[::-1], len(order))
        return Path(None, len(order))

    def _visible(self, view: View) -> list[tuple[int, int, int]]:
        """The row and column in the arrays, and the label, of each visible cell."""
        (row, column), size = self._in_arrays(), self.view_size
        ahead, aside = MOVES[self.pose.heading].tolist()
        cells = []
        for i, j in np.argwhere(view != HIDDEN).tolist():
            far, across = size - 1 - i, j - size // 2
            cell = row + far * ahead + across * aside, column + far * aside - across * ahead
            cells.append((*cell, int(view[i, j])))
        return cells

    def _framed(self, cells: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "rows columns"]:
        """The part of a mask in the bounding box of the known cells and one cell around it."""
        top, left, bottom, right = np.array(self.bbox) + np.tile(self._origin, 2)
        return cells[top - 1 : bottom + 2, left - 1 : right + 2] if bottom >= top else np.zeros((0, 0), dtype=bool)

    def _in_arrays(self) -> tuple[int, int]:
        margin = self.view_size + 2
        agent = np.add(self._origin, self.pose[:2])
        missing_before = np.maximum(margin - agent, 0)
        missing_after = np.maximum(agent + margin + 1 - self._maps.shape[1:], 0)
        pads = [(0, 0), *((int(b), int(a)) for b, a in zip(missing_before, missing_after, strict=True))]
        self._maps, self._seen = np.pad(self._maps, pads), np.pad(self._seen, pads)
        self._origin = (self._origin[0] + int(missing_before[0]), self._origin[1] + int(missing_before[1]))
        return self.pose.row + self._origin[0], self.pose.column + self._origin[1]
