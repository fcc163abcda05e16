"""How often a memory recovers stored states exactly from a given amount of noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from engram import checks
from engram.memory.expander.expander_memory import ExpanderMemory
from engram.memory.hopfield.recall import signs
from engram.nn.sequence import full_precision

SEARCHED = 14  # maximum number of message bits for an exhaustive search of the nearest state


def corrupt(
    x: Annotated[Tensor, "batch nodes"],
    fraction: float,
    *,
    noise: str = "exact",
    generator: torch.Generator | None = None,
) -> Annotated[Tensor, "batch nodes"]:
    """States of +1 and -1 with some nodes flipped or erased.

    Args:
        x: States, (batch, nodes).
        fraction: Share of the nodes that are changed, f, from 0 to 1.
        noise: ``"exact"``: exactly round(f N) nodes flip; ``"bsc"``: each flips with probability f, as in a binary
            symmetric channel; ``"erase"``: exactly round(f N) become 0.
        generator: Source of the choice; torch's global one if None.

    Raises:
        ValueError: A state is not of +1 and -1, such as zeros and ones, of which only the ones would change.

    Examples:
        >>> corrupt(torch.ones(1, 4), 0.5).sum().item()
        0.0
    """
    checks.arguments()
    if x.numel():
        signs("x", x, x.shape[-1] if x.dim() else 0)
    checks.choice("noise", noise, ("exact", "bsc", "erase"))
    checks.number("fraction", fraction, minimum=0, maximum=1)
    draw_device = torch.device("cpu") if generator is None else generator.device
    draws = torch.rand(x.shape, generator=generator, device=draw_device).to(x.device)
    if noise == "bsc":
        hit = draws < fraction
    else:
        hit = torch.zeros_like(draws, dtype=torch.bool)
        hit.scatter_(1, draws.argsort(1)[:, : round(fraction * x.shape[1])], True)
    return torch.where(hit, 0 * x if noise == "erase" else -x, x)


def recovery_rate(
    recall: Callable[[Tensor], Tensor],
    x: Annotated[Tensor, "batch nodes"],
    fraction: float,
    *,
    noise: str = "exact",
    generator: torch.Generator | None = None,
) -> float:
    """The share of stored states that a recall restores exactly from noise.

    Args:
        recall: Function from noisy states to recalled ones.
        x: Stored states of +1 and -1, (batch, nodes).
        fraction: Share of the nodes that are changed, from 0 to 1.
        noise: ``"exact"``, ``"bsc"`` or ``"erase"``; see ``corrupted``.
        generator: Source of the noise; torch's global one if None.

    Examples:
        >>> recovery_rate(lambda noisy: noisy, torch.ones(3, 4), 0.0)
        1.0
    """
    checks.arguments()
    return float((recall(corrupt(x, fraction, noise=noise, generator=generator)) == x).all(1).float().mean())


def random_states(memory: ExpanderMemory, count: int, generator: torch.Generator | None = None) -> Tensor:
    """Random stored states of a memory with parity constraints, (count, nodes).

    Args:
        memory: The memory.
        count: Number of states.
        generator: Source of the states; torch's global one if None.
    """
    return memory.encode(torch.randint(0, 2, (count, memory.message_size), generator=generator))


def nearest_state(memory: ExpanderMemory, noisy: Annotated[Tensor, "batch nodes"]) -> Annotated[Tensor, "batch nodes"]:
    """The stored states nearest to noisy ones (maximum likelihood), ties to the first; for at most 2^14 states."""
    size = memory.message_size
    if size > SEARCHED:
        raise ValueError(f"memory stores 2^{size} states: expected at most 2^{SEARCHED}; take a smaller N")
    all_states = memory.encode(torch.arange(2**size)[:, None] >> torch.arange(size) & 1)
    # As signs, since a product of bits counts the ones in common, not the nodes in which both are equal.
    cues, states = (1 - 2 * x.float() if memory.encoding == "bits" else x.float() for x in (noisy, all_states))
    with full_precision(noisy.device):
        return all_states[(cues @ states.T).argmax(1)]
