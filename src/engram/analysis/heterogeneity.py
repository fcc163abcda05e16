"""Heterogeneity: how different the observations of a world are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engram import checks


def heterogeneity(
    env: gymnasium.Env[Any, Any],
    features: Callable[[Tensor], Float[Tensor, "steps features"]],
    *,
    steps: int = 10_000,
    rng: int | np.random.Generator | None = None,
) -> float:
    """The heterogeneity of an environment: how little its observations have in common, for a random policy.

        1 - mean over t < u of cos(f(o(t)), f(o(u)))

    It is 0 if the features of all observations have the same direction. An observation whose features are all 0 has a
    cosine of 0 to every other.

    Args:
        env: The environment, in which one episode is played.
        features: Function from observations to features, such as ``RND(...).features``, which are random.
        steps: Maximum number of steps of the episode, at least 1.
        rng: Generator or seed, for the reset of the environment and the random actions.

    Raises:
        ValueError: ``steps`` is below 1, or ``features`` does not return one row for each observation.

    Source: ours, for the claim of Hwang et al., "Neuro-inspired fragmentation and recall" (2023), on heterogeneous
    environments, whose measure is not published.

    Examples:
        >>> from engram.agents import RND
        >>> rnd = RND((4,), hidden=8, feature_dim=64, generator=torch.Generator().manual_seed(0))
        >>> 0 < heterogeneity(gymnasium.make("CartPole-v1"), rnd.features, rng=0) < 1
        True
    """
    checks.arguments()
    checks.size("steps", steps)
    generator = checks.rng("rng", rng)
    env.action_space.seed(int(generator.integers(2**31)))
    observations, done = [np.array(env.reset(seed=int(generator.integers(2**31)))[0])], False
    for _ in range(steps):
        if done:
            break
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        observations.append(np.array(observation))  # a copy, as environments may reuse it
        done = terminated or truncated
    with checks.noted(features=features), torch.no_grad():
        rows = features(torch.from_numpy(np.stack(observations)))
        if len(rows) != len(observations):
            expected = f"{len(observations)}, one for each observation"
            raise ValueError(f"features returned {len(rows)} rows: expected {expected}")
        unit_vectors = functional.normalize(rows.flatten(1).double())
    cosines = unit_vectors.sum(0).square().sum() - unit_vectors.square().sum()
    return 1 - cosines.item() / (len(observations) * (len(observations) - 1))
