"""Competitive activations: the k most excited units, or all above the mean; and the normalisation before them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks

MOST_ACTIVE = 50.0
"""The largest graded activity, as published."""


def k_winners(
    u: Float[Tensor, "..."],
    k: int,
    *,
    dim: int = 1,
    binary: bool = True,
) -> Float[Tensor, "..."]:
    """The activity of the k units with the largest drives along an axis, if these are positive; 0 for all others.

    Args:
        u: Drives, with thresholds subtracted.
        k: Largest number of winners at a position; among equal drives the first wins.
        dim: The axis of the units.
        binary: Whether the activity of winners is 1; otherwise it is their drive, at most 50.

    Raises:
        ValueError: k is not between 1 and the number of units, or there is no such axis.

    Source: Miconi (2021); ties and negative winners are ours.

    Examples:
        >>> k_winners(torch.tensor([[3.0, -1.0, 2.0, 5.0]]), 2)
        tensor([[1., 0., 0., 1.]])
    """
    checks.arguments()
    checks.size("dim", dim, -u.ndim, u.ndim - 1)
    checks.size("k", k, maximum=u.shape[dim])
    if k == 1:
        wins = torch.zeros_like(u).scatter_(dim, u.argmax(dim, keepdim=True), 1)
    else:
        smallest = u.topk(k, dim).values.amin(dim, keepdim=True)
        above, tied = u > smallest, u == smallest
        remaining = k - above.sum(dim, keepdim=True)
        wins = (above | (tied & (tied.cumsum(dim) <= remaining))).to(u.dtype)
    return wins * (u > 0) if binary else wins * u.clamp(0, MOST_ACTIVE)


def triangle(u: Float[Tensor, "..."], *, dim: int = 1, power: float = 1.0) -> Float[Tensor, "..."]:
    """The amount by which each unit's drive exceeds the mean of all units along an axis; 0 for those below.

        a = relu(u - mean(u))^power

    Args:
        u: Drives, such as those with thresholds subtracted.
        dim: The axis of the units.
        power: The exponent, above 0.

    Raises:
        ValueError: There is no such axis, or the power is not above 0.

    Source: Coates, Lee and Ng, "An analysis of single-layer networks in unsupervised feature learning" (2011); with
    thresholded drives, Miconi (2021); with a power, Journé et al. (2023).

    Examples:
        >>> triangle(torch.tensor([[3.0, -1.0, 2.0, 0.0]]))
        tensor([[2., 0., 1., 0.]])
    """
    checks.arguments()
    checks.size("dim", dim, -u.ndim, u.ndim - 1)
    checks.number("power", power, above=0)
    above = (u - u.mean(dim, keepdim=True)).relu_()
    if power == 1:
        return above
    return above**power if above.requires_grad else above.pow_(power)


def per_sample_standardize(x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """The samples, each scaled to mean 0 and standard deviation 1 over all its values; a constant sample becomes 0.

        x' = (x - mean(x)) / (1e-10 + std(x)),   std over one less than the number of values

    Raises:
        ValueError: x has fewer than two axes.

    Source: Miconi (2021).

    Examples:
        >>> per_sample_standardize(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
        tensor([[-1.,  0.,  1.], [ 0.,  0.,  0.]])
    """
    checks.arguments()
    if x.ndim < 2:
        raise ValueError(f"x.shape = {tuple(x.shape)}: expected (batch, ...), two axes at least")
    rows = checks.widened(x.flatten(1))  # in half precision the squares overflow, and 1e-10 is 0
    rows = rows - rows[:, :1]  # so that a constant sample has an exact mean
    centred = rows - rows.mean(1, keepdim=True)
    spread = (centred.square().sum(1, keepdim=True) / max(rows.shape[1] - 1, 1)).sqrt()
    return (centred / (1e-10 + spread)).reshape(x.shape).to(x.dtype)
