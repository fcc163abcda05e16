"""Worlds of rooms visible only from inside, with rewards to collect; one repeats a unit that hides a reward."""

from __future__ import annotations

import inspect
from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import logger, spaces
from gymnasium.error import ResetNeeded
from jaxtyping import Bool, Int, Int8

from engram import checks
from engram.numeric.grid_cells import (
    CODES,
    EMPTY,
    LANDMARKS,
    MOVES,
    NO_ROOM,
    REWARD,
    UNOBSERVED,
    WALL,
    blocked,
    views_of_radius,
    views_of_rooms,
)
from engram.tasks.picture import RENDERED, Picture
from engram.tasks.text_rows import text_rows

ENV_ID = "engram/RepeatedUnit-v0"
AGENT = 5  # code of an agent that looks up; 1, 4 and 9 are those of agents that look right, down and left
FACING = {1: 0, 4: 90, 9: 180, AGENT: 270}  # clockwise from the right, in degrees
AGENTS = (AGENT, 1, 4, 9)
RADII = {"fixed_radius": 1, "fixed_radius_med": 2}
# The rays of the lines of sight: degrees from where the agent looks, step length, and maximum length.
SIGHTS = {"line_of_sight": (range(0, 360, 5), 0.3, 5), "directional_line_of_sight": (range(-45, 46), 0.5, 30)}
MODES = ("room", *RADII, *SIGHTS)
SYMBOLS = {EMPTY: ".", REWARD: "G", WALL: "#", LANDMARKS[0]: "7", LANDMARKS[1]: "8", UNOBSERVED: "?"}
ALCOVE, MOUTH, HALL, LEAST_HEIGHT = 1, 3, 4, 6  # rows of a unit, and its minimum number of rows


def label_rooms(labels: Any) -> Int[np.ndarray, "h w"]:
    r"""Number the rooms of a map: 4-connected cells with one label, in the order of their first cells, row by row.

    Args:
        labels: A label for each cell: an array of integers, negative where there is no room, or lines of text.

    Returns:
        The number of each cell's room, -1 for none.

    Raises:
        ValueError: The lines differ in length, or the array does not have two axes of integers.

    Examples:
        >>> label_rooms("aab\naab\ncca").tolist()
        [[0, 0, 1], [0, 0, 1], [2, 2, 3]]
    """
    if isinstance(labels, str):
        labels = _codes(text_rows(labels), "labels")
    from scipy import ndimage  # takes long to import

    cells = checks.array("labels", labels, ("h", "w"), np.int64)
    cell_indices = np.arange(cells.size).reshape(cells.shape)
    first = np.full(cells.shape, NO_ROOM)
    for label in np.unique(cells[cells >= 0]):
        components, count = ndimage.label(cells == label)
        first_cells = ndimage.minimum(cell_indices, components, np.arange(1, count + 1)).astype(np.int64)
        first[components > 0] = first_cells[components[components > 0] - 1]
    rooms = np.searchsorted(np.unique(first[first >= 0]), first)
    return np.where(first < 0, NO_ROOM, rooms)


def load_grid_text(source: str | Path) -> Int8[np.ndarray, "h w"]:
    r"""Read a map: two lines that are skipped (its width and height), then a character for each cell.

    The code of a cell is its character's code minus 48: ``0`` empty, ``2`` a reward, ``3`` a wall, ``7`` and ``8``
    coloured walls, ``5``, ``1``, ``4`` and ``9`` the agent.

    Args:
        source: The path of a file, or its text.

    Raises:
        ValueError: The lines differ in length, there is no line of cells, or the file is not text.
        FileNotFoundError: The file does not exist.

    Examples:
        >>> load_grid_text("3\n2\n323\n050").tolist()
        [[3, 2, 3], [0, 5, 0]]
    """
    checks.arguments()
    try:
        text = source if isinstance(source, str) and "\n" in source else Path(source).read_text()
    except UnicodeDecodeError as error:
        raise ValueError(f"source = {source}: expected a file of text: {error}") from error
    return (_codes(text_rows(text.rstrip())[2:], "source") - ord("0")).astype(np.int8)


def _codes(lines: list[str], name: str) -> Int[np.ndarray, "h w"]:
    widths = {len(line) for line in lines}
    if len(widths) != 1:
        row = next((i for i, line in enumerate(lines) if len(line) != len(lines[0])), 0)
        raise ValueError(f"{name} has lines of {sorted(widths)} characters: expected one length (line {row} differs)")
    return np.array([[ord(character) for character in line] for line in lines])


def _checked(grid: Any) -> tuple[Int8[np.ndarray, "h w"], tuple[int, int], int]:
    """A map without its agent, the position of the agent, and its code."""
    cells = checks.array("grid", grid, ("h", "w"), np.int64)
    wrong = np.argwhere(~np.isin(cells, (*CODES, *AGENTS)))
    if len(wrong):
        row, column = wrong[0].tolist()
        raise ValueError(f"grid[{row}, {column}] = {cells[row, column]}: expected one of {sorted((*CODES, *AGENTS))}")
    agents = np.argwhere(np.isin(cells, AGENTS)).tolist()
    if len(agents) != 1:
        places = "".join(f", at {tuple(agent)}" for agent in agents[:3])
        raise ValueError(f"grid has {len(agents)} agents{places}: expected one cell of {sorted(AGENTS)}")
    position = agents[0][0], agents[0][1]
    agent, cells[position] = int(cells[position]), EMPTY
    return cells.astype(np.int8), position, agent


def _rays(mode: str, facing: int, longest: int) -> Int[np.ndarray, "2 rays steps"]:
    """The cells on each ray, as rows and columns relative to the agent's cell; ties are rounded to the nearer cell."""
    degrees, step, reach = SIGHTS[mode]
    angles = np.deg2rad(facing + np.array(degrees))
    lengths = np.arange(0, min(longest, reach) + step / 2, step)
    offsets = np.stack([np.outer(direction, lengths) for direction in (np.sin(angles), np.cos(angles))])
    return np.asarray(np.sign(offsets) * np.ceil(np.abs(offsets) - 0.5 - 1e-9)).astype(np.int64)


class RoomGrid(gymnasium.Env[Any, Any]):
    r"""Collect all rewards in a map of rooms that shows only the parts seen so far.

    An observation has the ``known`` map, (h, w), with 6 for cells that were not seen; the cells where ``rewards`` were
    seen, collected or not, (h, w); and the agent's ``position``, (row, column). Actions are forward (up), backward,
    left and right by one cell, then the same by up to five cells; a move ends before a wall. A move that ends on a
    reward collects it, and pays 1; the episode ends when the last one is collected. Infos count the rooms entered and
    the cells moved. Pictures show the known cells.

    Args:
        grid: Codes of cells, (h, w), with one agent: 0 empty, 2 a reward, 3 a wall, 7 and 8 coloured walls, 5, 1, 4 or
            9 the agent, which looks up, right, down or left.
        rooms: Number of each cell's room, -1 for walls; None: each connected set of free cells is a room.
        observation_mode: What is seen from a cell: its ``"room"``; the cells around it (``"fixed_radius"``,
            ``"fixed_radius_med"``: by one, by two); those in ``"line_of_sight"``, up to five away; or those in
            ``"directional_line_of_sight"``: up to 30 away, within 45 degrees of the direction in which the agent looks,
            which does not change.
        reveal_walls: Whether the walls around a room are seen with it.
        action_set: ``"moves8"``, or ``"moves4"`` for moves by one cell only.
        collect_on_path: Whether a move also collects the rewards on its way.
        max_steps: Steps after which an episode is truncated; None: never.
        render_mode: Result of ``render``: ``"rgb_array"``, ``"ansi"`` or None.

    Attributes:
        grid: The map, without the agent and the collected rewards.
        known: The known map.
        rewards: The cells where a reward was seen, collected or not.
        rooms: Number of each cell's room.
        position: Row and column of the agent.

    Raises:
        ValueError: A code is unknown, there is not one agent, or ``rooms`` has the wrong shape or no room there.

    Source: Sharma et al., "Map Induction" (2021), the world of its experiments.

    Examples:
        >>> env = RoomGrid(load_grid_text("0\n0\n332\n050"))
        >>> observation, info = env.reset(seed=0)
        >>> env.step(3)[1], env.step(0)[1:3]  # right, forward
        (0.0, (1.0, True))
    """

    metadata = RENDERED

    __repr__ = checks.described

    def __init__(
        self,
        grid: Any,
        rooms: Any = None,
        *,
        observation_mode: str = "room",
        reveal_walls: bool = True,
        action_set: str = "moves8",
        collect_on_path: bool = False,
        max_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        checks.arguments()
        self.metadata = deepcopy(self.metadata)  # one's own, which may be changed
        self.render_mode = checks.choice("render_mode", render_mode, (None, "rgb_array", "ansi"))
        self.observation_mode = checks.choice("observation_mode", observation_mode, MODES)
        self.reveal_walls = bool(reveal_walls)
        self.collect_on_path = bool(collect_on_path)
        self.max_steps = None if max_steps is None else checks.size("max_steps", max_steps)
        self._start, self._start_position, agent = _checked(grid)
        shape: tuple[int, int] = (len(self._start), len(self._start[0]))
        walls = np.where(blocked(self._start), NO_ROOM, 0)
        self.rooms = label_rooms(walls) if rooms is None else checks.array("rooms", rooms, shape, np.int64)
        if self.rooms.min() < NO_ROOM or (observation_mode == "room" and self.rooms[self._start_position] < 0):
            raise ValueError("rooms: expected numbers from 0, or -1 for walls, and a room where the agent is")
        by_room, radius = observation_mode == "room", RADII.get(observation_mode, 0)
        self.views = views_of_rooms(self.rooms, self.reveal_walls) if by_room else views_of_radius(shape, radius)
        self._rays = _rays(observation_mode, FACING[agent], max(shape)) if observation_mode in SIGHTS else None
        self.action_set = checks.choice("action_set", action_set, ("moves8", "moves4"))
        self.moves = MOVES[: 4 if action_set == "moves4" else 8]
        self.action_space = spaces.Discrete(len(self.moves))
        self.observation_space = spaces.Dict(
            known=spaces.Box(0, max(CODES), shape, np.int8),
            rewards=spaces.Box(0, 1, shape, np.int8),
            position=spaces.Box(np.zeros(2, np.int64), np.array(shape) - 1, dtype=np.int64),
        )
        self.grid = self.known = self.rewards = self._start
        self.position, self.steps, self.cells_moved, self._entered = self._start_position, 0, 0, set[int]()
        self._running = False

    def _draw(self) -> Int8[np.ndarray, "h w"]:
        """The map of a new episode."""
        return self._start.copy()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode, with a new generator if ``seed`` is given; there are no ``options``."""
        if options:
            raise ValueError(f"options = {options!r}: expected none")
        super().reset(seed=None if seed is None else checks.size("seed", seed, minimum=0, maximum=None))
        self.grid, self.position = self._draw(), self._start_position
        self.known, self.rewards = np.full(self.grid.shape, UNOBSERVED, np.int8), np.zeros(self.grid.shape, np.int8)
        self.steps, self.cells_moved, self._entered, self._running = 0, 0, set(), True
        return self._observe()

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move; raise ``ResetNeeded`` if no episode is running, ValueError if there is no such action."""
        if action not in self.action_space:
            raise ValueError(f"action = {action!r}: expected an element of {self.action_space}, counted from 0")
        if not self._running:
            raise ResetNeeded("no episode is running: call reset")
        (down, right), length = self.moves[int(action)]
        path = [self.position]
        for _ in range(length):
            row, column = path[-1][0] + down, path[-1][1] + right
            inside = 0 <= row < self.grid.shape[0] and 0 <= column < self.grid.shape[1]
            if not inside or blocked(self.grid[row, column]):
                break
            path.append((row, column))
        self.position, self.cells_moved, self.steps = path[-1], self.cells_moved + len(path) - 1, self.steps + 1
        collected = [cell for cell in set(path if self.collect_on_path else path[-1:]) if self.grid[cell] == REWARD]
        for cell in collected:
            self.grid[cell], self.rewards[cell] = EMPTY, 1
            self.known[cell] = EMPTY if self.known[cell] == REWARD else self.known[cell]
        terminated = not (self.grid == REWARD).any()
        truncated = self.max_steps is not None and self.steps >= self.max_steps
        self._running = not (terminated or truncated)
        observation, info = self._observe()
        return observation, float(len(collected)), bool(terminated), truncated, info

    def _observe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Add the cells that are visible from the agent's cell to the known map; return observation and infos."""
        if self._rays is not None:
            is_visible = self._in_sight(self._rays)
            self.known[is_visible] = self.grid[is_visible]
        else:
            view = self.views.view[self.position[0] * self.grid.shape[1] + self.position[1]]
            if view >= 0:
                cells = self.views.cells[self.views.starts[view] : self.views.starts[view + 1]]
                self.known.ravel()[cells] = self.grid.ravel()[cells]
        self.rewards[self.known == REWARD] = 1
        self._entered.add(int(self.rooms[self.position]))
        info = {"rooms_entered": len(self._entered - {NO_ROOM}), "cells_moved": self.cells_moved}
        observation = {"known": self.known.copy(), "rewards": self.rewards.copy()}
        return {**observation, "position": np.array(self.position, np.int64)}, info

    def _in_sight(self, rays: Int[np.ndarray, "2 rays steps"]) -> Bool[np.ndarray, "h w"]:
        """The cells on the rays from the agent's cell, each ray up to the first wall or reward."""
        rows, columns = (coordinate + offsets for coordinate, offsets in zip(self.position, rays, strict=True))
        inside = (rows >= 0) & (rows < self.grid.shape[0]) & (columns >= 0) & (columns < self.grid.shape[1])
        rows, columns = rows.clip(0, self.grid.shape[0] - 1), columns.clip(0, self.grid.shape[1] - 1)
        is_elsewhere = (rows != self.position[0]) | (columns != self.position[1])
        stops = ~inside | (is_elsewhere & (blocked(self.grid) | (self.grid == REWARD))[rows, columns])
        # The cell that stops a ray is visible, the cells behind it are not.
        reached = inside & (np.cumsum(stops, 1) - stops == 0)
        is_visible = np.zeros(self.grid.shape, dtype=bool)
        is_visible[rows[reached], columns[reached]] = True
        return is_visible

    def render(self) -> Any:
        """An image or a text of the known map, depending on ``render_mode``; ``Picture`` explains the symbols."""
        if self.render_mode is None:
            logger.warn(f"render shows nothing: expected render_mode to be one of {self.metadata['render_modes']}")
            return None
        if not self._entered:
            raise ResetNeeded("render was called before reset")
        cells = np.vectorize(SYMBOLS.__getitem__, otypes=["U1"])(self.known)
        picture = Picture(cells, self.position)
        return picture.text() if self.render_mode == "ansi" else picture.image()


class RepeatedUnitWorld(RoomGrid):
    """A corridor with copies of a unit beside it, each with a reward in one of its alcoves; drawn in each episode.

    A unit is a hall that opens to the corridor, and dead-end alcoves of 2 x 2 cells along it, each behind a mouth of
    one cell. Rooms are the corridor, each hall and each alcove with its mouth. The alcove with the reward is drawn for
    each variant of the unit, without repetition, and the variant for each copy of the unit.

    Args:
        n_units: Number of units along the corridor.
        unit_h: Number of rows of a unit, at least 6.
        unit_w: Number of columns of a unit, at least 5; it has ``(unit_w - 2) // 3`` alcoves.
        corridor: Number of columns of the corridor.
        variants: Number of variants, at most the number of alcoves; None: each unit draws its own alcove.
        reflect_prob: Probability that a unit's alcoves are mirrored.
        landmark: Whether a wall at the entrance of a hall, seen from the corridor, has its variant's colour, 7 or 8.
        **options: Further arguments of ``RoomGrid``.

    Examples:
        >>> env = RepeatedUnitWorld(n_units=2)
        >>> _ = env.reset(seed=0)
        >>> env.grid.shape, int((env.grid == 2).sum())
        ((14, 13), 2)
    """

    def __init__(
        self,
        n_units: int = 5,
        unit_h: int = 7,
        unit_w: int = 11,
        *,
        corridor: int = 2,
        variants: int | None = 1,
        reflect_prob: float = 0.0,
        landmark: bool = False,
        **options: Any,
    ) -> None:
        checks.arguments()
        self.n_units = checks.size("n_units", n_units, maximum=1000)
        self.unit_h = checks.size("unit_h", unit_h, minimum=LEAST_HEIGHT, maximum=1000)
        self.unit_w = checks.size("unit_w", unit_w, minimum=5, maximum=1000)
        self.alcoves = (self.unit_w - 2) // 3
        self.corridor = checks.size("corridor", corridor, maximum=1000)
        self.variants = None if variants is None else checks.size("variants", variants, maximum=self.alcoves)
        self.reflect_prob = checks.number("reflect_prob", reflect_prob, minimum=0, maximum=1)
        self.landmark = bool(landmark)
        grid, labels = self._unit(), self._labels()
        free = np.zeros((self.n_units * self.unit_h, self.corridor), np.int8)
        grid = np.hstack([np.tile(grid, (self.n_units, 1)), free])
        grid[-1, self.unit_w] = AGENT
        self._options = options
        super().__init__(grid, label_rooms(labels), **options)

    def __repr__(self) -> str:
        own_options = [name for name in inspect.signature(RepeatedUnitWorld).parameters if name != "options"]
        return checks.made_by(type(self), {name: getattr(self, name) for name in own_options} | self._options)

    def _unit(self, reward: int | None = None, *, variant: int = 0, mirrored: bool = False) -> Int8[np.ndarray, "h w"]:
        unit = np.full((self.unit_h, self.unit_w), WALL, np.int8)
        unit[HALL, 1:] = EMPTY
        for alcove in range(self.alcoves):
            left = 1 + 3 * alcove
            unit[ALCOVE : ALCOVE + 2, left : left + 2] = unit[MOUTH, left] = EMPTY
        if reward is not None:
            unit[ALCOVE, 1 + 3 * reward] = REWARD
        if mirrored:
            columns = slice(0, 3 * self.alcoves + 1)
            unit[:HALL, columns] = unit[:HALL, columns][:, ::-1]
        if self.landmark and reward is not None:
            unit[HALL + 1, -1] = LANDMARKS[variant % 2]
        return unit

    def _labels(self) -> Int[np.ndarray, "h w"]:
        """A label for each cell; the walls between alcoves have none."""
        unit = np.full((self.unit_h, self.unit_w), NO_ROOM)
        free = self._unit() == EMPTY
        if self.reflect_prob:  # a mouth may be on either side of its alcove; both cells belong to its room
            free |= self._unit(mirrored=True) == EMPTY
        unit[:HALL] = np.where(free[:HALL], 2, NO_ROOM)
        unit[HALL] = np.where(free[HALL], 1, NO_ROOM)
        labels = np.tile(unit, (self.n_units, 1))
        return np.hstack([labels, np.zeros((len(labels), self.corridor), np.int64)])

    def _draw(self) -> Int8[np.ndarray, "h w"]:
        rng, kinds = self.np_random, self.variants or self.alcoves
        variants, mirrored = rng.integers(kinds, size=self.n_units), rng.random(self.n_units) < self.reflect_prob
        rewards = rng.permutation(self.alcoves)[variants]
        grid = self._start.copy()
        for unit, (reward, variant, mirror) in enumerate(zip(rewards, variants, mirrored, strict=True)):
            rows = slice(unit * self.unit_h, (unit + 1) * self.unit_h)
            grid[rows, : self.unit_w] = self._unit(int(reward), variant=int(variant), mirrored=bool(mirror))
        return grid


gymnasium.register(ENV_ID, f"{__name__}:RepeatedUnitWorld", max_episode_steps=1000)
