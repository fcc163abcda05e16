"""Networks of off-policy agents: perceptrons, twin critics, their descent and their slow copies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.initial import uniform


def mlp(inputs: int, hidden: Sequence[int], outputs: int, *, generator: torch.Generator | None = None) -> nn.Sequential:
    """Build Linear and ReLU in turn, with the initial values of ``torch.nn`` from a generator.

    Examples:
        >>> mlp(3, (8, 8), 1)(torch.zeros(5, 3)).shape
        torch.Size([5, 1])
    """
    sizes = [inputs, *(checks.size("hidden", units) for units in hidden), outputs]
    layers: list[nn.Module] = []
    for pre, post in pairwise(sizes):
        layers += [uniform(nn.Linear, pre, post, generator=generator), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


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


def adam(learning_rate: float, *modules: nn.Module) -> torch.optim.Adam:
    """Return Adam over the parameters of some modules, as one group, in its fused form."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def descend(optimizer: torch.optim.Optimizer, losses: Sequence[Float[Tensor, ""]], *modules: nn.Module) -> None:
    """Take a step down the sum of losses in these modules alone; nobody else's gradients are touched."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    for parameter, gradient in zip(parameters, torch.autograd.grad(losses, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    for parameter in parameters:
        parameter.grad = None


def follow(slow: Iterable[Tensor], fast: Iterable[Tensor], rate: float) -> None:
    """Move the parameters of a slow copy by a part of the way to the others'."""
    torch._foreach_lerp_(list(slow), list(fast), rate)


class Learner:
    """What a learner of several networks and optimisers saves: ``parts`` are the names of what has a ``state_dict``."""

    parts: tuple[str, ...]
    generator: torch.Generator
    updates: int

    def state_dict(self) -> dict[str, Any]:
        """Return all that changes, the state of the generator included."""
        own = {name: getattr(self, name).state_dict() for name in self.parts if getattr(self, name) is not None}
        return {**own, "updates": self.updates, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from an earlier state."""
        for name in self.parts:
            if getattr(self, name) is not None:
                getattr(self, name).load_state_dict(state[name])
        self.updates = state["updates"]
        self.generator.set_state(state["generator"])
