"""Colour maze: see as much as possible of an unknown maze whose walls have colours."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Int, UInt8

from engram import checks
from engram.numeric.grid_view import LARGEST, MOVES, look, mark, tables
from engram.tasks.environment import BatchedEnv, Ends, PerEnv, Rows, SingleEnv
from engram.tasks.picture import RENDERED, Picture
from engram.tasks.room_maps import check_maze, colour_walls, colours_of, maze_of, random_room_maps

ENV_ID = "engram/ColourMaze-v0"
_PIXELS = 4  # along a side of a cell


class ColourPicture(NamedTuple):
    """A world in colours with the agent in it: 4 x 4 pixels for each cell; unseen cells are dimmed.

    As text, ``#`` is a wall, ``.`` an empty cell and ``A`` the agent.
    """

    labels: Int[np.ndarray, "rows columns"]
    seen: Bool[np.ndarray, "rows columns"]
    agent: tuple[int, int]

    def text(self) -> str:
        """A line of characters for each row."""
        return Picture(np.where(self.labels > 0, "#", "."), self.agent).text()

    def image(self) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels."""
        image = np.where(self.labels[..., None] > 0, colours_of(self.labels), np.uint8(240))
        image = np.where(self.seen[..., None], image, image // 4)
        image[self.agent] = (0, 114, 178)
        return image.repeat(_PIXELS, 0).repeat(_PIXELS, 1).astype(np.uint8)


class ColourMazeVectorEnv(BatchedEnv):
    r"""Many mazes at once.

    The agent starts somewhere in a maze that it does not know. Actions are up, down, left and right: it turns to face
    that side and goes one cell there, unless that is a wall. An observation is what it sees, as pixels: a square ahead
    of it, turned so that its heading is up, the agent in the middle of the bottom row. Empty cells are black, each wall
    cell of the maze has its own colour, and what walls hide, or is too far to the side, is grey (88 in all channels).
    The reward is the share of the visible cells that it sees for the first time; an episode terminates when all were
    seen. ``info["coverage"]`` is the share seen so far, ``info["moved"]`` whether the last action moved the agent.

    Args:
        num_envs: Number of environments.
        maze: The maze: True for a wall, or text with ``#`` and ``.``; None: a new one of rooms in each episode.
        scale: Number of world cells along a side of each maze cell.
        view_size: Number of cells along a side of a view, odd.
        fov_ratio: How narrow the field of view is, see ``engram.spatial.ViewModel``.
        recolour: Whether all walls change their colours at every step.
        episode_len: Steps after which an episode is truncated.
        max_episode_steps: Another limit on the steps of an episode; None: only ``episode_len``.
        render_mode: Result of ``render``: ``"rgb_array"``, ``"ansi"`` or None.

    Attributes:
        worlds: Labels of each environment's cells: 0 for an empty cell, above 0 for walls.
        poses: Row, column and heading (0 up, 1 down, 2 left, 3 right) of each agent, (num_envs, 3).
        views: Labels of what each agent sees, -1 for what is not visible, (num_envs, view_size, view_size).

    Raises:
        ValueError: An argument is out of range, the maze is ragged or has no empty cell.

    Source: Hwang et al., "Grid cell-inspired fragmentation and recall for efficient map building" (2024).

    Examples:
        >>> env = gymnasium.make_vec("engram/ColourMaze-v0", num_envs=2, maze="####\n#..#\n####")
        >>> env.reset(seed=0)[0].shape
        (2, 15, 15, 3)
    """

    metadata = BatchedEnv.metadata | RENDERED

    def __init__(
        self,
        num_envs: int = 1,
        *,
        maze: Any = None,
        scale: int = 3,
        view_size: int = 15,
        fov_ratio: float = 0.25,
        recolour: bool = False,
        episode_len: int = 5000,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        checks.arguments()
        if checks.size("view_size", view_size, 3, LARGEST) % 2 == 0:
            raise ValueError(f"view_size = {view_size}: expected an odd number")
        self.maze = maze_of(maze, "maze") if isinstance(maze, str) else None if maze is None else check_maze(maze)
        self.scale, self.recolour = checks.size("scale", scale, maximum=100), recolour
        self._tables = tables(view_size, checks.number("fov_ratio", fov_ratio, minimum=0, maximum=1))
        observation_space = spaces.Box(0, 255, (view_size, view_size, 3), np.uint8)
        super().__init__(
            num_envs, observation_space, spaces.Discrete(4), episode_len, max_episode_steps, render_mode=render_mode
        )
        self.worlds = [np.zeros((1, 1), np.int32)] * num_envs
        self.poses = np.zeros((num_envs, 3), dtype=np.int64)
        self.views = np.zeros((num_envs, view_size, view_size), dtype=np.int32)
        self._seen = [np.zeros((1, 1), dtype=bool)] * num_envs
        self._counts, self._visible = np.zeros(num_envs, dtype=np.int64), np.ones(num_envs, dtype=np.int64)

    def _init(self, rows: Rows) -> None:
        for row in rows.tolist():
            rng = self.rngs[row]
            mazes = [] if self.maze is None else [self.maze]
            while not mazes:
                mazes = random_room_maps(rng)
            maze = mazes[int(rng.integers(len(mazes)))]
            world = self.worlds[row] = colour_walls(maze, self.scale, rng)
            empty = np.argwhere(world == 0)
            self.poses[row] = *empty[rng.integers(len(empty))], rng.integers(4)
            is_empty = np.pad(world == 0, 1)
            sides = [
                np.roll(is_empty, (int(rows_down), int(columns_right)), (0, 1)) for rows_down, columns_right in MOVES
            ]
            self._visible[row] = np.any([is_empty, *sides], axis=0)[1:-1, 1:-1].sum()
            self._seen[row], self._counts[row] = np.zeros(world.shape, dtype=bool), 0
            self._look(row)

    def _look(self, row: int) -> int:
        """Let an agent look; return how many cells it sees for the first time."""
        pose, view = self.poses[row].tolist(), self.views[row]
        look(self.worlds[row], *pose, *self._tables, view)
        n_new = int(mark(self._seen[row], view, *pose))
        self._counts[row] += n_new
        return n_new

    def _advance(self, actions: Int[np.ndarray, "num_envs"]) -> tuple[PerEnv, dict[str, Any]]:
        rewards, has_moved = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=bool)
        for row, action in enumerate(actions.tolist()):
            world = self.worlds[row]
            target = self.poses[row, :2] + MOVES[action]
            has_moved[row] = bool((target >= 0).all() and (target < world.shape).all() and world[tuple(target)] == 0)
            self.poses[row] = *(target if has_moved[row] else self.poses[row, :2]), action
            if self.recolour and not self.ended[row]:  # an ignored action draws nothing, as in a single maze
                walls, numbers = np.unique(world[world > 0], return_inverse=True)
                world[world > 0] = self.rngs[row].permutation(walls)[numbers]
            rewards[row] = self._look(row) / self._visible[row]
        in_all = np.ones(self.num_envs, dtype=bool)
        infos = {"coverage": self._counts / self._visible, "_coverage": in_all, "moved": has_moved, "_moved": in_all}
        return rewards, infos

    def _ends(self) -> tuple[Ends, Ends]:
        done = self._counts >= self._visible
        return done, (self.steps >= self.episode_len) & ~done

    def _observe(self) -> UInt8[np.ndarray, "num_envs size size 3"]:
        return colours_of(self.views)

    def _picture(self, row: int) -> Any:
        row_, column, _ = self.poses[row].tolist()
        return ColourPicture(self.worlds[row], self._seen[row], (row_, column))


class ColourMaze(SingleEnv):
    """One maze of ``ColourMazeVectorEnv``, with its arguments."""

    metadata = RENDERED
    vector_type = ColourMazeVectorEnv


gymnasium.register(ENV_ID, f"{__name__}:ColourMaze", vector_entry_point=f"{__name__}:ColourMazeVectorEnv")
