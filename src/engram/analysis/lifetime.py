"""Measures of learning within a lifetime, from choices and rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from engram import checks
from engram.numeric.rounding import FEW


def cumulative_regret(
    rewards: Num[np.ndarray, "*lifetimes steps"], best: Num[np.ndarray, "..."]
) -> Float[np.ndarray, "*lifetimes steps"]:
    """The cumulative regret, R(t) = sum over s <= t of (best(s) - r(s)).

    Args:
        rewards: r, the rewards of each lifetime.
        best: The largest expected reward: one for each lifetime, (*lifetimes,), or for each step, (*lifetimes, steps).

    Raises:
        ValueError: ``best`` has another shape.

    Source: Lai and Robbins, "Asymptotically efficient adaptive allocation rules" (1985).

    Examples:
        >>> cumulative_regret(np.array([0.0, 1.0, 0.0]), np.array(0.75)).tolist()
        [0.75, 0.5, 1.25]
    """
    checks.arguments()
    if best.shape == rewards.shape[:-1]:
        best = best[..., None]
    elif best.shape != rewards.shape:
        raise ValueError(f"best.shape = {best.shape}: expected {rewards.shape[:-1]} or {rewards.shape}, as rewards has")
    regret: Float[np.ndarray, "*lifetimes steps"] = (best.astype(np.float64) - rewards).cumsum(-1)
    return regret


def normalized_return(
    returns: Num[np.ndarray, "*lifetimes"] | float,
    random: Num[np.ndarray, "*lifetimes"] | float,
    oracle: Num[np.ndarray, "*lifetimes"] | float,
) -> Any:
    """The normalized return (return - random) / (oracle - random): 0 for random actions, 1 for the oracle.

    Args:
        returns: The returns to normalize.
        random: Expected return of random actions: one number, or one for each lifetime.
        oracle: Expected return when the instance is known; the result is NaN where it is not above ``random`` by more
            than rounding.

    Examples:
        >>> normalized_return(np.array([0.5, 0.8]), 0.5, 0.9).round(2).tolist()
        [0.0, 0.75]
    """
    checks.arguments()
    best, chance = np.asarray(oracle, dtype=float), np.asarray(random, dtype=float)
    span, rounding = best - chance, FEW * np.finfo(float).eps * np.maximum(np.abs(best), np.abs(chance))
    normalised = (np.asarray(returns, dtype=float) - random) / np.where(span > rounding, span, np.nan)
    return normalised if normalised.ndim else float(normalised)


def stay_probabilities(
    choices: Int[np.ndarray, "*lifetimes trials"], rewarded: Bool[np.ndarray, "..."], common: Bool[np.ndarray, "..."]
) -> Float[np.ndarray, "2 2"]:
    """The probability of repeating a choice, indexed by [rewarded, common] of the previous trial, each 0 or 1.

    A model-based agent stays after a rewarded common transition and an unrewarded rare one; a model-free agent ignores
    whether the transition was common. An entry is NaN if there was no such trial.

    Args:
        choices: The first choice of each trial.
        rewarded: Whether the trial was rewarded, of the same shape.
        common: Whether the transition was the common one, of the same shape.

    Raises:
        ValueError: The shapes differ.

    Source: Daw et al., "Model-based influences on humans' choices and striatal prediction errors" (2011), figure 2.

    Examples:
        >>> choices, rewarded = np.array([0, 0, 1, 1]), np.array([True, False, True, True])
        >>> stay_probabilities(choices, rewarded, np.ones(4, dtype=bool))[:, 1].tolist()
        [0.0, 1.0]
    """
    checks.arguments()
    if not choices.shape == rewarded.shape == common.shape:
        shapes = f"{rewarded.shape} and {common.shape}"
        raise ValueError(f"rewarded.shape and common.shape = {shapes}: expected those of choices, {choices.shape}")
    stays = choices[..., 1:] == choices[..., :-1]
    rewarded, common = rewarded[..., :-1], common[..., :-1]
    probabilities = np.full((2, 2), np.nan)
    for was_rewarded, was_common in np.ndindex(2, 2):
        if (is_case := (rewarded == was_rewarded) & (common == was_common)).any():
            probabilities[was_rewarded, was_common] = stays[is_case].mean()
    return probabilities


def within_lifetime_gain(
    rewards: Num[np.ndarray, "*lifetimes steps"], share: float = 0.25
) -> Float[np.ndarray, "*lifetimes"] | float:
    """The mean of the last ``share`` (at most one half) of the rewards minus the mean of the first ``share``.

    Examples:
        >>> within_lifetime_gain(np.array([0, 0, 1, 0, 1, 1, 1, 1]))
        1.0
    """
    checks.arguments()
    checks.number("share", share, above=0, maximum=0.5)
    steps = int(rewards.shape[-1] * share)
    if steps < 1:
        raise ValueError(f"share = {share}: expected at least one of {rewards.shape[-1]} steps")
    gain = rewards[..., -steps:].mean(-1) - rewards[..., :steps].mean(-1)
    return gain if np.ndim(gain) else float(gain)
