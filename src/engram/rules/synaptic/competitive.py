"""Competitive learning: units share each input out among themselves, and move towards their share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.rules.contract import SynapticRule, SynapticUpdate
from engram.rules.synaptic.activities import check_activities
from engram.rules.synaptic.hebb import HEBBIAN


@dataclass(frozen=True)
class Competitive(SynapticRule[None]):
    """Soft winner-take-all: units move towards the inputs that they answer to more than others do.

        p = softmax(a / T),   dw[j] = mean over the batch of p[j] (x - w[j])

    The sum in the softmax is a signal that all units share; all else is local.

    Args:
        temperature: T; as it goes to 0, the winner takes all.

    Raises:
        ValueError: ``temperature`` is not positive.

    Source: Nowlan, "Maximum likelihood competitive learning" (1990); Rumelhart and Zipser, "Feature discovery by
    competitive learning" (1985), for one winner.

    Examples:
        >>> import torch
        >>> x, W = torch.tensor([[1.0, 0.0]]), torch.zeros(2, 2)
        >>> Competitive().update(x, x @ W.T, W, None).grad  # a tie
        tensor([[-0.5000,  0.0000],
                [-0.5000,  0.0000]])
    """

    temperature: float = 1.0

    properties = HEBBIAN

    def __post_init__(self) -> None:
        checks.number("temperature", self.temperature, above=0)

    def init(self, weight: Float[Tensor, "post pre"]) -> None:
        """Return None: it has no state."""

    def update(
        self,
        pre: Annotated[Tensor, "batch pre"],
        post: Annotated[Tensor, "batch post"],
        weight: Annotated[Tensor, "post pre"],
        state: None,
    ) -> SynapticUpdate:
        """Return minus the mean of p (x - w); ``post`` is a, before any nonlinearity."""
        check_activities(pre, post, weight)
        share = (post / self.temperature).softmax(1)
        return SynapticUpdate(share.mean(0)[:, None] * weight - share.T @ pre / len(pre), None)
