"""Intervals from sessions drawn again: they hold, too, where sessions or animals differ or the model is not exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from engram import checks


def groups_of_sessions(groups: Any, sessions: int) -> Int[np.ndarray, " session"]:
    """The number of the group of each session, by the first of its sessions; without groups each is its own.

    Args:
        groups: A label of each session, such as the animal's name, or None.
        sessions: Number of sessions.

    Raises:
        ValueError: There is not one label for each session, or one is missing, such as NaN.
    """
    if groups is None:
        return np.arange(sessions)
    labels = checks.labels("groups", groups, sessions, "session")
    numbers = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels], dtype=int)


def bootstrap(
    refit: Callable[[Int[np.ndarray, " session"]], Float[np.ndarray, " part"]],
    groups: Int[np.ndarray, " session"],
    draws: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draw part"]:
    """The coefficients of fits to as many groups, drawn with replacement.

    Args:
        refit: Gives the coefficients of a fit to some sessions, of which each may occur several times.
        groups: The group of each session.
        draws: Number of fits.
        rng: Source of the draws.

    Source: Efron, "Bootstrap methods: another look at the jackknife" (1979).
    """
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return np.array(
        [
            refit(np.concatenate([members[k] for k in rng.integers(len(members), size=len(members))]))
            for _ in range(draws)
        ]
    )


def expanded_intervals(
    theta: Float[np.ndarray, " part"], drawn: Float[np.ndarray, "draw part"], groups: int, confidence: float
) -> Float[np.ndarray, "part 2"]:
    """Percentile intervals, wider for few groups: distances from theta times sqrt(G / (G - 1)) t(G - 1) / z.

    Without these factors percentile intervals are too narrow: the variance of drawn means lacks the first, and normal
    quantiles the second.

    Args:
        theta: Coefficients of the fit.
        drawn: Those of ``bootstrap``.
        groups: Number of groups G, at least 2.
        confidence: How often the interval should contain the truth.

    Source: Hesterberg, "What teachers should know about the bootstrap" (2015), section 4.
    """
    level = (1 + confidence) / 2
    factor = np.sqrt(groups / (groups - 1)) * stats.t.ppf(level, groups - 1) / stats.norm.ppf(level)
    low, high = np.quantile(drawn - theta, [1 - level, level], axis=0)
    return np.stack([theta + factor * low, theta + factor * high], axis=1)
