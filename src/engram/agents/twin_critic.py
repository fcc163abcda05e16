"""The twin critics of off-policy agents, computed together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.nn.mlp import mlp


class TwinCritic(nn.Module):
    """Two perceptrons with one output, computed together; built as two of ``mlp``, one after the other.

    Args:
        inputs: Numbers in an input.
        hidden: Units of the hidden layers.
        generator: Source of the initial values.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        twins = [mlp(inputs, hidden, 1, generator=generator) for _ in range(2)]
        layers = [[layer for layer in one if isinstance(layer, nn.Linear)] for one in twins]
        self.weights = nn.ParameterList(
            torch.stack([one.weight.detach().T for one in both]) for both in zip(*layers, strict=True)
        )
        self.biases = nn.ParameterList(
            torch.stack([one.bias.detach()[None] for one in both]) for both in zip(*layers, strict=True)
        )

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "twins batch"]:
        """Return Q1 and Q2."""
        hidden = x.expand(2, *x.shape)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if layer < last:
                hidden = hidden.relu_()
        return hidden.squeeze(-1)

    def loss(self, x: Float[Tensor, "batch inputs"], y: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
        """Return the sum of both mean squared errors."""
        found = self(x)
        return 2 * nn.functional.mse_loss(found, y.expand_as(found))

    def first(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch"]:
        """Return Q1 alone."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.addmm(bias[0], x, weight[0])
            if layer < last:
                x = x.relu_()
        return x.squeeze(1)
