"""The bonuses of ``engram compare``, made from an observation shape and a generator, with our own settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from engram.agents.fragmented_curiosity import FragmentedCuriosity
from engram.agents.rnd import RND
from engram.memory.fragments import SurprisalMonitor

SURPRISING = 3.0  # ratio of an error to the mean error of its fragment, as in the experiment farcuriosity


def rnd(obs_shape: Sequence[int], num_envs: int = 1, *, generator: torch.Generator | None = None) -> RND:
    """Random network distillation by small networks that learn fast.

    Args:
        obs_shape: Shape of one observation.
        num_envs: Number of environments.
        generator: Source of the initial values; torch's global one if None.

    Examples:
        >>> rnd((3,)).predictor[-1].out_features
        64
    """
    scale = {"mean": torch.zeros(tuple(obs_shape)), "std": torch.ones(tuple(obs_shape))}  # of what is seen in tasks
    options: dict[str, Any] = {"hidden": 128, "feature_dim": 64, "learning_rate": 1e-3, **scale}
    return RND(obs_shape, num_envs, generator=generator, **options)


def fragmented_rnd(
    obs_shape: Sequence[int], num_envs: int = 1, *, generator: torch.Generator | None = None
) -> FragmentedCuriosity:
    """A module like ``rnd`` for each fragment of experience, which begins where an error is three times the mean.

    Args:
        obs_shape: Shape of one observation.
        num_envs: Number of environments.
        generator: Source of all randomness; torch's global one if None.

    Examples:
        >>> type(fragmented_rnd((3,)).store.get(0).module).__name__
        'RND'
    """

    def monitor() -> SurprisalMonitor:
        options = {"append_on_trigger": False, "reset_on_trigger": False, "skip_repeats": True}
        return SurprisalMonitor("ratio", SURPRISING, min_samples=25, generator=generator, **options)

    make_module = partial(rnd, obs_shape, num_envs, generator=generator)
    return FragmentedCuriosity(make_module, num_envs, make_monitor=monitor)
