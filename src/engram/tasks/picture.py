"""Worlds made of cells, shown as pixels and as text."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8

RENDERED = {"render_modes": ["rgb_array", "ansi"], "render_fps": 10}
"""The metadata of an environment that has a picture."""

PIXELS = 16  # along a side of a cell
COLOURS = {"#": (64, 64, 64), ".": (240, 240, 236), "G": (230, 159, 0), "K": (0, 158, 115), "A": (0, 114, 178)} | {
    "?": (168, 168, 176),
    "7": (213, 94, 0),
    "8": (204, 121, 167),
}


class Picture(NamedTuple):
    """A picture of a world of cells with an agent in it.

    As text, ``#`` is a wall, ``.`` a free cell, ``G`` a goal, ``K`` a key, ``7`` and ``8`` coloured walls, ``?`` a
    cell that was not seen, and ``A`` the agent in place of its cell. As an image of 16 x 16 pixels for each cell, walls
    are dark grey or red and pink, free cells light, cells that were not seen grey, goals orange, keys green, and the
    agent is a blue square within its cell.

    Examples:
        >>> print(Picture(np.array([["#", "."], ["G", "."]]), (0, 1)).text())
        #A
        G.
    """

    cells: Shaped[np.ndarray, "rows columns"]
    agent: tuple[int, int]

    def text(self) -> str:
        """A line of characters for each row."""
        cells = self.cells.copy()
        cells[self.agent] = "A"
        return "\n".join("".join(row) for row in cells)

    def image(self) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels."""
        image = np.zeros((*self.cells.shape, 3), np.uint8)
        for symbol, colour in COLOURS.items():
            image[self.cells == symbol] = colour
        image = image.repeat(PIXELS, axis=0).repeat(PIXELS, axis=1)
        image[::PIXELS] = image[::PIXELS] // 8 * 7  # a line between cells, so that they can be counted
        image[:, ::PIXELS] = image[:, ::PIXELS] // 8 * 7
        row, column = (PIXELS * index for index in self.agent)
        image[row + 4 : row + PIXELS - 3, column + 4 : column + PIXELS - 3] = COLOURS["A"]
        return image
