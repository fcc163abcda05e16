"""Oja's rule: Hebb's, with a decay that makes a linear unit the first principal component of its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from engram.rules.contract import SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities
from engram.rules.synaptic.hebb import HEBBIAN


@dataclass(frozen=True)
class Oja(SynapticRule[None]):
    """Oja's rule: each unit finds the first principal component, with weights of norm 1.

        dw[j] = mean over the batch of y[j] (x - y[j] w[j])

    The learning rate has to stay below the inverse of the inputs' largest eigenvalue; beyond, the weights diverge.

    Source: Oja, "A simplified neuron model as a principal component analyzer" (1982), equation 3.

    Examples:
        >>> import torch
        >>> W = torch.tensor([[1.0, 0.0]])
        >>> Oja().update(torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0]]), W, None).grad
        tensor([[ 0., -1.]])
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
        """Return minus the mean of y (x - y w)."""
        check_activities(pre, post, weight)
        return SynapticUpdate(post.square().mean(0)[:, None] * weight - post.T @ pre / len(pre), None)
