"""Oja's rule."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.plasticity.rule import Coefficients, RatedRule


class Oja(RatedRule):
    """Oja's rule: Hebbian growth with a decay proportional to the receiving unit's squared activity.

        H'[j, i] = H[j, i] + eta y[j] (x[i] - y[j] H[j, i])

    A unit that is silent keeps what it has learned. With a linear unit, constant input of unit length and a small
    positive start, the incoming traces of the unit grow to unit length. The trace diverges when eta times the squared
    activity exceeds two.

    Args:
        eta: Initial plasticity rate, per step; a scalar parameter, or (post, pre) with ``connections``.
        connections: (post, pre) for a rate of every connection, see ``Hebb``.
        eta_param: ``"raw"`` or ``"sigmoid"``, see ``Hebb``.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Source: Oja, "Simplified neuron model as a principal component analyzer" (1982), as used by Miconi, Clune and
    Stanley, "Differentiable plasticity" (2018).

    Examples:
        >>> import torch
        >>> rule = Oja(eta=0.5)
        >>> rule.update(rule.init(1, 2, 1), pre=torch.tensor([[1.0]]), post=torch.tensor([[2.0, 0.0]])).trace.tolist()
        [[[1.0], [0.0]]]
    """

    forgets = "oja"

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """D = eta y^2, M = eta, z = y."""
        checks.instance("post", post, Tensor)
        return Coefficients(decay=self.rate(post.square()), gain=self.rate(), post=post)
