"""Bonuses as ``engram compare`` makes them, from the shape of an observation and a generator, with settings of ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from engram.agents.fragmented_curiosity import FragmentedCuriosity
from engram.agents.rnd import RND
from engram.memory.fragments import SurprisalMonitor

SURPRISING = 3.0  # times the mean of the errors of a fragment, as of the experiment farcuriosity


def rnd(obs_shape: Sequence[int], num_envs: int = 1, *, generator: torch.Generator | None = None) -> RND:
    """Random network distillation by small networks that learn fast.

    Examples:
        >>> rnd((3,)).predictor[-1].out_features
        64
    """
    return RND(obs_shape, num_envs, hidden=128, feature_dim=64, learning_rate=1e-3, generator=generator)


def fragmented_rnd(
    obs_shape: Sequence[int], num_envs: int = 1, *, generator: torch.Generator | None = None
) -> FragmentedCuriosity:
    """A small network distillation for each fragment of experience; one begins where an error is three times the mean.

    Examples:
        >>> type(fragmented_rnd((3,)).store.get(0).module).__name__
        'RND'
    """

    def monitor() -> SurprisalMonitor:
        options = {"append_on_trigger": False, "reset_on_trigger": False, "skip_repeats": True}
        return SurprisalMonitor("ratio", SURPRISING, min_samples=25, generator=generator, **options)

    make_module = partial(rnd, obs_shape, num_envs, generator=generator)
    return FragmentedCuriosity(make_module, num_envs, make_monitor=monitor)
