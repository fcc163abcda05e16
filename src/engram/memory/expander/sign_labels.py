"""Labels for vectors, by the signs of random projections."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks


def sign_labels(x: Float[Tensor, "batch features"], bits: int, generator: torch.Generator) -> list[int]:
    """A number for every vector that encodes on which sides of random hyperplanes through zero it lies.

        bit i = (p_i . x > 0),    p_i normal

    so that each bit of two vectors differs with probability angle / pi. As labels of an ``AssociativeStore`` they make
    its states addresses of arbitrary vectors: vectors with equal bits share an address, and a single different bit
    leads to another address, with half of its nodes different.

    Args:
        x: The vectors.
        bits: Number of hyperplanes, such as the ``message_size`` of a store.
        generator: Source of the hyperplanes; use one in the same state for all vectors of a store.

    Returns:
        Numbers below 2^bits, bit 0 first.

    Raises:
        ValueError: ``bits`` is out of range, or a number is not finite.

    Source: Charikar, "Similarity estimation techniques from rounding algorithms" (2002), section 3; as addresses ours.

    Examples:
        >>> x = torch.tensor([[1.0, 2.0], [2.0, 4.0], [-1.0, -2.0]])
        >>> sign_labels(x, 4, torch.Generator().manual_seed(0))
        [8, 8, 7]
    """
    checks.arguments()
    checks.size("bits", bits)
    checks.finite("x", x, ("batch", "feature"))
    planes = torch.randn(x.shape[1], bits, generator=checks.generator(generator), dtype=torch.float64)
    sides = (x.double() @ planes > 0).tolist()
    return [sum(1 << position for position, side in enumerate(row) if side) for row in sides]
