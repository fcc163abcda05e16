"""Layers in the neural tangent kernel parameterisation: weights of variance 1, scaled in the forward pass."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.types import Device

from engram import checks
from engram.nn.sequence import precise


class NTKLinear(nn.Linear):
    """A linear layer in the neural tangent kernel parameterisation.

        z = c W h + b,   c = gain / sqrt(in_features),   W ~ N(0, 1),   b = 0

    Args:
        in_features: Number of inputs.
        out_features: Number of outputs.
        gain: sqrt(2) after a ReLU in a network without normalisation, else 1.
        bias: Whether there is a bias b.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the weights; torch's global one if None.

    Attributes:
        weight, bias: W, (out, in), and b, (out,).
        scale: c.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range.

    Source: Jacot, Gabriel and Hongler, "Neural tangent kernel" (2018), section 2.

    Examples:
        >>> layer = NTKLinear(4, 2, generator=torch.Generator().manual_seed(0))
        >>> layer.scale, torch.allclose(layer(torch.ones(4)), layer.weight.sum(1) / 2)
        (0.5, True)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        gain: float = 1.0,
        bias: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        checks.size("in_features", in_features)
        checks.size("out_features", out_features)
        checks.number("gain", gain, above=0)
        super().__init__(in_features, out_features, bias, "meta", dtype)
        self.scale = gain / math.sqrt(in_features)
        _draw(self, device, generator)

    def forward(self, input: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        """The output z.

        Raises:
            ValueError: The input does not have ``in_features`` features, or has another dtype or device.
        """
        checks.instance("input", input, Tensor)
        input = precise(input, self.weight)
        axes = tuple(f"axis {axis}" for axis in range(input.ndim - 1))
        checks.tensor("input", input, (*axes, self.in_features), like=self.weight)
        return functional.linear(input, self.weight * self.scale, self.bias)

    def extra_repr(self) -> str:
        """The arguments of the layer, and its scale, as ``repr`` shows them."""
        return f"{super().extra_repr()}, scale={self.scale:.4g}"


class NTKConv2d(nn.Conv2d):
    """A convolution with square kernels in the neural tangent kernel parameterisation.

        z = c W * h + b,   c = gain / sqrt(in_channels k^2),   W ~ N(0, 1),   b = 0

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        kernel_size: Side k of the kernel.
        stride: Stride of the kernel.
        padding: Number of zeros on every side; or ``"same_tf"``: the number for which the output has the size
            ceil(size / stride), half of them on either side, an odd one at the end.
        gain: sqrt(2) after a ReLU in a network without normalisation, else 1.
        bias: Whether there is a bias b.
        device: Device of the parameters.
        dtype: Data type of the parameters.
        generator: Source of the weights; torch's global one if None.

    Attributes:
        weight, bias: W, (out, in, k, k), and b, (out,).
        scale: c.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range.

    Source: Arora et al., "On exact computation with an infinitely wide neural net" (2019), section 4.

    Examples:
        >>> layer = NTKConv2d(1, 8, 3, stride=2, generator=torch.Generator().manual_seed(0))
        >>> layer(torch.zeros(1, 1, 28, 28)).shape, layer.margins((28, 27))
        (torch.Size([1, 8, 14, 14]), (1, 1, 0, 1))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        *,
        padding: int | Literal["same_tf"] = "same_tf",
        gain: float = 1.0,
        bias: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("kernel_size", kernel_size)):
            checks.size(name, value)
        checks.size("stride", stride)
        checks.number("gain", gain, above=0)
        zeros = 0 if padding == "same_tf" else checks.size("padding", padding, minimum=0)
        super().__init__(in_channels, out_channels, kernel_size, stride, zeros, bias=bias, device="meta", dtype=dtype)
        self.same = padding == "same_tf"
        self.scale = gain / math.sqrt(in_channels * kernel_size**2)
        _draw(self, device, generator)

    def forward(self, input: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out rows columns"]:
        """The output z.

        Raises:
            ValueError: The input does not have ``in_channels`` channels, or has another dtype or device.
        """
        input = precise(input, self.weight)
        checks.tensor("input", input, ("batch", self.in_channels, "height", "width"), like=self.weight)
        output: Tensor = self._conv_forward(self.padded(input), self.weight * self.scale, self.bias)
        return output

    def margins(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """The numbers of zeros that ``"same_tf"`` adds left, right, above and below an image of (height, width)."""
        checks.arguments()
        margins: list[int] = []
        for length in reversed(size):
            missing = 0
            if self.same:
                steps = -(-length // self.stride[0])
                missing = max((steps - 1) * self.stride[0] + self.kernel_size[0] - length, 0)
            margins += [missing // 2, missing - missing // 2]
        return margins[0], margins[1], margins[2], margins[3]

    def padded(
        self, input: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The input with the zeros of ``margins``."""
        checks.instance("input", input, Tensor)
        margins = self.margins((input.shape[2], input.shape[3]))
        return functional.pad(input, margins) if any(margins) else input

    def extra_repr(self) -> str:
        """The arguments of the layer, and its scale, as ``repr`` shows them."""
        usual: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{usual}, scale={self.scale:.4g}{', same_tf' if self.same else ''}"


def _draw(layer: Any, device: Device, generator: torch.Generator | None) -> None:
    layer.to_empty(device=torch.get_default_device() if device is None else device)
    nn.init.normal_(layer.weight, generator=generator)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
