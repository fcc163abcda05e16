"""Episodes in vector environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Float


def vector_episodes(
    env: VectorEnv[Any, Any, Any],
    act: Callable[[Any], Any],
    seed: int | None = None,
    record: Callable[..., object] | None = None,
) -> Float[np.ndarray, "num_envs"]:
    """Run one episode in each environment; return the sums of rewards.

    Args:
        env: Vector environments, of any way to reset.
        act: From the observations of all environments to their actions.
        seed: Seed of the environments; None lets them go on with their own randomness.
        record: Called with the transitions of each step, of the environments whose episode is not over, such as
            ``ReplayBuffer.add``.

    Examples:
        >>> import gymnasium
        >>> env = gymnasium.make_vec("engram.tasks:engram/PointWorld-v0", num_envs=3)
        >>> vector_episodes(env, lambda seen: np.clip(-10 * seen, -1, 1), seed=0).round()
        array([-1., -4., -1.])
    """
    seen, _ = env.reset(seed=seed)
    totals, running = np.zeros(env.num_envs), np.ones(env.num_envs, dtype=bool)
    mode = env.metadata.get("autoreset_mode")
    while running.any():
        actions = act(seen)
        before, (seen, rewards, terminated, truncated, infos) = np.array(seen), env.step(actions)
        totals += np.where(running, rewards, 0.0)
        over = terminated | truncated
        following = np.array(seen)
        if mode is AutoresetMode.SAME_STEP and over.any():
            for row in np.flatnonzero(over):
                following[row] = infos["final_obs"][row]
        if record is not None:
            parts = before, np.asarray(actions), rewards, following
            ends = {"terminated": terminated[running], "truncated": truncated[running]}
            record(*(part[running] for part in parts), **ends)
        running = running & ~over
        if mode is AutoresetMode.DISABLED and over.any() and running.any():
            seen, _ = env.reset(options={"reset_mask": over})
    return totals
