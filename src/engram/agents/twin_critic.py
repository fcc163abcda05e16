"""The twin critics of off-policy agents, computed together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.nn.mlp import mlp


class TwinCritic(nn.Module):
    """Two perceptrons with one output each, computed together, with the initial values of two ``mlp``.

    Args:
        inputs: Length of an input.
        hidden: Units of the hidden layers.
        generator: Source of the initial values.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        twins = [mlp(inputs, hidden, 1, generator=generator) for _ in range(2)]
        layers = [[layer for layer in critic if isinstance(layer, nn.Linear)] for critic in twins]
        self.weights = nn.ParameterList(
            torch.stack([layer.weight.detach().T for layer in pair]) for pair in zip(*layers, strict=True)
        )
        self.biases = nn.ParameterList(
            torch.stack([layer.bias.detach()[None] for layer in pair]) for pair in zip(*layers, strict=True)
        )

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "twins batch"]:
        """Q1 and Q2."""
        hidden = x.expand(2, *x.shape)
        output_layer = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            hidden = torch.baddbmm(bias, hidden, weight)
            if layer < output_layer:
                hidden = hidden.relu_()
        return hidden.squeeze(-1)

    def loss(self, x: Float[Tensor, "batch inputs"], y: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
        """The sum of both mean squared errors."""
        values = self(x)
        return 2 * nn.functional.mse_loss(values, y.expand_as(values))

    def first(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch"]:
        """The values of the first critic, Q1."""
        output_layer = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.addmm(bias[0], x, weight[0])
            if layer < output_layer:
                x = x.relu_()
        return x.squeeze(1)
