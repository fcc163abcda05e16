"""Helpers of the align rules: the initial parameters, the current error, and how the two are combined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from engram import checks
from engram.rules.chain import refuse_changing
from engram.rules.loss import output_loss


def initial_parameters(model: nn.Module, rule: object, *, repeated: bool = False) -> dict[str, Tensor]:
    """Copies of the current parameters, by name; the arguments are those of ``refuse_changing``.

    Raises:
        TypeError: A layer is random or keeps running statistics, and would differ between the two forward passes.
    """
    checks.arguments()
    refuse_changing(model, rule, repeated=repeated)
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def output_gradient(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its derivative with respect to the output."""
    with torch.enable_grad():
        output = output.detach().requires_grad_()
        loss = output_loss(output, target)
    return loss.detach(), torch.autograd.grad(loss, output)[0]


def call(name: str, module: nn.Module, parameters: Mapping[str, Tensor], *inputs: Tensor) -> Any:
    """The output of a module of a network, with given parameters of the network.

    Args:
        name: Name of the module in ``named_modules``.
        module: The module.
        parameters: Parameters of the whole network, by name.
        *inputs: Inputs of the module.
    """
    module_parameters = {key: parameters[f"{name}.{key}" if name else key] for key, _ in module.named_parameters()}
    return functional_call(module, module_parameters, inputs) if module_parameters else module(*inputs)


class _Inject(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frozen: Tensor, live: Tensor) -> Tensor:
        return frozen.view_as(frozen)

    @staticmethod
    def backward(ctx: Any, *errors: Tensor) -> tuple[Tensor, Tensor]:
        return errors[0], errors[0]


def inject(frozen: Tensor, live: Tensor) -> Tensor:
    """The first value, with a gradient that goes to both values: frozen + live - stop_gradient(live)."""
    return _Inject.apply(frozen, live)  # type: ignore[no-any-return, no-untyped-call]
