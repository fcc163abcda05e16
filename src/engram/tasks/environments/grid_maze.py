"""Grid maze: find a hidden reward among pillars, and find it again after each teleport."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float, Float32, Int

from engram import checks
from engram.tasks.environment import BatchedEnv, Observations, PerEnv, Rows, SingleEnv
from engram.tasks.picture import RENDERED, Picture

ENV_ID = "engram/GridMaze-v0"

_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))  # up, down, left, right, as (row, column)
_BIAS, _TIME, _REWARD, _ACTION = 10, 11, 12, 13  # indices in an observation; index 9 is always 0


class Maze(NamedTuple):
    """A maze as tables over its free cells."""

    cells: Int[np.ndarray, "cells 2"]  # row and column
    destination: Int[np.ndarray, "cells 4"]  # next cell for each action; the same cell if that is a wall
    view: Float32[np.ndarray, "cells 9"]  # whether each of the nine cells around and under it is a wall, row by row
    center: int  # the cell in the middle


def grid_maze(size: int) -> Maze:
    """A maze with walls around it, and a pillar wherever row and column are even, except in the middle.

    Args:
        size: Number of cells along a side, walls included; odd, at least 5.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), the maze task.

    Examples:
        >>> len(grid_maze(7).cells)
        21
    """
    if checks.size("size", size, minimum=5) % 2 == 0:
        raise ValueError(f"size = {size}: expected an odd number")
    wall = np.zeros((size, size), dtype=bool)
    wall[[0, -1]] = wall[:, [0, -1]] = True
    wall[::2, ::2] = True
    wall[size // 2, size // 2] = False
    cells = np.argwhere(~wall)
    index = np.full(wall.shape, -1)
    index[~wall] = np.arange(len(cells))
    reached = index[tuple((cells[:, None] + np.array(_MOVES)).transpose(2, 0, 1))]
    offsets = np.array([(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)])
    view = wall[tuple((cells[:, None] + offsets).transpose(2, 0, 1))].astype(np.float32)
    own_cell = np.arange(len(cells))[:, None]
    return Maze(cells, np.where(reached < 0, own_cell, reached), view, int(index[size // 2, size // 2]))


class GridMazeVectorEnv(BatchedEnv):
    """Many mazes at once.

    The agent starts in the middle of a maze of pillars. In each episode one cell, never the middle one, holds a
    reward that cannot be seen. Reaching it pays ``reward`` and teleports the agent to another random cell, never the
    rewarded one; the reward does not move, so that an agent that remembers where it is gets it many times.

    An observation has 17 numbers: for each of the nine cells around and under the agent, row by row, whether it is a
    wall; 0; 1; the time as a fraction of ``episode_len``; the last reward; the last action as one-hot (action 0 at the
    start). Actions are up, down, left, right; a move into a wall has no effect but ``wall_penalty``.

    The mazes of "Differentiable plasticity" (see ``grid_maze``) have a wall penalty of 0.1, may have the reward in the
    middle, and do not show the last action.

    Args:
        num_envs: Number of mazes.
        size: Number of cells along a side, walls included; odd, at least 5.
        episode_len: Steps of an episode, after which it terminates.
        reward: Reward for reaching the cell; above 0.
        wall_penalty: Cost of a move into a wall; at least 0.
        max_episode_steps: Steps after which an episode is truncated; None: never.
        render_mode: Result of ``render``: ``"rgb_array"``, ``"ansi"`` or None.

    Attributes:
        maze: The layout, the same in all environments.
        position: The free cell that each agent is in, as a row of ``maze.cells``, (num_envs,).
        goal: The free cell that holds the reward, (num_envs,).

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), the maze task, whose figures are at size 13.

    Examples:
        >>> gymnasium.make_vec("engram/GridMaze-v0", num_envs=4, size=7).reset(seed=0)[0].shape
        (4, 17)
    """

    metadata = BatchedEnv.metadata | RENDERED

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 11,
        episode_len: int = 200,
        reward: float = 10.0,
        wall_penalty: float = 0.0,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.reward = checks.number("reward", reward, above=0)
        self.wall_penalty = checks.number("wall_penalty", wall_penalty, minimum=0)
        self.maze = grid_maze(size)
        low, high = np.zeros(_ACTION + len(_MOVES), np.float32), np.ones(_ACTION + len(_MOVES), np.float32)
        low[_REWARD], high[_REWARD] = -self.wall_penalty, self.reward
        both_spaces = spaces.Box(low, high), spaces.Discrete(len(_MOVES))
        super().__init__(num_envs, *both_spaces, episode_len, max_episode_steps, render_mode=render_mode)
        self._free = np.full((size, size), "#")
        self._free[tuple(self.maze.cells.T)] = "."
        self.position = np.full(num_envs, self.maze.center)
        self.goal = np.full(num_envs, self.maze.center)
        # The destination of a teleport at each step, drawn at the start of an episode. The last column is for the
        # ignored step after its end.
        self._put = np.zeros((num_envs, self.episode_len + 1), dtype=np.int64)
        self._seen = np.zeros((len(self.maze.cells), len(low)), np.float32)
        self._seen[:, :9], self._seen[:, _BIAS] = self.maze.view, 1.0

    def _init(self, rows: Rows) -> None:
        chance = np.stack([self.rngs[row].random(self.episode_len + 2) for row in rows])
        goal = self._another(chance[:, 0], np.full(len(rows), self.maze.center))
        self.position[rows], self.goal[rows] = self.maze.center, goal
        self._put[rows] = self._another(chance[:, 1:], goal[:, None])

    def _another(self, chance: Float[np.ndarray, "..."], cell: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """A random free cell, any but ``cell``."""
        index = (chance * (len(self.maze.cells) - 1)).astype(np.int64)
        return np.where(index >= cell, index + 1, index)

    def _advance(self, actions: Int[np.ndarray, "num_envs"]) -> tuple[PerEnv, dict[str, Any]]:
        reached = self.maze.destination[self.position, actions]
        rewarded = reached == self.goal
        rewards = np.where(rewarded, self.reward, 0.0)
        if self.wall_penalty:
            rewards -= self.wall_penalty * (reached == self.position)
        self.position = np.where(rewarded, self._put[self._each, self.steps], reached)
        return rewards, {}

    def _observe(self) -> Observations:
        observations = self._seen.take(self.position, axis=0)
        observations[:, _TIME] = self.steps / self.episode_len
        observations[:, _REWARD] = self.last_reward
        observations[self._each, _ACTION + self.last_action] = 1.0
        return observations

    def _picture(self, row: int) -> Picture:
        cells, positions = self._free.copy(), self.maze.cells
        cells[tuple(positions[self.goal[row]])] = "G"
        return Picture(cells, tuple(positions[self.position[row]].tolist()))


class GridMaze(SingleEnv):
    """One maze of ``GridMazeVectorEnv``, with its arguments."""

    metadata = RENDERED
    vector_type = GridMazeVectorEnv


gymnasium.register(ENV_ID, f"{__name__}:GridMaze", vector_entry_point=f"{__name__}:GridMazeVectorEnv")
