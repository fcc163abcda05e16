"""Mazes made of rooms, corridors and doors, and their walls in colours."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, UInt8
from scipy import ndimage

from engram import checks
from engram.tasks.text_rows import text_rows

Maze = Bool[np.ndarray, "rows columns"]
Cells = Bool[np.ndarray, "_ _"]  # of any size, where others of another size are beside them
HIDDEN_COLOUR = 88  # colour of hidden cells, in all three channels
MOST_LABELS = 2**24 - 1  # colours of 24 bits except the one for hidden cells
_SEED, _CALLS = 13, 200  # of the published generator
_CROSS = ndimage.generate_binary_structure(2, 1)


def maze_of(text: str, name: str = "text") -> Maze:
    r"""A maze from text, a line for each row: ``#`` a wall, ``.`` or a space an empty cell; errors call it ``name``.

    Raises:
        ValueError: The lines differ in length or have other characters, or there is no empty cell.

    Examples:
        >>> maze_of("###\n#.#\n###").astype(int).tolist()
        [[1, 1, 1], [1, 0, 1], [1, 1, 1]]
    """
    checks.arguments()
    lines = text_rows(text)
    if len({len(line) for line in lines}) != 1 or set("".join(lines)) - set("#. "):
        raise ValueError(f"{name} = {checks.shown(text)}: expected lines of one length made of '#' and '.'")
    return check_maze(np.array([[cell == "#" for cell in line] for line in lines]), name)


def check_maze(maze: Any, name: str = "maze") -> Maze:
    """A maze as booleans, True for a wall; raise ValueError if it is not a maze or has no empty cell."""
    cells = checks.array(name, maze, ("rows", "columns"), np.int64)
    if np.asarray(maze).dtype.kind == "f" or not np.isin(cells, (0, 1)).all():
        raise ValueError(f"{name} = {checks.shown(maze)}: expected rows of booleans, True for a wall")
    if cells.all():
        raise ValueError(f"{name} = {checks.shown(maze)}: expected at least one empty cell")
    return cells.astype(bool)


def generate_room_maps(
    rooms: int,
    room: int,
    corridor: int,
    doors: tuple[int, int],
    *,
    connect: float = 0.25,
    merge: float = 0.25,
    flips: int = 0,
    flip: float = 0.05,
    min_size: int | None = None,
    rng: Any = None,
) -> list[Maze]:
    """Mazes of rooms in a grid; between neighbours there is a wall, a wall with a door, or nothing.

    Each connected part of the grid that is large enough becomes a maze, with a wall all around.

    Args:
        rooms: Number of rooms along a side of the grid.
        room: Number of cells along a side of a room.
        corridor: Thickness of the walls between rooms, through which doors lead.
        doors: Width of doors to the right and of doors downwards, at most ``room``.
        connect: Probability of a door between two neighbours.
        merge: Probability that there is no wall between two neighbours.
        flips: Number of rounds in which each cell at a border between wall and empty is flipped at random.
        flip: Probability that such a cell is flipped in a round.
        min_size: Number of empty cells that a maze must exceed; None: 3 room^2.
        rng: A generator or a seed.

    Returns:
        Mazes, True for a wall; possibly none.

    Raises:
        ValueError: A number is out of range, or a door is wider than a room.

    Source: Hwang et al., "Grid cell-inspired fragmentation and recall for efficient map building" (2024), the
    procedure of its environments.

    Examples:
        >>> [maze.shape for maze in generate_room_maps(3, 4, 1, (2, 2), connect=1.0, rng=0)]
        [(16, 16)]
    """
    checks.arguments()
    checks.size("rooms", rooms, maximum=1000), checks.size("room", room, maximum=1000)
    checks.size("corridor", corridor, maximum=1000)
    for width in doors:
        checks.size("doors", width, 1, room)
    for name, chance in (("connect", connect), ("merge", merge), ("flip", flip)):
        checks.number(name, chance, minimum=0, maximum=1)
    checks.size("flips", flips, minimum=0)
    minimum = 3 * room**2 if min_size is None else checks.size("min_size", min_size, minimum=0)
    generator = checks.rng("rng", rng)
    wall = _closed_rooms(rooms, room, corridor)
    for chance, widths in ((connect, doors), (merge, (room, room))):
        right, down = generator.random((2, rooms, rooms)) < chance
        _open(wall, room, corridor, widths, (right[:, : rooms - 1], down[: rooms - 1]))
    for _ in range(flips):
        wall ^= _border(wall) & (generator.random(wall.shape) < flip)
    return _connected_parts(wall, minimum)


def _closed_rooms(rooms: int, room: int, corridor: int) -> Maze:
    pitch = room + corridor
    wall = np.zeros((pitch * rooms + 1,) * 2, dtype=bool)
    for start in range(0, pitch * rooms + 1, pitch):
        wall[start : start + corridor] = wall[:, start : start + corridor] = True
    return wall


def _open(wall: Maze, room: int, corridor: int, widths: tuple[int, int], opened: tuple[Cells, Cells]) -> None:
    """Cut openings of two widths through the walls to the right of some rooms, and below some."""
    right, down = opened
    pitch = room + corridor
    for i, j in np.argwhere(right).tolist():
        top, left = i * pitch + corridor, (j + 1) * pitch
        wall[top : top + widths[0], left : left + corridor] = False
    for i, j in np.argwhere(down).tolist():
        top, left = (i + 1) * pitch, j * pitch + corridor
        wall[top : top + corridor, left : left + widths[1]] = False


def _border(wall: Maze) -> Maze:
    """The cells with a neighbour of the other kind."""
    return np.where(wall, ndimage.binary_dilation(~wall, _CROSS), ndimage.binary_dilation(wall, _CROSS))


def _connected_parts(wall: Cells, minimum: int) -> list[Maze]:
    components, _ = ndimage.label(~wall, _CROSS)
    mazes = []
    for number, region in enumerate(ndimage.find_objects(components), 1):
        inside = components[region] == number
        if inside.sum() > minimum:
            mazes.append(np.pad(~inside, 1, constant_values=True))
    return mazes


def random_room_maps(rng: Any = None) -> list[Maze]:
    """Mazes of one grid whose sizes are drawn as published: 3 to 7 rooms a side, of 3 to 7 cells, walls 1 to 3 thick.

    Examples:
        >>> len(random_room_maps(1)) > 0
        True
    """
    generator = checks.rng("rng", rng)
    rooms, room, flips, corridor = (
        int(generator.integers(low, high + 1)) for low, high in ((3, 7), (3, 7), (0, 10), (1, 3))
    )
    doors = int(generator.integers(1, room)), int(generator.integers(1, room))
    return generate_room_maps(rooms, room, corridor, doors, flips=flips, rng=generator)


def published_room_maps() -> list[Maze]:
    """The 469 mazes that the published generator draws at its seed; the released file has 300 of them.

    Their sizes and probabilities are those of ``random_room_maps``.

    Source: the code of Hwang et al. (2024), whose draws from Python's and NumPy's generators are repeated in its order.

    Examples:
        >>> len(published_room_maps())
        469
    """
    sizes, numbers = random.Random(_SEED), np.random.RandomState(_SEED)
    mazes = []
    for _ in range(_CALLS):
        rooms, room, flips, corridor = (sizes.randint(*ends) for ends in ((3, 7), (3, 7), (0, 10), (1, 3)))
        doors = sizes.randint(1, room - 1), sizes.randint(1, room - 1)
        wall = _closed_rooms(rooms, room, corridor)
        for widths in (doors, (room, room)):
            down = numbers.random_sample((rooms - 1, rooms)) < 0.25
            right = numbers.random_sample((rooms, rooms - 1)) < 0.25
            _open(wall, room, corridor, widths, (right, down))
        for _ in range(flips):
            border = _border(wall)
            wall[border] ^= numbers.random_sample(int(border.sum())) < 0.05
        mazes += _connected_parts(wall, 3 * room**2)
    return mazes


def colour_walls(maze: Maze, scale: int = 3, rng: Any = None) -> Int32[np.ndarray, "height width"]:
    """A world: an enlarged maze whose wall cells have numbers of their own, in random order from 1.

    Args:
        maze: True for a wall.
        scale: Number of world cells along a side of each maze cell.
        rng: A generator or a seed.

    Returns:
        Labels, 0 for empty cells; ``colours_of`` converts them to colours.

    Raises:
        ValueError: ``maze`` has no empty cell, holds other than booleans, or has more walls than there are colours; or
            ``scale`` is not from 1 to 1000.
    """
    walls = check_maze(maze)
    checks.size("scale", scale, maximum=1000)
    count = int(walls.sum())
    if count >= MOST_LABELS:
        raise ValueError(f"maze has {count} walls: expected fewer than {MOST_LABELS}, the colours of 24 bits")
    labels = np.zeros(walls.shape, dtype=np.int32)
    labels[walls] = checks.rng("rng", rng).permutation(count) + 1
    return np.kron(labels, np.ones((scale, scale), np.int32))


def colours_of(labels: Any) -> UInt8[np.ndarray, "*shape 3"]:
    """The colours of labels: black for 0, grey 88 for what is not visible (-1), else one colour each.

    The bits of a label, three at a time from the lowest, set those of red, green and blue from the highest, as in the
    palette of Pascal VOC; the label that would have that grey has the colour of the first label that no wall has.

    Examples:
        >>> colours_of(np.array([0, 1, 2, 3, -1])).tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [88, 88, 88]]
    """
    with checks.noted(labels=labels):
        labels = checks.array("labels", labels, ("rows",) * np.ndim(labels), np.int64)
    if labels.max(initial=0) >= MOST_LABELS:
        raise ValueError(f"labels.max() = {labels.max()}: expected less than {MOST_LABELS}, the colours of 24 bits")
    colours = np.zeros((*labels.shape, 3), dtype=np.uint8)
    grey = sum(7 << 3 * bit for bit in range(8) if HIDDEN_COLOUR >> (7 - bit) & 1)
    colour_number = np.where(labels == grey, MOST_LABELS, np.maximum(labels, 0))
    for bit in range(8):
        for channel in range(3):
            colours[..., channel] |= ((colour_number >> channel & 1) << (7 - bit)).astype(np.uint8)
        colour_number = colour_number >> 3
    colours[labels < 0] = HIDDEN_COLOUR
    return colours
