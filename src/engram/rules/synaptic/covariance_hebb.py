"""The covariance rule: a weight grows if both activities are above their means, or both below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.nn.sequence import check_precision
from engram.rules.contract import SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities
from engram.rules.synaptic.slow_weights import HEBBIAN
from engram.state import register_states


class ActivityMeans(NamedTuple):
    """Running means of the activities on both sides of a layer."""

    pre: Float[Tensor, " pre"]
    post: Float[Tensor, " post"]


register_states(ActivityMeans)


@dataclass(frozen=True)
class CovarianceHebb(SynapticRule[ActivityMeans]):
    """The covariance rule: Hebb's rule for the deviations of activities from their running means.

        dW = (y - ybar)^T (x - xbar) / B,   xbar' = xbar + rate (mean x - xbar),   ybar likewise

    The means are those of past activities and start at 0.

    Args:
        rate: Rate of the running means per update, from 0 to 1.

    Raises:
        ValueError: ``rate`` is out of range.

    Source: Sejnowski, "Storing covariance with nonlinearly interacting neurons" (1977).

    Examples:
        >>> import torch
        >>> rule, W, one = CovarianceHebb(rate=1.0), torch.zeros(1, 1), torch.ones(1, 1)
        >>> grad, state = rule.update(one, one, W, rule.init(W))
        >>> grad, rule.update(one, 3 * one, W, state).grad
        (tensor([[-1.]]), tensor([[0.]]))
    """

    rate: float = 0.01

    properties = HEBBIAN

    def __post_init__(self) -> None:
        checks.number("rate", self.rate, minimum=0, maximum=1)

    def init(self, weight: Float[Tensor, "post pre"]) -> ActivityMeans:
        """Means of 0."""
        checks.arguments()
        check_precision(weight)
        return ActivityMeans(weight.new_zeros(weight.shape[1]), weight.new_zeros(weight.shape[0]))

    @torch.no_grad()
    def update(
        self,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        weight: Annotated[Tensor, "post pre"],
        state: ActivityMeans,
    ) -> SynapticUpdate:
        """-(y - ybar)^T (x - xbar) / B, and the means after the batch.

        Args:
            pre: Presynaptic activity x.
            post: Postsynaptic activity y.
            weight: W.
            state: The means before the batch.
        """
        checks.arguments()
        check_activities(pre, post, weight)
        for name, mean, units in zip(state._fields, state, reversed(weight.shape), strict=True):
            checks.tensor(f"state.{name}", mean, (units,), weight)
        grad = -(post - state.post).T @ (pre - state.pre) / len(pre)
        means = (mean.lerp(activity.mean(0), self.rate) for mean, activity in zip(state, (pre, post), strict=True))
        return SynapticUpdate(grad, ActivityMeans(*means))
