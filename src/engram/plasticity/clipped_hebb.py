"""Clipped Hebbian rule: the trace adds up the product of pre- and postsynaptic activity, within a bound."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.types import Device

from engram.plasticity.rule import Coefficients, RatedRule, checked_bound


class ClippedHebb(RatedRule):
    """Clipped Hebbian rule: the trace adds up the product of pre- and postsynaptic activity, within a bound.

        H'[j, i] = clip(H[j, i] + eta y[j] x[i], -c, c)

    Nothing decays; a trace that has reached the bound stays there until activity of the opposite sign reduces it.

    Args:
        eta: Initial plasticity rate, per step; a scalar parameter, or (post, pre) with ``connections``.
        clip: Bound c of the trace, positive and finite (else ValueError); None: no bound.
        connections: (post, pre) for a rate of every connection, see ``Hebb``.
        eta_param: ``"raw"`` or ``"sigmoid"``, see ``Hebb``.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Source: Miconi, Rawal, Clune and Stanley, "Backpropamine" (2019), the non-modulated plastic baseline.

    Examples:
        >>> rule = ClippedHebb(eta=0.5)
        >>> rule.update(rule.init(1, 1, 2), pre=torch.tensor([[1.0, -4.0]]), post=torch.tensor([[1.0]])).trace.tolist()
        [[[0.5, -1.0]]]
    """

    forgets = "nothing"

    def __init__(
        self,
        eta: float = 0.01,
        clip: float | None = 1.0,
        *,
        connections: Sequence[int] | None = None,
        eta_param: str = "raw",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(eta, connections=connections, eta_param=eta_param, device=device, dtype=dtype)
        self.clip = checked_bound(clip)

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """D = 0, M = eta, z = y."""
        eta = self.rate()
        return Coefficients(decay=eta.new_zeros(()), gain=eta, post=post)

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return f"{super().extra_repr()}, clip={self.clip}"
