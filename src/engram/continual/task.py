"""A task in a sequence, as a continual method sees it, and its loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from engram import checks


@runtime_checkable
class Task(Protocol):
    """Any object with ``train`` and ``classes``, as in ``TaskData``; ``engram.tasks`` makes such tasks."""

    @property
    def train(self) -> Any:
        """Training data."""

    @property
    def classes(self) -> Sequence[int] | None:
        """The outputs of the network that the task uses."""


class TaskData(NamedTuple):
    """A task.

    Attributes:
        train: Training data: a pair of tensors (inputs, labels), or batches of such pairs, such as a ``DataLoader``;
            shuffled, since importances are measured on the first samples.
        classes: The outputs of the network that the task uses; None: all.

    Examples:
        >>> task = TaskData((torch.ones(8, 2), torch.tensor([0, 1] * 4)), classes=(0, 1))
    """

    train: Any
    classes: Sequence[int] | None = None


def task_batches(task: Task) -> Iterable[Any]:
    """The training data of a task as batches: a single one if it is a pair (inputs, labels).

    Raises:
        TypeError: ``task`` has no ``train`` and ``classes``, for example because it is only the data.

    Examples:
        >>> [len(x) for x, y in task_batches(TaskData((torch.ones(8, 2), torch.arange(8))))]
        [8]
    """
    checks.instance("task", task, Task)  # type: ignore[type-abstract]
    return [task.train] if is_pair(task.train) else task.train


def is_pair(train: Any) -> bool:
    """Whether training data are a pair (inputs, labels), which a ``DataLoader`` gives as a list, and not batches."""
    is_list = isinstance(train, list) and len(train) == 2 and all(isinstance(part, Tensor) for part in train)
    return is_list or isinstance(train, tuple)


IGNORED = -100  # the label that torch's cross-entropy leaves out


def task_cross_entropy(
    logits: Float[Tensor, "batch outputs"], labels: Int[Tensor, " batch"], classes: Sequence[int] | None = None
) -> Float[Tensor, ""]:
    """Cross-entropy of a softmax over the outputs of a task.

    Args:
        logits: (batch, outputs).
        labels: (batch,), each among ``classes``.
        classes: The task's outputs; None: all.

    Raises:
        ValueError: A class is not an output, or a label is neither among the classes nor -100, which is left out.

    Examples:
        >>> task_cross_entropy(torch.zeros(1, 4), torch.tensor([2]), classes=(2, 3))
        tensor(0.6931)
    """
    checks.arguments()
    if classes is not None:
        active = [checks.size("classes", label, 0, logits.shape[1] - 1) for label in classes]
        is_masked = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        is_masked[active] = False
        logits = logits.masked_fill(is_masked, -torch.inf)
    loss = functional.cross_entropy(logits, labels)
    if classes is not None and checks.readable(loss) and not loss.isfinite():  # as for a label that is masked
        for label in set(labels.tolist()) - {*active, IGNORED}:
            raise ValueError(f"labels hold {label}: expected classes among {active}")
    return loss
