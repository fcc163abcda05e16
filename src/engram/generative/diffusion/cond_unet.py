"""A small U-Net conditioned on the step and continuous labels: the default denoiser."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.generative.diffusion.encoding import check_features, position_encoding
from engram.nn import initial
from engram.nn.sequence import autocast

TIME_BASE = 10_000.0


class ResBlock(nn.Module):
    """Two convolutions with a skip connection; between them the encoding is added to each channel."""

    def __init__(
        self, channels: int, out_channels: int, encoded: int, groups: int, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, out_channels)
        self.conv1 = initial.uniform(nn.Conv2d, channels, out_channels, 3, padding=1, generator=generator)
        self.encoded = initial.uniform(nn.Linear, encoded, out_channels, generator=generator)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1, device="meta"))
        self.skip: nn.Module = nn.Identity()
        if channels != out_channels:
            self.skip = initial.uniform(nn.Conv2d, channels, out_channels, 1, generator=generator)

    def forward(self, x: Tensor, encoded: Tensor) -> Tensor:
        """Process images, conditioned on the encoding; the output has ``out_channels`` channels."""
        hidden = self.conv1(functional.silu(self.norm1(x))) + self.encoded(encoded)[:, :, None, None]
        return self.skip(x) + self.conv2(functional.silu(self.norm2(hidden)))  # type: ignore[no-any-return]


class SelfAttention(nn.Module):
    """Self-attention between pixels, then two layers on each pixel, both with a skip connection."""

    def __init__(self, channels: int, heads: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = initial.uniform(nn.Linear, channels, 3 * channels, generator=generator)
        self.out = initial.uniform(nn.Linear, channels, channels, generator=generator)
        layers = [initial.uniform(nn.Linear, channels, channels, generator=generator) for _ in range(2)]
        self.feedforward = nn.Sequential(layers[0], nn.GELU(), layers[1])

    def forward(self, x: Tensor) -> Tensor:
        """Images of the same shape."""
        pixels = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm1(pixels)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        pixels = pixels + self.out(functional.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2))
        pixels = pixels + self.feedforward(self.norm2(pixels))
        return pixels.transpose(1, 2).reshape(x.shape)  # type: ignore[no-any-return]


class CondUNet(nn.Module):
    """A U-Net on square images, conditioned in each block on sines and cosines of the step and continuous labels.

    Each resolution has a block of two convolutions on the way down and one on the way up, with the encoding of step and
    labels added between the convolutions. The last convolution of each block and of the network starts at 0. Stages are
    numbered as in ``layer(k)``: 1 the stem, then the blocks down (2, 3 and 4 with three resolutions), the middle, the
    blocks up, and finally the output.

    Args:
        size: Pixels per side, a multiple of 2^(number of resolutions - 1).
        channels: Channels at each resolution, each a multiple of ``groups``.
        label_dim: Number of labels per image.
        time_features: Number of features that encode the step, even.
        label_features: Number of features that encode each label, even.
        label_base: Base of the labels' encoding.
        attention: Resolutions, counted from 0, at which pixels attend to one another on the way down.
        heads: Number of attention heads.
        groups: Number of groups in group normalisation.
        image_channels: Channels of an image.
        generator: Source of the initial values; None: torch's global one.

    Raises:
        ValueError: A size is out of range or not a multiple as above.

    Source: ours, after Ho et al., "Denoising diffusion probabilistic models" (2020), appendix B; the conditioning,
    after Liang et al., "How diffusion models learn to factorize and compose" (2024), figure 7.

    Examples:
        >>> net = CondUNet(16, generator=torch.Generator().manual_seed(0))
        >>> sum(values.numel() for values in net.parameters())
        245601
        >>> net(torch.zeros(3, 1, 16, 16), torch.tensor([0, 5, 99]), torch.rand(3, 2)).shape
        torch.Size([3, 1, 16, 16])
    """

    def __init__(
        self,
        size: int,
        channels: Sequence[int] = (16, 32, 64),
        *,
        label_dim: int = 2,
        time_features: int = 32,
        label_features: int = 32,
        label_base: float = 100.0,
        attention: Collection[int] = (),
        heads: int = 4,
        groups: int = 4,
        image_channels: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        checks.arguments()
        self.size, self.label_dim = checks.size("size", size), checks.size("label_dim", label_dim)
        self.time_features, self.label_features = time_features, label_features
        check_features(time_features=time_features, label_features=label_features)
        self.label_base = checks.number("label_base", label_base, above=1)
        if not channels or any(checks.size("channels", width) % checks.size("groups", groups) for width in channels):
            raise ValueError(
                f"channels = {tuple(channels)}: expected at least one number, multiples of {groups} groups"
            )
        if size % (factor := 2 ** (len(channels) - 1)):
            raise ValueError(f"size = {size}: expected a multiple of {factor}, for {len(channels)} resolutions")
        for level in attention:
            if channels[checks.size("attention", level, 0, len(channels) - 1)] % checks.size("heads", heads):
                raise ValueError(f"heads = {heads}: expected a divisor of {channels[level]} channels")
        self.image_channels = checks.size("image_channels", image_channels)
        encoded, first = time_features + label_dim * label_features, channels[0]

        def block(before: int, after: int) -> ResBlock:
            return ResBlock(before, after, encoded, groups, generator)

        self.stem = initial.uniform(nn.Conv2d, image_channels, first, 3, padding=1, generator=generator)
        self.down = nn.ModuleList(map(block, [first, *channels[:-1]], channels))
        self.middle = block(channels[-1], channels[-1])
        narrower = [*channels[:-1][::-1], first]
        self.up = nn.ModuleList(map(block, [2 * width for width in reversed(channels)], narrower))
        self.attention = nn.ModuleDict(
            {str(level): SelfAttention(channels[level], heads, generator) for level in sorted(attention)}
        )
        self.norm = nn.GroupNorm(groups, first)
        self.out = zeroed(nn.Conv2d(first, image_channels, 3, padding=1, device="meta"))

    def layer(self, number: int) -> nn.Module:
        """A stage by its number, from 1: 4 is the last block down of the default network."""
        stages = [self.stem, *self.down, self.middle, *self.up, self.out]
        return stages[checks.size("number", number, 1, len(stages)) - 1]  # type: ignore[no-any-return]

    def forward(
        self,
        x: Float[Tensor, "batch channels size size"],
        t: Int[Tensor, " batch"],
        labels: Float[Tensor, "batch labels"],
    ) -> Float[Tensor, "batch channels size size"]:
        """The network's prediction for noisy images: noise, image or velocity, as it is trained.

        Args:
            x: Noisy images.
            t: The step of each, counted from 0.
            labels: A row of labels for each image.

        Raises:
            ValueError: Shapes do not match, or the images have another dtype than the parameters.
        """
        checks.arguments()
        checks.has_shape("x", tuple(x.shape), ("batch", self.image_channels, self.size, self.size))
        checks.has_shape("labels", tuple(labels.shape), (len(x), self.label_dim))
        encoded = functional.silu(encode(self, t, labels, x))
        with checks.noted(x=x):
            hidden, skips = self.stem(x), []
        for level, block in enumerate(self.down):
            hidden = block(functional.avg_pool2d(hidden, 2) if level else hidden, encoded)
            hidden = self.attention[str(level)](hidden) if str(level) in self.attention else hidden
            skips.append(hidden)
        hidden = self.middle(hidden, encoded)
        for level, block in enumerate(self.up):
            hidden = functional.interpolate(hidden, scale_factor=2.0) if level else hidden
            hidden = block(torch.cat([hidden, skips.pop()], 1), encoded)
        return self.out(functional.silu(self.norm(hidden)))  # type: ignore[no-any-return]


def encode(net: CondUNet | nn.Module, t: Tensor, labels: Tensor, like: Tensor) -> Float[Tensor, "batch encoded"]:
    """The encodings of steps and labels side by side.

    Args:
        net: The network, which has the numbers of features and ``label_base``.
        t: The step of each image, from 0.
        labels: A row of labels for each image.
        like: A tensor of the dtype and device of the encodings.
    """
    check_dtype(net, like)
    precise = like.new_zeros((), dtype=torch.promote_types(like.dtype, torch.float32))  # bfloat16 has 8 bits
    time = position_encoding(t.to(precise), net.time_features, TIME_BASE)  # type: ignore[arg-type]
    positions = position_encoding(labels.to(precise), net.label_features, net.label_base)  # type: ignore[arg-type]
    return torch.cat([time, positions.flatten(1)], 1).to(like)


def check_dtype(net: nn.Module, x: Tensor) -> None:
    """Raise ValueError unless images have the dtype of the network's parameters, or autocast converts both."""
    dtype = next(net.parameters()).dtype
    if x.dtype != dtype and not autocast(x.device):
        raise ValueError(f"x.dtype = {x.dtype}: expected {dtype}, as the parameters have")


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer from the meta device, on torch's default device with all values 0."""
    layer = layer.to_empty(device=torch.get_default_device())
    for values in layer.parameters():
        nn.init.zeros_(values)
    return layer
