"""Networks whose last features are gated by a second network that sees the same input (Beaulieu et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.nn.conv_body import ConvBody
from engram.nn.initial import kaiming


class Features(NamedTuple):
    """Image features before the gate, the gate (None if there is none), and the features after it."""

    pre: Float[Tensor, "batch features"]
    gate: Float[Tensor, "batch features"] | None
    post: Float[Tensor, "batch features"]


class GatedNet(nn.Module):
    """A classifier whose features are multiplied by a gate in [0, 1], which another network computes from the input.

        h = body(x),  m = sigmoid(gate(x)),  y = head(h * m)

    The gate decides which features are active and, since the gradient of a weight is proportional to the activity that
    it receives, also which weights change.

    Args:
        body: Network from images to features, (batch, features).
        head: Network from features to logits: an ``nn.Linear``, or an ``nn.Sequential`` whose last module is one.
        gate: Network from images to the logits of the gate, (batch, features); None: no gate, m = 1.

    Attributes:
        readout: The last layer of the head, with a row of weights for each class.

    Raises:
        TypeError: ``head`` is neither, or another argument is not a module.

    Source: Beaulieu et al., "Learning to continually learn" (2020), section 3 and figure 1.

    Examples:
        >>> net = GatedNet(nn.Flatten(), nn.Linear(4, 3), nn.Sequential(nn.Flatten(), nn.Linear(4, 4)))
        >>> net(torch.zeros(2, 1, 2, 2)).shape
        torch.Size([2, 3])
    """

    def __init__(self, body: nn.Module, head: nn.Module, gate: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.head, self.gate = checks.instance("body", body, nn.Module), head, gate
        output_layer = head[-1] if isinstance(head, nn.Sequential) and len(head) else head
        self.readout_size = checks.instance("the last module of head", output_layer, nn.Linear).out_features
        if gate is not None:
            checks.instance("gate", gate, nn.Module)

    @property
    def readout(self) -> nn.Linear:
        """The last layer of the head."""
        return self.head[-1] if isinstance(self.head, nn.Sequential) else self.head  # type: ignore[return-value]

    def gates(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch features"] | None:
        """The gate of images, to pass to later calls on the same images; None if there is no gate."""
        with checks.noted(x=x):
            return None if self.gate is None else torch.sigmoid(self.gate(x))

    def features(
        self,
        x: Float[Tensor, "batch ..."],
        gate: Float[Tensor, "batch features"] | None = None,
    ) -> Features:
        """The features of images.

        Args:
            x: Images, (batch, ...).
            gate: Their gate, if it is known; None: it is computed.
        """
        with checks.noted(x=x, gate=gate):
            pre = self.body(x)
            gate = self.gates(x) if gate is None else gate
            return Features(pre, gate, pre if gate is None else pre * gate)

    def forward(
        self,
        x: Float[Tensor, "batch ..."],
        gate: Float[Tensor, "batch features"] | None = None,
    ) -> Float[Tensor, "batch classes"]:
        """The logits of images.

        Args:
            x: Images, (batch, ...).
            gate: Their gate, if it is known; None: it is computed.
        """
        with checks.noted(x=x, gate=gate):
            return self.head(self.features(x, gate).post)  # type: ignore[no-any-return]


def anml_net(
    *,
    in_channels: int = 1,
    body_channels: int = 256,
    gate_channels: int = 112,
    num_outputs: int = 1000,
    generator: torch.Generator | None = None,
) -> GatedNet:
    """ANML's network for images of 28 x 28: a convolutional body, a smaller one that gates it, and a linear head.

    Args:
        in_channels: Channels of the images.
        body_channels: Channels of each convolution of the body, which has 9 features for each channel.
        gate_channels: Channels of each convolution of the gate.
        num_outputs: Number of classes, the outputs of the head.
        generator: Source of the initial weights, normal with variance 2 / fan-in; torch's global one if None. Biases
            are 0.

    Raises:
        ValueError: A number is below 1.

    Source: Beaulieu et al., "Learning to continually learn" (2020), appendix.

    Examples:
        >>> sum(parameter.numel() for parameter in anml_net().parameters())
        6041800
    """
    checks.arguments()
    features = 9 * checks.size("body_channels", body_channels)
    body = ConvBody(body_channels, in_channels, generator)
    head = kaiming(nn.Linear, features, checks.size("num_outputs", num_outputs), generator=generator)
    gating = ConvBody(checks.size("gate_channels", gate_channels), in_channels, generator)
    gate_layer = kaiming(nn.Linear, 9 * gate_channels, features, generator=generator)
    return GatedNet(body, head, nn.Sequential(gating, gate_layer))


def sanml_net(
    *,
    in_channels: int = 1,
    body_channels: int = 256,
    num_outputs: int = 1000,
    generator: torch.Generator | None = None,
) -> GatedNet:
    """ANML's network without its gate.

    Args:
        in_channels: Channels of the images.
        body_channels: Channels of each convolution of the body, which has 9 features for each channel.
        num_outputs: Number of classes, the outputs of the head.
        generator: Source of the initial weights, normal with variance 2 / fan-in; torch's global one if None. Biases
            are 0.

    Raises:
        ValueError: A size is below 1.

    Source: the ablation of Beaulieu et al., "Learning to continually learn" (2020).

    Examples:
        >>> sum(parameter.numel() for parameter in sanml_net().parameters())
        3489256
    """
    sizes = 9 * checks.size("body_channels", body_channels), checks.size("num_outputs", num_outputs)
    body = ConvBody(body_channels, in_channels, generator)
    return GatedNet(body, kaiming(nn.Linear, *sizes, generator=generator))


def oml_net(
    *,
    in_channels: int = 1,
    channels: int = 256,
    hidden: int | None = 1024,
    num_outputs: int = 1000,
    generator: torch.Generator | None = None,
) -> GatedNet:
    """OML's network for images of 28 x 28: six convolutions without normalisation, and the layers that learn.

    Args:
        in_channels: Channels of the images.
        channels: Channels of each convolution, of strides 1, 1, 1, 2, 1, 2, each followed by ReLU.
        hidden: Units of the layer between features and output; None: a linear head.
        num_outputs: Number of classes, the outputs of the head.
        generator: Source of the initial weights, normal with variance 2 / fan-in; torch's global one if None. Biases
            are 0.

    Raises:
        ValueError: A number is below 1.

    Source: Javed and White, "Meta-learning representations for continual learning" (2019), as Beaulieu et al. (2020)
    compare it.

    Examples:
        >>> sum(parameter.numel() for parameter in oml_net(in_channels=3).parameters())
        6342888
    """
    layers: list[nn.Module] = []
    n_inputs = checks.size("in_channels", in_channels)
    for stride in (1, 1, 1, 2, 1, 2):
        sizes = n_inputs, checks.size("channels", channels), 3, stride
        layers += [kaiming(nn.Conv2d, *sizes, generator=generator), nn.ReLU()]
        n_inputs = channels
    checks.size("num_outputs", num_outputs)
    linear = partial(kaiming, nn.Linear, generator=generator)
    if hidden is None:
        head: nn.Module = linear(9 * channels, num_outputs)
    else:
        head = nn.Sequential(
            linear(9 * channels, checks.size("hidden", hidden)), nn.ReLU(), linear(hidden, num_outputs)
        )
    return GatedNet(nn.Sequential(*layers, nn.Flatten()), head)


@torch.no_grad()
def zap_(linear: nn.Linear, rows: Sequence[int] | None = None, generator: torch.Generator | None = None) -> None:
    """Redraw rows of a layer's weights, in place, normal with variance 2 / fan-in; biases stay.

    Args:
        linear: The layer.
        rows: Indices of the rows, each once; None: all.
        generator: Source of the weights; torch's global one if None.

    Raises:
        ValueError: There is no such row.

    Source: Beaulieu et al., "Learning to continually learn" (2020), algorithm 1.

    Examples:
        >>> layer = nn.Linear(2, 3)
        >>> before = layer.weight.clone()
        >>> zap_(layer, [1])
        >>> (layer.weight == before).all(1).tolist()
        [True, False, True]
    """
    checks.arguments()
    for index, row in enumerate(rows or ()):
        checks.size(f"rows[{index}]", row, 0, linear.out_features - 1)
    shape = linear.weight.shape if rows is None else (len(rows), linear.in_features)
    device = linear.weight.device if generator is None else generator.device
    fresh = torch.empty(shape, dtype=linear.weight.dtype, device=device)
    fresh.normal_(std=(2 / linear.in_features) ** 0.5, generator=generator)
    if rows is None:
        linear.weight.copy_(fresh)
        return
    for index, row in enumerate(rows):
        linear.weight[row] = fresh[index]
