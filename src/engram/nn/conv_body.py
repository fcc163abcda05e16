"""The convolutional body of ANML, with an efficient first layer, which has nearly all of the activations."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram import checks
from engram.nn.hooks import alteration
from engram.nn.initial import kaiming
from engram.nn.sequence import full_precision, precise

LEAST_SIDE = 22  # below it a side of the third convolution's map is 1 at most, with little or nothing to normalise
EPS = 1e-5  # of instance norm
_CONV = nn.Conv2d, {"kernel_size": (3, 3), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
_NORM = nn.InstanceNorm2d, {"eps": EPS, "affine": True, "track_running_stats": False}
_POOL = nn.MaxPool2d, {"kernel_size": 2, "stride": 2, "padding": 0, "dilation": 1, "ceil_mode": False}
_BLOCK: tuple[tuple[type[nn.Module], dict[str, Any]], ...] = (_CONV, _NORM, (nn.ReLU, {}))
LAYERS = (*_BLOCK, _POOL, *_BLOCK, _POOL, *_BLOCK, (nn.Flatten, {"start_dim": 1, "end_dim": -1}))
"""The class and the settings of each layer."""


class ConvBody(nn.Sequential):
    """Three 3 x 3 convolutions, each with instance norm and ReLU, the first two also with 2 x 2 max-pooling; flattened.

    Instance norm, over the positions of each channel of each image, equals batch norm on one image at a time, in one
    call for the whole batch; it has no running statistics, so ``train`` and ``eval`` modes are the same.

    The layers define the result, but the first block is computed in one step, without calling its layers, unless one of
    them was replaced, or has hooks, other settings or a forward of its own: the mean and variance of a convolution
    follow from those of the patches, which do not depend on the weights, so that convolution and norm become one
    product, and pooling keeps a quarter of it.

    Args:
        channels: Output channels of each convolution.
        in_channels: Channels of the images.
        generator: Source of the initial weights, normal with variance 2 / fan-in; torch's global one if None. Biases
            are 0.

    Raises:
        ValueError: In a call, a side of the images is below 22 pixels, they have other channels, or there are none.

    Source: Beaulieu et al., "Learning to continually learn" (2020), appendix.

    Examples:
        >>> ConvBody(8)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 72])
    """

    def __init__(self, channels: int, in_channels: int = 1, generator: torch.Generator | None = None) -> None:
        checks.size("channels", channels)
        layers: list[nn.Module] = []
        for index, inputs in enumerate((checks.size("in_channels", in_channels), channels, channels)):
            norm = nn.InstanceNorm2d(channels, eps=EPS, affine=True)
            layers += [kaiming(nn.Conv2d, inputs, channels, 3, generator=generator), norm, nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if index < 2 else [nn.Flatten()]
        super().__init__(*layers)

    def __getitem__(self, index: slice | int) -> Any:
        """A layer; or some of the layers as an ``nn.Sequential``."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def is_as_made(self, stop: int | None = None) -> bool:
        """Whether the layers have the classes and settings of the constructor, and do what these say.

        Only then do the parameters alone, which may have any values, tell the result.

        Args:
            stop: Look at this many of the first layers; None: all of them.

        Raises:
            ValueError: ``stop`` is negative.

        Examples:
            >>> body = ConvBody(2)
            >>> body[2] = nn.LeakyReLU()
            >>> body.is_as_made(), ConvBody(2).is_as_made()
            (False, True)
        """
        if stop is not None:
            checks.size("stop", stop, 0)
        layers, expected = list(self)[:stop], LAYERS[:stop]
        return (
            len(layers) == len(expected)
            and not alteration(*layers)
            and all(
                type(layer) is kind and all(getattr(layer, name) == value for name, value in settings.items())
                for layer, (kind, settings) in zip(layers, expected, strict=True)
            )
        )

    def forward(self, input: Float[Tensor, "batch in_channels height width"]) -> Float[Tensor, "batch features"]:
        """The features; for images of 28 x 28 pixels, 9 for each channel."""
        checks.arguments()
        input = precise(input, next(self.parameters()))
        with full_precision(input.device):
            return self._features(input)

    def _features(self, input: Tensor) -> Tensor:
        if min(input.shape[-2:]) < LEAST_SIDE:
            size = "x".join(map(str, input.shape[-2:]))
            expected = f"expected at least {LEAST_SIDE}x{LEAST_SIDE}"
            raise ValueError(f"input {size} leaves a final map one pixel wide at most: {expected}")
        conv, norm = cast(nn.Conv2d, self[0]), cast(nn.InstanceNorm2d, self[1])
        if not isinstance(conv, nn.Conv2d):
            return self[:](input)
        if input.shape[1] != conv.in_channels or not len(input):
            raise ValueError(f"input.shape = {tuple(input.shape)}: expected (batch, {conv.in_channels}, height, width)")
        checks.tensor("input", input, tuple(input.shape), like=conv.weight)
        if not self.is_as_made(4):
            return self[:](input)  # type: ignore[no-any-return]
        patches = Patches.of(input)
        weight = conv.weight.flatten(1)
        scale = norm.weight * torch.rsqrt(((weight @ patches.covariance) * weight).sum(2) + EPS)
        # The norm cancels the convolution's bias, whose gradient is 0, not missing.
        shift = norm.bias if conv.bias is None else norm.bias + 0 * conv.bias
        kernels = torch.cat((weight * scale[..., None], shift.expand_as(scale)[..., None]), 2)
        responses = functional.max_pool2d(patches.quarters(patches.values @ kernels.mT), (4, 1))
        return self[4:](responses.relu().view(len(input), -1, *patches.pooled))  # type: ignore[no-any-return]


class Patches(NamedTuple):
    """The patches of images that a 3 x 3 convolution reads, one at each position.

    Attributes:
        values: Patches minus their mean over positions, and a 1 for the bias. The four positions of a pooling window
            are a quarter of all positions apart; positions outside every window are left out.
        covariance: Covariance of the patches, over all positions.
        pooled: Height and width after 2 x 2 pooling.
    """

    values: Float[Tensor, "batch positions inputs_and_one"]
    covariance: Float[Tensor, "batch inputs inputs"]
    pooled: tuple[int, int]

    @classmethod
    def of(cls, x: Float[Tensor, "batch channels height width"]) -> Patches:
        """The patches of images."""
        patches = functional.unfold(x, 3)
        patches = patches - patches.mean(2, keepdim=True)
        count, inputs = patches.shape[:2]
        height, width = (side - 2 for side in x.shape[-2:])
        pooled_height, pooled_width = height // 2, width // 2
        pooled_patches = patches.view(count, inputs, height, width)[..., : 2 * pooled_height, : 2 * pooled_width]
        pooled_patches = (
            pooled_patches.reshape(count, inputs, pooled_height, 2, pooled_width, 2)
            .permute(0, 3, 5, 2, 4, 1)
            .flatten(1, 4)
        )
        values = torch.cat((pooled_patches, torch.ones_like(pooled_patches[..., :1])), 2)
        return cls(values, patches @ patches.mT / patches.shape[2], (pooled_height, pooled_width))

    @staticmethod
    def quarters(z: Float[Tensor, "batch positions channels"]) -> Float[Tensor, "batch channels 4 pooled"]:
        """Values at all positions, arranged without a copy so that each pooling window is a column."""
        return z.mT.view(len(z), z.shape[2], 4, -1)
