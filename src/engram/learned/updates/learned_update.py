"""A continual method in which a learned rule updates a network's body."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from engram.continual.fisher import fisher_diagonal
from engram.continual.frozen_body import head_parameters
from engram.continual.method import ContinualMethod, refuse_maximising
from engram.continual.task import Task, task_batches
from engram.learned.updates.learned_optimizer import LearnedOptimizer
from engram.learned.updates.update_rule import UpdateRule
from engram.state import form_of


class LearnedUpdate(ContinualMethod):
    """A learned rule updates the body, using a memory of old tasks for each weight.

    The optimiser that it is attached to goes on training the head alone; each of its steps is followed by one of a
    ``LearnedOptimizer``. After each task the diagonal of the Fisher information is stored, measured with labels drawn
    from the network's output.

    Args:
        model: The network, which returns logits, (batch, outputs).
        lr: Learning rate of the body, at least 0; rules are trained with 1e-3.
        rule: The rule; None: an untrained ``GatedCoordinateRule``, which is nearly Adam.
        head: Name of the submodule that is not the body; None: the last child with parameters.
        generator: Draws these labels; None: a new one with the seed 0.

    Attributes:
        optimizer: The ``LearnedOptimizer``.

    Raises:
        ValueError: ``lr`` is negative, or there is no such submodule.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> adam = torch.optim.Adam(net.parameters())
        >>> LearnedUpdate(net).attach(adam)
        >>> [tuple(p.shape) for p in adam.param_groups[0]["params"]]
        [(2, 3), (2,)]
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        rule: UpdateRule | None = None,
        head: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(model, generator=generator)
        head_ids = {id(p) for p in head_parameters(model, head)}
        self._body = {name: p for name, p in model.named_parameters() if id(p) not in head_ids}
        self.optimizer = LearnedOptimizer(self._body.values(), lr, rule=rule)
        self._hooks: list[Any] = []

    def attach(self, optimizer: Optimizer) -> None:
        """Take the body's parameters from an optimiser, and follow each of its steps.

        Where a step may be skipped, use ``model.zero_grad()``: the optimiser's own leaves the body's gradients.
        Use no ``GradScaler``, which would unscale only the gradients of the head; bfloat16 needs none.

        Args:
            optimizer: Any optimiser of the model's parameters.

        Raises:
            TypeError: ``optimizer`` is not an optimiser of ``torch.optim``.
            ValueError: It maximises, or has none of the model's parameters.
        """
        super().attach(optimizer)
        model_ids = {id(p) for p in self.model.parameters()}
        if not any(id(p) in model_ids for group in optimizer.param_groups for p in group["params"]):
            raise ValueError("optimizer has none of the model's parameters: expected an optimiser of this model")
        body_ids = {id(p) for p in self._body.values()}
        for group in optimizer.param_groups:
            group["params"] = [p for p in group["params"] if id(p) not in body_ids]
        for hook in self._hooks:
            hook.remove()
        before, after = self._before_step, self._after_step
        self._hooks = [optimizer.register_step_pre_hook(before), optimizer.register_step_post_hook(after)]

    def end_task(self, task: Task) -> None:
        """Store the body's weights and their importance.

        Args:
            task: Its training data, and its classes, over which the softmax runs.
        """
        importance = fisher_diagonal(
            self.model, task_batches(task), fisher="sample", classes=task.classes, generator=self.generator
        )
        self.optimizer.consolidate([importance.get(name, torch.zeros_like(p)) for name, p in self._body.items()])

    def state_dict(self) -> dict[str, Any]:
        """The state of the learned optimiser."""
        return {**super().state_dict(), "optimizer": copy.deepcopy(self.optimizer.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
        super().load_state_dict(state)
        self.optimizer.load_state_dict(copy.deepcopy(dict(state["optimizer"])))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_hooks": []}  # a copy is not attached

    def _form(self) -> dict[str, Any]:
        return {**super()._form(), "optimizer": form_of(self.optimizer)}

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        refuse_maximising(optimizer)
        if getattr(optimizer, "found_inf", None) is not None:
            raise ValueError("optimizer is stepped by a GradScaler: expected none, as it scales the body's gradients")

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()
