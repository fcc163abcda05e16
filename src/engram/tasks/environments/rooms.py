"""Rooms with a fixed goal, which gives the only reward."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Int

from engram import checks
from engram.tasks.environment import BatchedEnv, Ends, Observations, PerEnv, Rows, SingleEnv
from engram.tasks.picture import RENDERED, Picture

OPEN_ROOM_ID, I_MAZE_ID, FOUR_ROOM_ID = "engram/OpenRoom-v0", "engram/IMaze-v0", "engram/FourRoom-v0"

_MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))  # north, east, south, west, as (x, y)


class Room(NamedTuple):
    """A layout: the walls by x and y, the border included, and the cell with the reward."""

    wall: Bool[np.ndarray, "width height"]
    goal: tuple[int, int]


GOALS = {"open-room": (10, 10), "i-maze": (15, 3), "four-room": (11, 11)}  # in the corner opposite the start


def room(layout: str) -> Room:
    """An open room, 12 x 12; an I on its side, 17 x 5, with dead ends; or four rooms with doors, 13 x 13."""
    goal = GOALS[layout]
    wall = np.zeros((goal[0] + 2, goal[1] + 2), dtype=bool)
    wall[[0, -1]] = wall[:, [0, -1]] = True
    if layout == "i-maze":
        wall[2:15, [1, 3]] = True
    elif layout == "four-room":
        wall[6, 1:12] = wall[1:7, 6] = wall[6:12, 7] = True
        wall[[6, 6, 2, 9], [3, 10, 6, 7]] = False
    return Room(wall, goal)


class RoomVectorEnv(BatchedEnv):
    """Many rooms at once: walk from (1, 1) to a goal that never moves.

    Reaching the goal pays 1 and terminates the episode; nothing else pays. Actions are north (y + 1), east (x + 1),
    south and west; a wall blocks a move. The observation is the position, (x, y). Nothing is random.

    Args:
        num_envs: Number of environments.
        layout: ``"open-room"``, ``"i-maze"`` or ``"four-room"``.
        episode_len: Steps after which an episode is truncated.
        max_episode_steps: Another limit on the steps of an episode; None: only ``episode_len``.
        render_mode: Result of ``render``, in which north is up: ``"rgb_array"``, ``"ansi"`` or None.

    Attributes:
        room: The layout.
        position: Position of each agent, (num_envs, 2).

    Source: Agostinelli et al., "Memory-efficient episodic control reinforcement learning with dynamic online k-means"
    (2019), the rooms of its published code.

    Examples:
        >>> gymnasium.make_vec("engram/FourRoom-v0", num_envs=2).reset(seed=0)[0].tolist()
        [[1.0, 1.0], [1.0, 1.0]]
    """

    metadata = BatchedEnv.metadata | RENDERED

    def __init__(
        self,
        num_envs: int = 1,
        *,
        layout: str = "open-room",
        episode_len: int = 100,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.room = room(checks.choice("layout", layout, tuple(GOALS)))
        observation_space = spaces.Box(0.0, np.array(self.room.wall.shape, np.float32) - 1)
        super().__init__(
            num_envs,
            observation_space,
            spaces.Discrete(len(_MOVES)),
            episode_len,
            max_episode_steps,
            render_mode=render_mode,
        )
        self.position = np.ones((num_envs, 2), dtype=np.int64)
        self._moves = np.array(_MOVES)

    def _init(self, rows: Rows) -> None:
        self.position[rows] = 1

    def _advance(self, actions: Int[np.ndarray, "num_envs"]) -> tuple[PerEnv, dict[str, Any]]:
        reached = self.position + self._moves[actions]
        blocked = self.room.wall[reached[:, 0], reached[:, 1]]
        self.position = np.where(blocked[:, None], self.position, reached)
        return self._at_goal().astype(float), {}

    def _at_goal(self) -> Ends:
        return np.asarray((self.position == self.room.goal).all(1))

    def _ends(self) -> tuple[Ends, Ends]:
        return self._at_goal(), self.steps >= self.episode_len

    def _observe(self) -> Observations:
        return self.position.astype(np.float32)

    def _picture(self, row: int) -> Picture:
        cells = np.where(self.room.wall, "#", ".")
        cells[self.room.goal] = "G"
        x, y = self.position[row].tolist()
        return Picture(cells.T[::-1], (cells.shape[1] - 1 - y, x))


class RoomEnv(SingleEnv):
    """One agent of ``RoomVectorEnv``, with its arguments."""

    metadata = RENDERED
    vector_type = RoomVectorEnv


for _id, _layout in zip((OPEN_ROOM_ID, I_MAZE_ID, FOUR_ROOM_ID), GOALS, strict=True):
    _entries = f"{__name__}:RoomEnv", f"{__name__}:RoomVectorEnv"
    gymnasium.register(_id, _entries[0], vector_entry_point=_entries[1], kwargs={"layout": _layout})
