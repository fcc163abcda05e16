"""Homeostasis: thresholds that let every unit win equally often."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.nn.sequence import check_precision, precise


class AdaptiveThreshold(nn.Module):
    """A threshold for each unit, which rises while the unit wins more often than it should, and falls otherwise.

        u = z - theta,   theta <- theta + rate * (win_rate - target)

    Args:
        units: Number of units.
        target: Share of the positions at which a unit should win: k / units if k units win at each position.
        rate: Rate of adaptation per batch; 0: none.

    Attributes:
        theta: The thresholds, (units,), a buffer; initially 0. Only ``adapt`` changes them.

    Raises:
        ValueError: An argument is out of range.

    Source: Miconi (2021).

    Examples:
        >>> threshold = AdaptiveThreshold(2, target=0.5)
        >>> threshold.adapt(torch.tensor([0.75, 0.25]))
        >>> threshold(torch.ones(1, 2))
        tensor([[0.2500, 1.7500]])
    """

    theta: Tensor

    def __init__(self, units: int, target: float, rate: float = 3.0) -> None:
        super().__init__()
        self.target = checks.number("target", target, above=0, maximum=1)
        self.rate = checks.number("rate", rate, minimum=0)
        self.register_buffer("theta", torch.zeros(checks.size("units", units)))

    def forward(self, z: Float[Tensor, "batch units ..."]) -> Float[Tensor, "batch units ..."]:
        """The drives minus the thresholds."""
        checks.instance("z", z, Tensor)
        check_precision(self.theta)
        z = precise(z, self.theta)
        checks.tensor("z", z, ("batch", len(self.theta), *z.shape[2:]), self.theta)
        return z - self.theta.view(-1, *[1] * (z.ndim - 2))

    @torch.no_grad()
    def adapt(self, win_rate: Float[Tensor, " units"]) -> None:
        """Adapt to the share of positions that each unit won in a batch, such as ``(y > 0).float().mean((0, 2, 3))``.

        Mix the classes in every batch, or the thresholds follow the classes.
        """
        check_precision(self.theta)
        checks.tensor("win_rate", win_rate, (len(self.theta),), self.theta)
        self.theta.add_(win_rate - self.target, alpha=self.rate)
