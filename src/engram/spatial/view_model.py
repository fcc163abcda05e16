"""An agent's view of a grid world: a square ahead of it, without the cells that walls hide."""

from __future__ import annotations

from collections import deque

import numpy as np
from jaxtyping import Bool, Int

from engram import checks
from engram.numeric.grid_view import HIDDEN, LARGEST, MOVES, cone, look, shadow, tables
from engram.spatial.local_map import View


class ViewModel:
    """The view from a pose: a square ahead, turned so that the heading is up, with shadows and a cone of sight.

    Every wall cell of the square casts a shadow away from the viewer; of the other cells, it sees those that it can
    reach over visible empty cells by steps ahead and to the side, and the walls that these touch.

    Args:
        size: Cells along a side, odd; the viewer is in the middle of the bottom row.
        fov_ratio: How narrow the cone is: 0.25 leaves about 130 degrees, 0 hides only the viewer's row.

    Source: Hwang et al., "Grid cell-inspired fragmentation and recall for efficient map building" (2024).

    Examples:
        >>> world = np.array([[2, 3, 4], [5, 0, 6], [7, 0, 8]])
        >>> ViewModel(3).observe(world, (2, 1, 0)).tolist()
        [[-1, 3, -1], [-1, 0, -1], [-1, 0, -1]]
    """

    __repr__ = checks.described

    def __init__(self, size: int = 15, fov_ratio: float = 0.25) -> None:
        if checks.size("size", size, 3, LARGEST) % 2 == 0:
            raise ValueError(f"size = {size}: expected an odd number")
        self.size = size
        self.fov_ratio = checks.number("fov_ratio", fov_ratio, minimum=0, maximum=1)
        self._shadows, self._cone = tables(size, fov_ratio)

    def observe(self, world: Int[np.ndarray, "rows columns"], pose: tuple[int, int, int]) -> View:
        """The view from a pose.

        Args:
            world: Labels: 0 for an empty cell, above 0 for walls.
            pose: Row, column and heading: 0 up, 1 down, 2 left, 3 right.

        Returns:
            Labels, -1 for cells that are not visible, (size, size).

        Raises:
            ValueError: The pose is outside the world or in a wall, or a label is no number of 32 bits above 0.
        """
        row, column, heading = self._checked(world, pose)
        view = np.empty((self.size, self.size), dtype=np.int32)
        look(world, row, column, heading, self._shadows, self._cone, view)
        return view

    def defined(self, world: Int[np.ndarray, "rows columns"], pose: tuple[int, int, int]) -> View:
        """The same view, computed cell by cell from the definition."""
        row, column, heading = self._checked(world, pose)
        ahead, aside = MOVES[heading].tolist()
        view = np.full((self.size, self.size), HIDDEN, dtype=np.int32)
        for i, j in np.ndindex(view.shape):
            far, across = self.size - 1 - i, j - self.size // 2
            seen_row, seen_column = row + far * ahead + across * aside, column + far * aside - across * ahead
            if 0 <= seen_row < world.shape[0] and 0 <= seen_column < world.shape[1]:
                view[i, j] = world[seen_row, seen_column]
        obstacles = np.argwhere(view > 0).tolist()
        for i, j in obstacles:
            view[shadow(self.size, i, j)] = HIDDEN
        view[~self._touched(view)] = HIDDEN
        view[cone(self.size, self.fov_ratio)] = HIDDEN
        view[~self._touched(view)] = HIDDEN
        return view

    def _touched(self, view: View) -> Bool[np.ndarray, "size size"]:
        """A mask of the cells that the viewer reaches through empty cells, by steps ahead and to the side."""
        touched, queue = np.zeros(view.shape, dtype=bool), deque([(self.size - 1, self.size // 2)])
        touched[queue[0]] = True
        while queue:
            i, j = queue.popleft()
            for neighbour in ((i - 1, j), (i, j - 1), (i, j + 1)):
                inside = neighbour[0] >= 0 and 0 <= neighbour[1] < self.size
                if inside and view[i, j] == 0 and view[neighbour] != HIDDEN and not touched[neighbour]:
                    touched[neighbour] = True
                    queue.append(neighbour)
        return touched

    def _checked(self, world: Int[np.ndarray, "rows columns"], pose: tuple[int, int, int]) -> tuple[int, int, int]:
        usual = type(pose) is tuple and list(map(type, pose)) == [int] * 3 and type(world) is np.ndarray
        if not (usual and world.ndim == 2 and world.dtype.kind == "i"):  # takes a fifth of the time of the whole check
            checks.arguments()
        row, column, heading = pose
        if not (0 <= row < world.shape[0] and 0 <= column < world.shape[1] and 0 <= heading < len(MOVES)):
            raise ValueError(
                f"pose = {pose}: expected a cell of a world of shape {world.shape} and a heading from 0 to 3"
            )
        if world[row, column]:
            raise ValueError(f"pose = {pose}: expected an empty cell, this is a wall")
        if world.dtype != np.int32:  # a view has 32 bits
            check_labels(world)
        return row, column, heading


def check_labels(world: Int[np.ndarray, "rows columns"]) -> None:
    """Raise ValueError unless the labels of a world are 0, or numbers of 32 bits above it."""
    if world.size and (world.min() < 0 or world.max() >= 2**31):
        label = world.min() if world.min() < 0 else world.max()
        raise ValueError(f"world has a label of {label}: expected 0 for an empty cell, 1 to 2^31 - 1 for a wall")
