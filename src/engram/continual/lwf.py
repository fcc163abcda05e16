"""Learning without forgetting: the network goes on giving its old answers, to the new task's inputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks


class LwF:
    """Learning without forgetting: the network goes on giving its old answers, to the new task's inputs.

        P = strength * sum_g (1/N) sum_n KL(softmax(z*_g(x_n) / T) || softmax(z_g(x_n) / T))

    with z* the logits of the network as it was after the last task, and one softmax over the outputs g of each earlier
    task. The gradient is that of the paper's cross-entropy, which differs by a constant.

    Args:
        model: Returns logits, (batch, outputs).
        strength: At least 0.
        temperature: T, above 0.

    Raises:
        ValueError: An argument is out of range.

    Source: Li and Hoiem, "Learning without forgetting" (2016), equations 2 and 3.

    Examples:
        >>> net = nn.Linear(2, 4)
        >>> lwf = LwF(net)
        >>> lwf.consolidate(classes=[0, 1])  # after the first task; then, in the second:
        >>> x = torch.eye(2)
        >>> loss = nn.functional.cross_entropy(net(x), torch.tensor([2, 3])) + lwf.penalty(x, net(x))
    """

    def __init__(self, model: nn.Module, strength: float = 1.0, *, temperature: float = 2.0) -> None:
        self.model = checks.instance("model", model, nn.Module)
        self.strength = checks.number("strength", strength, least=0)
        self.temperature = checks.number("temperature", temperature, above=0)
        self._teacher: nn.Module | None = None
        self._groups: list[list[int]] = []

    def consolidate(self, classes: Sequence[int] | None = None) -> None:
        """Keep a copy of the network as the teacher of the next task.

        Args:
            classes: The outputs of the task that ends; those of all tasks so far have a softmax each. None: one softmax
                over all outputs.

        Raises:
            ValueError: ``classes`` is empty or holds what is no index.
        """
        group = [] if classes is None else [checks.size("classes", one, least=0) for one in classes]
        if classes is not None and not group:
            raise ValueError("classes is empty: expected indices of outputs")
        if group not in self._groups:
            self._groups.append(group)
        self._teacher = copy.deepcopy(self.model).eval().requires_grad_(False)

    def penalty(self, inputs: Tensor, logits: Float[Tensor, "batch outputs"]) -> Float[Tensor, ""]:
        """Return the penalty, to be added to the loss; 0 before the first task's end.

        Args:
            inputs: What the network was called with.
            logits: What it returned.

        Raises:
            ValueError: The teacher's outputs are more than the network's, or ``classes`` named one that it has not.
        """
        total = logits.new_zeros(())
        if self._teacher is None:
            return total
        with torch.no_grad():
            taught = self._teacher(inputs)
        known = taught.shape[1]
        if logits.shape[1] < known or logits.shape[0] != taught.shape[0]:
            raise ValueError(f"logits.shape = {tuple(logits.shape)}: expected ({len(taught)}, at least {known})")
        for group in self._groups:
            if group and max(group) >= known:
                raise ValueError(f"classes hold {max(group)}: expected indices of the network's {known} outputs")
            at = group or [*range(known)]
            old, new = ((z[:, at] / self.temperature).log_softmax(1) for z in (taught, logits))
            total = total + nn.functional.kl_div(new, old, log_target=True, reduction="batchmean")
        return self.strength * total

    def state_dict(self) -> dict[str, Any]:
        """Return what it holds: the teacher's parameters and buffers, and the outputs of each task so far."""
        teacher = None if self._teacher is None else self._teacher.state_dict()
        return {"groups": [list(group) for group in self._groups], "teacher": copy.deepcopy(teacher)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned."""
        self._groups, self._teacher = [list(group) for group in state["groups"]], None
        if state["teacher"] is not None:
            self._teacher = copy.deepcopy(self.model).eval().requires_grad_(False)
            self._teacher.load_state_dict(state["teacher"])
