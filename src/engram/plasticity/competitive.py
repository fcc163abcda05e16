"""Competitive learning: units compete for each input, and the winners move towards it."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.plasticity.instar import Instar
from engram.plasticity.rule import Coefficients


class Competitive(Instar):
    """Soft winner-take-all: units move towards the inputs to which they respond more than others do.

        p = softmax(y / T),   H'[j, i] = H[j, i] + eta p[j] (x[i] - H[j, i])

    The sum in the softmax is a signal that all units share; everything else is local.

    Args:
        eta: Initial plasticity rate, per step; a scalar parameter, or (post, pre) with ``connections``.
        temperature: T, positive; as it goes to 0, the winner takes all.
        **options: ``connections``, ``eta_param``, ``device`` and ``dtype`` of ``Instar``.

    Raises:
        ValueError: ``temperature`` is not positive, or an argument of ``Instar`` is out of range.

    Source: Nowlan, "Maximum likelihood competitive learning" (1990); Rumelhart and Zipser, "Feature discovery by
    competitive learning" (1985), for one winner.

    Examples:
        >>> import torch
        >>> rule, x = Competitive(eta=1.0), torch.tensor([[1.0, 0.0]])
        >>> rule.update(rule.init(1, 2, 2), pre=x, post=torch.zeros(1, 2)).trace.tolist()  # a tie
        [[[0.5, 0.0], [0.5, 0.0]]]
    """

    def __init__(self, eta: float = 0.01, temperature: float = 1.0, **options: Any) -> None:
        super().__init__(eta, **options)
        self.temperature = checks.number("temperature", temperature, above=0)

    def coefficients(
        self, post: Float[Tensor, "batch post"], modulator: Float[Tensor, "..."] | None = None
    ) -> Coefficients:
        """D = eta p, M = eta, z = p."""
        checks.instance("post", post, Tensor)
        return super().coefficients((post / self.temperature).softmax(1))

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return f"{super().extra_repr()}, temperature={self.temperature}"
