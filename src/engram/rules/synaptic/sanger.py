"""Sanger's rule: the units of a linear layer become the first principal components, in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from engram.rules.contract import SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities
from engram.rules.synaptic.slow_weights import HEBBIAN


@dataclass(frozen=True)
class Sanger(SynapticRule[None]):
    """Sanger's rule, the generalised Hebbian algorithm: unit j finds the j-th principal component.

        dW = (y^T x - tril(y^T y) W) / B

    Each unit learns from the part of the input that the units before it leave unexplained. As this needs their weights,
    the rule is not local.

    Source: Sanger, "Optimal unsupervised learning in a single-layer linear feedforward neural network" (1989),
    equation 5.

    Examples:
        >>> import torch
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> Sanger().update(x, x, torch.eye(2), None).grad  # the second unit does not see the first one's component
        tensor([[ 0., -2.],
                [ 0.,  0.]])
    """

    properties = replace(HEBBIAN, local=False)

    def init(self, weight: Float[Tensor, "post pre"]) -> None:
        """No state."""

    @torch.no_grad()
    def update(
        self,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        weight: Annotated[Tensor, "post pre"],
        state: None,
    ) -> SynapticUpdate:
        """The pseudo-gradient (tril(y^T y) W - y^T x) / B.

        Args:
            pre: Presynaptic activity x.
            post: Postsynaptic activity y.
            weight: W.
            state: None.
        """
        check_activities(pre, post, weight)
        return SynapticUpdate(((post.T @ post).tril() @ weight - post.T @ pre) / len(pre), None)
