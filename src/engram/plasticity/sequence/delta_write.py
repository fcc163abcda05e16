"""The delta rule: what is written is the error of what the memory recalls."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram.plasticity.sequence.corrected_chunks import can_run, corrected_chunks
from engram.plasticity.sequence.products import attention, corrected
from engram.plasticity.sequence.state import FastWeights
from engram.plasticity.sequence.write_rule import WriteRule, by_chunk, in_time, plus_outer, times


class DeltaWrite(WriteRule):
    """The delta rule: what is written is the error of what the memory recalls.

        S' = S + beta (v - S k) k'

    It is Hebb's rule with the error of the recall as the postsynaptic term. With a key of unit length and beta = 1 the
    key afterwards recalls v exactly: a new value replaces the old one. With 0 <= beta <= 2 no eigenvalue of
    I - beta k k' is outside [-1, 1].

    Source: Schlag, Irie and Schmidhuber, "Linear transformers are secretly fast weight programmers" (2021), equation
    24; Widrow and Hoff, "Adaptive switching circuits" (1960). Chunks as in Yang et al., "Parallelizing linear
    transformers with the delta rule over sequence length" (2024).

    Examples:
        >>> import torch
        >>> rule, key, one = DeltaWrite(), torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1)
        >>> state = rule.write(rule.init(torch.zeros(1, 1, 1, 2)), key, torch.tensor([[[2.0]]]), one)
        >>> rule.recall(rule.write(state, key, torch.tensor([[[3.0]]]), one), key).item()
        3.0
    """

    def _write(
        self,
        state: FastWeights,
        key: Float[Tensor, "batch heads key"],
        value: Float[Tensor, "batch heads value"],
        *signals: Float[Tensor, "batch heads"],
    ) -> FastWeights:
        """As ``WriteRule._write``."""
        (beta,) = signals
        error = value - times(state.weight, key)
        return FastWeights(plus_outer(state.weight, beta, error, key))

    def _chunk(
        self, state: FastWeights, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor
    ) -> tuple[Tensor, FastWeights]:
        """As ``chunks``, by the kernel where it can run."""
        tensors = state.weight, query, key, value, *signals
        output, weight = corrected_chunks(chunks, *tensors) if can_run(*tensors) else chunks(*tensors)
        return output, FastWeights(weight)


def chunks(weight: Tensor, query: Tensor, key: Tensor, value: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """U = (I + diag(beta) tril(K K', -1))^-1 diag(beta) (V - K S'), O = Q S' + tril(Q K') U, S_new = S + U' K."""
    outputs = []
    of_value, of_key = corrected(key, beta, None, value, key)
    for q, k, v, w, a in by_chunk(query, key, of_value, of_key, attention(query, key)):
        transposed = weight.transpose(-1, -2)
        u = v - w @ transposed
        outputs.append(q @ transposed + a @ u)
        weight = weight + u.transpose(-1, -2) @ k
    return in_time(outputs), weight
