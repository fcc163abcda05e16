"""Gradient descent on the error of the recall, some steps at a time: TTT-linear."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.plasticity.sequence.products import attention
from engram.plasticity.sequence.state import ChunkFastWeights
from engram.plasticity.sequence.write_rule import (
    CHUNK_SIZE,
    WriteRule,
    by_chunk,
    by_step,
    in_chunks,
    in_time,
    plus_outer,
    scaled,
    times,
)

EPS = 1e-6  # of the variance in the layer norm


class GradientWrite(WriteRule):
    """Gradient descent on the error of the recall, some steps at a time: TTT-linear.

    All gradients of a chunk are taken at S0, the matrix with which the chunk began:

        S' = S - beta dL(S0)/dS0,    L(S0) = 1/2 |k + LN(S0 k) - v|^2,    or 1/2 |S0 k - v|^2 without ``norm``

    LN is layer normalisation without weights. With ``norm`` the gradient at S0 = 0 is that of a division by the square
    root of its eps, so the layer trains the matrix with which a sequence begins, as published. Without ``norm`` and
    with ``chunk_size`` = 1 this is ``DeltaWrite``.

    Args:
        chunk_size: Number of steps b whose gradients are taken at the same matrix.
        norm: Whether the recall is normalised and added to the key; values are then as long as keys.

    Raises:
        ValueError: ``chunk_size`` is below 1.

    Source: Sun et al., "Learning to (learn at test time)" (2024), TTT-linear with mini-batches of 16, without the
    bias of the memory and with S q as its output.

    Examples:
        >>> rule, key, one = GradientWrite(norm=False), torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1)
        >>> state = rule.init(torch.zeros(1, 1, 1, 2))
        >>> for _ in range(2):  # both are written as if the memory were empty
        ...     state = rule.write(state, key, torch.tensor([[[2.0]]]), one)
        >>> rule.recall(state, key).item()
        4.0
    """

    state_type = ChunkFastWeights

    def __init__(self, chunk_size: int = 16, *, norm: bool = True) -> None:
        checks.arguments()
        super().__init__()
        self.chunk_size = checks.size("chunk_size", chunk_size)
        self.norm = self.square = self.trains_start = norm

    def shapes(self, value_size: int, key_size: int) -> tuple[tuple[int, ...], ...]:
        """As ``WriteRule.shapes``."""
        return (value_size, key_size), (value_size, key_size), ()

    def _write(
        self,
        state: ChunkFastWeights,
        key: Float[Tensor, "batch heads key"],
        value: Float[Tensor, "batch heads value"],
        *signals: Float[Tensor, "batch heads"],
    ) -> ChunkFastWeights:
        """As ``WriteRule._write``; beta is the step size of the descent."""
        (beta,) = signals
        begins = (state.position < 0.5)[:, None, None, None]
        start = torch.where(begins, state.weight, state.start)
        descent = self._descent(times(start, key), key, value)
        weight = plus_outer(state.weight, beta, descent, key)
        ends = state.position > self.chunk_size - 1.5
        return ChunkFastWeights(weight, start, torch.where(ends, 0.0, state.position + 1))

    def _chunk(
        self, state: ChunkFastWeights, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor
    ) -> tuple[Tensor, ChunkFastWeights]:
        """O = Q S' + tril(Q K') U and S_new = S + U' K, where U are the steps of the descent at the chunk's start."""
        (beta,) = signals
        weight, start = state.weight, state.start
        outputs: list[Tensor] = []
        for q, k, v, b, a in by_chunk(query, key, value, beta, attention(query, key)):
            start = weight if outputs else start
            u = scaled(self._descent(k @ start.transpose(-1, -2), k, v), b)
            outputs.append(q @ weight.transpose(-1, -2) + a @ u)
            weight = weight + u.transpose(-1, -2) @ k
        return in_time(outputs), ChunkFastWeights(weight, start, state.position)

    def _run(
        self,
        state: ChunkFastWeights,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *signals: Tensor,
        chunk_size: int = CHUNK_SIZE,
    ) -> tuple[Tensor, ChunkFastWeights]:
        """As ``WriteRule._run``, in the rule's own chunks; step by step if the sequences stand at different places."""
        length, size = query.shape[2], self.chunk_size
        outputs: list[Tensor] = []
        position = _common(state.position)
        if position is None or length < 2:
            return by_step(self, state, query, key, value, *signals) if length else (value, state)
        head = min(-position % size, length)  # what is left of a chunk that has begun
        whole = length - (length - head) % size
        for begin, end in ((0, head), (head, whole), (whole, length)):
            if begin < end:
                if begin or not position:
                    state = state._replace(start=state.weight)
                pieces = [in_chunks(t[:, :, begin:end], min(end - begin, size)) for t in (query, key, value, *signals)]
                output, state = self._chunk(state, *pieces)
                outputs.append(output)
        place = torch.full_like(state.position, (position + length) % size)
        return torch.cat(outputs, 2), state._replace(position=place)

    def _descent(self, recalled: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Minus the gradient of the loss with respect to what is recalled."""
        if not self.norm:
            return value - recalled
        deviation = recalled - recalled.mean(-1, keepdim=True)
        rate = (deviation.square().mean(-1, keepdim=True) + EPS).rsqrt()
        normal = deviation * rate
        error = value - key - normal
        centred = error - error.mean(-1, keepdim=True)
        return (centred - normal * (error * normal).mean(-1, keepdim=True)) * rate


def _common(position: Float[Tensor, "batch"]) -> int | None:
    """The place within a chunk at which all sequences stand; None if they differ, or it cannot be read."""
    if not checks.readable(position) or (position[0] != position).any():
        return None
    return round(position[0].item())
