"""Students that learn one task after another: plainly, by rules against forgetting, or by a learned update."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram.analysis import ProbedTask, nmse
from engram.continual import LwF, QuadraticPenalty, fisher_diagonal
from engram.learned.updates import LearnedOptimizer, UpdateRule
from engram.nn.initial import kaiming

Method = Literal["finetune", "frozen", "l2", "ewc", "lwf", "feature-lwf", "replay", "learned"]
HEAD_RATE, FIRST_RATE, TEMPERATURE = 1e-2, 1e-3, 2.0
Extra = Callable[[Tensor], Tensor]


class Setting(NamedTuple):
    """What is chosen on validation pairs: the body's learning rate, and how strongly a rule holds on to the old."""

    rate: float = FIRST_RATE
    strength: float = 1.0


class Course(NamedTuple):
    """How a task is learned: steps, images in a batch, and what draws them."""

    steps: int
    batch_size: int
    generator: torch.Generator


class Student(NamedTuple):
    """A body, and a head for each task so far; or, shared by all tasks, one."""

    body: nn.Module
    heads: list[nn.Linear]


def new_body(channels: int, size: int, units: int, generator: torch.Generator) -> nn.Sequential:
    """Return the untrained body: two convolutions, each with pooling, and a layer of units; nothing normalises."""
    conv_1 = kaiming(nn.Conv2d, 1, channels, 3, padding=1, generator=generator)
    conv_2 = kaiming(nn.Conv2d, channels, channels, 3, padding=1, generator=generator)
    linear = kaiming(nn.Linear, channels * (size // 4) ** 2, units, generator=generator)
    parts = [conv_1, nn.ReLU(), nn.MaxPool2d(2), conv_2, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), linear, nn.ReLU()]
    return nn.Sequential(*parts)


def new_head(units: int, classes: int, generator: torch.Generator) -> nn.Linear:
    """Return an untrained read-out; it is not zero, which would give the body no gradient at first."""
    return kaiming(nn.Linear, units, classes, generator=generator)


def importance(student: Student, task: ProbedTask, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the diagonal of Fisher's information on the last task, of the body's parameters by name."""
    net = nn.Sequential(student.body, student.heads[-1])
    found = fisher_diagonal(net, [task.train], fisher="sample", generator=generator)
    return {name.removeprefix("0."): value for name, value in found.items() if name.startswith("0.")}


def learn(
    student: Student,
    task: ProbedTask,
    moving: torch.optim.Optimizer | None,
    course: Course,
    *,
    first_class: int = 0,
    extra: Extra | None = None,
    further: nn.Module | None = None,
) -> None:
    """Train a student's body, by its optimiser, and its last head, by Adam, on a task; None: the body stays.

    Args:
        student: The student.
        task: The task.
        moving: Optimiser of the body.
        course: How.
        first_class: The output of the task's first class.
        extra: A further loss of the images of a batch.
        further: A head that this loss trains as well.
    """
    images, labels = task.train[0], task.train[1] + first_class
    head = student.heads[-1]
    trained = [*head.parameters(), *(further.parameters() if further is not None else ())]
    optimizers = [torch.optim.Adam(trained, HEAD_RATE), *([moving] if moving is not None else [])]
    for _ in range(course.steps):
        batch = torch.randint(len(images), (course.batch_size,), generator=course.generator)
        features = student.body(images[batch])
        loss = functional.cross_entropy(head(features if moving is not None else features.detach()), labels[batch])
        if extra is not None:
            loss = loss + extra(images[batch])
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()


def first_task(task: ProbedTask, body: nn.Module, head: nn.Linear, course: Course) -> Student:
    """Return the student that learned its first task, by Adam."""
    student = Student(copy.deepcopy(body), [copy.deepcopy(head)])
    learn(student, task, torch.optim.Adam(student.body.parameters(), FIRST_RATE), course)
    return student


class Old(NamedTuple):
    """What there is of the past: the student, its last task, which replay alone looks at, and all tasks' importance."""

    student: Student
    task: ProbedTask
    importance: dict[str, Tensor]


def next_task(
    method: Method,
    setting: Setting,
    old: Old,
    task: ProbedTask,
    head: nn.Linear | None,
    *,
    course: Course,
    first_class: int = 0,
    rule: UpdateRule | None = None,
    shots: int = 1,
) -> Student:
    """Return a copy of a student that went on to learn the next task by a method; with no new head, by the last."""
    body, heads = copy.deepcopy(old.student.body), copy.deepcopy(old.student.heads)
    student = Student(body, heads if head is None else [*heads, copy.deepcopy(head)])
    extra, further = _extra(method, setting.strength, student, old, course=course, shots=shots)
    moving: torch.optim.Optimizer | None = None
    if method == "learned":
        learned = LearnedOptimizer(body.parameters(), rule=rule)
        learned.consolidate([old.importance[name] for name, _ in body.named_parameters()])
        moving = learned
    elif method != "frozen":
        moving = torch.optim.Adam(body.parameters(), setting.rate)
    learn(student, task, moving, course, first_class=first_class, extra=extra, further=further)
    return student


def _extra(
    method: Method, strength: float, student: Student, old: Old, *, course: Course, shots: int
) -> tuple[Extra | None, nn.Module | None]:
    """Return the loss by which a method holds on to the old task, and the head that it trains as well."""
    body, before, head = student.body, old.student.body, student.heads[len(old.student.heads) - 1]
    if method in ("l2", "ewc"):
        penalty = QuadraticPenalty(body, strength / 2)
        ones = {name: torch.ones_like(value) for name, value in old.importance.items()}
        penalty.consolidate(ones if method == "l2" else old.importance)
        return lambda images: penalty.penalty(), None
    if method == "feature-lwf":
        return lambda images: strength * nmse(body(images), before(images).detach()), None
    if method == "lwf":
        lwf = LwF(nn.Sequential(before, old.student.heads[-1]), strength * TEMPERATURE**2, temperature=TEMPERATURE)
        lwf.consolidate()
        return lambda images: lwf.penalty(images, head(body(images))), head
    if method == "replay":
        images, labels = old.task.train
        rows = torch.cat([(labels == label).nonzero()[:shots, 0] for label in range(int(labels.max()) + 1)])
        kept, known = images[rows], labels[rows]

        def replayed(images: Tensor) -> Tensor:
            batch = torch.randint(len(kept), (course.batch_size,), generator=course.generator)
            return functional.cross_entropy(head(body(kept[batch])), known[batch])

        return replayed, head
    return None, None
