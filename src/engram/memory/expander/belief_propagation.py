"""Belief propagation: the decoder with which a network of simple neurons is compared."""

from __future__ import annotations

from math import log
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from engram import checks
from engram.memory.expander.bit_flipping import ParityCheck, as_graph
from engram.memory.expander.expander_memory import ExpanderMemory

LARGEST = 30.0  # messages are clipped to this log-likelihood ratio: tanh of half of it is 1 in 64 bits


class BeliefResult(NamedTuple):
    """Decoded words and beliefs."""

    x: UInt8[Tensor, "batch nodes"]  # words of zeros and ones
    converged: Bool[Tensor, " batch"]  # all checks hold
    log_ratio: Float[Tensor, "batch nodes"]  # log P(bit = 0) / P(bit = 1) after the word's last round


def belief_propagation(
    H: ParityCheck, x: Annotated[Tensor, "batch nodes"], flip_probability: float, *, max_iter: int = 50
) -> BeliefResult:
    """Correct words sent through a channel that flips each bit with a known probability, by the sum-product algorithm.

        prior    L_i    = (1 - 2 x_i) log((1 - f) / f)
        to check q_ij   = L_i + sum of r_ki over the other checks k
        to bit   r_ji   = 2 artanh(product over the other bits k of tanh(q_kj / 2))
        word     x_i    = 1 where L_i + sum of r_ji < 0

    Args:
        H: Parity-check matrix of zeros and ones, (checks, bits), dense or sparse, or its graph. A check may be of a
            single bit, which must then be 0, and a bit may be in no check; its log ratio is then the prior.
        x: Words of zeros and ones, (batch, bits).
        flip_probability: f, in (0, 0.5).
        max_iter: Maximum number of rounds; after the first, a word whose checks all hold stays as it is. One that
            arrives so is left unchanged by it, with a log ratio that tells what the checks add to the prior.

    Raises:
        ValueError: ``H`` is not a parity-check matrix of zeros and ones, ``x`` is not a batch of its words,
            ``flip_probability`` is not in (0, 0.5), or ``max_iter`` is below 1.

    Source: Gallager, "Low-density parity-check codes" (1963), in the logarithmic form of Richardson and Urbanke,
    "Modern coding theory" (2008).

    Examples:
        >>> from engram.memory import array_graph
        >>> int(belief_propagation(array_graph(7, 5), torch.eye(49, dtype=torch.uint8)[3:4], 0.05).x.sum())
        0
    """
    checks.arguments()
    graph = as_graph(H)
    with checks.noted(x=x):
        memory = ExpanderMemory(graph, encoding="bits").to(x.device)
        word = memory._encoded(x)[0].clone()
    checks.number("flip_probability", flip_probability, above=0, below=0.5)
    checks_of, slots, _, nodes = memory._network[:4]
    C, is_node = nodes.clamp(min=0), nodes >= 0
    A, is_check = checks_of.clamp(min=0), checks_of >= 0
    checks.size("max_iter", max_iter)
    prior = (1 - 2 * word.double()) * min(log((1 - flip_probability) / flip_probability), LARGEST)
    belief = prior.clone()
    to_bit = torch.zeros(len(word), *C.shape, dtype=torch.float64, device=x.device)
    active = torch.ones(len(word), dtype=torch.bool, device=x.device)
    for _ in range(max_iter):
        if not active.any():
            break
        to_check = (belief[active][:, C] - to_bit[active]).clamp(-LARGEST, LARGEST)
        half = torch.tanh(to_check / 2).masked_fill(~is_node, 1.0)
        # The product of the others, computed without division, since a factor can be zero.
        prefix = torch.cat((torch.ones_like(half[..., :1]), half.cumprod(2)[..., :-1]), 2)
        suffix = torch.cat((half.flip(2).cumprod(2).flip(2)[..., 1:], torch.ones_like(half[..., :1])), 2)
        message = (2 * torch.atanh(prefix * suffix)).clamp(-LARGEST, LARGEST)
        to_bit[active] = message
        belief[active] = prior[active] + (message[:, A, slots] * is_check).sum(2)
        word[active] = (belief[active] < 0).to(torch.uint8)
        active = ((word[:, C] * is_node).sum(2) & 1).any(1)
    return BeliefResult(word, ~active, belief)
