"""Texture rooms: a ring of rooms, each with its own wallpaper texture; the agent sees a patch of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float, Int, UInt8

from engram import checks
from engram.state import check_state
from engram.tasks.environment import BatchedEnv, Ends, PerEnv, Rows, SingleEnv
from engram.tasks.picture import RENDERED

ENV_ID = "engram/TextureRooms-v0"
STEPS = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])  # up, down, left, right
_PIXELS = 8  # along a side of a cell


def room_textures(
    rooms: int, side: int, overlap: float = 0.0, *, rng: np.random.Generator | int
) -> Float[np.ndarray, "rooms side side 3"]:
    """Random textures, whose pixels are uniform from 0 to 1.

    Args:
        rooms: Number of textures.
        side: Number of pixels along a side.
        overlap: Share of the pixels that are the same in all textures, from 0 to 1.
        rng: A generator or a seed.

    Raises:
        ValueError: ``rooms`` or ``side`` is not from 1 to 1000, ``overlap`` is not from 0 to 1, or a seed is negative.

    Examples:
        >>> same = room_textures(2, 3, overlap=1.0, rng=0)
        >>> bool((same[0] == same[1]).all())
        True
    """
    checks.arguments()
    generator = checks.rng("rng", rng)
    checks.number("overlap", overlap, minimum=0, maximum=1)
    size = checks.size("side", side, maximum=1000)
    textures = generator.random((checks.size("rooms", rooms, maximum=1000), size, size, 3))
    common, shared = generator.random((size, size, 3)), generator.random((size, size, 1)) < overlap
    return np.where(shared, common, textures)


class TexturePicture(NamedTuple):
    """The rooms side by side, separated by black lines with a gap at the door.

    As text, a line for each row: ``.`` is a cell, ``|`` a wall, a gap in it a door, ``G`` the goal, ``A`` the agent.
    """

    textures: Float[np.ndarray, "rooms side side 3"]
    size: int
    door: int
    agent: tuple[int, int, int]
    goal: tuple[int, int, int] | None

    def text(self) -> str:
        """A line of characters for each row."""
        cells = np.full((len(self.textures), self.size, self.size + 1), ".")
        cells[..., -1] = "|"
        cells[:, self.door, -1] = " "
        for position, symbol in ((self.goal, "G"), (self.agent, "A")):
            if position is not None:
                cells[position] = symbol
        return "\n".join("".join(row) for row in np.hstack(list(cells)))

    def image(self) -> UInt8[np.ndarray, "height width 3"]:
        """The pixels: for each cell, the middle of the view from that cell."""
        edge = (self.textures.shape[1] - self.size) // 2
        textures = self.textures[:, edge : edge + self.size, edge : edge + self.size]
        cells = np.zeros((len(textures), self.size, self.size + 1, 3), np.uint8)
        cells[:, :, :-1] = 255 * textures
        cells[:, self.door, -1] = 240
        for position, colour in ((self.goal, (230, 159, 0)), (self.agent, (0, 114, 178))):
            if position is not None:
                cells[position] = colour
        return np.hstack(list(cells)).repeat(_PIXELS, 0).repeat(_PIXELS, 1)


class TextureRoomsVectorEnv(BatchedEnv):
    r"""Many agents, each in its own ring of rooms; all rings have the same textures.

    A room has ``size`` x ``size`` cells. From a cell the agent sees the patch of the room's texture around it, and
    nothing of other rooms. Actions are up, down, left and right; walls stop it, but in the middle row of each room it
    can leave on the right for the next room, and on the left for the previous one, so that it always sees the same when
    it enters a room from a given side. It starts at the left door of the first room. There is no reward, unless there
    is a goal, in the middle of the top row of the farthest room, as far as possible from its doors: it pays 1 and
    terminates the episode. ``infos["room"]`` and ``infos["cell"]`` are the indices of the agent's room and cell.

    Args:
        num_envs: Number of environments.
        rooms: Number of rooms in the ring.
        size: Number of cells along a side of a room.
        view: Number of pixels along a side of a patch, odd.
        overlap: Share of the texture that all rooms have in common.
        goal: Whether there is a goal.
        texture_seed: Seed of the textures, which are the same in all environments and episodes.
        episode_len: Steps after which an episode is truncated.
        max_episode_steps: Another limit on the steps of an episode; None: only ``episode_len``.
        render_mode: Result of ``render``: ``"rgb_array"``, ``"ansi"`` or None.

    Attributes:
        textures: Texture of each room, (rooms, size + view - 1, size + view - 1, 3).
        views: The view from each cell, (rooms, size, size, view, view, 3).
        places: Room, row and column of each agent, (num_envs, 3).

    Raises:
        ValueError: An argument is out of range.

    Source: Hwang et al., "Neuro-inspired fragmentation and recall" (2023), whose world of rooms was not published;
    this one is ours.

    Examples:
        >>> env = gymnasium.make_vec("engram/TextureRooms-v0", num_envs=2, rooms=3)
        >>> env.reset(seed=0)[0].shape
        (2, 7, 7, 3)
        >>> env.step(np.array([3, 2]))[-1]["room"].tolist()  # right, and left through the door
        [0, 2]
    """

    metadata = BatchedEnv.metadata | RENDERED

    def __init__(
        self,
        num_envs: int = 1,
        *,
        rooms: int = 4,
        size: int = 8,
        view: int = 7,
        overlap: float = 0.0,
        goal: bool = False,
        texture_seed: int = 0,
        episode_len: int = 500,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        checks.arguments()
        if checks.size("view", view, maximum=63) % 2 == 0:
            raise ValueError(f"view = {view}: expected an odd number")
        checks.size("rooms", rooms, 2, 100)
        self.size, self.door = checks.size("size", size, 2, 64), size // 2
        checks.size("texture_seed", texture_seed, minimum=0, maximum=None)
        self.textures = room_textures(rooms, size + view - 1, overlap, rng=np.random.default_rng(texture_seed))
        patches = np.lib.stride_tricks.sliding_window_view(self.textures, (view, view), (1, 2))
        self.views = np.ascontiguousarray(np.moveaxis(patches, 3, -1), dtype=np.float32)
        self.goal = (rooms // 2, 0, size // 2) if goal else None
        observation_space = spaces.Box(0, 1, (view, view, 3), np.float32)
        super().__init__(
            num_envs, observation_space, spaces.Discrete(4), episode_len, max_episode_steps, render_mode=render_mode
        )
        self.places = np.zeros((num_envs, 3), dtype=np.int64)

    def _init(self, rows: Rows) -> None:
        self.places[rows] = 0, self.door, 0

    def _advance(self, actions: Int[np.ndarray, "num_envs"]) -> tuple[PerEnv, dict[str, Any]]:
        self.places = self.after(self.places, actions)
        rewards = np.zeros(self.num_envs)
        if self.goal is not None:
            rewards[(self.places == self.goal).all(1)] = 1.0
        in_all = np.ones(self.num_envs, dtype=bool)
        room = self.places[:, 0].copy()
        cell = np.ravel_multi_index(tuple(self.places.T), (len(self.views), self.size, self.size))
        return rewards, {"room": room, "_room": in_all, "cell": cell, "_cell": in_all}

    def after(
        self, places: Int[np.ndarray, "agents 3"], actions: Int[np.ndarray, "agents"]
    ) -> Int[np.ndarray, "agents 3"]:
        """The places of agents after one action of each."""
        checks.arguments()
        target = places[:, 1:] + STEPS[actions]
        room_step = (places[:, 1] == self.door) * ((target[:, 1] == self.size).astype(int) - (target[:, 1] == -1))
        inside = target.clip(0, self.size - 1)
        column = np.where(room_step == 0, inside[:, 1], np.where(room_step > 0, 0, self.size - 1))
        return np.stack([(places[:, 0] + room_step) % len(self.views), inside[:, 0], column], 1)

    def _ends(self) -> tuple[Ends, Ends]:
        done = np.zeros(self.num_envs, bool) if self.goal is None else (self.places == self.goal).all(1)
        return done, (self.steps >= self.episode_len) & ~done

    def _observe(self) -> Float[np.ndarray, "num_envs view view 3"]:
        return self.views[tuple(self.places.T)]

    def _picture(self, row: int) -> Any:
        room, cell_row, column = self.places[row].tolist()
        return TexturePicture(self.textures, self.size, self.door, (room, cell_row, column), self.goal)

    def state_dict(self) -> dict[str, Any]:
        """The state of all environments, and their random generators."""
        names = ("places", "steps", "ended", "last_action", "last_reward")
        return {name: getattr(self, name).copy() for name in names} | {
            "rngs": [rng.bit_generator.state for rng in self.rngs]
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``, which has no seeds; raise ValueError if it is of other environments."""
        check_state(state, self.state_dict() | {"rngs": list})
        if not ((state["places"] >= 0) & (state["places"] < (len(self.views), self.size, self.size))).all():
            raise ValueError(f"state['places'] = {state['places']}: expected places in {len(self.views)} rooms")
        if not (state["steps"] >= 0).all():
            raise ValueError(f"state['steps'] = {state['steps']}: expected at least 0")
        number = self.num_envs if state["rngs"] else 0  # there are none before the first reset
        check_state(state["rngs"], [np.random.default_rng(0).bit_generator.state] * number, "state['rngs']")
        for name, value in state.items():
            if name != "rngs":
                getattr(self, name)[...] = value
        self.rngs = [np.random.default_rng() for _ in state["rngs"]]
        for rng, stored in zip(self.rngs, state["rngs"], strict=True):
            rng.bit_generator.state = stored


def tour(
    env: TextureRoomsVectorEnv, steps: int, laps: int = 2, *, rng: np.random.Generator | int
) -> Int[np.ndarray, "time 3"]:
    """The rooms, rows and columns of a walk around the ring: a random walk in each room, then out on the right.

    Args:
        env: The rooms.
        steps: Number of steps in each room; the first is at its left door.
        laps: Number of laps around the ring.
        rng: A generator that draws the walk, or a seed.

    Raises:
        ValueError: There are too few steps to cross a room.

    Examples:
        >>> places = tour(TextureRoomsVectorEnv(rooms=3), steps=20, rng=0)
        >>> places[::20, 0].tolist()
        [0, 1, 2, 0, 1, 2]
    """
    checks.arguments()
    generator = checks.rng("rng", rng)
    checks.size("steps", steps, minimum=env.size)
    walk, place = [], np.array([[0, env.door, 0]])
    for remaining in list(range(steps, 0, -1)) * (checks.size("laps", laps) * len(env.views)):
        walk.append(place[0])
        next_place = env.after(place, generator.integers(4, size=1))
        # Keep the random step only if it stays in the room and the door can still be reached in time.
        if next_place[0, 0] != place[0, 0] or _away(env, next_place) > remaining - 2:
            row = place[0, 1]
            straight = env.after(place, np.array([3 if row == env.door else int(row < env.door)]))
            next_place = place if remaining > 1 and straight[0, 0] != place[0, 0] else straight
        place = next_place
    return np.array(walk)


def _away(env: TextureRoomsVectorEnv, place: Int[np.ndarray, "1 3"]) -> int:
    """The number of steps to the cell at the door on the right."""
    return int(abs(place[0, 1] - env.door) + env.size - 1 - place[0, 2])


class TextureRooms(SingleEnv):
    """One ring of ``TextureRoomsVectorEnv``, with its arguments."""

    metadata = RENDERED
    vector_type = TextureRoomsVectorEnv


gymnasium.register(ENV_ID, f"{__name__}:TextureRooms", vector_entry_point=f"{__name__}:TextureRoomsVectorEnv")
