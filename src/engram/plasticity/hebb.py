"""Decaying Hebbian rule: the trace is a running mean of the product of pre- and postsynaptic activity."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram.plasticity.rule import Coefficients, RatedRule


class Hebb(RatedRule):
    """Decaying Hebbian rule: the trace is a running mean of the product of pre- and postsynaptic activity.

        H'[j, i] = (1 - eta) H[j, i] + eta y[j] x[i]

    The trace decays to zero while the receiving unit is silent.

    Args:
        eta: Initial plasticity rate, per step; a scalar parameter, or (post, pre) with ``connections``, trained as
            ``eta_param`` says.
        connections: The layer's numbers of receiving and sending units, (post, pre), to give every connection its own
            rate eta[j, i], which no kernel supports. None: one rate for all connections.
        eta_param: ``"raw"``: the parameter is eta itself, without constraint, as published. ``"sigmoid"``: the
            parameter is its logit, ``eta_logit``, so that eta stays between 0 and 1.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: ``eta`` is negative or not finite or, if ``"sigmoid"``, not between 0 and 1; ``eta_param`` is
            unknown; or ``connections`` are not two positive numbers.

    Source: Miconi, Clune and Stanley, "Differentiable plasticity" (2018), equation 2.

    Examples:
        >>> import torch
        >>> rule = Hebb(eta=0.5)
        >>> rule.update(rule.init(1, 1, 2), pre=torch.tensor([[1.0, -1.0]]), post=torch.tensor([[1.0]])).trace.tolist()
        [[[0.5, -0.5]]]
    """

    forgets = "rate"

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """D = M = eta, z = y."""
        return Coefficients(decay=self.rate(), gain=self.rate(), post=post)
