"""Counter-based random numbers: the n-th number of a seed without those before it, the same in torch and in numba.

    number(seed, n) = mix(seed + (n + 1) golden)

so that samples can be computed in any order, in any number of threads and on any device.

Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), SplitMix64.
"""

from __future__ import annotations

from typing import Annotated

import torch
from jaxtyping import Int
from torch import Tensor

from engram import checks

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def seeds(batch: int, generator: torch.Generator | None, device: torch.device) -> Int[Tensor, " batch"]:
    """A seed for each sample.

    Args:
        batch: Number of samples.
        generator: Source of the seeds; torch's global one if None.
        device: Device of the seeds.
    """
    checks.arguments()
    draw_device = torch.device("cpu") if generator is None else generator.device
    return torch.randint(2**62, (batch,), generator=generator, device=draw_device).to(device)


def number(seed: Annotated[Tensor, "*shape"], count: Annotated[Tensor, "*shape"] | int) -> Annotated[Tensor, "*shape"]:
    """The random 64 bits of a seed at a count; shapes broadcast."""
    value = seed + (_signed(GOLDEN * (count + 1)) if isinstance(count, int) else _signed(GOLDEN) * (count + 1))
    value = (value ^ _shift(value, 30)) * _signed(FIRST)
    value = (value ^ _shift(value, 27)) * _signed(SECOND)
    return value ^ _shift(value, 31)


def below(bits: Annotated[Tensor, "*shape"], bound: Annotated[Tensor, "*shape"] | int) -> Annotated[Tensor, "*shape"]:
    """A random integer in [0, bound), bound < 2^31, from random bits."""
    return (_shift(bits, 33) * bound) >> 31


def chance(bits: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """A random integer in [0, 2^53) from random bits; below p 2^53 with probability p."""
    return _shift(bits, 11)


def _signed(value: int) -> int:
    """The signed 64-bit integer with the same bits."""
    return (value + 2**63) % 2**64 - 2**63


def _shift(value: Tensor, by: int) -> Tensor:
    """Shift right and fill with zeros; torch has no unsigned 64-bit shift."""
    shifted: Tensor = (value >> by) & (2 ** (64 - by) - 1)
    return shifted
