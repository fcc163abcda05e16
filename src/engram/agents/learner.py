"""The common part of learners with several networks: optimisers, their steps, target copies and state."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.nn.parameter_hooks import run_accumulated_hooks
from engram.state import check_state, form_of


def adam(learning_rate: float, *modules: nn.Module) -> torch.optim.Adam:
    """Fused Adam for the parameters of some modules, as one group."""
    parameters = [parameter for module in modules for parameter in module.parameters()]
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True)


def optimizer_step(optimizer: torch.optim.Optimizer, losses: Sequence[Float[Tensor, ""]], *modules: nn.Module) -> None:
    """Take an optimiser step on the sum of losses in some modules; the gradients of other modules do not change.

    Args:
        optimizer: Optimiser of the modules' parameters.
        losses: The losses.
        *modules: The modules to train; the losses must depend on each parameter that is not frozen.
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter, gradient in zip(parameters, torch.autograd.grad(losses, parameters), strict=True):
        parameter.grad = gradient
    run_accumulated_hooks(parameters)
    optimizer.step()
    for parameter in parameters:
        parameter.grad = None


@torch.no_grad()
def polyak_update(targets: Iterable[Tensor], parameters: Iterable[Tensor], polyak: float) -> None:
    """Move target parameters a fraction of the way, target <- target + polyak (parameter - target).

    Args:
        targets: Parameters of the target networks, changed in place.
        parameters: The parameters that they follow, in the same order.
        polyak: Fraction of the way, from 0 to 1.
    """
    torch._foreach_lerp_(list(targets), list(parameters), polyak)


class Learner:
    """A learner with several networks and optimisers; ``parts`` names the attributes that have a ``state_dict``."""

    parts: tuple[str, ...]
    generator: torch.Generator
    updates: int

    __repr__ = checks.described

    def state_dict(self) -> dict[str, Any]:
        """All state, including that of the generator."""
        parts = {name: getattr(self, name).state_dict() for name in self.parts if getattr(self, name) is not None}
        return {**copy.deepcopy(parts), "updates": self.updates, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a ``state_dict``."""
        checks.arguments()
        check_state(state, self._form())
        for name in self.parts:
            if getattr(self, name) is not None:
                getattr(self, name).load_state_dict(copy.deepcopy(state[name]))
        self.updates = state["updates"]
        self.generator.set_state(state["generator"])

    def _form(self) -> dict[str, Any]:
        return {
            name: form_of(getattr(self, name)) if name in self.parts else value
            for name, value in self.state_dict().items()
        }
