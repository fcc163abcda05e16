"""Students that learn one task after another: plainly, by rules against forgetting, or by a learned update."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram.analysis import ProbedTask, nmse
from engram.continual import (
    ContinualMethod,
    LwF,
    QuadraticPenalty,
    TaskData,
    fisher_diagonal,
    random_batches,
    train_on_tasks,
)
from engram.learned.updates import LearnedUpdate, UpdateRule
from engram.nn.initial import kaiming

Method = Literal["finetune", "frozen", "l2", "ewc", "lwf", "feature-lwf", "replay", "learned"]
HEAD_RATE, FIRST_RATE, TEMPERATURE = 1e-2, 1e-3, 2.0


class Setting(NamedTuple):
    """The hyperparameters chosen on validation pairs: the body's learning rate, and the strength of a method."""

    rate: float = FIRST_RATE
    strength: float = 1.0


class Schedule(NamedTuple):
    """The schedule of a task: steps, images in a batch, and the generator that draws the images."""

    steps: int
    batch_size: int
    generator: torch.Generator


class Student(NamedTuple):
    """A body, and either a head for each task so far or one that all tasks share."""

    body: nn.Module
    heads: list[nn.Linear]


def new_body(channels: int, size: int, units: int, generator: torch.Generator) -> nn.Sequential:
    """The untrained body: two convolutions, each with pooling, and a dense layer, without normalisation.

    Args:
        channels: Number of channels of each convolution.
        size: Side of the images in pixels.
        units: Number of units of the dense layer.
        generator: Source of the initial weights.
    """
    conv_1 = kaiming(nn.Conv2d, 1, channels, 3, padding=1, generator=generator)
    conv_2 = kaiming(nn.Conv2d, channels, channels, 3, padding=1, generator=generator)
    linear = kaiming(nn.Linear, channels * (size // 4) ** 2, units, generator=generator)
    modules = [conv_1, nn.ReLU(), nn.MaxPool2d(2), conv_2, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), linear, nn.ReLU()]
    return nn.Sequential(*modules)


def new_head(units: int, classes: int, generator: torch.Generator) -> nn.Linear:
    """An untrained readout; its weights are not zero, since that would give the body no initial gradient.

    Args:
        units: Number of features.
        classes: Number of outputs.
        generator: Source of the initial weights.
    """
    return kaiming(nn.Linear, units, classes, generator=generator)


def importance(student: Student, task: ProbedTask, generator: torch.Generator) -> dict[str, Tensor]:
    """The diagonal Fisher information of the body's parameters on the last task, by name.

    Args:
        student: The student.
        task: The task, of which the training images are used.
        generator: Draws the labels from which gradients are computed.
    """
    fisher = fisher_diagonal(network(student), [task.train], fisher="sample", generator=generator)
    return {name.removeprefix("0."): value for name, value in fisher.items() if name.startswith("0.")}


def learn(
    student: Student,
    task: ProbedTask,
    schedule: Schedule,
    *,
    body: Mapping[str, Any] | None,
    method: ContinualMethod | None = None,
    first_class: int = 0,
    old_head: nn.Module | None = None,
) -> None:
    """Train a student's body and last head on a task by Adam.

    Args:
        student: The student, whose network for the task is ``network(student)``.
        task: The task.
        schedule: The schedule.
        body: Options of Adam for the body; None keeps the body fixed.
        method: The method against forgetting.
        first_class: The index of the output for the task's first class.
        old_head: A further head, trained by the method's loss.
    """
    net = network(student)
    heads = [*student.heads[-1].parameters(), *(old_head.parameters() if old_head is not None else ())]
    groups: list[dict[str, Any]] = [{"params": heads, "lr": HEAD_RATE}]
    student.body.requires_grad_(body is not None)
    if body is not None:
        groups.append({"params": list(student.body.parameters()), **body})
    inputs, labels = task.train
    training = train_on_tasks(
        net,
        [TaskData((inputs, labels + first_class))],
        method or ContinualMethod(net),
        torch.optim.Adam(groups),
        steps=schedule.steps,
        draw=random_batches(schedule.batch_size, schedule.generator),
    )
    for _ in training:
        pass
    student.body.requires_grad_(True)


def network(student: Student) -> nn.Sequential:
    """The body with the last head."""
    return nn.Sequential(student.body, student.heads[-1])


def first_task(task: ProbedTask, body: nn.Module, head: nn.Linear, schedule: Schedule) -> Student:
    """The student after its first task.

    Args:
        task: The first task.
        body: The untrained body, which is copied.
        head: The untrained readout, which is copied.
        schedule: Number of steps, batch size and generator.
    """
    student = Student(copy.deepcopy(body), [copy.deepcopy(head)])
    learn(student, task, schedule, body={"lr": FIRST_RATE})
    return student


class Past(NamedTuple):
    """The past: the student, its last task, which only replay uses, and the importance over all tasks."""

    student: Student
    task: ProbedTask
    importance: dict[str, Tensor]


def next_task(
    method: Method,
    setting: Setting,
    past: Past,
    task: ProbedTask,
    head: nn.Linear | None,
    *,
    schedule: Schedule,
    first_class: int = 0,
    rule: UpdateRule | None = None,
    shots: int = 1,
) -> Student:
    """A copy of a student after learning the next task by a method.

    Args:
        method: Name of the method.
        setting: Its hyperparameters.
        past: The student before the task, and what it has learned.
        task: The next task.
        head: An untrained head for the task; None: the last head is used.
        schedule: The schedule.
        first_class: The index of the output for the task's first class.
        rule: The update rule of a learned update.
        shots: Images of each old class that replay keeps.
    """
    body, heads = copy.deepcopy(past.student.body), copy.deepcopy(past.student.heads)
    old_head = heads[-1]
    student = Student(body, heads if head is None else [*heads, copy.deepcopy(head)])
    learn(
        student,
        task,
        schedule,
        body=None if method == "frozen" else {"lr": setting.rate},
        method=method_of(method, setting.strength, student, past, rule=rule, shots=shots, generator=schedule.generator),
        first_class=first_class,
        old_head=old_head if method in ("lwf", "replay") else None,
    )
    return student


def method_of(
    method: Method,
    strength: float,
    student: Student,
    past: Past,
    *,
    rule: UpdateRule | None,
    shots: int,
    generator: torch.Generator,
) -> ContinualMethod:
    """The method that protects the old task while a student learns the next.

    Args:
        method: Name of the method.
        strength: Weight of its penalty.
        student: The student that learns.
        past: The student before the task, and what it has learned.
        rule: The update rule of a learned update.
        shots: Images of each old class that replay keeps.
        generator: Draws the replayed images.
    """
    net, old_head = network(student), student.heads[len(past.student.heads) - 1]
    match method:
        case "l2" | "ewc":
            penalty = QuadraticPenalty(student.body, strength / 2, applied="loss")
            ones = {name: torch.ones_like(value) for name, value in past.importance.items()}
            penalty.consolidate(ones if method == "l2" else past.importance)
            return penalty
        case "feature-lwf":
            return SameFeatures(student.body, past.student.body, strength)
        case "lwf":
            return SameAnswers(student.body, past, old_head, strength)
        case "replay":
            return FewReplayed(student.body, past.task, old_head, shots, generator)
        case "learned":
            update = LearnedUpdate(net, rule=rule, head="1")
            update.optimizer.consolidate([past.importance[name] for name, _ in student.body.named_parameters()])
            return update
        case _:
            return ContinualMethod(net)


class SameFeatures(ContinualMethod):
    """A penalty on changes of the features of the new task's images."""

    def __init__(self, body: nn.Module, old_body: nn.Module, strength: float) -> None:
        super().__init__(body)
        self.old_body, self.strength = old_body, strength

    def loss(self, x: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        """The penalty on the change of features."""
        return self.strength * nmse(self.model(x), self.old_body(x).detach())


class SameAnswers(ContinualMethod):
    """A penalty on changes of the old head's outputs for the new task's images; the old head is trained too."""

    def __init__(self, body: nn.Module, past: Past, head: nn.Module, strength: float) -> None:
        super().__init__(body)
        self.head = head
        self.lwf = LwF(network(past.student), strength * TEMPERATURE**2, temperature=TEMPERATURE)
        self.lwf.end_task(TaskData(past.task.train))

    def loss(self, x: Tensor, y: Tensor, logits: Tensor) -> Tensor | float:
        """The divergence between old and new outputs."""
        return self.lwf.loss(x, y, self.head(self.model(x)))


class FewReplayed(ContinualMethod):
    """Replay of the first few images of each old class through the old head."""

    def __init__(
        self, body: nn.Module, task: ProbedTask, head: nn.Module, shots: int, generator: torch.Generator
    ) -> None:
        super().__init__(body, generator=generator)
        images, labels = task.train
        rows = torch.cat([(labels == label).nonzero()[:shots, 0] for label in range(int(labels.max()) + 1)])
        self.head, self.images, self.labels = head, images[rows], labels[rows]

    def loss(self, x: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        """The cross-entropy on a batch of replayed images, as large as that of the new task."""
        batch = torch.randint(len(self.images), (len(x),), generator=self.generator)
        return functional.cross_entropy(self.head(self.model(self.images[batch])), self.labels[batch])
