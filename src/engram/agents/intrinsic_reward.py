"""Vector environments that also reward novelty."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from engram import checks
from engram.vector_steps import autoreset_mode, end_flags


class IntrinsicReward(VectorWrapper):
    """Environments whose reward includes an intrinsic reward, so that any algorithm becomes curious.

        r = r_extrinsic + coefficient r_intrinsic(o')

    ``infos["intrinsic"]`` is r_intrinsic, and ``infos["extrinsic"]`` the reward without it. After every ``learn_every``
    steps the curiosity learns from those steps.

    Args:
        env: Vector environments whose episodes restart at the next step (Gymnasium's default).
        curiosity: A curiosity for the same number of environments, such as ``RND`` or ``FragmentedCuriosity``.
        coefficient: Factor of the intrinsic reward.
        learn_every: Steps of all environments between learning steps; 0: the wrapper does not train the curiosity.

    Raises:
        ValueError: The environments restart within a step or not at all, or the numbers of environments differ.

    Examples:
        >>> import gymnasium
        >>> from engram.agents import RND
        >>> curiosity = RND((4,), num_envs=2, hidden=8, feature_dim=4, generator=torch.Generator().manual_seed(0))
        >>> env = IntrinsicReward(gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync"), curiosity)
        >>> _ = env.reset(seed=0)
        >>> rewards, infos = env.step(np.array([0, 1]))[1::3]
        >>> bool((rewards == infos["extrinsic"] + infos["intrinsic"]).all())
        True
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], curiosity: Any, coefficient: float = 1.0, learn_every: int = 64
    ) -> None:
        checks.instance("env", env, VectorEnv)
        if (mode := autoreset_mode(env)) is not AutoresetMode.NEXT_STEP:
            raise ValueError(f"env has {mode}: expected AutoresetMode.NEXT_STEP")
        if getattr(curiosity, "num_envs", None) != env.num_envs:
            value = f"curiosity.num_envs = {getattr(curiosity, 'num_envs', None)}"
            raise ValueError(f"{value}: expected {env.num_envs}, the number of environments")
        super().__init__(env)
        self.curiosity = curiosity
        self.coefficient = checks.number("coefficient", coefficient)
        self.learn_every = checks.size("learn_every", learn_every, minimum=0)
        self._over = np.zeros(env.num_envs, dtype=bool)
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every environment."""
        with checks.noted(options=options):
            rows = (options or {}).get("reset_mask", slice(None))
        observations, infos = self.env.reset(seed=seed, options=options)
        self._over[rows] = False
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Take a step in every environment; a step that restarts an episode has no intrinsic reward."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        next_obs = torch.as_tensor(np.array(observations))[None]
        if next_obs.is_floating_point() and next_obs.dtype != torch.float64:  # in which far origins are told apart
            next_obs = next_obs.float()
        restarting = torch.from_numpy(self._over.copy())[None]
        if isinstance(self.curiosity, torch.nn.Module):
            like = next(chain(self.curiosity.parameters(), self.curiosity.buffers()), next_obs)
            next_obs, restarting = next_obs.to(like.device), restarting.to(like.device)
        intrinsic = self.curiosity.bonus(next_obs, restarting)[0].numpy(force=True).astype(np.float64)
        intrinsic = np.where(self._over, 0.0, intrinsic)
        terminated = end_flags("terminated", terminated, self.num_envs)
        truncated = end_flags("truncated", truncated, self.num_envs)
        self._over = terminated | truncated
        self._seen.append((next_obs, ~restarting))
        if len(self._seen) == self.learn_every:
            self.curiosity.update(*(torch.cat(column) for column in zip(*self._seen, strict=True)))
        if len(self._seen) >= self.learn_every:
            self._seen.clear()
        all_envs = np.ones(self.num_envs, dtype=bool)
        by_source = {"extrinsic": rewards, "_extrinsic": all_envs, "intrinsic": intrinsic, "_intrinsic": all_envs}
        return observations, rewards + self.coefficient * intrinsic, terminated, truncated, infos | by_source
