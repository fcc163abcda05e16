"""Point world: a point that is pushed to the middle of the plane, by actuators that may be redundant or remapped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float, Int

from engram import checks
from engram.tasks.environment import BatchedEnv, Ends, Observations, PerEnv, Rows, SingleEnv
from engram.tasks.picture import RENDERED, Picture

ENV_ID = "engram/PointWorld-v0"

STEP = 0.1  # maximum distance in one step along each axis, before rotation
_CELLS = 21  # along a side of the picture


class PointWorldVectorEnv(BatchedEnv):
    """Many points at once, each to be pushed to the middle of [-1, 1]^2.

        s' = clip(s + 0.1 R mean over copies of (a_x, a_y), -1, 1),  r = -|s'|

    with R a rotation. An episode starts at a random point and is truncated; the observation is the point.

    Args:
        num_envs: Number of environments.
        copies: Number of pairs of actuators; they are redundant if there are several. An action has (a_x, a_y) of each.
        rotate: Angle of R in degrees, counterclockwise.
        perm: The index of the component of an action that each actuator takes; None: its own index.
        sign: Factor of each actuator, 1 or -1; None: all 1.
        episode_len: Steps after which an episode is truncated.
        max_episode_steps: Another limit on the steps of an episode; None: only ``episode_len``.
        render_mode: Result of ``render``, whose cells are a tenth wide: ``"rgb_array"``, ``"ansi"`` or None.

    Attributes:
        position: The points, (num_envs, 2).

    Examples:
        >>> env = gymnasium.make_vec("engram/PointWorld-v0", num_envs=3, rotate=90.0)
        >>> env.reset(seed=0)[0].shape
        (3, 2)
    """

    metadata = BatchedEnv.metadata | RENDERED

    def __init__(
        self,
        num_envs: int = 1,
        *,
        copies: int = 1,
        rotate: float = 0.0,
        perm: Sequence[int] | Int[np.ndarray, "actuators"] | None = None,
        sign: Sequence[int] | Int[np.ndarray, "actuators"] | None = None,
        episode_len: int = 40,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        checks.arguments()
        actuators = 2 * checks.size("copies", copies, maximum=10**6)
        angle = math.radians(checks.number("rotate", rotate))
        order = np.arange(actuators) if perm is None else np.asarray(perm)
        if sorted(order.tolist()) != list(range(actuators)):
            raise ValueError(f"perm = {perm!r}: expected each of 0 to {actuators - 1} once")
        factors = np.ones(actuators) if sign is None else np.asarray(sign)
        if factors.shape != (actuators,) or not np.isin(factors, (-1, 1)).all():
            raise ValueError(f"sign = {sign!r}: expected {actuators} numbers, each 1 or -1")
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        # The effect of each component of an action on the point, (actuators, 2).
        self._effect = np.zeros((actuators, 2))
        self._effect[order] = STEP * factors[:, None] * np.tile(rotation.T, (copies, 1)) / copies
        observation_space, actions = spaces.Box(-1.0, 1.0, (2,)), spaces.Box(-1.0, 1.0, (actuators,))
        super().__init__(num_envs, observation_space, actions, episode_len, max_episode_steps, render_mode=render_mode)
        self.position = np.zeros((num_envs, 2))

    def _init(self, rows: Rows) -> None:
        self.position[rows] = [self.rngs[row].uniform(-1, 1, 2) for row in rows]

    def _advance(self, actions: Float[np.ndarray, "num_envs actuators"]) -> tuple[PerEnv, dict[str, Any]]:
        self.position = np.clip(self.position + actions @ self._effect, -1, 1)
        return -np.linalg.norm(self.position, axis=1), {}

    def _ends(self) -> tuple[Ends, Ends]:
        return np.zeros(self.num_envs, dtype=bool), self.steps >= self.episode_len

    def _observe(self) -> Observations:
        return self.position.astype(np.float32)

    def _picture(self, row: int) -> Picture:
        cells = np.full((_CELLS, _CELLS), ".")
        cells[_CELLS // 2, _CELLS // 2] = "G"
        x, y = np.rint(self.position[row] * (_CELLS // 2)).astype(int).tolist()
        return Picture(cells, (_CELLS // 2 - y, _CELLS // 2 + x))


class PointWorld(SingleEnv):
    """One point of ``PointWorldVectorEnv``, with its arguments."""

    metadata = RENDERED
    vector_type = PointWorldVectorEnv


gymnasium.register(ENV_ID, f"{__name__}:PointWorld", vector_entry_point=f"{__name__}:PointWorldVectorEnv")
