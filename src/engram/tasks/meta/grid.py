"""Mazes on a grid, as the space of a meta-task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Bool, Int
from pydantic import Strict

from engram import checks
from engram.tasks.meta.fields import PLAIN, STRICT, Count, Index, Side, validate_fields

Walls = tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class Grid:
    """A grid of cells, some of them walls, in which an agent moves.

    The states of the task are the cells, cell (row, column) being state ``row * width + column``. The actions are
    up, right, down, left, and with ``moves=5`` to stay. A move into a wall or off the grid has no effect.

    Args:
        height: Number of rows.
        width: Number of columns.
        moves: Number of actions, 4 or 5.
        walls: "open" (none), "pillars" (wherever row and column are odd, except the cell in the middle),
            "random_maze" (in each instance a new perfect maze, carved by depth-first search), or a table of booleans
            (height, width).
        obs: Observation of a cell: "none" (zeros), "position" (one-hot), "coordinates" (row and column as fractions of
            the maximum), "window" (the walls around it, 1 also outside the grid), or "stimuli" (those of the state).
        on_reward: Effect of a paid reward: "none", "teleport" (to another free cell), "reset" (to the start, with the
            flag cleared), or "terminate".
        start: The cell at the start: its number, "center", or "random" (a free cell, new in every episode).
        window: Side of the observed window; odd.

    Raises:
        TypeError, ValueError: An argument is out of range, a random maze has an even size, or the start is a wall.

    Source: our own design of what the paper calls simple extensions.

    Examples:
        >>> grid = Grid(5, 5, walls="pillars")
        >>> grid.start_cell, grid.wall_map().nonzero()[0].tolist()
        (12, [6, 8, 16, 18])
    """

    __pydantic_config__: ClassVar = STRICT

    height: Side
    width: Side
    moves: Annotated[int, Strict(), Ge(4), Le(5), PLAIN] = 4
    walls: Literal["open", "pillars", "random_maze"] | Walls = "open"
    obs: Literal["none", "position", "coordinates", "window", "stimuli"] = "position"
    on_reward: Literal["none", "teleport", "reset", "terminate"] = "none"
    start: Literal["center", "random"] | Index = "center"
    window: Count = 3

    def __post_init__(self) -> None:
        if not isinstance(self.walls, str):
            table = np.asarray(self.walls)
            if table.shape != (self.height, self.width) or table.dtype != bool:
                raise ValueError(f"topology.walls: expected booleans of shape {(self.height, self.width)}")
            object.__setattr__(self, "walls", tuple(map(tuple, table.tolist())))
        validate_fields(self, "topology.")
        if self.window % 2 == 0:
            raise ValueError(f"topology.window = {self.window}: expected an odd number")
        if self.wall_map().all():
            raise ValueError("topology.walls: expected at least one free cell")
        if self.walls == "random_maze" and (self.height % 2 == 0 or self.width % 2 == 0 or self.n_cells < 3):
            size = f"{self.height}x{self.width}"
            raise ValueError(f"topology.walls = 'random_maze' on {size}: expected odd sizes, and more than one cell")
        cell = self.start_cell
        if cell is not None and cell >= self.n_cells:
            raise ValueError(f"topology.start = {self.start}: expected a cell below {self.n_cells}")
        if cell is not None and not self.always_free(cell):
            rule = "an even row and column, where every maze is free" if self.walls == "random_maze" else "no wall"
            raise ValueError(f"topology.start = {self.start!r}, cell {cell}: expected {rule}")
        if self.on_reward == "teleport" and self.walls != "random_maze" and (~self.wall_map()).sum() < 2:
            raise ValueError("topology.on_reward = 'teleport': expected at least 2 free cells")

    @property
    def n_cells(self) -> int:
        """Cells of the grid, walls included."""
        return self.height * self.width

    @property
    def start_cell(self) -> int | None:
        """The cell at the start, or None if it is random."""
        if self.start == "random":
            return None
        if self.start == "center":
            return (self.height // 2) * self.width + self.width // 2
        return int(self.start)

    def always_free(self, cell: int) -> bool:
        """Whether a cell is free in every instance."""
        checks.size("cell", cell, 0, self.width * self.height - 1)
        if self.walls == "random_maze":
            return cell // self.width % 2 == 0 and cell % self.width % 2 == 0
        return not self.wall_map()[cell]

    def wall_map(self) -> Bool[np.ndarray, "cells"]:
        """Whether each cell is a wall in every instance; False for a random maze."""
        wall = np.zeros((self.height, self.width), dtype=bool)
        if self.walls == "pillars":
            wall[1::2, 1::2] = True
            wall[self.height // 2, self.width // 2] = False
        elif not isinstance(self.walls, str):
            wall[:] = self.walls
        return wall.ravel()

    def moved(self) -> Int[np.ndarray, "cells moves"]:
        """The cell next to each one in the direction of each move, or itself at the edge."""
        row, column = np.divmod(np.arange(self.n_cells)[:, None], self.width)
        down, right = np.array([[-1, 0, 1, 0, 0], [0, 1, 0, -1, 0]])[:, : self.moves]
        inside = (row + down).clip(0, self.height - 1), (column + right).clip(0, self.width - 1)
        cells: Int[np.ndarray, "cells moves"] = inside[0] * self.width + inside[1]
        return cells
