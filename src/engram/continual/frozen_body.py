"""The baseline that cannot forget features: everything but the head is frozen after the first task."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from engram import checks
from engram.continual.method import ContinualMethod
from engram.continual.task import Task
from engram.nn.modes import Modes, modes_of, restore_modes


def freeze_body(model: nn.Module, head: str | None = None) -> list[nn.Parameter]:
    """Freeze all parameters of a network except those of its head.

    The gradients of frozen parameters are set to None, since an optimiser would apply them again.

    Layers that keep running statistics, or anything else in buffers, are put into evaluation mode, since they change in
    training mode; ``model.train()`` leaves them there until a parameter of the body requires a gradient again.

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
    _hold_statistics(model, _head(model, head))
    return parameters


def _hold_statistics(model: nn.Module, head: nn.Module) -> None:
    """Put whatever has buffers outside the head into evaluation mode, in which ``model.train()`` leaves it."""
    inside = set(head.modules())
    outside = [module for module in model.modules() if module not in inside]
    body = [module for module in outside if head not in module.modules()]
    tied = set(head.parameters()) & {parameter for module in body for parameter in module.parameters()}
    for module in outside:
        if [*module.buffers(recurse=False)]:
            watched = [module] if module in body and [*module.parameters()] else body
            vars(module)["train"] = partial(_train_if_thawed, module, watched, tied)
            module.training = False


def _train_if_thawed(
    module: nn.Module, watched: list[nn.Module], tied: set[nn.Parameter], mode: bool = True
) -> nn.Module:
    """``module.train(mode)``, but the module itself stays in evaluation mode while what is watched is frozen."""
    type(module).train(module, mode)
    parameters = (parameter for part in watched for parameter in part.parameters())
    if not any(parameter.requires_grad and parameter not in tied for parameter in parameters):
        module.training = False
    return module


def head_parameters(model: nn.Module, head: str | None) -> list[nn.Parameter]:
    """The parameters of the submodule named ``head``; None: of the last child that has any."""
    checks.arguments()
    checks.instance("model", model, nn.Module)
    parameters = list(_head(model, head).parameters())
    if not parameters:
        raise ValueError(f"head = {head!r}: expected a submodule with parameters")
    return parameters


def _head(model: nn.Module, head: str | None) -> nn.Module:
    model = getattr(model, "_orig_mod", model)  # of a compiled one
    modules = dict(model.named_modules())
    if head is None:
        head = next((name for name, child in reversed([*model.named_children()]) if [*child.parameters()]), "")
    module: nn.Module = modules[checks.choice("head", head, modules)]
    return module


class FrozenBody(ContinualMethod):
    """The baseline that cannot forget features: after the first task only the head learns.

    The body is frozen as by ``freeze_body``, with its running statistics. The state of the optimiser, such as its
    momentum, is then reset.

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
        self._modes: Modes = {}  # of what was put into evaluation mode, before
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
        else:
            for module in self._modes:
                if getattr(vars(module).get("train"), "func", None) is _train_if_thawed:
                    del vars(module)["train"]
            restore_modes(self._modes)
            self._modes = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_optimizer": None}  # a copy is not attached

    def _freeze(self) -> None:
        self.frozen = True
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        modes = modes_of(self.model)
        freeze_body(self.model, self.head)
        self._modes = {module: mode for module, mode in modes.items() if module.training != mode} | self._modes
        self._frozen_parameters += [parameter for parameter in trained if not parameter.requires_grad]
