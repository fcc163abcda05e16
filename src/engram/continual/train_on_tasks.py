"""The training loop of a network that learns tasks, one after another, with a continual method."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from engram import checks
from engram.continual.method import ContinualMethod
from engram.continual.task import Task, TaskLoss, is_pair
from engram.nn.modes import modes_of, training_modes

Draw = Callable[[Any, int], tuple[Tensor, Tensor]]  # from a task and the step within it to inputs and labels


class TrainingStep(NamedTuple):
    """A completed training step.

    Attributes:
        step: Its index over all tasks, from 0.
        task: The index of its task.
        loss: The task's loss on the batch, without the term that the method added.
        ends_task: Whether it was the last step of its task.
    """

    step: int
    task: int
    loss: Tensor
    ends_task: bool


def random_batches(batch_size: int, generator: torch.Generator) -> Draw:
    """A source of batches: samples of a task's training data, drawn with replacement.

    Args:
        batch_size: Samples in a batch, at least 1.
        generator: Draws the samples.

    Returns:
        A function of a task, whose ``train`` is a pair (inputs, labels), else TypeError, and of the step within it.

    Raises:
        ValueError: ``batch_size`` is below 1.

    Examples:
        >>> from engram.continual.task import TaskData
        >>> task = TaskData((torch.eye(3), torch.arange(3)))
        >>> x, y = random_batches(2, torch.Generator().manual_seed(0))(task, 0)
        >>> x.shape, y.shape
        (torch.Size([2, 3]), torch.Size([2]))
    """
    checks.size("batch_size", batch_size)
    checks.generator(generator)

    def draw(task: Task, step: int) -> tuple[Tensor, Tensor]:
        if not is_pair(task.train):
            raise TypeError(f"task.train is a {type(task.train).__name__}: expected a pair (inputs, labels)")
        inputs, labels = task.train
        rows = torch.randint(len(inputs), (batch_size,), generator=generator)
        return inputs[rows], labels[rows]

    return draw


def train_on_tasks(
    model: nn.Module,
    tasks: Sequence[Task],
    method: ContinualMethod,
    optimizer: Optimizer,
    *,
    steps: int | Sequence[int],
    draw: Draw,
    task_loss: TaskLoss | None = None,
    labelled: bool = False,
    loop: Iterable[int] | None = None,
) -> Iterator[TrainingStep]:
    """Train on tasks, one after another; each step is taken when the iterator is advanced.

    Submodules that are in evaluation mode when training starts, or are put into it between steps, stay so; a network
    that is wholly in evaluation mode, as after a test between steps, is put back.

    Args:
        model: The network, which returns logits, (batch, outputs).
        tasks: Each has ``train`` and ``classes``; see ``TaskData``.
        method: The method against forgetting, made with this network.
        optimizer: Optimiser of the network's parameters.
        steps: Steps on each task, at least 1: one number for all, or one for each.
        draw: Gives inputs and labels of a batch, for a task and the step within it, from 0; see ``random_batches``.
        task_loss: Function of logits, labels, and the task's ``classes``, also for the old samples that a method
            learns; None: that of the method, which is the cross-entropy as a rule.
        labelled: Whether the network is called with the labels too, as ``DHPSoftmax`` requires.
        loop: Indices of the steps to take; None: all. With an experiment's
            ``run.steps(total, model=model, method=method, optimizer=optimizer)``, training is resumed exactly.

    Yields:
        A ``TrainingStep`` for each step.

    Raises:
        TypeError: An argument has another type, or a task lacks ``train`` or ``classes``.
        ValueError: There is no task, or ``steps`` is out of range.

    Examples:
        >>> from engram.continual import EWC, TaskData
        >>> net, draws = nn.Linear(3, 4), torch.Generator().manual_seed(0)
        >>> tasks = [TaskData((torch.eye(3), torch.tensor(labels)), (0, 1)) for labels in ([0, 1, 0], [1, 0, 0])]
        >>> adam = torch.optim.Adam(net.parameters())
        >>> for step in train_on_tasks(net, tasks, EWC(net), adam, steps=5, draw=random_batches(2, draws)):
        ...     if step.ends_task:
        ...         print(f"task {step.task} ends with step {step.step}")
        task 0 ends with step 4
        task 1 ends with step 9
    """
    checks.instance("model", model, nn.Module)
    with checks.noted(tasks=tasks):
        for index, task in enumerate(tasks):
            checks.instance(f"tasks[{index}]", task, Task)  # type: ignore[type-abstract]
        count = len(tasks)
    with checks.noted(steps=steps):
        lengths = [steps] * count if isinstance(steps, int) else list(steps)
    if not count or len(lengths) != count:
        raise ValueError(f"{count} tasks and {len(lengths)} steps: expected at least one task, and steps for each")
    task_ends = list(accumulate(checks.size("steps", length) for length in lengths))
    checks.instance("method", method, ContinualMethod).attach(optimizer)
    if task_loss is not None:
        method.task_loss = task_loss

    def train() -> Iterator[TrainingStep]:
        modes = None
        for step in range(task_ends[-1]) if loop is None else loop:
            index = bisect_right(task_ends, step)
            task = tasks[index]
            x, y = draw(task, step - task_ends[index] + lengths[index])
            modes = training_modes(model, modes)
            logits = model(x, y) if labelled else model(x)
            loss = method.task_loss(logits, y, task.classes)
            optimizer.zero_grad()
            (loss + method.loss(x, y, logits)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            ends_task = step + 1 == task_ends[index]
            if ends_task:
                method.end_task(task)
                modes = modes_of(model)  # a method may put what it freezes into evaluation mode
            yield TrainingStep(step, index, loss.detach(), ends_task)

    return train()
