"""Clipped Hebbian rule: the trace adds up the product of pre- and postsynaptic activity, within a bound."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.types import Device

from engram import checks
from engram.plasticity.rule import Coefficients, RatedRule, checked_bound
from engram.plasticity.state import RuleState


class ClippedHebb(RatedRule):
    """Clipped Hebbian rule: the trace adds up the product of pre- and postsynaptic activity, within a bound.

        H'[j, i] = clip(H[j, i] + eta y[j] x[i], -c, c)

    Nothing decays; a trace that has reached the bound stays there until activity of the opposite sign reduces it.

    Args:
        eta: Initial plasticity rate, per step; a scalar parameter.
        clip: Bound c of the trace, positive and finite (else ValueError); None: no bound.
        connections: The layer's numbers of receiving and sending units, (post, pre), to give every connection its own
            rate eta[j, i], which no kernel supports. None: one rate for all connections.
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
        shape: tuple[int, ...] = ()
        if connections is not None:
            checks.array("connections", connections, (2,))
            shape = tuple(checks.size("connections", size) for size in connections)
        super().__init__(eta, eta_param=eta_param, shape=shape, device=device, dtype=dtype)
        self.clip = checked_bound(clip)

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """D = 0, M = eta, z = y."""
        eta = self.eta if self.eta.dim() == 0 else self.eta.unsqueeze(0)
        return Coefficients(decay=eta.new_zeros(()), gain=eta, post=post)

    def check_step(self, state: RuleState, pre: Tensor, post: Tensor, modulator: Tensor | None) -> None:
        """Raise unless the arguments of ``update`` fit each other and the shape of ``eta``.

        Args:
            state: The state before the step.
            pre: Presynaptic activity, (batch, pre).
            post: Postsynaptic activity, (batch, post).
            modulator: Neuromodulatory signal m, (batch, 1), (batch, post) or (batch, post, pre).
        """
        super().check_step(state, pre, post, modulator)
        if self.eta.dim() and state.trace.shape[1:] != self.eta.shape:
            expected = ", ".join(map(str, ("batch", *self.eta.shape)))
            raise ValueError(f"state.trace.shape = {tuple(state.trace.shape)}: expected ({expected}), as of eta")

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return f"{super().extra_repr()}, clip={self.clip}"
