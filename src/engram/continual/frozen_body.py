"""The baseline that cannot forget features: everything but the head is frozen after the first task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from engram import checks
from engram.continual.method import ContinualMethod
from engram.continual.task import Task


def freeze_body(model: nn.Module, head: str | None = None) -> list[nn.Parameter]:
    """Freeze all parameters of a network except those of its head.

    The gradients of frozen parameters are set to None, since an optimiser would apply them again.

    Batch normalisation still updates its running means in training mode, so put such layers into evaluation mode.

    Args:
        model: Any module.
        head: Name of a submodule; None: the last child that has parameters.

    Returns:
        The parameters of the head, for the optimiser of the next tasks.

    Raises:
        ValueError: There is no such submodule, or it has no parameters.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> [p.shape for p in freeze_body(net, "2")], net[0].weight.requires_grad
        ([torch.Size([2, 3]), torch.Size([2])], False)
    """
    parameters = head_parameters(model, head)
    head_ids = {id(parameter) for parameter in parameters}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in head_ids and parameter.requires_grad)
        if not parameter.requires_grad:
            parameter.grad = None
    return parameters


def head_parameters(model: nn.Module, head: str | None) -> list[nn.Parameter]:
    """The parameters of the submodule named ``head``; None: of the last child that has any."""
    checks.arguments()
    checks.instance("model", model, nn.Module)
    model = getattr(model, "_orig_mod", model)  # of a compiled one
    modules = dict(model.named_modules())
    if head is None:
        head = next((name for name, child in reversed([*model.named_children()]) if [*child.parameters()]), "")
    parameters = list(modules[checks.choice("head", head, modules)].parameters())
    if not parameters:
        raise ValueError(f"head = {head!r}: expected a submodule with parameters")
    return parameters


class FrozenBody(ContinualMethod):
    """The baseline that cannot forget features: after the first task only the head learns.

    The state of the optimiser, such as its momentum, is then reset.

    Args:
        model: The network.
        head: Name of the submodule that goes on learning; None: the last child with parameters.
        generator: Not used.

    Raises:
        ValueError: There is no such submodule, or it has no parameters.

    Examples:
        >>> from engram.continual import TaskData
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> FrozenBody(net).end_task(TaskData((torch.eye(2), torch.arange(2))))
        >>> [p.requires_grad for p in net.parameters()]
        [False, False, True, True]
    """

    stored = ("frozen",)

    def __init__(self, model: nn.Module, *, head: str | None = None, generator: torch.Generator | None = None) -> None:
        super().__init__(model, generator=generator)
        self.head = head
        self.frozen = False
        self._optimizer: Optimizer | None = None
        self._frozen_parameters: list[nn.Parameter] = []
        head_parameters(model, head)

    def attach(self, optimizer: Optimizer) -> None:
        """Attach to the optimiser, whose state will be reset."""
        super().attach(optimizer)
        self._optimizer = optimizer

    def end_task(self, task: Task) -> None:
        """Freeze the body, after the first task."""
        if not self.frozen:
            self._freeze()
            if self._optimizer is not None:
                self._optimizer.state.clear()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned; the body is frozen or not, as it was then."""
        super().load_state_dict(state)
        for parameter in self._frozen_parameters:
            parameter.requires_grad_(True)
        self._frozen_parameters = []
        if self.frozen:
            self._freeze()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_optimizer": None}  # a copy is not attached

    def _freeze(self) -> None:
        self.frozen = True
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        freeze_body(self.model, self.head)
        self._frozen_parameters += [parameter for parameter in trained if not parameter.requires_grad]
