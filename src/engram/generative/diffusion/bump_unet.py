"""The published U-Net for images of bumps with 32 x 32 pixels, as far as it has been described."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.generative.diffusion.cond_unet import SelfAttention, encode
from engram.generative.diffusion.encoding import check_features
from engram.nn import initial

HEADS = 4


class DoubleConv(nn.Module):
    """Two convolutions, each normalised, with a skip connection if ``residual``."""

    def __init__(
        self, channels: int, out_channels: int, residual: bool = False, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.residual = residual
        sizes = (channels, out_channels), (out_channels, out_channels)
        conv1, conv2 = (
            initial.uniform(nn.Conv2d, *pair, 3, padding=1, bias=False, generator=generator) for pair in sizes
        )
        norms = nn.GroupNorm(1, out_channels), nn.GroupNorm(1, out_channels)
        self.layers = nn.Sequential(conv1, norms[0], nn.GELU(), conv2, norms[1])

    def forward(self, x: Tensor) -> Tensor:
        """Images with ``out_channels`` channels."""
        return functional.gelu(x + self.layers(x)) if self.residual else self.layers(x)


class Stage(nn.Module):
    """One resolution: two double convolutions, then the added encoding, then attention."""

    def __init__(self, channels: int, out_channels: int, encoded: int, generator: torch.Generator | None) -> None:
        super().__init__()
        residual = DoubleConv(channels, channels, residual=True, generator=generator)
        self.layers = nn.Sequential(residual, DoubleConv(channels, out_channels, generator=generator))
        self.encoded = initial.uniform(nn.Linear, encoded, out_channels, generator=generator)
        self.attention = SelfAttention(out_channels, HEADS, generator)

    def forward(self, x: Tensor, encoded: Tensor) -> Tensor:
        """Process images, conditioned on the encoding; the output has ``out_channels`` channels."""
        return self.attention(self.layers(x) + self.encoded(encoded)[:, :, None, None])  # type: ignore[no-any-return]


class BumpUNet32(nn.Module):
    """A U-Net with three stages down and three up, each with self-attention and conditioned on step and labels.

    Stages are numbered as in ``layer(k)``: 1 the first convolutions, 2 to 4 down, 5 the bottleneck, 6 to 8 up, 9 the
    output. Published representations are those of stage 4, 256 x 4 x 4 numbers for 32 x 32 pixels.

    Args:
        size: Pixels per side, a multiple of 8.
        width: Channels of the first stage, a multiple of 4; later stages have up to four times as many.
        time_features: Number of features that encode the step.
        label_features: Number of features that encode each of the two labels.
        label_base: Base of the labels' encoding.
        generator: Source of the initial values; None: torch's global one.

    Raises:
        ValueError: A size is out of range or not a multiple as above.

    Source: Liang et al., "How diffusion models learn to factorize and compose" (2024), figure 7, for blocks, attention
    and encodings; widths and order of layers are ours, after U-Nets of tutorials.

    Examples:
        >>> net = BumpUNet32(8, width=4, generator=torch.Generator().manual_seed(0))
        >>> net(torch.zeros(2, 1, 8, 8), torch.tensor([0, 999]), torch.rand(2, 2)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(
        self,
        size: int = 32,
        *,
        width: int = 64,
        time_features: int = 128,
        label_features: int = 64,
        label_base: float = 100.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.arguments()
        for name, value, divisor in (("size", size, 8), ("width", width, HEADS)):
            if checks.size(name, value) % divisor:
                raise ValueError(f"{name} = {value}: expected a multiple of {divisor}")
        check_features(time_features=time_features, label_features=label_features)
        self.label_base = checks.number("label_base", label_base, above=1)
        self.size, self.time_features, self.label_features = size, time_features, label_features
        encoded = time_features + 2 * label_features
        narrow, medium, wide = width, 2 * width, 4 * width
        self.first = DoubleConv(1, narrow, generator=generator)
        down = (narrow, medium), (medium, wide), (wide, wide)
        self.down = nn.ModuleList(Stage(*pair, encoded, generator) for pair in down)
        self.bottleneck = nn.Sequential(*(DoubleConv(wide, wide, generator=generator) for _ in range(2)))
        up = (wide + wide, medium), (medium + medium, narrow), (narrow + narrow, narrow)
        self.up = nn.ModuleList(Stage(*pair, encoded, generator) for pair in up)
        self.out = initial.uniform(nn.Conv2d, narrow, 1, 1, generator=generator)

    def layer(self, number: int) -> nn.Module:
        """A stage by its number, from 1 to 9."""
        stages = [self.first, *self.down, self.bottleneck, *self.up, self.out]
        return stages[checks.size("number", number, 1, len(stages)) - 1]  # type: ignore[no-any-return]

    def forward(
        self, x: Float[Tensor, "batch 1 size size"], t: Int[Tensor, " batch"], labels: Float[Tensor, "batch 2"]
    ) -> Float[Tensor, "batch 1 size size"]:
        """The network's prediction for noisy images: noise, image or velocity, as it is trained.

        Args:
            x: Noisy images.
            t: The step of each, counted from 0.
            labels: A row of labels for each image.

        Raises:
            ValueError: Shapes do not match, or the images have another dtype than the parameters.
        """
        checks.arguments()
        checks.has_shape("x", tuple(x.shape), ("batch", 1, self.size, self.size))
        encoded = functional.silu(encode(self, t, labels, x))
        skips = [self.first(x)]
        for stage in self.down:
            skips.append(stage(functional.max_pool2d(skips[-1], 2), encoded))
        hidden = self.bottleneck(skips.pop())
        for stage in self.up:
            hidden = functional.interpolate(hidden, scale_factor=2.0, mode="bilinear", align_corners=True)
            hidden = stage(torch.cat([skips.pop(), hidden], 1), encoded)
        return self.out(hidden)  # type: ignore[no-any-return]
