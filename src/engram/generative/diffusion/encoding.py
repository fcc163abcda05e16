"""Encodings of numbers as sines and cosines of several frequencies, with which networks take times and positions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor

from engram import checks


def position_encoding(
    positions: Num[Tensor, "*shape"], features: int, base: float = 100.0
) -> Float[Tensor, "*shape features"]:
    """Positions as sines and cosines, [sin(v w_k), cos(v w_k)] with w_k = base^(-k / (features / 2)).

    Args:
        positions: The numbers v.
        features: Number of features for each, even.
        base: About the ratio of the fastest to the slowest frequency: 10000 is usual for time steps; for positions on a
            canvas of tens of pixels, 100 keeps neighbours further apart.

    Raises:
        ValueError: ``features`` is odd or ``base`` at most 1.

    Source: Vaswani et al., "Attention is all you need" (2017), section 3.5, with another base.

    Examples:
        >>> near, far = position_encoding(torch.tensor([5.0, 5.1, 15.0]), 32).diff(dim=0).norm(dim=1)
        >>> round(near.item(), 2)
        0.15
    """
    checks.arguments()
    check_features(features=features)
    checks.number("base", base, above=1)
    half = features // 2
    dtype = positions.dtype if positions.is_floating_point() else torch.get_default_dtype()
    # A frequency of 8 bits would be wrong by a turn at position 200, and position 257 would be 256.
    values = positions.to(torch.promote_types(dtype, torch.float32))
    frequencies = base ** (-torch.arange(half, device=values.device, dtype=values.dtype) / half)
    angles = values.unsqueeze(-1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1).to(dtype)


def check_features(**features: int) -> None:
    """Raise ValueError, which names the argument, unless encodings can have these numbers of features."""
    for name, number in features.items():
        if checks.size(name, number, 2) % 2:
            raise ValueError(f"{name} = {number}: expected an even number")
