"""The gated delta rule: the old weights decay, then the error of what is left is written."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram.plasticity.sequence.corrected_chunks import can_run, corrected_chunks
from engram.plasticity.sequence.products import attention, corrected, decay_between
from engram.plasticity.sequence.state import FastWeights
from engram.plasticity.sequence.write_rule import WriteRule, by_chunk, in_time, plus_outer, scaled, times


class GatedDeltaWrite(WriteRule):
    """The gated delta rule: the old weights decay, then the error of what is left is written.

        R  = alpha S
        S' = R + beta (v - R k) k'

    As ``DeltaWrite``, but alpha, which depends on the input, can clear the whole memory in one step.

    Source: Yang, Kautz and Hatamizadeh, "Gated delta networks" (2025), equation 10.

    Examples:
        >>> import torch
        >>> rule, key, one = GatedDeltaWrite(), torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1)
        >>> state = rule.write(rule.init(torch.ones(1, 1, 1, 2)), key, torch.tensor([[[2.0]]]), one, 0.5 * -one)
        >>> [round(weight, 2) for weight in state.weight[0, 0, 0].tolist()]
        [2.0, 0.61]
    """

    signals = ("beta", "log_decay")

    def _write(
        self,
        state: FastWeights,
        key: Float[Tensor, "batch heads key"],
        value: Float[Tensor, "batch heads value"],
        *signals: Float[Tensor, "batch heads"],
    ) -> FastWeights:
        """As ``WriteRule._write``; ``log_decay`` is the logarithm of alpha."""
        beta, log_decay = signals
        left = scaled(state.weight, log_decay.exp())
        return FastWeights(plus_outer(left, beta, value - times(left, key), key))

    def _chunk(
        self, state: FastWeights, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor
    ) -> tuple[Tensor, FastWeights]:
        """As ``chunks``, by the kernel where it can run."""
        tensors = state.weight, query, key, value, *signals
        output, weight = corrected_chunks(chunks, *tensors) if can_run(*tensors) else chunks(*tensors)
        return output, FastWeights(weight)


def chunks(weight: Tensor, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor) -> tuple[Tensor, Tensor]:
    """As ``delta_write.chunks``, with the products of alpha between two steps in both triangles, at S and at K."""
    beta, log_decay = signals
    outputs = []
    between, since_start = decay_between(log_decay), log_decay.cumsum(-1).exp()
    of_value, of_key = corrected(key, beta, between, value, scaled(key, since_start))
    sequences = scaled(query, since_start), scaled(key, between[..., -1, :]), of_value, of_key
    for q, k, v, w, a, g in by_chunk(*sequences, attention(query, key, between), since_start[..., -1]):
        transposed = weight.transpose(-1, -2)
        u = v - w @ transposed
        outputs.append(q @ transposed + a @ u)
        weight = scaled(weight, g) + u.transpose(-1, -2) @ k
    return in_time(outputs), weight
