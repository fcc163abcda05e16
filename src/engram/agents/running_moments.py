"""Running mean and variance, updated batch by batch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.nn.sequence import check_precision


class RunningMoments(nn.Module):
    """Running mean and variance of each feature, to which a batch is added as a whole.

        n = a + b,   d = mean_b - mean_a
        mean = mean_a + d b / n,   var = (a var_a + b var_b + d^2 a b / n) / n

    Args:
        shape: Shape of one sample; () for numbers.
        mean: Initial mean, of shape ``shape``; 0 if None.
        std: Initial standard deviation, of the same shape; 1 if None.
        count: Weight of the initial values, as a number of samples; without any it is 0, so that the first batch
            decides.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).

    Examples:
        >>> moments = RunningMoments(())
        >>> moments.add(torch.tensor([1.0, 2.0, 3.0]))
        >>> moments.mean.item(), moments.var.item()
        (2.0, 0.66...)
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        mean: Float[Tensor, "..."] | None = None,
        std: Float[Tensor, "..."] | None = None,
        count: float = 1e-4,
    ) -> None:
        super().__init__()
        for name, initial_statistic, default in (("mean", mean, 0.0), ("var", std, 1.0)):
            initial = torch.full(shape, default) if initial_statistic is None else initial_statistic
            checks.has_shape("std" if name == "var" else name, tuple(initial.shape), shape)
            self.register_buffer(name, initial.double() ** (2 if name == "var" else 1))
        checks.number("count", count, above=0)
        weight = 0.0 if mean is None and std is None else count
        self.register_buffer("count", torch.tensor(weight, dtype=torch.float64))

    @torch.no_grad()
    def add(self, samples: Float[Tensor, "batch *shape"]) -> None:
        """Include a batch; an empty one changes nothing, and one that is not finite is refused."""
        check_precision(self.mean)
        size = len(samples)
        if not size:
            return
        samples = samples.double()
        var, mean = torch.var_mean(samples, 0, correction=0)
        total, change = self.count + size, mean - self.mean
        if not (var >= 0).all():  # also NaN
            raise ValueError(f"samples = {checks.shown(samples)}: expected finite numbers")
        squares = self.var * self.count + var * size + change.square() * self.count * size / total
        self.mean += change * size / total
        self.var.copy_(squares / total)
        self.count.copy_(total)
