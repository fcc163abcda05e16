"""One episode in each of many environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Float

from engram import checks
from engram.agents.a2c import final_observation
from engram.vector_steps import autoreset_mode, end_flags


def vector_episodes(
    env: VectorEnv[Any, Any, Any],
    act: Callable[[Any], Any],
    seed: int | None = None,
    record: Callable[..., object] | None = None,
) -> Float[np.ndarray, "num_envs"]:
    """The sum of the rewards of one episode in each environment.

    Args:
        env: Vector environments, with any autoreset mode.
        act: Maps the observations of all environments to their actions.
        seed: Seed of the environments; None lets them continue with their own randomness.
        record: Called with the transitions of each step in the environments whose episode is not over, for example
            ``ReplayBuffer.add``.

    Raises:
        TypeError: ``env`` is a single environment, as ``gymnasium.make`` makes.
        ValueError: Its metadata do not tell the autoreset mode, an end is neither 0 nor 1, or ``record`` is given and
            the infos have no last observation of an environment that has started again.

    Examples:
        >>> import gymnasium
        >>> env = gymnasium.make_vec("engram.tasks:engram/PointWorld-v0", num_envs=3)
        >>> vector_episodes(env, lambda observations: np.clip(-10 * observations, -1, 1), seed=0).round()
        array([-1., -4., -1.])
    """
    checks.arguments()
    mode = autoreset_mode(env)
    observations, _ = env.reset(seed=seed)
    totals, running = np.zeros(env.num_envs), np.ones(env.num_envs, dtype=bool)
    while running.any():
        actions = act(observations)
        previous, (observations, rewards, terminated, truncated, infos) = np.array(observations), env.step(actions)
        totals += np.where(running, rewards, 0.0)
        terminated = end_flags("terminated", terminated, env.num_envs)
        truncated = end_flags("truncated", truncated, env.num_envs)
        finished = terminated | truncated
        if record is not None:
            next_observations = np.array(observations)
            for row in np.flatnonzero(running & finished).tolist():
                next_observations[row] = final_observation(mode, row, observations, infos)
            columns = previous, np.asarray(actions), rewards, next_observations
            episode_ends = {"terminated": terminated[running], "truncated": truncated[running]}
            record(*(column[running] for column in columns), **episode_ends)
        running = running & ~finished
        if mode is AutoresetMode.DISABLED and finished.any() and running.any():
            observations, _ = env.reset(options={"reset_mask": finished})
    return totals
