"""Write rules that are linear in the state: Hebbian, decayed, and delta with and without a gate."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram.plasticity.sequence.products import attention, corrected, decay_between
from engram.plasticity.sequence.state import FastWeights
from engram.plasticity.sequence.write_rule import WriteRule, by_chunk, in_time, plus_outer, scaled, times


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
        """U = (I + diag(beta) tril(K K', -1))^-1 diag(beta) (V - K S'), O = Q S' + tril(Q K') U, S_new = S + U' K."""
        (beta,) = signals
        weight, outputs = state.weight, []
        of_value, of_key = corrected(key, beta, None, value, key)
        for q, k, v, w, a in by_chunk(query, key, of_value, of_key, attention(query, key)):
            transposed = weight.transpose(-1, -2)
            u = v - w @ transposed
            outputs.append(q @ transposed + a @ u)
            weight = weight + u.transpose(-1, -2) @ k
        return in_time(outputs), FastWeights(weight)


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
        """As ``DeltaWrite._chunk``, with the products of alpha between two steps in both triangles, at S and at K."""
        beta, log_decay = signals
        weight, outputs = state.weight, []
        between, since_start = decay_between(log_decay), log_decay.cumsum(-1).exp()
        of_value, of_key = corrected(key, beta, between, value, scaled(key, since_start))
        sequences = scaled(query, since_start), scaled(key, between[..., -1, :]), of_value, of_key
        for q, k, v, w, a, g in by_chunk(*sequences, attention(query, key, between), since_start[..., -1]):
            transposed = weight.transpose(-1, -2)
            u = v - w @ transposed
            outputs.append(q @ transposed + a @ u)
            weight = scaled(weight, g) + u.transpose(-1, -2) @ k
        return in_time(outputs), FastWeights(weight)
