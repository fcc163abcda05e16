"""Sequences of classification tasks from labelled data: permuted, split, or one data set after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from engram import checks


class Labelled(NamedTuple):
    """Samples and their classes."""

    inputs: Float[Tensor, "_samples ..."]
    labels: Int[Tensor, " _samples"]


class ClassificationTask(NamedTuple):
    """One task of a sequence.

    Attributes:
        train: Samples to learn from.
        test: Samples to be tested with.
        classes: The outputs of the task, which contain all labels.
    """

    train: Labelled
    test: Labelled
    classes: tuple[int, ...]


def permuted(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    n_tasks: int,
    generator: torch.Generator,
    *,
    permute_first: bool = True,
    imbalance: float | None = None,
) -> list[ClassificationTask]:
    """Tasks with the same samples, each with the features in a different random order.

    Args:
        train: Training inputs, (samples, ...), and classes from 0, (samples,).
        test: Test inputs, (samples, ...), and classes from 0, (samples,).
        n_tasks: Number of tasks.
        generator: Draws the orders, and the samples to keep.
        permute_first: Whether the first task is permuted too.
        imbalance: rho, above 0 and at most 1: each task has a random order of its d classes and a fraction
            rho^(r / (d - 1)) of the training samples of the r-th, counted from 0, at least one. None: all samples.

    Returns:
        Tasks of inputs (samples, features) with all the classes.

    Raises:
        ValueError: An argument is out of range, or inputs and labels do not match.

    Source: Goodfellow et al., "An empirical investigation of catastrophic forgetting in gradient-based neural networks"
    (2013); the imbalance is that of Thangarasa, Miconi and Taylor (2020), whose shares are not published.

    Examples:
        >>> data = torch.eye(4), torch.tensor([0, 1, 0, 1])
        >>> tasks = permuted(data, data, 2, torch.Generator().manual_seed(0), permute_first=False)
        >>> len(tasks), tasks[0].classes, tasks[0].train.inputs.equal(torch.eye(4))
        (2, (0, 1), True)
    """
    checks.arguments()
    sets = [_checked("train", train), _checked("test", test)]
    flat = [Labelled(data.inputs.flatten(1), data.labels) for data in sets]
    features = flat[0].inputs.shape[1]
    if flat[1].inputs.shape[1] != features:
        raise ValueError(f"test has {flat[1].inputs.shape[1]} features: expected {features}, those of train")
    checks.generator(generator)
    if imbalance is not None:
        checks.number("imbalance", imbalance, above=0, maximum=1)
    n_classes = 1 + max(int(data.labels.max()) for data in sets)
    tasks = []
    for number in range(checks.size("n_tasks", n_tasks)):
        order = torch.arange(features) if number == 0 and not permute_first else _order(features, generator)
        rows = torch.arange(len(flat[0].labels))
        if imbalance is not None:
            rows = _imbalanced(flat[0].labels, n_classes, imbalance, generator)
        training = Labelled(flat[0].inputs[rows][:, order], flat[0].labels[rows])
        testing = Labelled(flat[1].inputs[:, order], flat[1].labels)
        tasks.append(ClassificationTask(training, testing, (*range(n_classes),)))
    return tasks


def split(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    groups: Sequence[Sequence[int]] = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9)),
) -> list[ClassificationTask]:
    """A task for each group of classes.

    Args:
        train: Training inputs, (samples, ...), and classes from 0, (samples,).
        test: Test inputs, (samples, ...), and classes from 0, (samples,).
        groups: The classes of each task.

    Raises:
        ValueError: A class is in two groups, or has no sample, or inputs and labels do not match.

    Source: Zenke, Poole and Ganguli, "Continual learning through synaptic intelligence" (2017), section 5.1.

    Examples:
        >>> data = torch.eye(4), torch.tensor([0, 1, 2, 3])
        >>> [task.train.labels.tolist() for task in split(data, data, [(0, 3), (1, 2)])]
        [[0, 3], [1, 2]]
    """
    checks.arguments()
    sets = [_checked("train", train), _checked("test", test)]
    classes = [checks.size("groups", label, minimum=0) for group in groups for label in group]
    if not classes or len(set(classes)) != len(classes) or not all(len(group) for group in groups):
        raise ValueError(f"groups = {groups!r}: expected groups of classes, each class in one of them")
    for name, data in zip(("train", "test"), sets, strict=True):
        if absent := set(classes) - set(data.labels.tolist()):
            raise ValueError(f"groups contain class {min(absent)}: expected classes of which {name} has a sample")
    tasks = []
    for group in groups:
        rows = [torch.isin(data.labels, data.labels.new_tensor(list(group))) for data in sets]
        labelled = [Labelled(data.inputs[row], data.labels[row]) for data, row in zip(sets, rows, strict=True)]
        tasks.append(ClassificationTask(labelled[0], labelled[1], tuple(group)))
    return tasks


def mixture(
    data_sets: Sequence[tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]],
) -> list[ClassificationTask]:
    """A task for each data set of images, with its own outputs.

    Images are padded with 0 to the size of the largest, grey images are repeated to three channels if any set has
    three, and each set's channels are then scaled to mean 0 and variance 1 over its training samples.

    Args:
        data_sets: For each set, the training and the test samples: images, (samples, channels, height, width) or
            (samples, height, width), and classes from 0.

    Raises:
        ValueError: There is no set, images have neither one channel nor three, or images and labels do not match.

    Source: the "vision datasets mixture" of Thangarasa, Miconi and Taylor (2020); the preparation is ours.

    Examples:
        >>> data = torch.rand(4, 2, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])
        >>> [task.classes for task in mixture([(data, data), (data, data)])]
        [(0, 1, 2), (3, 4, 5)]
    """
    checks.arguments()
    if not data_sets:
        raise ValueError("data_sets is empty: expected at least one")
    sets = [[_images(_checked("data_sets", samples)) for samples in data] for data in data_sets]
    shapes = [samples.inputs.shape[1:] for data in sets for samples in data]
    channels, height, width = (max(sizes) for sizes in zip(*shapes, strict=True))
    tasks: list[ClassificationTask] = []
    first = 0
    for data in sets:
        padded = [_padded(samples.inputs, channels, height, width) for samples in data]
        mean, std = padded[0].mean((0, 2, 3), keepdim=True), padded[0].std((0, 2, 3), keepdim=True)
        # The deviation of a constant channel is rounding, and 1 leaves it as it is.
        scale = torch.where(std > torch.finfo(std.dtype).eps * 16 * mean.abs(), std.clamp(min=1e-8), 1.0)
        n_classes = 1 + max(int(samples.labels.max()) for samples in data)
        train, test = (
            Labelled((images - mean) / scale, samples.labels + first)
            for images, samples in zip(padded, data, strict=True)
        )
        tasks.append(ClassificationTask(train, test, (*range(first, first + n_classes),)))
        first += n_classes
    return tasks


def _order(size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(size, generator=generator, device=generator.device).cpu()


def _imbalanced(labels: Tensor, n_classes: int, rho: float, generator: torch.Generator) -> Tensor:
    """The samples to keep, in their order."""
    rows_to_keep = []
    for rank, label in enumerate(_order(n_classes, generator).tolist()):
        rows = (labels == label).nonzero()[:, 0]
        share = rho ** (rank / max(n_classes - 1, 1))
        rows_to_keep.append(rows[_order(len(rows), generator)[: max(1, round(share * len(rows)))]])
    return torch.cat(rows_to_keep).sort().values


def _checked(name: str, data: tuple[Tensor, Tensor]) -> Labelled:
    inputs, labels = (checks.instance(name, tensor, Tensor) for tensor in data)
    kind = f"{inputs.dtype} and shape {tuple(inputs.shape)}"
    if inputs.ndim < 2 or not inputs.is_floating_point() or not len(inputs):
        raise ValueError(f"{name} has inputs of {kind}: expected floating-point numbers, (samples, ...)")
    if labels.shape != inputs.shape[:1] or labels.is_floating_point() or (labels < 0).any():
        kind = f"{labels.dtype} and shape {tuple(labels.shape)}"
        raise ValueError(f"{name} has labels of {kind}: expected a class from 0 for each of {len(inputs)} samples")
    checks.finite(f"{name} inputs", inputs)
    return Labelled(inputs, labels.long())


def _images(samples: Labelled) -> Labelled:
    images = samples.inputs[:, None] if samples.inputs.ndim == 3 else samples.inputs
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        shape = tuple(samples.inputs.shape)
        raise ValueError(f"data_sets have inputs of shape {shape}: expected images of 1 or 3 channels")
    return Labelled(images, samples.labels)


def _padded(images: Tensor, channels: int, height: int, width: int) -> Tensor:
    """Images in the middle of a larger frame."""
    down, right = height - images.shape[2], width - images.shape[3]
    framed = functional.pad(images, (right // 2, right - right // 2, down // 2, down - down // 2))
    return framed.expand(-1, channels, -1, -1)
