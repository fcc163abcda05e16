"""The soft competition of SoftHebb, in which losers unlearn, and the change of weights that follows from it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engram import checks
from engram.nn.sequence import full_precision, precise
from engram.rules.hebbian_conv.update import hebbian_update

NOTHING = 1e-30
"""An activity that is not above this is 0, since denormal numbers would make convolutions several times as slow."""


def soft_winners(
    u: Float[Tensor, "..."], temperature: float = 1.0, *, anti_hebbian: bool = True, dim: int = 1
) -> Float[Tensor, "..."]:
    """The activity of softly competing units along an axis: positive for the winner, negative for all others.

        y = s softmax(u / temperature),   s = 1 for the most excited unit and -1 for the losers

    Args:
        u: Drives.
        temperature: Softness of the competition; 0: the winner alone is active, as in HardHebb; infinity: all units
            are equally active.
        anti_hebbian: Whether the losers have negative activity; otherwise s = 1 for all.
        dim: The axis of the units.

    Raises:
        ValueError: The temperature is negative, or there is no such axis.

    Source: Journé et al., "Hebbian deep learning without feedback" (2023).

    Examples:
        >>> soft_winners(torch.tensor([[2.2, 1.0]]))
        tensor([[ 0.7685, -0.2315]])
        >>> soft_winners(torch.tensor([[2.2, 1.0]]), temperature=0.0)
        tensor([[1., 0.]])
    """
    checks.arguments()
    checks.size("dim", dim, -u.ndim, u.ndim - 1)
    if temperature != math.inf:
        checks.number("temperature", temperature, minimum=0)
    if temperature == 0:
        return torch.zeros_like(u).scatter_(dim, u.argmax(dim, keepdim=True), 1)
    last = u.movedim(dim, -1)  # in channels_last layout, a softmax over the last axis is faster
    y = functional.threshold(torch.softmax(last if temperature == 1 else last / temperature, -1), NOTHING, 0.0)
    y = y.movedim(-1, dim)
    if not anti_hebbian:
        return y
    # The winner is that of the drives: among very soft activities many are equal.
    winner = u.max(dim, keepdim=True).indices
    most = y.gather(dim, winner)
    return y.neg_().scatter_(dim, winner, most)


def soft_hebb_update(
    x: Float[Tensor, "batch inputs ..."],
    y: Float[Tensor, "batch units ..."],
    u: Float[Tensor, "batch units ..."],
    weight: Float[Tensor, "units inputs ..."],
) -> Float[Tensor, "units inputs ..."]:
    """The change of each weight by the rule of SoftHebb, summed over the batch and over all positions p.

        dW[k] = sum_p y[k, p] (x[p] - u[k, p] W[k])

    Args:
        x: Input: (batch, channels, height, width) for a convolution without padding, (batch, features) for a linear
            layer.
        y: Activity of the units, such as the result of ``soft_winners``.
        u: Their drive: the convolution of x with the weights.
        weight: W: (units, channels, height, width), or (units, features).

    Raises:
        ValueError: Shapes do not match.

    Source: Journé et al. (2023); author code, ``NeuromorphicComputing/SoftHebb``.

    Examples:
        >>> x, w = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.6, 0.8], [1.0, 0.0]])
        >>> soft_hebb_update(x, soft_winners(x @ w.T), x @ w.T, w)
        tensor([[-0.2459,  0.1844],
                [ 0.0000, -0.4630]])
    """
    checks.arguments()
    y, u = precise(y, weight), precise(u, weight)
    grown = hebbian_update(x, y, weight, rule="hebb")
    checks.tensor("u", u, tuple(y.shape), weight)
    with torch.no_grad(), full_precision(weight.device):
        decay = (y * u).sum([axis for axis in range(y.ndim) if axis != 1])
        return grown - decay.view(-1, *[1] * (weight.ndim - 1)) * weight
