"""Least squares over all pairs so far: the Mesa layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.plasticity.sequence.products import attention, decay_between
from engram.plasticity.sequence.state import LeastSquaresFastWeights
from engram.plasticity.sequence.write_rule import WriteRule, by_chunk, in_time, plus_outer, scaled, times


class LeastSquaresWrite(WriteRule):
    """Least squares over all pairs so far: the Mesa layer.

        G' = gamma G + beta v k'
        H' = gamma H + beta k k'
        o  = G' (H' + Lambda)^-1 q

    What is recalled is that of the matrix with the smallest squared error of all pairs, weighted by beta and by gamma
    for each step since then, with a ridge Lambda.

    Args:
        ridge: Initial ridge, a multiple of the identity; the softplus of the trained parameter ``raw_ridge``.

    Raises:
        ValueError: ``ridge`` is not above 0.

    Source: von Oswald et al., "MesaNet: Sequence modeling by locally optimal test-time training" (2025), solved
    exactly, without conjugate gradients, and with one ridge in place of one for each head and key feature.

    Examples:
        >>> rule, one, keep = LeastSquaresWrite(ridge=1e-6), torch.ones(1, 1), torch.zeros(1, 1)
        >>> state = rule.init(torch.zeros(1, 1, 1, 2))
        >>> for key, value in (([1.0, 0.0], 2.0), ([1.0, 1.0], 3.0)):  # keys that overlap
        ...     state = rule.write(state, torch.tensor([[key]]), torch.tensor([[[value]]]), one, keep)
        >>> round(rule.recall(state, torch.tensor([[[1.0, 0.0]]])).item(), 3)
        2.0
    """

    signals = ("beta", "log_decay")
    corrects = False
    state_type = LeastSquaresFastWeights

    def __init__(self, ridge: float = 0.1) -> None:
        checks.arguments()
        super().__init__()
        # The inverse of softplus, also where exp(ridge) is 1 but for rounding.
        raw = torch.tensor(checks.number("ridge", ridge, above=0), dtype=torch.float64).expm1().log()
        self.raw_ridge = nn.Parameter(raw.to(torch.get_default_dtype()))

    def shapes(self, value_size: int, key_size: int) -> tuple[tuple[int, ...], ...]:
        """As ``WriteRule.shapes``."""
        return (value_size, key_size), (key_size, key_size)

    def _write(
        self,
        state: LeastSquaresFastWeights,
        key: Float[Tensor, "batch heads key"],
        value: Float[Tensor, "batch heads value"],
        *signals: Float[Tensor, "batch heads"],
    ) -> LeastSquaresFastWeights:
        """As ``WriteRule._write``; ``log_decay`` is the logarithm of gamma."""
        beta, log_decay = signals
        decay = log_decay.exp()
        return LeastSquaresFastWeights(
            plus_outer(scaled(state.weight, decay), beta, value, key),
            plus_outer(scaled(state.gram, decay), beta, key, key),
        )

    def _recall(
        self, state: LeastSquaresFastWeights, query: Float[Tensor, "batch heads key"]
    ) -> Float[Tensor, "batch heads value"]:
        """G (H + Lambda)^-1 q."""
        return times(state.weight, self._solved(state.gram, query))

    def _chunk(
        self, state: LeastSquaresFastWeights, query: Tensor, key: Tensor, value: Tensor, *signals: Tensor
    ) -> tuple[Tensor, LeastSquaresFastWeights]:
        """As ``DecayedWrite._chunk`` for G, with the solution for each query in its place; each step has its own H."""
        beta, log_decay = signals
        weight, gram, outputs = state.weight, state.gram, []
        between, since = decay_between(log_decay), log_decay.cumsum(-1).exp()
        written, weighted = scaled(value, beta), scaled(key, beta)
        for q, k, u, b, d, g in by_chunk(query, key, written, weighted, between, since):
            pairs = b.unsqueeze(-1) * k.unsqueeze(-2)
            grams = outer_scaled(gram, g) + torch.unflatten(d @ pairs.flatten(-2), -1, pairs.shape[-2:])
            x = self._solved(grams, q)
            outputs.append(scaled(x, g) @ weight.transpose(-1, -2) + attention(x, k, d) @ u)
            weight = scaled(weight, g[..., -1]) + u.transpose(-1, -2) @ scaled(k, d[..., -1, :])
            gram = grams[..., -1, :, :]
        return in_time(outputs), LeastSquaresFastWeights(weight, gram)

    def _solved(self, gram: Float[Tensor, "... key key"], query: Float[Tensor, "... key"]) -> Tensor:
        """(H + Lambda)^-1 q."""
        identity = torch.eye(query.shape[-1], dtype=query.dtype, device=query.device)
        ridge = functional.softplus(self.raw_ridge.to(query.dtype))
        return torch.linalg.solve(gram + ridge * identity, query.unsqueeze(-1)).squeeze(-1)  # type: ignore[no-any-return]


def outer_scaled(matrix: Float[Tensor, "... key key"], factors: Float[Tensor, "... size"]) -> Tensor:
    """One matrix times each of several numbers, (..., size, key, key)."""
    return matrix.unsqueeze(-3) * factors[..., None, None]
