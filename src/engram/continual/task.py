"""A task in a sequence, as a continual method sees it, and its loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset, IterableDataset

from engram import checks

TaskLoss = Callable[[Tensor, Tensor, Any], Tensor]  # of logits, labels, and the task's classes


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
            shuffled, since importances are measured on the first samples. Labels are classes, (samples,), or numbers of
            any shape, (samples, ...), for methods and losses that take these.
        classes: The outputs of the network that the task uses; None: all.

    Examples:
        >>> task = TaskData((torch.ones(8, 2), torch.tensor([0, 1] * 4)), classes=(0, 1))
    """

    train: Any
    classes: Sequence[int] | None = None


ORDERED = 32  # samples of two classes that are in order by chance less than once in 10^8
DATA = "expected a pair of tensors (inputs, labels), or batches of such pairs, such as a DataLoader"


def task_batches(task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    """The training data of a task as checked batches (inputs, labels): a single one if it is such a pair.

    Raises:
        TypeError: ``task`` has no ``train`` and ``classes``, for example because it is only the data; or ``train`` is
            neither a pair of tensors nor batches of such pairs.
        ValueError: There is no sample, not one label for each, or a class is not a single number.

    Examples:
        >>> [len(x) for x, y in task_batches(TaskData((torch.ones(8, 2), torch.arange(8))))]
        [8]
    """
    train = checks.instance("task", task, Task).train  # type: ignore[type-abstract]
    is_map_style = isinstance(train, Dataset) and not isinstance(train, IterableDataset)
    if is_map_style or isinstance(train, Tensor | np.ndarray | Mapping | str) or not hasattr(train, "__iter__"):
        raise TypeError(f"task.train is a {type(train).__name__}: {DATA}")
    is_single = isinstance(train, tuple) and not any(isinstance(part, tuple | list) for part in train)
    return _checked([train] if is_single or is_pair(train) else train)


def _checked(batches: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    count = 0
    for batch in batches:
        if not is_pair(batch):
            parts = ", ".join(type(part).__name__ for part in batch) if isinstance(batch, tuple | list) else ""
            kind = type(batch).__name__ + (f" ({parts})" if parts else "")
            raise TypeError(f"task.train holds a {kind}: {DATA}")
        inputs, labels = batch
        shapes = f"inputs of shape {tuple(inputs.shape)} and labels of shape {tuple(labels.shape)}"
        if not inputs.ndim or not labels.ndim or len(inputs) != len(labels):
            raise ValueError(f"task.train has {shapes}: expected (samples, ...), and one label for each")
        if labels.ndim != 1 and not labels.is_floating_point():
            raise ValueError(f"task.train has {shapes}: expected ({len(labels)},), a class for each sample")
        count += len(inputs)
        if len(inputs):
            yield inputs, labels
    if not count:
        raise ValueError("task.train holds no sample: expected at least one")


def first_samples(task: Task, n_samples: int | None) -> Iterator[tuple[Tensor, Tensor]]:
    """The first samples of a task's training data, as batches; warns if these are in the order of their classes.

    Args:
        task: The task.
        n_samples: Their number; None: all samples.
    """
    batches = task_batches(task)
    if n_samples is None:
        yield from batches
        return
    taken: list[Tensor] = []
    left = torch.empty(0)  # labels that are left out
    for inputs, labels in batches:
        remaining = n_samples - sum(map(len, taken))
        taken.append(labels[:remaining])
        yield inputs[:remaining], labels[:remaining]
        if len(labels) >= remaining:
            left = labels[remaining:]
            break
    measured = torch.cat(taken)
    if measured.ndim != 1 or len(measured) < ORDERED or (measured.diff() < 0).any():
        return
    if not len(left) and (following := next(batches, None)) is not None:
        left = following[1]
    has_classes = not is_pair(task.train) and task.classes is not None and len(task.classes) > 1
    if len(left) and (has_classes or measured[0] != measured[-1] or (left != measured[-1]).any()):
        message = f"task.train is in the order of its classes, and importances are measured on its first {n_samples}"
        warnings.warn(f"{message} samples, which do not represent it: shuffle it", stacklevel=3)


def is_pair(train: Any) -> bool:
    """Whether training data are a pair of tensors (inputs, labels), which a ``DataLoader`` gives as a list."""
    return isinstance(train, list | tuple) and len(train) == 2 and all(isinstance(part, Tensor) for part in train)


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
    active: Sequence[int] = range(logits.shape[1])
    if classes is not None:
        active = [checks.size("classes", label, 0, logits.shape[1] - 1) for label in classes]
        is_masked = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        is_masked[active] = False
        logits = logits.masked_fill(is_masked, -torch.inf)
    try:
        loss = functional.cross_entropy(logits, labels)
    except IndexError:  # of torch, for a label that is no output
        _refuse_others(labels, active)
        raise
    if classes is not None and checks.readable(loss) and not loss.isfinite():  # as for a label that is masked
        _refuse_others(labels, active)
    return loss


def _refuse_others(labels: Int[Tensor, " batch"], classes: Sequence[int]) -> None:
    """Raise ValueError if there is a label that is neither among the classes nor left out."""
    for label in set(labels.tolist()) - {*classes, IGNORED}:
        raise ValueError(f"labels hold {label}: expected classes among {[*classes]}") from None
