"""Schedules: how much noise each step of a diffusion adds."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks

LARGEST_BETA = 0.999  # so that no step of the cosine schedule removes all of the signal


def cosine_betas(steps: int) -> Float[Tensor, " steps"]:
    """The cosine schedule, beta_t = min(1 - f(t + 1) / f(t), 0.999), f(t) = cos^2((t / T + 0.008) / 1.008 * pi / 2).

    Args:
        steps: T, at least 2.

    Returns:
        The variances of the noise that the steps add, in float64.

    Raises:
        ValueError: ``steps`` is below 2.

    Source: Nichol and Dhariwal, "Improved denoising diffusion probabilistic models" (2021), equation 17.

    Examples:
        >>> signal_rates(cosine_betas(100))[[0, 49]]
        tensor([0.9994, 0.4938], dtype=torch.float64)
    """
    checks.size("steps", steps, 2)
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    signal = torch.cos((time + 0.008) / 1.008 * math.pi / 2).square()
    return (1 - signal[1:] / signal[:-1]).clamp(max=LARGEST_BETA)


def linear_betas(steps: int, first: float | None = None, last: float | None = None) -> Float[Tensor, " steps"]:
    """The linear schedule, evenly spaced betas from ``first`` to ``last``, in float64.

    The published ends, 1e-4 and 0.02 for 1000 steps, are scaled by 1000 / T, so that any number of steps adds as much
    noise and hardly any signal is left.

    Args:
        steps: T, at least 2.
        first: Variance of the noise that the first step adds, above 0; None: 0.1 / T.
        last: Variance of the noise that the last step adds, below 1; None: 20 / T, at most 0.999.

    Raises:
        ValueError: ``steps`` is below 2, or ``first`` or ``last`` is not between 0 and 1.

    Source: Ho et al., "Denoising diffusion probabilistic models" (2020), section 4; the scale as in the code of Nichol
    and Dhariwal (2021).

    Examples:
        >>> signal_rates(linear_betas(1000))[499], signal_rates(linear_betas(100))[49]
        (tensor(0.0786, dtype=torch.float64), tensor(0.0742, dtype=torch.float64))
    """
    checks.size("steps", steps, 2)
    first = min(1e-4 * (1000 / steps), LARGEST_BETA) if first is None else first
    last = min(0.02 * (1000 / steps), LARGEST_BETA) if last is None else last
    checks.number("first", first, above=0, below=1)
    checks.number("last", last, above=0, below=1)
    return torch.linspace(first, last, steps, dtype=torch.float64)


def zero_terminal_snr(betas: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """A schedule rescaled so that its last step leaves no signal, as in sampling, which starts from noise alone.

    With a_t the product of 1 - beta up to t, and T the last step,

        sqrt(a_t') = (sqrt(a_t) - sqrt(a_T)) sqrt(a_1) / (sqrt(a_1) - sqrt(a_T))

    so a_1' = a_1 and a_T' = 0. In the last step noise predicts nothing, so train with ``"v"`` or ``"x0"``.

    Args:
        betas: The variances of the noise that the steps add.

    Returns:
        The rescaled betas, in float64; the last is 1.

    Raises:
        ValueError: There are fewer than two steps, or a beta is not between 0 and 1.

    Source: Lin et al., "Common diffusion noise schedules and sample steps are flawed" (2024), algorithm 1.

    Examples:
        >>> signal_rates(zero_terminal_snr(torch.tensor([0.36, 0.4375, 0.5])))
        tensor([0.6400, 0.1400, 0.0000], dtype=torch.float64)
    """
    root = signal_rates(betas).sqrt()
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    signal = root.square()
    rescaled = 1 - torch.cat([signal[:1], signal[1:] / signal[:-1]])
    rescaled[0] = betas[0]  # free of rounding
    return rescaled


def signal_rates(betas: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
    """The share of the signal's variance that is left after each step, the product of 1 - beta, in float64.

    Raises:
        ValueError: There are fewer than two steps, or a beta is not between 0 and 1; only the last one may be 1, which
            leaves no signal.

    Examples:
        >>> signal_rates(torch.tensor([0.5, 0.5]))
        tensor([0.5000, 0.2500], dtype=torch.float64)
    """
    checks.arguments()
    if len(betas) < 2:
        raise ValueError(f"betas.shape = {tuple(betas.shape)}: expected at least two steps")
    checks.finite("betas", betas)
    if betas.min() <= 0 or betas[:-1].max() >= 1 or betas[-1] > 1:
        raise ValueError(f"betas lie from {betas.min():g} to {betas.max():g}: expected numbers between 0 and 1")
    return (1 - betas.double()).cumprod(0)
