"""Curiosity: an intrinsic reward for unpredictable observations."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from engram import checks
from engram.agents.ignored import without_ignored


@runtime_checkable
class Curiosity(Protocol):
    """A module that measures the surprise of observations, and learns to predict them.

    A bonus is computed by ``observe``, ``error`` and ``reward`` in turn. ``envs`` are the indices of the environments
    that a batch comes from; None: all. ``FragmentedCuriosity`` needs all these methods.
    """

    @abstractmethod
    def observe(self, obs: Shaped[Tensor, "batch *features"]) -> None:
        """Include observations in the running statistics, if there are any."""

    @abstractmethod
    def error(self, obs: Shaped[Tensor, "batch *features"]) -> Float[Tensor, "batch"]:
        """The prediction error of each observation."""

    @abstractmethod
    def reward(
        self, error: Float[Tensor, "time batch"], done: Bool[Tensor, "time batch"], envs: Any = None
    ) -> Float[Tensor, "time batch"]:
        """The intrinsic reward for errors, 0 where done.

        Args:
            error: The error of each observation, from ``error``.
            done: Steps after which a new episode begins.
            envs: Indices of the environments of the batch (default: all).
        """

    @abstractmethod
    def features(self, obs: Shaped[Tensor, "batch *features"]) -> Float[Tensor, "batch feature_dim"]:
        """Features that identify an observation; learning never changes them."""

    @abstractmethod
    def update(
        self, obs: Tensor, valid: Bool[Tensor, "..."] | None = None, envs: Int[np.ndarray, "batch"] | None = None
    ) -> float:
        """Take one learning step on observations; return the loss before it.

        Args:
            obs: Observations, (time, batch, ...) or (batch, ...).
            valid: Observations that count (default: all).
            envs: Indices of the environments of the batch (default: all).
        """

    @abstractmethod
    def reset_parameters(self) -> None:
        """Reset to the initial state, with new random parameters."""

    @abstractmethod
    def state_dict(self) -> Any:
        """Everything learned."""

    @abstractmethod
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Continue from a ``state_dict``."""


def check_rollout(next_obs: Tensor, done: Tensor, shape: tuple[int, ...], num_envs: int) -> Tensor:
    """Raise unless ``next_obs`` is (time, num_envs, *shape) and finite, and ``done`` (time, num_envs) and boolean.

    What is not finite where ``done`` is allowed, since it does not count; it is 0 in the observations returned.

    Args:
        next_obs: Observations after each step.
        done: Whether a new episode begins after each step.
        shape: Shape of one observation.
        num_envs: Number of environments.
    """
    checks.instance("next_obs", next_obs, Tensor)
    checks.has_shape("next_obs", tuple(next_obs.shape), ("time", num_envs, *shape))
    if checks.instance("done", done, Tensor).shape != next_obs.shape[:2]:
        raise ValueError(f"done.shape = {tuple(done.shape)}: expected {tuple(next_obs.shape[:2])}, as next_obs has")
    if done.dtype != torch.bool:
        raise ValueError(f"done.dtype = {done.dtype}: expected torch.bool")
    next_obs = without_ignored(next_obs, done)
    checks.finite("next_obs", next_obs, ("time", "env", *["feature"] * len(shape)))
    return next_obs
