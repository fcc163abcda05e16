"""What each step of an episode was worth, computed when the episode is over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from jaxtyping import Float

Returns = Float[np.ndarray, "time"]


def monte_carlo_returns(rewards: Sequence[float], gamma: float, last: float = 0.0) -> Returns:
    """Return what an episode still gives from each step on, discounted.

        G(t) = r(t) + gamma G(t+1),  G(T) = last

    Args:
        rewards: Rewards of one episode, T of them.
        gamma: Discount for each step, from 0 to 1.
        last: What is expected after the last step: 0 where the episode terminated.

    Raises:
        ValueError: ``gamma`` is out of range.

    Source: Blundell et al., "Model-free episodic control" (2016).

    Examples:
        >>> monte_carlo_returns([0.0, 0.0, 1.0], gamma=0.5).tolist()
        [0.25, 0.5, 1.0]
    """
    if not 0 <= gamma <= 1:
        raise ValueError(f"gamma = {gamma}: expected a number from 0 to 1")
    backwards = accumulate(reversed(rewards), lambda later, reward: reward + gamma * later, initial=last)
    return np.array(list(backwards)[:0:-1], dtype=np.float64)


def n_step_returns(
    rewards: Sequence[float], values: Sequence[float], gamma: float, n: int, last: float = 0.0
) -> Returns:
    """Return the rewards of n steps and what was then expected; near the end of an episode, all that came.

        R(t) = r(t) + gamma r(t+1) + ... + gamma^(n-1) r(t+n-1) + gamma^n V(t+n)    if T - t > n, else G(t)

    Args:
        rewards: Rewards of one episode, T of them.
        values: What was expected at each step, V, when it was acted upon; as many.
        gamma: Discount for each step, from 0 to 1.
        n: Steps, at least 1.
        last: What is expected after the last step: 0 where the episode terminated.

    Raises:
        ValueError: ``gamma`` or ``n`` is out of range, or there are not as many values as rewards.

    Source: Pritzel et al., "Neural episodic control" (2017), equation 3.

    Examples:
        >>> n_step_returns([1.0] * 4, [10.0] * 4, gamma=1.0, n=2).tolist()
        [12.0, 12.0, 2.0, 1.0]
    """
    if n < 1:
        raise ValueError(f"n = {n}: expected at least 1")
    if len(values) != len(rewards):
        raise ValueError(f"{len(values)} values and {len(rewards)} rewards: expected as many")
    found = monte_carlo_returns(rewards, gamma, last)
    found[:-n] += gamma**n * (np.asarray(values, dtype=np.float64)[n:] - found[n:])
    return found
