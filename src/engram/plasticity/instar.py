"""Instar rule: incoming traces move towards the input to which their unit responds."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.plasticity.rule import Coefficients, RatedRule


class Instar(RatedRule):
    """Instar rule: incoming traces move towards the input, faster the more active their unit is.

        H'[j, i] = H[j, i] + eta y[j] (x[i] - H[j, i])

    A unit that is silent keeps what it has learned. The activity should not be negative.

    Args:
        eta: Initial plasticity rate, per step; a scalar parameter, or (post, pre) with ``connections``.
        connections: (post, pre) for a rate of every connection, see ``Hebb``.
        eta_param: ``"raw"``: the parameter is eta itself, without constraint. ``"sigmoid"``: the parameter is its
            logit, ``eta_logit``, so that eta stays between 0 and 1.
        device: Device of the parameters.
        dtype: Data type of the parameters.

    Raises:
        ValueError: ``eta`` is negative or not finite or, if ``"sigmoid"``, not between 0 and 1; ``eta_param`` is
            unknown; or ``connections`` are not two positive numbers.

    Source: Grossberg, "Adaptive pattern classification and universal recoding: I" (1976).

    Examples:
        >>> import torch
        >>> rule = Instar(eta=0.5)
        >>> rule.update(rule.init(1, 2, 1), pre=torch.tensor([[3.0]]), post=torch.tensor([[1.0, 0.0]])).trace.tolist()
        [[[1.5], [0.0]]]
    """

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """D = eta y, M = eta, z = y."""
        checks.instance("post", post, Tensor)
        return Coefficients(decay=self.rate(post), gain=self.rate(), post=post)
