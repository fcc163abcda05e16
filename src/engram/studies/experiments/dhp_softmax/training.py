"""Training on sequences of digit tasks, with either head and with any penalty or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from engram import registry
from engram.analysis import AccuracyMatrix
from engram.continual import (
    EWC,
    ContinualMethod,
    DHPSoftmax,
    QuadraticPenalty,
    TrainingStep,
    fisher_diagonal,
    train_on_tasks,
)
from engram.lab import Run, setting, settings
from engram.nn.initial import uniform
from engram.tasks import ClassificationTask, permuted, split
from engram.tasks.data import load

CLASSES = 10
RHO = 0.1  # share of the rarest class if classes are imbalanced
Penalty = Literal["none", "online-ewc", "si", "mas"]
PENALTIES: tuple[Penalty, ...] = ("online-ewc", "si", "mas")


@settings
class Training:
    """The settings of a trial; if digits are split, the softmax is over the two classes of a task."""

    tasks: Literal["split", "permuted", "imbalanced"] = setting(
        "split", "two digits per task, or all digits with permuted pixels"
    )
    images: Literal["mnist", "mnist-whole", "digits"] = setting(
        "mnist", "10,000 images of MNIST, all of MNIST, or small digits"
    )
    head: Literal["linear", "dhp"] = setting("linear", "last layer, without a bias")
    init: Literal["fan_in", "author"] = setting("author", "its initial bound: units^-1/2 or classes^-1/2")
    penalty: Penalty = setting("none", "the penalty on changes of the slow weights")
    strength: float = setting(0.0, "strength of the penalty", ge=0)
    strengths: tuple[float, ...] = setting((), "candidate strengths, extended if needed; none: strength")
    eta: float = setting(0.01, "initial rate of the class prototypes; not published", ge=0, le=1)
    learn_eta: bool = setting(True, "whether this rate is trained")
    detach_input: bool = setting(False, "whether lower layers treat prototypes as constants")
    alpha_scale: float = setting(0.01, "initial scale of the plasticity coefficients; at 0 they are frozen", ge=0)
    alpha_rate: float = setting(1.0, "learning rate of these coefficients, relative to all others", gt=0)
    units: int = setting(256, "units of each of the two hidden layers", ge=1)
    learning_rate: float = setting(0.01, "learning rate of plain gradient descent", gt=0)
    epochs: int = setting(10, "passes over the images of a task", ge=1)
    batch_size: int = setting(64, "images in a batch", ge=1)
    permutations: int = setting(10, "tasks of permuted pixels", ge=2)
    train_images: int = setting(
        8000,
        "training images of all tasks together if split, or of each permutation; at most two thirds of all images, or "
        "all but 10,000",
        ge=100,
        le=60_000,
    )
    test_images: int = setting(2000, "test images", ge=100, le=10_000)
    measured: int = setting(400, "images of a task from which importances are estimated", ge=1)


class Classifier(nn.Module):
    """Two ReLU layers and a head, which takes the labels if it is plastic."""

    def __init__(self, config: Training, features: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = (features, config.units, config.units)
        layers = [uniform(nn.Linear, *pair, generator=generator) for pair in pairwise(sizes)]
        self.body = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU())
        # Drawn identically for all heads, which then differ only in scale.
        bound = (config.units if config.init == "fan_in" else CLASSES) ** -0.5
        theta = uniform(nn.Linear, config.units, CLASSES, bound=bound, bias=False, generator=generator)
        self.head: nn.Linear | DHPSoftmax = theta
        if config.head == "dhp":
            fields = ("eta", "learn_eta", "alpha_scale", "init", "detach_input")
            options: dict[str, Any] = {name: getattr(config, name) for name in fields}
            self.head = DHPSoftmax(config.units, CLASSES, **options, generator=generator)
            self.head.alpha.requires_grad_(config.alpha_scale > 0)
            self.head.weight.data.copy_(theta.weight.data)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The logits; labels, if given, update the prototypes."""
        features = self.body(x)
        logits: Tensor = self.head(features, y) if isinstance(self.head, DHPSoftmax) else self.head(features)
        return logits


@cache
def load_images(source: str) -> tuple[Tensor, Tensor]:
    """All images as rows, scaled to 0 to 1, and their labels."""
    if source == "digits":
        pixels, labels = load_digits(return_X_y=True)
        return torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    splits = ["test"] if source == "mnist" else ["train", "test"]
    data_sets = [load("mnist", split=name) for name in splits]
    pixels = np.concatenate([part.images for part in data_sets]).reshape(-1, 784)
    labels = np.concatenate([part.labels for part in data_sets])
    return torch.tensor(pixels, dtype=torch.float32) / 255, torch.tensor(labels, dtype=torch.int64)


def trained_on(config: Training, images: int) -> int:
    """The number of training images, out of all."""
    return min(config.train_images, max(images * 2 // 3, images - 10_000))


def memory(config: Training) -> float:
    """The bytes that a trial needs: all images, those of the split, and their copies in each permutation."""
    images, features = {"mnist": (10_000, 784), "mnist-whole": (70_000, 784), "digits": (1797, 64)}[config.images]
    copies = 2 if config.tasks == "split" else 1 + config.permutations
    split_off = trained_on(config, images) + config.test_images
    return 0.5e9 + 4.0 * features * (images + copies * min(split_off, images))


def sequence(config: Training, generator: torch.Generator, *, validating: bool = False) -> list[ClassificationTask]:
    """The tasks of a trial, with a random split into training and test images.

    If ``validating``, the last quarter of the training images takes the place of the test images.

    Args:
        config: The settings.
        generator: Source of the split and of the permutations.
        validating: Whether to test on training images.
    """
    images, labels = load_images(config.images)
    order = torch.randperm(len(images), generator=generator)
    cut = trained_on(config, len(order))
    index_sets = order[:cut], order[cut:][: config.test_images]
    if validating:
        index_sets = order[: cut * 3 // 4], order[cut * 3 // 4 : cut]
    train, test = ((images[part], labels[part]) for part in index_sets)
    if config.tasks == "split":
        return split(train, test)
    imbalance = RHO if config.tasks == "imbalanced" else None
    return permuted(train, test, config.permutations, generator, imbalance=imbalance)


def method_of(config: Training, net: Classifier) -> ContinualMethod:
    """The penalty on the slow weights, estimated from the first images of a task, whose order is random."""
    if config.penalty == "none":
        return ContinualMethod(net)
    options = {} if config.penalty == "si" else {"n_samples": config.measured}
    method: ContinualMethod = registry.get("continual_methods", config.penalty)(net, config.strength, **options)
    return method


class Learner:
    """A network and its training on one task after another.

    Args:
        config: The settings.
        tasks: The tasks.
        generator: Draws the initial weights.
        rng: Draws the order of images.
    """

    def __init__(
        self, config: Training, tasks: list[ClassificationTask], generator: torch.Generator, rng: np.random.Generator
    ) -> None:
        self.tasks, self.batch_size, self.rng = tasks, config.batch_size, rng
        self.net = net = Classifier(config, tasks[0].train.inputs.shape[1], generator)
        fast = [net.head.alpha] if isinstance(net.head, DHPSoftmax) else []
        slow = [p for p in net.parameters() if not any(p is alpha for alpha in fast)]
        groups: list[dict[str, Any]] = [{"params": slow}]
        if fast:
            groups += [{"params": fast, "lr": config.alpha_rate * config.learning_rate}]
        self.optimizer = torch.optim.SGD(groups, lr=config.learning_rate)
        self.method = method_of(config, net)
        self.steps = [config.epochs * self.batches(task) for task in tasks]
        self.order = np.zeros(max(len(task.train.labels) for task in tasks), np.int64)

    def batches(self, task: ClassificationTask) -> int:
        """The number of batches in a pass over the images of a task."""
        return max(1, len(task.train.labels) // self.batch_size)

    def draw(self, task: ClassificationTask, step: int) -> tuple[Tensor, Tensor]:
        """The images and labels of a batch; images are put in a new order at each pass."""
        images, batch = len(task.train.labels), step % self.batches(task)
        if batch == 0:
            self.order[:images] = self.rng.permutation(images)
        rows = torch.from_numpy(self.order[:images][batch * self.batch_size :][: self.batch_size])
        return task.train.inputs[rows], task.train.labels[rows]

    def training(self, loop: Iterable[int] | None = None) -> Iterator[TrainingStep]:
        """Train, a step whenever the iterator is advanced."""
        options: dict[str, Any] = {"steps": self.steps, "draw": self.draw, "task_loss": task_loss, "labelled": True}
        return train_on_tasks(self.net, self.tasks, self.method, self.optimizer, **options, loop=loop)


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Train on one task after another; the main result is the mean accuracy on all tasks after the last one."""
    seeds = torch.randint(2**62, (2,), generator=run.generator).tolist()  # the same in all arms

    def score(strength: float) -> float:
        of_data, of_network = (torch.Generator().manual_seed(seed) for seed in seeds)
        tasks, rng = sequence(config, of_data, validating=True), np.random.default_rng(seeds[1])
        tried = Learner(replace(config, strength=strength), tasks, of_network, rng)
        for step in tried.training():
            run.beat(f"candidate: {step.step / sum(tried.steps):.0%}")
        return float(np.mean([accuracy(tried.net, task) for task in tasks]))

    if config.strengths:
        config = replace(config, strength=run.choose("strength", config.strengths, score))
    of_data, of_network = (torch.Generator().manual_seed(seed) for seed in seeds)
    tasks = sequence(config, of_data)
    learner = Learner(config, tasks, of_network, run.rng)
    net, total, matrix = learner.net, sum(learner.steps), np.full((len(tasks), len(tasks)), np.nan)
    state = {"net": net, "optimizer": learner.optimizer, "method": learner.method, "order": learner.order}
    for step, number, loss, ends_task in learner.training(run.steps(total, **state, matrix=matrix)):
        run.log(step + 1, every=max(1, total // 100), loss=loss)
        if ends_task:
            matrix[number, : number + 1] = [accuracy(net, task) for task in tasks[: number + 1]]
            run.log(step + 1, accuracy=float(np.nanmean(matrix[number])))
    run.keep(net=net)
    accuracies = AccuracyMatrix(matrix)
    weights = torch.cat([p.detach().flatten() for p in (*net.body.parameters(), net.head.weight)])
    result: dict[str, Any] = {
        "accuracy": accuracies.average_accuracy(),
        "forgetting": accuracies.forgetting(),
        "learning_accuracy": accuracies.learning_accuracy(),
        "matrix": np.where(np.isnan(matrix), -1, matrix).tolist(),
        "weights": float(weights.double().sum()),
    }
    if isinstance(net.head, DHPSoftmax):
        share = (net.head.alpha * net.head.trace).norm() / net.head.weight.norm()
        result |= {"eta": net.head.eta.clamp(0, 1).item(), "plastic_share": share.item()}
    return result


def task_loss(logits: Tensor, labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    """The cross-entropy over the classes of a task.

    Args:
        logits: The outputs for all classes, (batch, classes).
        labels: The class of each image, (batch,).
        classes: The classes of the task, in ascending order.
    """
    return functional.cross_entropy(logits[:, list(classes)], torch.searchsorted(torch.tensor(classes), labels))


@torch.no_grad()
def accuracy(net: Classifier, task: ClassificationTask) -> float:
    """The accuracy among the classes of a task."""
    net.eval()
    classes = torch.tensor(task.classes)
    answers = classes[net(task.test.inputs)[:, classes].argmax(1)]
    return float((answers == task.test.labels).float().mean())


def exactness(config: Training, run: Run) -> dict[str, Any]:
    """Compare EWC's merged penalty with the sum of one penalty per task during training."""
    tasks = sequence(config, run.generator)
    tasks = [task._replace(train=task.train._replace(inputs=task.train.inputs.double())) for task in tasks]
    net = Classifier(config, tasks[0].train.inputs.shape[1], run.generator).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate)
    merged, gaps = EWC(net, config.strength, n_samples=config.measured), np.zeros(len(tasks))
    separate: list[QuadraticPenalty] = []
    for number, task in enumerate(tasks):
        for rows in torch.split(torch.arange(len(task.train.labels)), config.batch_size):
            net.train()
            inputs, labels = task.train.inputs[rows], task.train.labels[rows]
            optimizer.zero_grad()
            task_loss(net(inputs, labels), labels, task.classes).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if separate:
            pair = merged.penalty(), torch.stack([penalty.penalty() for penalty in separate]).sum()
            grads = [torch.cat([g.flatten() for g in torch.autograd.grad(p, list(net.parameters()))]) for p in pair]
            gaps[number] = max(((a - b).norm() / b.norm()).item() for a, b in (pair, grads))
        merged.end_task(task)
        separate.append(QuadraticPenalty(net, config.strength))
        separate[-1].consolidate(fisher_diagonal(net, [task.train], n_samples=config.measured, classes=task.classes))
        run.log(number + 1, gap=gaps[number])
    return {"gap": float(gaps.max())}
