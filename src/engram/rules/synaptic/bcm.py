"""The rule of Bienenstock, Cooper and Munro: a moving threshold decides between growth and decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.nn.sequence import check_precision
from engram.rules.contract import SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities
from engram.rules.synaptic.slow_weights import HEBBIAN


@dataclass(frozen=True)
class BCM(SynapticRule[Tensor]):
    """The BCM rule: weights grow while a unit is above its threshold, which follows the square of its activity.

        dw[j] = mean over the batch of x y[j] (y[j] - theta[j]),   theta' = theta + rate (mean y^2 - theta)

    A unit becomes selective: it responds to one pattern alone, with activity 1 / p if that has probability p. The state
    is theta, (post,), which starts at 0.

    Args:
        rate: Rate of the threshold per update, from 0 to 1; at least ten times the learning rate, or the activity grows
            faster than the threshold can follow.

    Raises:
        ValueError: ``rate`` is out of range.

    Source: Bienenstock, Cooper and Munro, "Theory for the development of neuron selectivity" (1982); the threshold as
    in Intrator and Cooper, "Objective function formulation of the BCM theory" (1992).

    Examples:
        >>> import torch
        >>> one = torch.ones(1, 1)
        >>> BCM(rate=0.5).update(one, 2 * one, one, torch.tensor([1.0]))
        SynapticUpdate(grad=tensor([[-2.]]), state=tensor([2.5000]))
    """

    rate: float = 0.01

    properties = HEBBIAN

    def __post_init__(self) -> None:
        checks.number("rate", self.rate, minimum=0, maximum=1)

    def init(self, weight: Float[Tensor, "post pre"]) -> Float[Tensor, " post"]:
        """Thresholds of 0."""
        checks.arguments()
        check_precision(weight)
        return weight.new_zeros(len(weight))

    @torch.no_grad()
    def update(
        self,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        weight: Annotated[Tensor, "post pre"],
        state: Annotated[Tensor, "post"],
    ) -> SynapticUpdate:
        """Minus the mean of x y (y - theta), and the next theta.

        Args:
            pre: Presynaptic activity x.
            post: Postsynaptic activity y.
            weight: W.
            state: theta, (post,).
        """
        check_activities(pre, post, weight)
        checks.tensor("state", state, (len(weight),), weight)
        grad = -(post * (post - state)).T @ pre / len(pre)
        return SynapticUpdate(grad, state.lerp(post.square().mean(0), self.rate))
