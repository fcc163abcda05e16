"""Decoders of LDPC codes: bit flipping, as plain functions of a parity-check matrix, and belief propagation."""

from __future__ import annotations

import warnings
from math import log
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import ArrayLike
from torch import Tensor

from engram import checks
from engram.memory.expander.bipartite_graph import BipartiteGraph
from engram.memory.expander.expander_memory import ExpanderMemory, RecallResult

LARGEST = 30.0  # log-likelihood ratio at which messages are held: tanh of half of it is 1 in 64 bits


ParityCheck = Annotated[Any, ArrayLike] | BipartiteGraph


def bit_flip_decode(
    H: ParityCheck,
    x: Annotated[Tensor, "batch nodes"],
    *,
    order: str = "max",
    max_iter: int | None = None,
    generator: torch.Generator | None = None,
) -> RecallResult:
    """Correct words of a linear code by flipping bits that violate more than half of their checks.

    H is a parity-check matrix of zeros and ones, (checks, bits), dense or sparse, or its graph; x are words of zeros
    and ones, (batch, bits). It is the recall of an ``ExpanderMemory``; ``order``, ``max_iter``, ``generator`` are its.

    Source: Sipser and Spielman, "Expander codes" (1996), section 3.

    Examples:
        >>> H = [[1, 0, 1, 0, 1, 0, 1], [0, 1, 1, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 1]]
        >>> bit_flip_decode(as_graph(H), torch.tensor([[0, 0, 1, 0, 0, 0, 0]])).x.tolist()
        [[0, 0, 0, 0, 0, 0, 0]]
    """
    memory = ExpanderMemory(as_graph(H), order=order, encoding="bits")
    return memory.to(x.device).recall(x, max_iter, generator=generator)


def gallager_b_decode(
    H: ParityCheck, x: Annotated[Tensor, "batch nodes"], *, threshold: int | None = None, max_iter: int = 100
) -> UInt8[Tensor, "batch nodes"]:
    """Return words of a regular code corrected by messages of one bit (Gallager's algorithm B).

        from bit i to check j:  x_i, unless at least ``threshold`` of the other checks say the opposite
        from check j to bit i:  the parity of what the other bits say
        word:                   x_i, unless more than half of its checks and x_i itself say the opposite

    Args:
        H: As in ``bit_flip_decode``, of a code whose bits are all in z checks.
        x: As there.
        threshold: How many of the z - 1 others; all of them, algorithm A, if None.
        max_iter: Most rounds; a word whose checks all hold stays as it is.

    Source: Gallager, "Low-density parity-check codes" (1963); Richardson and Urbanke, "Modern coding theory" (2008).

    Examples:
        >>> from engram.memory import array_graph
        >>> int(gallager_b_decode(array_graph(5, 3), torch.eye(25, dtype=torch.uint8)[3:4]).sum())
        0
    """
    graph = as_graph(H)
    memory = ExpanderMemory(graph, encoding="bits").to(x.device)
    received = memory._encoded(x)[0]
    z = int(graph.node_degrees[0])
    if (graph.node_degrees != z).any():
        raise ValueError("H is not regular: expected as many ones in every column, since there is one threshold")
    threshold = checks.size("threshold", z - 1 if threshold is None else threshold, most=z - 1)
    A, slots, _, nodes = memory._network[:4]
    C, there = nodes.clamp(min=0), nodes >= 0
    # At which place of the row of A the check stands, for each place of a row of C.
    place = torch.zeros_like(C)
    place[A.flatten(), slots.flatten()] = torch.arange(z, device=x.device).repeat(len(A))
    word = received.clone()
    out = received[:, :, None].expand(-1, -1, z)
    for _ in range(max_iter):
        said = out[:, C, place] * there
        back = ((said.sum(2, keepdim=True) - said.long()) & 1)[:, A, slots]
        opposite = (back != received[:, :, None]).long()
        total = opposite.sum(2, keepdim=True)
        out = received[:, :, None] ^ (total - opposite >= threshold).to(torch.uint8)
        unsettled = ((word[:, C] * there).sum(2) & 1).any(1, keepdim=True)
        decided = received ^ (2 * total[:, :, 0] > z + 1).to(torch.uint8)
        word = torch.where(unsettled, decided, word)
        if not unsettled.any():
            break
    return word


def as_graph(H: ParityCheck) -> BipartiteGraph:
    """Return the graph of a parity-check matrix, without warnings."""
    if isinstance(H, BipartiteGraph):
        return H
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BipartiteGraph.from_parity_check(H)


class BeliefResult(NamedTuple):
    """Decoded words and beliefs."""

    x: UInt8[Tensor, "batch nodes"]  # words of zeros and ones
    converged: Bool[Tensor, " batch"]  # all checks hold
    log_ratio: Float[Tensor, "batch nodes"]  # log P(bit = 0) / P(bit = 1), as the last round has it


def belief_propagation(
    H: ParityCheck, x: Annotated[Tensor, "batch nodes"], flip_probability: float, *, max_iter: int = 50
) -> BeliefResult:
    """Correct words sent through a channel that flips each bit with a known probability, by the sum-product algorithm.

        prior    L_i    = (1 - 2 x_i) log((1 - f) / f)
        to check q_ij   = L_i + sum of r_ki over the other checks k
        to bit   r_ji   = 2 artanh(product over the other bits k of tanh(q_kj / 2))
        word     x_i    = 1 where L_i + sum of r_ji < 0

    Args:
        H: As in ``bit_flip_decode``.
        x: As there.
        flip_probability: f, in (0, 0.5).
        max_iter: Most rounds; a word whose checks all hold stays as it is.

    Source: Gallager, "Low-density parity-check codes" (1963), in the logarithmic form of Richardson and Urbanke,
    "Modern coding theory" (2008).

    Examples:
        >>> from engram.memory import array_graph
        >>> int(belief_propagation(array_graph(7, 5), torch.eye(49, dtype=torch.uint8)[3:4], 0.05).x.sum())
        0
    """
    graph = as_graph(H)
    memory = ExpanderMemory(graph, encoding="bits").to(x.device)
    word = memory._encoded(x)[0].clone()
    checks.number("flip_probability", flip_probability, above=0, below=0.5)
    checks_of, slots, _, nodes = memory._network[:4]
    C, seen = nodes.clamp(min=0), nodes >= 0
    A, there = checks_of.clamp(min=0), checks_of >= 0
    prior = (1 - 2 * word.double()) * log((1 - flip_probability) / flip_probability)
    belief = prior.clone()
    to_bit = torch.zeros(len(word), *C.shape, dtype=torch.float64, device=x.device)
    active = ((word[:, C] * seen).sum(2) & 1).any(1)
    for _ in range(max_iter):
        if not active.any():
            break
        to_check = (belief[active][:, C] - to_bit[active]).clamp(-LARGEST, LARGEST)
        half = torch.tanh(to_check / 2).masked_fill(~seen, 1.0)
        # The product of the others, without a division by what may be zero.
        ahead = torch.cat((torch.ones_like(half[..., :1]), half.cumprod(2)[..., :-1]), 2)
        behind = torch.cat((half.flip(2).cumprod(2).flip(2)[..., 1:], torch.ones_like(half[..., :1])), 2)
        message = (2 * torch.atanh(ahead * behind)).clamp(-LARGEST, LARGEST)
        to_bit[active] = message
        belief[active] = prior[active] + (message[:, A, slots] * there).sum(2)
        word[active] = (belief[active] < 0).to(torch.uint8)
        active = ((word[:, C] * seen).sum(2) & 1).any(1)
    return BeliefResult(word, ~active, belief)
