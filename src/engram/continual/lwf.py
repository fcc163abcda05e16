"""Learning without forgetting: the network keeps giving its old answers, on the new task's inputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.continual.method import ContinualMethod
from engram.continual.parameters import uncompiled
from engram.continual.task import Task
from engram.copying import copied
from engram.nn.log_probabilities import mean_divergence
from engram.state import Maybe


class LwF(ContinualMethod):
    """Learning without forgetting: the network keeps giving its old answers, on the new task's inputs.

        P = strength * sum_g (1/N) sum_n KL(softmax(z*_g(x_n) / T) || softmax(z_g(x_n) / T))

    where z* are the logits of the network as it was after the last task, and the outputs g of each earlier task have
    one softmax. The gradient is that of the paper's cross-entropy, which differs by a constant. An output of -inf is a
    closed one: what the old network ruled out adds nothing.

    Args:
        model: The network, which returns logits, (batch, outputs).
        strength: At least 0.
        temperature: T, above 0.
        generator: Not used.

    Raises:
        ValueError: An argument is out of range.

    Source: Li and Hoiem, "Learning without forgetting" (2016), equations 2 and 3.

    Examples:
        >>> from engram.continual import TaskData
        >>> net, x = nn.Linear(2, 4), torch.eye(2)
        >>> lwf = LwF(net)
        >>> lwf.end_task(TaskData((x, torch.tensor([0, 1])), classes=(0, 1)))  # then, in the next task:
        >>> y = torch.tensor([2, 3])
        >>> loss = nn.functional.cross_entropy(net(x), y) + lwf.loss(x, y, net(x))
    """

    stored = ("groups",)

    def __init__(
        self,
        model: nn.Module,
        strength: float = 1.0,
        *,
        temperature: float = 2.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, generator=generator)
        self.strength = checks.number("strength", strength, minimum=0)
        self.temperature = checks.number("temperature", temperature, above=0)
        self.teacher: nn.Module | None = None
        self.groups: list[list[int]] = []  # the outputs of each task so far; empty: all of them

    def end_task(self, task: Task) -> None:
        """Keep a copy of the network as the teacher for the next task.

        Args:
            task: Its ``classes`` get their own softmax; if they are None, the softmax is over all outputs.

        Raises:
            TypeError: A copy of the network would compute with the network's weights.
            ValueError: ``classes`` is empty, or a class is negative or there twice.
        """
        checks.instance("task", task, Task)  # type: ignore[type-abstract]
        group = [] if task.classes is None else [checks.size("classes", label, minimum=0) for label in task.classes]
        if task.classes is not None and not group:
            raise ValueError("classes is empty: expected indices of outputs")
        if len(set(group)) < len(group):
            raise ValueError(f"classes = {checks.shown(task.classes)}: expected different indices of outputs")
        self._copy_teacher()
        if set(group) not in map(set, self.groups):  # a softmax does not depend on the order of its outputs
            self.groups.append(group)

    def loss(self, x: Tensor, y: Tensor, logits: Float[Tensor, "batch outputs"]) -> Tensor | float:
        """The penalty; 0 until the first task has ended.

        Args:
            x: The network's input.
            y: Ignored.
            logits: The network's output, (batch, outputs).

        Raises:
            ValueError: The teacher has more outputs than the network, ``logits`` has not one row for each input, or a
                task had a class that the teacher does not have.
        """
        if self.teacher is None:
            return 0.0
        own, current = (next(network.parameters(), None) for network in (self.teacher, self.model))
        if own is not None and current is not None and (own.device, own.dtype) != (current.device, current.dtype):
            self.teacher.to(current)  # the network was moved since
        with torch.no_grad():
            old_logits = self.teacher(x)
        outputs = old_logits.shape[1]
        if logits.shape[1] < outputs or len(logits) != len(old_logits):
            raise ValueError(f"logits.shape = {tuple(logits.shape)}: expected ({len(old_logits)}, at least {outputs})")
        total = logits.new_zeros(())
        for group in self.groups:
            if group and max(group) >= outputs:
                raise ValueError(f"classes hold {max(group)}: expected indices of the network's {outputs} outputs")
            columns = group or [*range(outputs)]
            old_log_probabilities, new_log_probabilities = (
                (z[:, columns] / self.temperature).log_softmax(1) for z in (old_logits, logits)
            )
            total = total + mean_divergence(old_log_probabilities, new_log_probabilities)
        return self.strength * total

    def state_dict(self) -> dict[str, Any]:
        """The state: the teacher's parameters and buffers, and the outputs of each task so far."""
        teacher = None if self.teacher is None else _state_of(self.teacher)
        return {**super().state_dict(), "teacher": teacher}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned.

        Args:
            state: The state. If the network has grown since the teacher was copied, load it before it grows.

        Raises:
            TypeError, ValueError: It is the state of another method, or its teacher has other outputs than the network;
                nothing was changed.
        """
        if isinstance(state, Mapping) and isinstance(state.get("teacher"), Mapping):
            stored = {uncompiled(name): value for name, value in state["teacher"].items()}
            state = {**state, "teacher": stored}
        super().load_state_dict(state)
        self.teacher = None
        if (stored := state["teacher"]) is not None:
            teacher = self._copy_teacher()
            teacher.load_state_dict({name: stored[uncompiled(name)] for name in teacher.state_dict()})

    def _form(self) -> dict[str, Any]:
        return {**super()._form(), "teacher": Maybe(_state_of(self.model))}

    def _copy_teacher(self) -> nn.Module:
        self.teacher = copied(self.model).eval().requires_grad_(False)
        return self.teacher


def _state_of(module: nn.Module) -> dict[str, Any]:
    """A copy of a module's state, with the names that it has without ``torch.compile``."""
    return {uncompiled(name): copy.deepcopy(value) for name, value in module.state_dict().items()}
