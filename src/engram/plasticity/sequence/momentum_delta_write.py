"""The delta rule with momentum and decay: the linear memory of Titans."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engram.plasticity.sequence.products import attention, corrected, decay_between
from engram.plasticity.sequence.state import MomentumFastWeights
from engram.plasticity.sequence.write_rule import WriteRule, by_chunk, in_time, plus_outer, scaled, times


class MomentumDeltaWrite(WriteRule):
    """The delta rule with momentum and decay: the linear memory of Titans.

        M' = eta M + beta (v - S k) k'
        S' = alpha S + M'

    The paper calls beta theta and the decay 1 - alpha. The error is that of the weights before their decay.

    Source: Behrouz, Zhong and Mirrokni, "Titans: Learning to memorize at test time" (2024), equations 13 and 14, for a
    linear memory, with the factor 2 of the gradient in beta. The chunks, which are exact, are derived here.

    Examples:
        >>> import torch
        >>> rule, key, one = MomentumDeltaWrite(), torch.tensor([[[1.0, 0.0]]]), torch.ones(1, 1)
        >>> signals = 0.5 * one, 0 * one, one.mul(0.5).log()
        >>> state = rule.init(torch.zeros(1, 1, 1, 2))
        >>> for _ in range(2):
        ...     state = rule.write(state, key, torch.tensor([[[2.0]]]), *signals)
        >>> state.weight.flatten().tolist(), state.momentum.flatten().tolist()
        ([2.0, 0.0], [1.0, 0.0])
    """

    signals = ("beta", "log_decay", "log_momentum")
    state_type = MomentumFastWeights

    def _write(
        self,
        state: MomentumFastWeights,
        key: Float[Tensor, "batch heads key"],
        value: Float[Tensor, "batch heads value"],
        *signals: Float[Tensor, "batch heads"],
    ) -> MomentumFastWeights:
        """As ``WriteRule._write``; the logarithms are those of alpha and eta."""
        beta, log_decay, log_momentum = signals
        error = value - times(state.weight, key)
        momentum = plus_outer(scaled(state.momentum, log_momentum.exp()), beta, error, key)
        return MomentumFastWeights(scaled(state.weight, log_decay.exp()) + momentum, momentum)

    def _chunk(
        self, state: MomentumFastWeights, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor
    ) -> tuple[Tensor, MomentumFastWeights]:
        """The exact chunk of two linear recurrences, of which one drives the other.

        With A[t, i] and N[i, j], the products of alpha and of eta between two steps, and a, n those since the start,
        what step j wrote stands in S(t) with the coefficient G[t, j], and M at the start with b(t):

            G = A N,  b = A n
            S(t) = a(t) S + b(t) M + sum over j <= t of G[t, j] u(j) k(j)'
            u(t) = beta(t) (v(t) - S(t-1) k(t))
        """
        beta, log_decay, log_momentum = signals
        kept, carried = decay_between(log_decay), decay_between(log_momentum)
        since, carried_since = log_decay.cumsum(-1).exp(), log_momentum.cumsum(-1).exp()
        reach, of_momentum = kept @ carried, times(kept, carried_since)
        before = functional.pad(reach[..., :-1, :], (0, 0, 1, 0))  # G of S(t-1)
        since_before = functional.pad(since[..., :-1], (1, 0), value=1.0)
        momentum_before = functional.pad(of_momentum[..., :-1], (1, 0))
        of_value, of_key, of_moved = corrected(
            key, beta, before, value, scaled(key, since_before), scaled(key, momentum_before)
        )
        sequences = query, key, of_value, torch.cat((of_key, of_moved), -1), attention(query, key, reach)
        return _chunks(state, sequences, (since, of_momentum), (reach, carried), carried_since[..., -1])


def _chunks(
    state: MomentumFastWeights,
    sequences: tuple[Tensor, ...],
    since: tuple[Tensor, Tensor],
    kept: tuple[Tensor, Tensor],
    carried_on: Tensor,
) -> tuple[Tensor, MomentumFastWeights]:
    """Chunk after chunk, with all that does not depend on the state computed before.

    Args:
        state: The state before the first chunk.
        sequences: Queries, keys, the solved columns of values and keys, and G times the overlap of queries and keys.
        since: a and b.
        kept: G and N.
        carried_on: n at the last step.
    """
    query, key, of_value, of_keys, attended = sequences
    queries = torch.cat((scaled(query, since[0]), scaled(query, since[1])), -1)
    keys = [scaled(key, coefficients[..., -1, :]) for coefficients in kept]
    ends = since[0][..., -1], since[1][..., -1], carried_on
    weight, momentum, outputs = state.weight, state.momentum, []
    for q, v, w, a, k, moved, *end in by_chunk(queries, of_value, of_keys, attended, *keys, *ends):
        both = torch.cat((weight, momentum), -1).transpose(-1, -2)
        u = v - w @ both
        outputs.append(q @ both + a @ u)
        weight = scaled(weight, end[0]) + scaled(momentum, end[1]) + u.transpose(-1, -2) @ k
        momentum = scaled(momentum, end[2]) + u.transpose(-1, -2) @ moved
    return in_time(outputs), MomentumFastWeights(weight, momentum)
