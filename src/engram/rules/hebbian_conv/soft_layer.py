"""A convolutional layer whose filters learn by soft competition, SoftHebb, whenever it is called in training mode."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.nn.sequence import full_precision
from engram.rules.hebbian_conv.competition import triangle
from engram.rules.hebbian_conv.layer import checked_input
from engram.rules.hebbian_conv.soft_winners import soft_hebb_update, soft_winners


class SoftHebbConv2d(nn.Module):
    """A convolution whose filters learn from all patches, the more the more they are excited, in training mode.

    The input is normalised over the batch, without gain or bias, and padded by reflection. At each position all
    filters compete softly: the winner moves towards the patch, and the losers away from it. Each filter has a learning
    rate of its own, which falls as its norm approaches 1, so that learning ends by itself.

        u = conv(norm(x), W),   y = soft_winners(u / temperature),   dW[k] = sum_p y[k, p] (x[p] - u[k, p] W[k])
        W[k] <- W[k] + lr | |W[k]| - 1 |^rate_power dW[k] / max |dW|
        output = relu(u - mean(u))^activation_power

    Pooling is left to torch's layers. In eval mode it is an ordinary function of its input, and nothing adapts. In
    training no gradient passes through it.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of filters.
        kernel_size: Side of the filters.
        padding: Number of pixels by which each side is padded.
        lr: Learning rate: the largest change of a weight in a batch, where a filter's norm differs from 1 by 1; with 0
            filters do not learn, but the normalisation adapts. It may be changed during training.
        temperature: Softness of the competition; 0: the winner alone learns, as in HardHebb.
        anti_hebbian: Whether the losers move away from the patch; otherwise towards it, too.
        rate_power: Exponent of a filter's own rate; 0: all filters have the same.
        initial_norm: Expected norm of the initial filters.
        activation_power: Exponent of the output.
        generator: Source of the initial filters; torch's global one if None.

    Attributes:
        weight: W, (out_channels, in_channels, kernel_size, kernel_size), initially Gaussian.
        norm: The normalisation of the input, a ``BatchNorm2d``. Its running moments are those of the last batches; to
            take them from all images once filters are learned, set ``lr = 0`` and use
            ``torch.optim.swa_utils.update_bn``.

    Raises:
        ValueError: An argument is out of range.

    Source: Journé, Garcia Rodriguez, Guo and Moraitis, "Hebbian deep learning without feedback" (2023), and the
    authors' code; the theory: Moraitis et al., "SoftHebb: Bayesian inference in unsupervised Hebbian soft
    winner-take-all networks" (2022).

    Examples:
        >>> generator = torch.Generator().manual_seed(0)
        >>> layer = SoftHebbConv2d(3, 8, 5, padding=2, generator=generator)
        >>> layer(torch.rand(10, 3, 32, 32, generator=generator)).shape
        torch.Size([10, 8, 32, 32])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        padding: int = 0,
        lr: float = 0.08,
        temperature: float = 1.0,
        anti_hebbian: bool = True,
        rate_power: float = 0.5,
        initial_norm: float = 25.0,
        activation_power: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.size("in_channels", in_channels)
        side = checks.size("kernel_size", kernel_size, maximum=checks.LIMIT)
        shape = checks.size("out_channels", out_channels), in_channels, side, side
        self.padding = checks.size("padding", padding, minimum=0)
        self.lr = checks.number("lr", lr, minimum=0)
        self.temperature = checks.number("temperature", temperature, minimum=0)
        self.anti_hebbian = anti_hebbian
        self.rate_power = checks.number("rate_power", rate_power, minimum=0)
        checks.number("initial_norm", initial_norm, above=0)
        self.activation_power = checks.number("activation_power", activation_power, above=0)
        self.norm = nn.BatchNorm2d(in_channels, affine=False)
        weight = torch.empty(shape).normal_(generator=generator) * initial_norm / (in_channels * side**2) ** 0.5
        # It requires no gradient, so that no optimiser changes it, not even by weight decay.
        self.weight = nn.Parameter(weight, requires_grad=False)

    def extra_repr(self) -> str:
        """The sizes and options."""
        units, *inputs = self.weight.shape
        options = ("padding", "lr", "temperature", "anti_hebbian", "rate_power", "activation_power")
        return f"{inputs} -> {units}, " + ", ".join(f"{name}={getattr(self, name)}" for name in options)

    def forward(
        self, input: Float[Tensor, "batch in_channels height width"]
    ) -> Float[Tensor, "batch out_channels rows columns"]:
        """The activity for images; in training mode, also learn from them."""
        input = checked_input(input, ("batch", self.weight.shape[1], "height", "width"), self.weight)
        least = max(self.padding + 1, self.weight.shape[2] - 2 * self.padding)
        if min(input.shape[2:]) < least:
            options = f"kernel_size = {self.weight.shape[2]} and padding = {self.padding}"
            raise ValueError(
                f"input.shape = {tuple(input.shape)}: expected height and width of at least {least}, with {options}"
            )
        checks.finite("input", input)
        if not self.training:
            return self._activity(self._drive(self._normalised(input)))
        if input.numel() == input.shape[1]:
            raise ValueError(
                f"input.shape = {tuple(input.shape)}: expected several images or pixels, to normalise them"
            )
        with torch.no_grad():
            x = self._normalised(input)
            u = self._drive(x)
            if self.lr:
                self._learn(x, u)
            return self._activity(u)

    def _normalised(self, input: Tensor) -> Tensor:
        with full_precision(input.device):
            return functional.pad(self.norm(input), [self.padding] * 4, mode="reflect")

    def _drive(self, x: Tensor) -> Tensor:
        with full_precision(x.device):
            return torch.conv2d(x, self.weight)

    def _activity(self, u: Tensor) -> Tensor:
        with full_precision(u.device):
            return triangle(u, power=self.activation_power)

    def _learn(self, x: Tensor, u: Tensor) -> None:
        y = soft_winners(u, self.temperature, anti_hebbian=self.anti_hebbian)
        change = soft_hebb_update(x, y, u, self.weight)
        change /= change.abs().max() + 1e-30
        norms = self.weight.flatten(1).norm(dim=1)
        rates = self.lr * ((norms - 1).abs() + 1e-10) ** self.rate_power
        self.weight.add_(rates.view(-1, 1, 1, 1) * change)
