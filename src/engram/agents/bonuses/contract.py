"""The contract of an exploration bonus: it rewards novelty in a rollout, and learns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from engram import checks
from engram.agents.curiosity import check_rollout
from engram.agents.ignored import without_ignored


@runtime_checkable
class ExplorationBonus(Protocol):
    """An intrinsic reward for observations, larger for more novel ones.

    It is made by ``make(obs_shape, num_envs, generator=...)``, and the generator is the source of all its randomness.
    An ``nn.Module`` that keeps everything it learns in parameters and buffers already has the required state.
    ``CheckedBonus`` wraps it and checks its inputs. ``RND`` is one, and so is ``FragmentedCuriosity``, whose modules
    follow the larger contract of ``Curiosity``.
    """

    @abstractmethod
    def bonus(
        self, next_obs: Shaped[Tensor, "time batch *features"], done: Bool[Tensor, "time batch"]
    ) -> Float[Tensor, "time batch"]:
        """The bonus of each step of a rollout, at least 0; called once for each rollout, in order.

        Args:
            next_obs: Observations after each step, of all environments.
            done: Steps that do not count: nothing is learned from them, and their bonus is ignored.
        """

    @abstractmethod
    def update(
        self,
        obs: Shaped[Tensor, "time batch *features"],
        valid: Bool[Tensor, "time batch"] | None = None,
        envs: Int[np.ndarray, "batch"] | None = None,
    ) -> float:
        """Take one of several learning steps on a rollout; return the loss before it, or 0 if there is no loss.

        Args:
            obs: Observations of the last rollout, (time, batch, *obs_shape), in the environments ``envs``.
            valid: Whether each observation counts, (time, batch); None: all do.
            envs: Indices of the environments, (batch,); None: all environments.
        """

    @abstractmethod
    def state_dict(self) -> Any:
        """Everything learned, except the state of the generator."""

    @abstractmethod
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Continue from a ``state_dict``."""


class CheckedBonus:
    """A wrapper that checks the inputs and outputs of a bonus.

    Observations are standardised first, o' = (o - mean) / std. Steps that do not count get a bonus of 0, and a rollout
    without steps that count is not passed on.

    Args:
        make_bonus: Makes an ``ExplorationBonus``, as ``make_bonus(obs_shape, num_envs, generator=generator)``.
        obs_shape: Shape of one observation.
        num_envs: Number of environments.
        generator: Source of all randomness of the bonus; None: a generator with seed 0.
        mean: Mean of the observations, of shape ``obs_shape``; None: 0.
        std: Standard deviation of the observations, of shape ``obs_shape``, above 0; None: 1.

    Raises:
        TypeError, ValueError: An argument is not as described, or ``make_bonus`` makes no ``ExplorationBonus``.

    Examples:
        >>> from engram.agents import HashCounts
        >>> bonus, never = CheckedBonus(HashCounts, (3,)), torch.zeros(4, 1, dtype=torch.bool)
        >>> bonus.bonus(torch.ones(4, 1, 3), never).flatten()
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    __repr__ = checks.described

    def __init__(
        self,
        make_bonus: Callable[..., Any],
        obs_shape: Sequence[int],
        num_envs: int = 1,
        *,
        generator: torch.Generator | None = None,
        mean: Float[Tensor, "..."] | None = None,
        std: Float[Tensor, "..."] | None = None,
    ) -> None:
        checks.arguments()
        self.obs_shape = tuple(checks.size("obs_shape", side) for side in obs_shape)
        self.num_envs = checks.size("num_envs", num_envs)
        for name, tensor in (("mean", mean), ("std", std)):
            if tensor is not None:
                checks.has_shape(name, tuple(tensor.shape), self.obs_shape)
                checks.finite(name, tensor)
        if std is not None and not (std > 0).all():
            raise ValueError(f"std has {std.min()}: expected numbers above 0")
        self.mean, self.std = (None if statistic is None else statistic.clone() for statistic in (mean, std))
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        self.checked = make_bonus(self.obs_shape, self.num_envs, generator=generator)
        if not isinstance(self.checked, ExplorationBonus):
            raise TypeError(f"make_bonus makes a {type(self.checked).__name__}: expected an ExplorationBonus")

    def bonus(
        self, next_obs: Shaped[Tensor, "time batch *features"], done: Bool[Tensor, "time batch"]
    ) -> Float[Tensor, "time batch"]:
        """The bonus of a rollout, 0 where done.

        Args:
            next_obs: Observations after each step, of all environments.
            done: Steps that do not count.

        Raises:
            TypeError, ValueError: Shapes or dtypes differ, an observation is not finite, or the bonus is not a tensor
                of the shape of ``done`` whose numbers are finite and at least 0.
        """
        checks.arguments()
        next_obs = check_rollout(next_obs, done, self.obs_shape, self.num_envs)
        if done.all():
            return torch.zeros(done.shape, device=done.device)
        name = f"bonus of {type(self.checked).__name__}"
        bonus = checks.instance(name, self.checked.bonus(self._standardised(next_obs), done), Tensor).detach()
        checks.has_shape(name, tuple(bonus.shape), tuple(done.shape))
        bonus = torch.where(done, 0.0, bonus)
        checks.finite(name, bonus, ("time", "env"))
        if (bonus < 0).any():
            raise ValueError(f"{name} is {bonus.min()}: expected at least 0")
        return bonus

    def update(
        self,
        obs: Shaped[Tensor, "time batch *features"],
        valid: Bool[Tensor, "time batch"] | None = None,
        envs: Int[np.ndarray, "batch"] | None = None,
    ) -> float:
        """Take a learning step, unless no observation counts; return the loss before it.

        Args:
            obs: Observations of the last rollout.
            valid: Whether each observation counts; None: all do.
            envs: Indices of the environments in ``obs``, each once; None: all.

        Raises:
            TypeError, ValueError: Shapes or dtypes differ, an environment is unknown or occurs twice, an observation is
                not finite, or the loss is not a finite number.
        """
        checks.arguments()
        rows = np.arange(self.num_envs) if envs is None else envs
        if len(np.unique(rows)) < len(rows) or not np.isin(rows, np.arange(self.num_envs)).all():
            raise ValueError(f"envs = {rows}: expected different numbers from 0 to {self.num_envs - 1}")
        checks.has_shape("obs", tuple(obs.shape), ("time", len(rows), *self.obs_shape))
        counted = torch.ones(obs.shape[:2], dtype=torch.bool, device=obs.device) if valid is None else valid
        checks.has_shape("valid", tuple(counted.shape), tuple(obs.shape[:2]))
        obs = without_ignored(obs, ~counted)
        checks.finite("obs", obs)
        if not counted.any():
            return 0.0
        loss = self.checked.update(self._standardised(obs), counted, rows)
        return checks.number(f"loss of {type(self.checked).__name__}", loss)

    def _standardised(self, obs: Tensor) -> Tensor:
        centred = obs if self.mean is None else obs - self.mean
        return centred if self.std is None else centred / self.std

    def state_dict(self) -> Any:
        """The state of the bonus."""
        return self.checked.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        self.checked.load_state_dict(state_dict)
