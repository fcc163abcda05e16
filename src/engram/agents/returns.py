"""Returns: the discounted sums of rewards that a learner learns to predict, computed when an episode is over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks

TRUNCATIONS = ("bootstrap", "terminal")
"""What the state after a truncated episode is worth: its estimated value, or 0 as after a terminated one."""

Returns = Float[np.ndarray, "time"]


def monte_carlo_returns(rewards: Sequence[float], gamma: float, last: float = 0.0) -> Returns:
    """Monte-Carlo returns.

        G(t) = r(t) + gamma G(t+1),  G(T) = last

    Args:
        rewards: Rewards of one episode, T of them.
        gamma: Discount for each step, from 0 to 1.
        last: Value of the state after the last step: 0 where the episode terminated.

    Source: Blundell et al., "Model-free episodic control" (2016).

    Examples:
        >>> monte_carlo_returns([0.0, 0.0, 1.0], gamma=0.5).tolist()
        [0.25, 0.5, 1.0]
    """
    checks.arguments()
    return np.array(_discounted(rewards, gamma, last), dtype=np.float64)


def discounted_returns(rewards: Float[Tensor, "time batch"], gamma: float) -> Float[Tensor, "time batch"]:
    """Monte-Carlo returns of whole episodes side by side, whose rewards are 0 after their end.

        G(t) = r(t) + gamma G(t+1),  G(T) = 0

    Examples:
        >>> discounted_returns(torch.tensor([[0.0], [0.0], [10.0]]), gamma=0.9).flatten()
        tensor([ 8.1000,  9.0000, 10.0000])
    """
    checks.arguments()
    if rewards.dim() != 2:
        raise ValueError(f"rewards.shape = {tuple(rewards.shape)}: expected (time, batch)")
    returns = _discounted(rewards.unbind(0), gamma, rewards.new_zeros(rewards.shape[1]))
    return torch.stack(returns) if returns else rewards


def n_step_returns(
    rewards: Sequence[float], values: Sequence[float], gamma: float, n: int, last: float = 0.0
) -> Returns:
    """N-step returns; near the end of an episode, Monte-Carlo returns.

        R(t) = r(t) + gamma r(t+1) + ... + gamma^(n-1) r(t+n-1) + gamma^n V(t+n)    if T - t > n, else G(t)

    Args:
        rewards: Rewards of one episode, T of them.
        values: V of each state when it was visited, T of them.
        gamma: Discount for each step, from 0 to 1.
        n: Number of steps, at least 1.
        last: Value of the state after the last step: 0 where the episode terminated.

    Raises:
        ValueError: There are not as many values as rewards, ``n`` is below 1, or ``gamma`` is not from 0 to 1.

    Source: Pritzel et al., "Neural episodic control" (2017), equation 3.

    Examples:
        >>> n_step_returns([1.0] * 4, [10.0] * 4, gamma=1.0, n=2).tolist()
        [12.0, 12.0, 2.0, 1.0]
    """
    checks.arguments()
    checks.size("n", n)
    if len(values) != len(rewards):
        raise ValueError(f"{len(values)} values and {len(rewards)} rewards: expected equal numbers")
    returns = monte_carlo_returns(rewards, gamma, last)
    with checks.noted(values=values):
        returns[:-n] += gamma**n * (np.asarray(values, dtype=np.float64)[n:] - returns[n:])
    return returns


def _discounted(rewards: Sequence[Any], gamma: float, last: Any) -> list[Any]:
    checks.number("gamma", gamma, minimum=0, maximum=1)
    backwards = accumulate(reversed(rewards), lambda later, reward: reward + gamma * later, initial=last)
    return list(backwards)[:0:-1]
