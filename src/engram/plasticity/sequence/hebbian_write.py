"""The Hebbian write of linear attention: the matrix is the sum of value times key."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram.plasticity.sequence.products import attention
from engram.plasticity.sequence.state import FastWeights
from engram.plasticity.sequence.write_rule import WriteRule, by_chunk, in_time, plus_outer, scaled


class HebbianWrite(WriteRule):
    """The Hebbian write of linear attention: the matrix is the sum of value times key.

        S' = S + beta v k'

    It never forgets, and pairs whose keys overlap disturb each other.

    Source: Schmidhuber, "Learning to control fast-weight memories" (1992); Katharopoulos et al., "Transformers are
    RNNs" (2020), without its denominator.

    Examples:
        >>> import torch
        >>> rule, key, one = HebbianWrite(), torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1)
        >>> state = rule.write(rule.init(torch.zeros(1, 1, 1, 2)), key, torch.tensor([[[2.0]]]), one)
        >>> rule.recall(rule.write(state, key, torch.tensor([[[3.0]]]), one), key).item()
        5.0
    """

    corrects = False

    def _write(
        self,
        state: FastWeights,
        key: Float[Tensor, "batch heads key"],
        value: Float[Tensor, "batch heads value"],
        *signals: Float[Tensor, "batch heads"],
    ) -> FastWeights:
        """As ``WriteRule._write``."""
        (beta,) = signals
        return FastWeights(plus_outer(state.weight, beta, value, key))

    def _chunk(
        self, state: FastWeights, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor
    ) -> tuple[Tensor, FastWeights]:
        """O = Q S' + tril(Q K') U, S_new = S + U' K with U = diag(beta) V."""
        (beta,) = signals
        weight, outputs = state.weight, []
        written = scaled(value, beta)
        for q, k, u, within in by_chunk(query, key, written, attention(query, key) @ written):
            outputs.append(q @ weight.transpose(-1, -2) + within)
            weight = weight + u.transpose(-1, -2) @ k
        return in_time(outputs), FastWeights(weight)
