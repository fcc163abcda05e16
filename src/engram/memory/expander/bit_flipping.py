"""Bit-flipping decoders of LDPC codes, as plain functions of a parity-check matrix."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import torch
from jaxtyping import UInt8
from numpy.typing import ArrayLike
from torch import Tensor

from engram import checks
from engram.memory.expander.bipartite_graph import BipartiteGraph
from engram.memory.expander.expander_memory import ExpanderMemory, RecallResult

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

    This is the recall of an ``ExpanderMemory``.

    Args:
        H: Parity-check matrix of zeros and ones, (checks, bits), dense or sparse, or its graph.
        x: Words of zeros and ones, (batch, bits).
        order: Order of flips; see ``ExpanderMemory.recall``.
        max_iter: Maximum number of iterations; the default of the order if None.
        generator: Source of all choices; torch's global one if None.

    Source: Sipser and Spielman, "Expander codes" (1996), section 3.

    Examples:
        >>> H = [[1, 0, 1, 0, 1, 0, 1], [0, 1, 1, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1, 1]]
        >>> bit_flip_decode(as_graph(H), torch.tensor([[0, 0, 1, 0, 0, 0, 0]])).x.tolist()
        [[0, 0, 0, 0, 0, 0, 0]]
    """
    checks.arguments()
    memory = ExpanderMemory(as_graph(H), order=order, encoding="bits")
    return memory.to(x.device).recall(x, max_iter, generator=generator)


def gallager_b_decode(
    H: ParityCheck, x: Annotated[Tensor, "batch nodes"], *, threshold: int | None = None, max_iter: int = 100
) -> UInt8[Tensor, "batch nodes"]:
    """Words of a regular code corrected by messages of one bit (Gallager's algorithm B).

        from bit i to check j:  x_i, unless at least ``threshold`` of the other checks say the opposite
        from check j to bit i:  the parity of what the other bits say
        word:                   x_i, unless more than half of the z + 1 votes, of its checks and x_i, say the opposite

    Args:
        H: Parity-check matrix, (checks, bits), or its graph, of a code in which every bit is in z checks.
        x: Words of zeros and ones, (batch, bits).
        threshold: Number of the z - 1 other checks that overrule x_i, from 1; None: all of them (algorithm A).
        max_iter: Maximum number of rounds, each of messages in both directions; a word stays as it is once no check
            is violated.

    Returns:
        The words after the last round, (batch, bits), zeros and ones; they may still violate checks.

    Raises:
        ValueError: ``H`` is not a matrix of zeros and ones with z ones, at least 2, in every column; ``x`` is not a
            batch of its words; ``threshold`` is not from 1 to z - 1; or ``max_iter`` is negative.

    Source: Gallager, "Low-density parity-check codes" (1963); Richardson and Urbanke, "Modern coding theory" (2008).

    Examples:
        >>> from engram.memory import array_graph
        >>> int(gallager_b_decode(array_graph(5, 3), torch.eye(25, dtype=torch.uint8)[3:4]).sum())
        0
    """
    checks.arguments()
    graph = as_graph(H)
    memory = ExpanderMemory(graph, encoding="bits").to(x.device)
    received = memory._encoded(x)[0]
    z = int(graph.node_degrees[0])
    if (graph.node_degrees != z).any():
        raise ValueError(
            "H is not regular: expected equal numbers of ones in all columns, since there is one threshold"
        )
    if z < 2:
        raise ValueError(f"H has z = {z} ones in each column: expected at least 2")
    checks.size("max_iter", max_iter, minimum=0)
    threshold = checks.size("threshold", z - 1 if threshold is None else threshold, maximum=z - 1)
    A, slots, _, nodes = memory._network[:4]
    C, is_node = nodes.clamp(min=0), nodes >= 0
    # The position of the check in the row of A, for each position in a row of C.
    position = torch.zeros_like(C)
    position[A.flatten(), slots.flatten()] = torch.arange(z, device=x.device).repeat(len(A))
    word = received.clone()
    outgoing = received[:, :, None].expand(-1, -1, z)
    for _ in range(max_iter):
        messages = outgoing[:, C, position] * is_node
        replies = ((messages.sum(2, keepdim=True) - messages.long()) & 1)[:, A, slots]
        opposite = (replies != received[:, :, None]).long()
        n_opposite = opposite.sum(2, keepdim=True)
        outgoing = received[:, :, None] ^ (n_opposite - opposite >= threshold).to(torch.uint8)
        unsettled = ((word[:, C] * is_node).sum(2) & 1).any(1, keepdim=True)
        decided = received ^ (2 * n_opposite[:, :, 0] > z + 1).to(torch.uint8)
        word = torch.where(unsettled, decided, word)
        if not unsettled.any():
            break
    return word


def as_graph(H: ParityCheck) -> BipartiteGraph:
    """The graph of a parity-check matrix, without warnings."""
    if isinstance(H, BipartiteGraph):
        return H
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return BipartiteGraph.from_parity_check(H)
