"""The contract of a continual method, which works in any training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from engram import checks
from engram.continual.task import Task, TaskLoss, task_cross_entropy
from engram.state import check_state, form_of_attribute, restored, saved


class ContinualMethod:
    """A method against forgetting, for any training loop; this base class does nothing: it is plain fine-tuning.

    A loop calls ``attach`` before it trains, adds ``loss`` to the loss of each batch, and calls ``end_task`` after each
    task. To write your own method, override those of the three that you need, and list in ``stored`` the attributes
    that they change, so that interrupted training can be resumed exactly.

    Args:
        model: The network, which returns logits, (batch, outputs).
        generator: Source of all randomness of a method; None: a new one with the seed 0.

    Attributes:
        stored: Names of the attributes that training changes: tensors, numbers, copies of the model (as
            ``copy.deepcopy(self.model)``, such as a teacher), and lists or dicts of them.
        task_loss: The loss of logits, labels, and the task's ``classes``, for methods that learn from old samples.

    Raises:
        TypeError: ``model`` is not a module, or ``generator`` not a ``torch.Generator``.

    Examples:
        >>> class HoldOutputs(ContinualMethod):  # on the mean input of each task so far
        ...     stored = ("means", "outputs")
        ...     means = outputs = ()
        ...     def loss(self, x, y, logits):
        ...         pairs = zip(self.means, self.outputs)
        ...         return sum((self.model(mean) - output).square().sum() for mean, output in pairs)
        ...     def end_task(self, task):
        ...         mean = task.train[0].mean(0, keepdim=True)
        ...         self.means += (mean,)
        ...         self.outputs += (self.model(mean).detach(),)
    """

    stored: ClassVar[tuple[str, ...]] = ()
    task_loss: TaskLoss = staticmethod(task_cross_entropy)

    def __init__(self, model: nn.Module, *, generator: torch.Generator | None = None) -> None:
        self.model = checks.instance("model", model, nn.Module)
        self.generator = torch.Generator().manual_seed(0) if generator is None else checks.generator(generator)

    __repr__ = checks.described

    def attach(self, optimizer: Optimizer) -> None:
        """Attach to the optimiser that trains the network, in place of an earlier one.

        A copied or unpickled method is not attached, even if its optimiser was copied together with it: restore what it
        stored from ``state_dict``, and call ``attach`` with the copy of the optimiser.

        Args:
            optimizer: Any optimiser of ``torch.optim``.

        Raises:
            TypeError: ``optimizer`` is not an optimiser of ``torch.optim``.
            ValueError: It maximises.
        """
        checks.instance("optimizer", optimizer, Optimizer)
        refuse_maximising(optimizer)

    def loss(self, x: Tensor, y: Tensor, logits: Tensor) -> Tensor | float:
        """The term to add to the task's loss on a batch.

        Args:
            x: Inputs, (batch, ...).
            y: Labels, (batch,).
            logits: The network's output for ``x``, (batch, outputs).
        """
        return 0.0

    def end_task(self, task: Task) -> None:
        """Store what the method remembers of a task that has ended.

        Args:
            task: The task, with training data ``train`` and outputs ``classes``; see ``TaskData``.
        """

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, as tensors, numbers, and lists and dicts of them."""
        state = {name: saved(getattr(self, name)) for name in self.stored}
        return {**state, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a ``state_dict`` of a method made with the same arguments.

        Args:
            state: The state that ``state_dict`` returned.

        Raises:
            TypeError, ValueError: It is the state of another method or network; nothing was changed.
        """
        checks.arguments()
        check_state(state, self._form())
        device = next((parameter.device for parameter in self.model.parameters()), None)
        loaded = {name: restored(name, state[name], getattr(self, name), self.model) for name in self.stored}
        for name, value in loaded.items():
            setattr(self, name, tree_map_only(Tensor, lambda tensor: tensor.to(device), value))
        self.generator.set_state(state["generator"].cpu())

    def _form(self) -> dict[str, Any]:
        form: dict[str, Any] = dict.fromkeys(self.state_dict(), object)
        form |= {name: form_of_attribute(getattr(self, name)) for name in self.stored}
        return {**form, "generator": self.generator.get_state()}


def refuse_maximising(optimizer: Optimizer) -> None:
    """Raise ValueError if an optimiser maximises; methods that act at its steps ask again, as groups can change."""
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise ValueError(
            "optimizer has maximize = True: expected an optimiser that minimises, since methods add losses"
        )
