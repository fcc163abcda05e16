"""Hebb's rule: what is active together is connected more strongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from engram.rules.contract import Properties, SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities

HEBBIAN = Properties(
    local=True,
    no_weight_transport=True,
    one_phase=True,
    online=True,
    unsupervised=True,
    black_box=True,
    spikes=True,
)


@dataclass(frozen=True)
class Hebb(SynapticRule[None]):
    """Hebb's rule: a weight grows by the product of its activities.

        dW = y^T x / B

    Nothing bounds it: along an eigenvector of the inputs' second moments, of eigenvalue l, a linear layer's weights
    grow as (1 + lr l)^n. ``Oja`` is the same with a bound.

    Source: Hebb, "The Organization of Behavior" (1949), chapter 4.

    Examples:
        >>> import torch
        >>> W = torch.zeros(1, 2)
        >>> Hebb().update(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]), W, None).grad
        tensor([[-3., -6.]])
    """

    properties = HEBBIAN

    def init(self, weight: Float[Tensor, "post pre"]) -> None:
        """Return None: it has no state."""

    def update(
        self,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        weight: Annotated[Tensor, "post pre"],
        state: None,
    ) -> SynapticUpdate:
        """Return -y^T x / B."""
        check_activities(pre, post, weight)
        return SynapticUpdate(-post.T @ pre / len(pre), None)
