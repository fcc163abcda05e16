"""A small residual network, a chain of the same convolutions, and feedback in parts of them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from engram.rules import LearningRule, Properties, Update
from engram.rules.contract import checked_update
from engram.rules.network import AnyNetwork

Network = Literal["residual", "chain"]
# Channels and stride of each 3x3 convolution; after the first one, every two are a block of the residual network.
CONVOLUTIONS = ((16, 2), (16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1))
CLASSES = 10


class Block(nn.Module):
    """Two 3x3 convolutions with a skip connection, y = relu(s(x) + n(W2 relu(n(W1 x)))); n is batch norm.

    The skip connection s is the identity, or a 1x1 convolution with batch norm where shapes differ.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(*_convolution(channels, out, 3, stride), nn.ReLU(), *_convolution(out, out, 3, 1))
        is_changed = channels != out or stride != 1
        self.shortcut = nn.Sequential(*_convolution(channels, out, 1, stride)) if is_changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The output, (batch, out, height, width)."""
        return torch.relu(self.shortcut(x) + self.branch(x))


def _convolution(channels: int, out: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out)


def build(network: Network, channels: int, generator: torch.Generator) -> nn.Sequential:
    """A network with the initial weights of torch, in the layout with channels last, which is the faster one here.

    Args:
        network: ``"residual"``, of 78,042 weights for colour images, or ``"chain"``, of 75,290.
        channels: Channels of an image.
        generator: Source of the weights.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        parts: list[nn.Module] = []
        if network == "chain":
            for out, stride in CONVOLUTIONS:
                parts.append(nn.Sequential(*_convolution(channels, out, 3, stride), nn.ReLU()))
                channels = out
        else:
            (out, stride), *blocks = CONVOLUTIONS
            parts.append(nn.Sequential(*_convolution(channels, out, 3, stride), nn.ReLU()))
            for after, stride in blocks[::2]:
                parts.append(Block(out, after, stride))
                out = after
        model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CONVOLUTIONS[-1][0], CLASSES))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class BranchFeedback(LearningRule[dict[str, Tensor]]):
    """Backpropagation, except that errors pass the 3x3 convolutions through random weights, or not at all.

    Args:
        random: Whether there are random weights; otherwise errors pass the skip connections alone.
    """

    properties = Properties(one_phase=True, online=True)

    def __init__(self, random: bool) -> None:
        self.random = random

    def init(self, model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        """B of each 3x3 convolution, by the name of its weights."""
        network = AnyNetwork.from_module(model, self)
        drawn = network.random_weights(generator)
        return {name: B if self.random else torch.zeros_like(B) for name, B in drawn.items() if is_3x3(B)}

    @torch.no_grad()
    def update(self, model: nn.Module, x: Tensor, target: Tensor, state: dict[str, Tensor]) -> Update:
        """The pseudo-gradients; the state stays as it is."""
        network = AnyNetwork.from_module(model, self)
        grads, loss = network.learn(x, target, network.weights() | state)
        return checked_update(self, grads, state, loss)


def is_3x3(weight: Tensor) -> bool:
    """Whether these are the weights of a 3x3 convolution."""
    return weight.shape[2:] == (3, 3)
