"""Hash counts: observations that were seen rarely are novel; those with the same hash count as equal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from engram import checks
from engram.agents.curiosity import check_rollout
from engram.nn.sequence import check_precision, full_precision
from engram.state import check_module_state


class HashCounts(nn.Module):
    """A bonus of one over the square root of how often observations with the same hash were seen.

        h = signs of A x,   A ~ N(0, 1), (bits, features)
        n(h) <- n(h) + the observations of the rollout that have h
        r = 1 / sqrt(n(h)),   0 where done

    Observations should be centred: if all lie in about the same direction, all have the same signs.

    Args:
        obs_shape: Shape of one observation.
        num_envs: Number of environments, which share the counts.
        bits: Length of a hash, at most 24; with fewer bits, more observations count as the same. There are 2^bits
            counts.
        generator: Draws A; torch's global one if None.

    Attributes:
        counts: n, indexed by the hash as a binary number.

    Source: Tang et al., "#Exploration: a study of count-based exploration for deep reinforcement learning" (2017),
    algorithm 1, with beta = 1.

    Examples:
        >>> counted = HashCounts((2,), generator=torch.Generator().manual_seed(0))
        >>> x, never = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[-1.0, 0.0]]]), torch.zeros(3, 1, dtype=torch.bool)
        >>> counted.bonus(x, never).flatten()
        tensor([0.7071, 0.7071, 1.0000])
    """

    projection: Tensor
    counts: Tensor

    def __init__(
        self,
        obs_shape: Sequence[int],
        num_envs: int = 1,
        *,
        bits: int = 16,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__()
        self.obs_shape = tuple(checks.size("obs_shape", side) for side in obs_shape)
        self.num_envs = checks.size("num_envs", num_envs)
        checks.size("bits", bits, maximum=24)
        projection = torch.randn(bits, math.prod(self.obs_shape), generator=generator)
        self.register_buffer("projection", projection)
        self.register_buffer("counts", torch.zeros(2**bits, dtype=torch.int64))

    def bonus(
        self, next_obs: Shaped[Tensor, "time batch *features"], done: Bool[Tensor, "time batch"]
    ) -> Float[Tensor, "time batch"]:
        """Count the observations of a rollout, and return the bonus of each.

        Args:
            next_obs: Observations after each step, of all environments.
            done: Steps that do not count.

        Raises:
            ValueError: Shapes differ, or an observation is not finite.
        """
        next_obs = check_rollout(next_obs, done, self.obs_shape, self.num_envs)
        check_precision(self.projection)
        with full_precision(next_obs.device):  # a rounded product would be counted elsewhere
            signs = next_obs.reshape(*done.shape, -1).to(self.projection) @ self.projection.T > 0
        hashes = (signs * 2 ** torch.arange(len(self.projection), device=signs.device)).sum(-1)
        self.counts += hashes[~done].bincount(minlength=len(self.counts))
        return self.counts[hashes].clamp(min=1).rsqrt().masked_fill(done, 0)

    def update(
        self, obs: Tensor, valid: Bool[Tensor, "..."] | None = None, envs: Int[np.ndarray, "batch"] | None = None
    ) -> float:
        """Do nothing: observations were counted in ``bonus``."""
        return 0.0

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Continue from a ``state_dict``, as torch's modules do; one of another form changes nothing.

        Raises:
            TypeError, ValueError: An entry is missing, or of another shape.
        """
        check_module_state(self, state_dict, strict)
        return super().load_state_dict(state_dict, strict, assign)
