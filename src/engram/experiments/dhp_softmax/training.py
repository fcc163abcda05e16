"""Trials of sequences of digits: a network with either head, and with either penalty or none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from engram import registry
from engram.analysis import AccuracyMatrix
from engram.continual import EWC, ContinualMethod, DHPSoftmax, QuadraticPenalty, fisher_diagonal, train_on_tasks
from engram.lab import Run
from engram.nn.initial import uniform
from engram.tasks import ClassificationTask, permuted, split
from engram.tasks.data import load

CLASSES = 10
RHO = 0.1  # share of the rarest class, where classes are imbalanced
Penalty = Literal["none", "online-ewc", "si", "mas"]
PENALTIES: tuple[Penalty, ...] = ("online-ewc", "si", "mas")


@dataclass(frozen=True)
class Training:
    """What one trial is made of."""

    tasks: Literal["split", "permuted", "imbalanced"] = "split"
    """Two digits a task, with a softmax over these two; or all of them, under a permutation each, perhaps imbalanced.
    """
    images: Literal["mnist", "mnist-whole", "digits"] = "mnist"
    """MNIST's 10,000 test images, all of MNIST, or scikit-learn's small digits, which need no download."""
    head: Literal["linear", "dhp"] = "linear"
    """The last layer; neither has a bias."""
    init: Literal["fan_in", "author"] = "author"
    """Its initial scale: that of ``nn.Linear``, or the published one, larger by the root of units over classes."""
    penalty: Penalty = "none"
    """What holds the slow weights."""
    strength: Annotated[float, Ge(0)] = 0.0
    """Of the penalty."""
    eta: Annotated[float, Ge(0), Le(1)] = 0.01
    """Initial rate of the class prototypes; not published."""
    alpha_scale: Annotated[float, Ge(0)] = 0.01
    """Initial scale of the plasticity coefficients; at 0 they are frozen."""
    alpha_rate: Annotated[float, Gt(0)] = 1.0
    """Learning rate of the plasticity coefficients, as a multiple of the others'."""
    units: Annotated[int, Ge(1)] = 256
    """Units of each of the two hidden layers."""
    learning_rate: Annotated[float, Gt(0)] = 0.01
    """Of plain gradient descent."""
    epochs: Annotated[int, Ge(1)] = 10
    """Passes over the images of a task."""
    batch_size: Annotated[int, Ge(1)] = 64
    """Images in a batch."""
    permutations: Annotated[int, Ge(2)] = 10
    """Tasks of permuted pixels."""
    train_images: Annotated[int, Ge(100), Le(60_000)] = 8000
    """Images to learn from, of all tasks of a split, or of each permutation."""
    test_images: Annotated[int, Ge(100), Le(10_000)] = 2000
    """Images to be tested on."""
    measured: Annotated[int, Ge(1)] = 400
    """Images of a task that importances are measured with."""


class Classifier(nn.Module):
    """Two rectified layers and a head, which hears the labels where it is plastic."""

    def __init__(self, config: Training, features: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = (features, config.units, config.units)
        layers = [uniform(nn.Linear, *pair, generator=generator) for pair in pairwise(sizes)]
        self.body = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU())
        # Drawn alike for all heads, which then differ by the scale alone.
        bound = (config.units if config.init == "fan_in" else CLASSES) ** -0.5
        theta = uniform(nn.Linear, config.units, CLASSES, bound=bound, bias=False, generator=generator)
        self.head: nn.Linear | DHPSoftmax = theta
        if config.head == "dhp":
            options: dict[str, Any] = {"eta": config.eta, "alpha_scale": config.alpha_scale, "init": config.init}
            self.head = DHPSoftmax(config.units, CLASSES, **options, generator=generator)
            self.head.alpha.requires_grad_(config.alpha_scale > 0)
            self.head.weight.data.copy_(theta.weight.data)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the logits; with labels, train the prototypes."""
        features = self.body(x)
        answer: Tensor = self.head(features, y) if isinstance(self.head, DHPSoftmax) else self.head(features)
        return answer


@cache
def loaded(source: str) -> tuple[Tensor, Tensor]:
    """Return all images as rows of numbers from 0 to 1, and their digits."""
    if source == "digits":
        pixels, labels = load_digits(return_X_y=True)
        return torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    splits = ["test"] if source == "mnist" else ["train", "test"]
    parts = [load("mnist", split=one) for one in splits]
    pixels = np.concatenate([part.images for part in parts]).reshape(-1, 784)
    labels = np.concatenate([part.labels for part in parts])
    return torch.tensor(pixels, dtype=torch.float32) / 255, torch.tensor(labels, dtype=torch.int64)


def sequence(config: Training, generator: torch.Generator) -> list[ClassificationTask]:
    """Return the tasks of a trial: which images are learned and which are tested is drawn."""
    images, labels = loaded(config.images)
    order = torch.randperm(len(images), generator=generator)
    cut = min(config.train_images, len(order) * 2 // 3)
    parts = order[:cut], order[cut:][: config.test_images]
    train, test = ((images[part], labels[part]) for part in parts)
    if config.tasks == "split":
        return split(train, test)
    return permuted(
        train, test, config.permutations, generator, imbalance=RHO if config.tasks == "imbalanced" else None
    )


def method_of(config: Training, net: Classifier) -> ContinualMethod:
    """What holds the slow weights, measured with the first images of a task; their order is random."""
    if config.penalty == "none":
        return ContinualMethod(net)
    options = {} if config.penalty == "si" else {"n_samples": config.measured}
    method: ContinualMethod = registry.get("continual_methods", config.penalty)(net, config.strength, **options)
    return method


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Learn one task after another; the result is the accuracy on all tasks after the last one."""
    seeds = torch.randint(2**62, (2,), generator=run.generator)  # the same in all arms
    of_data, of_network = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
    tasks = sequence(config, of_data)
    net = Classifier(config, tasks[0].train.inputs.shape[1], of_network)
    fast = [net.head.alpha] if isinstance(net.head, DHPSoftmax) else []
    slow = [p for p in net.parameters() if not any(p is one for one in fast)]
    groups: list[dict[str, Any]] = [{"params": slow}]
    if fast:
        groups += [{"params": fast, "lr": config.alpha_rate * config.learning_rate}]
    optimizer = torch.optim.SGD(groups, lr=config.learning_rate)
    method = method_of(config, net)
    batches = [max(1, len(task.train.labels) // config.batch_size) for task in tasks]
    steps = [config.epochs * number for number in batches]
    matrix, total = np.full((len(tasks), len(tasks)), np.nan), sum(steps)
    order = np.zeros(max(len(task.train.labels) for task in tasks), np.int64)

    def draw(task: ClassificationTask, step: int) -> tuple[Tensor, Tensor]:
        images = len(task.train.labels)
        at = step % max(1, images // config.batch_size)
        if at == 0:
            order[:images] = run.rng.permutation(images)
        rows = torch.from_numpy(order[:images][at * config.batch_size :][: config.batch_size])
        return task.train.inputs[rows], task.train.labels[rows]

    loop = run.steps(total, net=net, optimizer=optimizer, method=method, matrix=matrix, order=order)
    options: dict[str, Any] = {"steps": steps, "draw": draw, "task_loss": task_loss, "labelled": True, "loop": loop}
    for step, number, loss, ends_task in train_on_tasks(net, tasks, method, optimizer, **options):
        run.log(step + 1, every=max(1, total // 100), loss=loss)
        if ends_task:
            matrix[number, : number + 1] = [accuracy(net, task) for task in tasks[: number + 1]]
            run.log(step + 1, accuracy=float(np.nanmean(matrix[number])))
    found = AccuracyMatrix(matrix)
    weights = torch.cat([p.detach().flatten() for p in (*net.body.parameters(), net.head.weight)])
    result: dict[str, Any] = {
        "accuracy": found.average_accuracy(),
        "forgetting": found.forgetting(),
        "learning_accuracy": found.learning_accuracy(),
        "matrix": np.where(np.isnan(matrix), -1, matrix).tolist(),
        "weights": float(weights.double().sum()),
    }
    if isinstance(net.head, DHPSoftmax):
        share = (net.head.alpha * net.head.trace).norm() / net.head.weight.norm()
        result |= {"eta": net.head.eta.clamp(0, 1).item(), "plastic_share": share.item()}
    return result


def task_loss(logits: Tensor, labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    """The cross-entropy over the classes of a task."""
    return functional.cross_entropy(logits[:, list(classes)], torch.searchsorted(torch.tensor(classes), labels))


@torch.no_grad()
def accuracy(net: Classifier, task: ClassificationTask) -> float:
    """Return the share of right answers among the classes of a task."""
    net.eval()
    classes = torch.tensor(task.classes)
    answers = classes[net(task.test.inputs)[:, classes].argmax(1)]
    return float((answers == task.test.labels).float().mean())


def exactness(config: Training, run: Run) -> dict[str, Any]:
    """Hold the merged penalty of EWC to the sum of a penalty for each task, while a network moves on."""
    tasks = [in_double(task) for task in sequence(config, run.generator)]
    net = Classifier(config, tasks[0].train.inputs.shape[1], run.generator).double()
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate)
    merged, gaps = EWC(net, config.strength, n_samples=config.measured), np.zeros(len(tasks))
    each: list[QuadraticPenalty] = []
    for number, task in enumerate(tasks):
        for rows in torch.split(torch.arange(len(task.train.labels)), config.batch_size):
            net.train()
            inputs, labels = task.train.inputs[rows], task.train.labels[rows]
            optimizer.zero_grad()
            task_loss(net(inputs, labels), labels, task.classes).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if each:
            both = merged.penalty(), torch.stack([one.penalty() for one in each]).sum()
            grads = [torch.cat([g.flatten() for g in torch.autograd.grad(p, list(net.parameters()))]) for p in both]
            gaps[number] = max(((a - b).norm() / b.norm()).item() for a, b in (both, grads))
        merged.end_task(task)
        each.append(QuadraticPenalty(net, config.strength))
        each[-1].consolidate(fisher_diagonal(net, [task.train], n_samples=config.measured, classes=task.classes))
        run.log(number + 1, gap=gaps[number])
    return {"gap": float(gaps.max())}


def in_double(task: ClassificationTask) -> ClassificationTask:
    """Return a task with inputs to learn from in double precision."""
    return task._replace(train=task.train._replace(inputs=task.train.inputs.double()))


def seconds(config: Training) -> float:
    """Return how long a trial takes."""
    tasks, images = (1, config.train_images) if config.tasks == "split" else (config.permutations, config.train_images)
    features = 64 if config.images == "digits" else 784
    weights = (features + config.units) * config.units
    return 0.5 + tasks * images * config.epochs / config.batch_size * (3e-4 + 8e-11 * config.batch_size * weights)
