"""Write rules that add without looking at what is recalled: Hebbian, and decayed."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram.plasticity.sequence.products import attention, decay_between
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


class DecayedWrite(WriteRule):
    """The Hebbian write with decay of the old weights.

        S' = alpha S + beta v k'

    Source: Ba et al., "Using fast weights to attend to the recent past" (2016), with a constant alpha; the gate that
    depends on the input as in Yang et al., "Gated linear attention" (2024), here one number for each head.

    Examples:
        >>> import torch
        >>> rule, key, one = DecayedWrite(), torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1)
        >>> half = torch.full((1, 1), 0.5).log()
        >>> state = rule.write(rule.init(torch.zeros(1, 1, 1, 2)), key, torch.tensor([[[2.0]]]), one, half)
        >>> rule.recall(rule.write(state, key, torch.tensor([[[3.0]]]), one, half), key).item()
        4.0
    """

    signals = ("beta", "log_decay")
    corrects = False

    def _write(
        self,
        state: FastWeights,
        key: Float[Tensor, "batch heads key"],
        value: Float[Tensor, "batch heads value"],
        *signals: Float[Tensor, "batch heads"],
    ) -> FastWeights:
        """As ``WriteRule._write``; ``log_decay`` is the logarithm of alpha."""
        beta, log_decay = signals
        return FastWeights(plus_outer(scaled(state.weight, log_decay.exp()), beta, value, key))

    def _chunk(
        self, state: FastWeights, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor
    ) -> tuple[Tensor, FastWeights]:
        """As ``HebbianWrite._chunk``, with the products of alpha in the triangle, at S and at K."""
        beta, log_decay = signals
        weight, outputs = state.weight, []
        between, since_start = decay_between(log_decay), log_decay.cumsum(-1).exp()
        written = scaled(value, beta)
        within = attention(query, key, between) @ written
        kept_key = scaled(key, between[..., -1, :])
        for q, k, u, w, g in by_chunk(scaled(query, since_start), kept_key, written, within, since_start[..., -1]):
            outputs.append(q @ weight.transpose(-1, -2) + w)
            weight = scaled(weight, g) + u.transpose(-1, -2) @ k
        return in_time(outputs), FastWeights(weight)
