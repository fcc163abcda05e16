"""Replay: some samples of old tasks are stored, and learned together with new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engram import checks
from engram.continual.method import ContinualMethod
from engram.continual.reservoir import Reservoir
from engram.continual.task import IGNORED, Task, TaskLoss, task_batches, task_cross_entropy
from engram.state import check_state

SAMPLES = ("inputs", "labels", "tasks")  # the parts of a memory's state that the network is trained on


class Replay(ContinualMethod):
    """Replay: some samples of old tasks are stored, and learned together with new ones.

    Every sample so far is stored with the same probability, or classes in equal numbers. The loss of a batch gets an
    additional term: the mean loss of as many stored samples, by default the cross-entropy over the outputs of the task
    of each.

    Args:
        model: The network, which returns logits, (batch, outputs).
        capacity: Maximum number of stored samples.
        balanced: Whether classes are stored in equal numbers, as in ``Reservoir``.
        task_loss: Function of outputs, labels, and the task's ``classes``, a mean over samples, such as
            ``lambda output, y, classes: mse_loss(output, y)`` for regression; None: cross-entropy. The one that is
            given to ``train_on_tasks`` counts instead.
        generator: Draws the samples to keep and to replay; None: a new one with the seed 0.

    Attributes:
        memory: The samples, each with its label and the index of its task.

    Raises:
        ValueError: ``capacity`` is below 1.

    Source: Chaudhry et al., "On tiny episodic memories in continual learning" (2019).

    Examples:
        >>> from engram.continual import TaskData
        >>> replay = Replay(nn.Linear(2, 4), capacity=6)
        >>> replay.end_task(TaskData((torch.ones(8, 2), torch.tensor([0, 1] * 4)), classes=(0, 1)))
        >>> len(replay.memory)
        6
    """

    stored = ("classes",)

    def __init__(
        self,
        model: nn.Module,
        capacity: int = 200,
        *,
        balanced: bool = False,
        task_loss: TaskLoss | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__(model, generator=generator)
        if task_loss is not None:
            self.task_loss = task_loss
        self.memory = Reservoir(checks.size("capacity", capacity), self.generator, balanced=balanced)
        self.classes: list[list[int] | None] = []  # of each task so far

    def loss(self, x: Tensor, y: Tensor, logits: Tensor) -> Tensor | float:
        """The mean loss of a batch of stored samples, as many as in ``x``; 0 until the first task has ended.

        Args:
            x: The batch; its length, device and dtype are used.
            y: Ignored.
            logits: Ignored.
        """
        if not len(self.memory):
            return 0.0
        inputs, labels, tasks = (part.to(x.device) for part in self.memory.sample(len(x)))
        inputs = inputs.to(x.dtype)
        replayed_logits, total = self.model(inputs), torch.zeros((), device=inputs.device)
        for task_index, classes in enumerate(self.classes):
            rows = tasks == task_index
            if rows.any():
                total = total + self.task_loss(replayed_logits[rows], labels[rows], classes) * rows.float().mean()
        return total

    def end_task(self, task: Task) -> None:
        """Offer the training data of a task to the memory.

        Args:
            task: Its training data and classes.

        Raises:
            TypeError, ValueError: The data are not as in ``TaskData``, samples differ in shape or dtype from earlier
                ones, or labels are not classes, which cross-entropy and balancing need; nothing was changed.
        """
        state_before = self.memory.state_dict()
        try:
            for inputs, labels in task_batches(task):
                if labels.is_floating_point() and self.task_loss is task_cross_entropy:
                    expected = "expected classes, integers, or another task_loss than cross-entropy"
                    raise ValueError(f"task.train has labels of {labels.dtype}: {expected}")
                kept: Any = slice(None)
                if self.task_loss is task_cross_entropy and (labels == IGNORED).any():
                    kept = labels != IGNORED  # where all samples that are drawn are left out, their mean loss is NaN
                self.memory.add(inputs[kept], labels[kept], len(self.classes))
        except BaseException:
            self.memory.load_state_dict(state_before)  # else these samples would count as those of the next task
            raise
        self.classes.append(None if task.classes is None else list(task.classes))

    def state_dict(self) -> dict[str, Any]:
        """The state: the samples, and the outputs of each task so far."""
        return {**super().state_dict(), "memory": self.memory.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
        check_state(state, self._form())
        device = next((parameter.device for parameter in self.model.parameters()), None)
        samples = {
            name: part.to(device) if name in SAMPLES and isinstance(part, Tensor) else part
            for name, part in state["memory"].items()
        }  # a checkpoint holds them on the CPU
        self.memory.load_state_dict(samples)  # first, as it may refuse its part
        super().load_state_dict(state)

    def _form(self) -> dict[str, Any]:
        return {**super()._form(), "memory": dict}
