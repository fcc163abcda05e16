"""Learners of several networks: their optimisers, a step of them, their slow copies and what is saved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
