"""Genomes evolved on small images of digits, and tested on unseen images, sizes, depths and data sets.

Images are split into three parts: for training in a lifetime, for evaluation in the search, and for the test.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from engram.lab import Run, setting, settings
from engram.learned.blur import BlurNetwork, Genome, lifetime
from engram.studies.experiments.blur import planar
from engram.studies.experiments.blur.baselines import Descent
from engram.studies.experiments.blur.planar import PlanarSearch
from engram.studies.experiments.blur.search import TIMES, Batches, Lives, Test, curve, evolve, right
from engram.tasks import data

BATCH = 128
HIDDEN_SCALES = (0.25, 1.0, 4.0)  # of gradient descent; the more inputs, the smaller are the best
SHARES = (0.6, 0.8)  # of the images: bounds of the parts for training and for the search; the rest is the test set
GROUPS = (((0, 10),), ((0, 5), (5, 10)))  # tasks as ranges of classes, grouped by their number of classes


@settings
class ImageSearch:
    """The settings of a search on images and of its tests."""

    planar: PlanarSearch = setting(
        PlanarSearch(generations=100, baselines=False), "the search on functions whose genome is the starting point"
    )
    depth: Literal["one", "two"] = setting("one", "hidden layers in the search: one of 64 units, or two of 48 and 32")
    images: Literal["mnist", "digits"] = setting(
        "mnist", "MNIST's test images, or scikit-learn's digits enlarged to that size, which need no download"
    )
    generations: int = setting(150, "generations of CMA-ES", ge=1)
    size: int = setting(16, "individuals in a generation", ge=4)
    restarts: int = setting(2, "restarts, the best of which is tested; published: 8", ge=1)
    steps: int = setting(10, "steps of a lifetime in the search", ge=1)
    rates: int = setting(8, "maximum number of learning rates, and of scales of weights, tried in descent", ge=1, le=8)
    lives: int = setting(3, "lifetimes in a test", ge=1)

    def __post_init__(self) -> None:
        # The networks for images have no settings of their own.
        expected = PlanarSearch()
        for name in ("n_states", "norm"):
            if (value := getattr(self.planar, name)) != (only := getattr(expected, name)):
                raise ValueError(f"planar.{name} = {value!r}: expected {only!r}, as in the networks for images")


arms: dict[str, dict[str, Any]] = {"images": {}, "deep-images": {"depth": "two"}}


class Images(NamedTuple):
    """Images as rows, standardised by the training part, and their classes: for training, the search and the test."""

    x: tuple[Tensor, Tensor, Tensor]
    classes: tuple[Tensor, Tensor, Tensor]


def trial(config: ImageSearch, run: Run) -> dict[str, Any]:
    """Search for a genome; the results are its accuracies after numbers of steps, by data set and network."""
    small, large, digits = data_sets(config.images)
    hidden = (64,) if config.depth == "one" else (48, 32)
    start, _ = planar.search(config.planar, planar.start_of(config.planar, run), run)

    def draw() -> Lives:
        return [task_lives(small, group, hidden, config.steps, run) for group in GROUPS]

    options: dict[str, Any] = {"generations": config.generations, "size": config.size, "restarts": config.restarts}
    vector, restarts = evolve(start, draw, run, sigma=0.2, **options)
    run.keep(genome=vector)
    genome = Genome.from_vector(vector)
    result: dict[str, Any] = {"times": list(TIMES), "genome": genome.to_dict(), "restarts": restarts}
    tests: dict[str, tuple[Images, tuple[int, ...]]] = {
        "small": (small, hidden),
        "large": (large, hidden),
        "digits": (digits, hidden),
    }
    if config.depth == "one":
        tests |= {"wide": (small, (256,)), "deep": (small, (64, 48))}
    else:
        tests |= {"shallow": (small, (48,)), "deeper": (small, (48, 32, 32)), "wide": (large, (256, 128))}
    for name, (images, layers) in tests.items():
        test = test_of(images, config.lives, run)
        sizes = (images.x[0].shape[1], *layers, 10)
        result[name] = curve(BlurNetwork(sizes), genome, test, run)
        result |= {f"{name}_{time}": share for time, share in zip(TIMES, result[name], strict=True)}
        if name in CLAIMED and config.depth == "one":
            descent = Descent(sizes, test, run, hidden_scales=HIDDEN_SCALES, maximum=config.rates, name=f"{name}_")
            result |= descent_results(name, descent)
        if name == "digits":
            result["relabelled_10"] = learn_and_relabel(BlurNetwork(sizes), genome, test, run)
    return result


# The numbers of steps at which claims compare descent with and without momentum, and normalised, for each data set.
CLAIMED = {"small": ((2, 5, 50), ()), "large": ((2, 50), (2,)), "digits": ((2, 5, 50), (2, 5))}


def descent_results(name: str, descent: Descent) -> dict[str, Any]:
    """The accuracy of descent with or without momentum, and with normalised units, at the best for each time."""
    plain, normalised = CLAIMED[name]
    result: dict[str, Any] = {f"{name}_sgd_{time}": descent.after(time, "sgd", "momentum") for time in plain}
    result |= {f"{name}_normalised_{time}": descent.after(time, "normalised") for time in normalised}
    return result | {
        f"{name}_sgd": descent.best("sgd", "momentum"),
        f"{name}_normalised": descent.best("normalised"),
    }


@torch.no_grad()
def learn_and_relabel(network: BlurNetwork, genome: Genome, test: Test, run: Run) -> float:
    """The accuracy after ten steps of learning and ten more with the labels of all classes shifted by one.

    Args:
        network: The network.
        genome: The genome that determines its learning rule.
        test: The batches, of which the first twenty are used, and the queries.
        run: The run.
    """
    (x, y), (queries, answers), _ = test
    shifted = [labels.roll(1, -1) for labels in (y, answers)]
    state = lifetime(network, genome, network.init(run.generator, tuple(x.shape[1:-2])), (x[:10], y[:10]))
    state = lifetime(network, genome, state, (x[10:20], shifted[0][10:20]))
    return float(right(network.forward(genome, state, queries), shifted[1]).mean())


@cache
def data_sets(source: str) -> tuple[Images, Images, Images]:
    """Images of 10 x 10 pixels, the same at 28 x 28, and scikit-learn's digits of 8 x 8."""
    digits = load_digits()
    if source == "mnist":
        pixels, labels = data.load("mnist", split="test")
    else:
        pixels = np.pad(np.kron(digits.images, np.ones((3, 3))) * 255 / 16, ((0, 0), (2, 2), (2, 2)))
        labels = digits.target
    cropped = pixels[:, 4:24, 4:24].reshape(-1, 10, 2, 10, 2).mean((2, 4))
    return in_three_parts(cropped, labels), in_three_parts(pixels, labels), in_three_parts(digits.images, digits.target)


def in_three_parts(images: np.ndarray, labels: np.ndarray) -> Images:
    """Images in three parts, always split the same way."""
    order = np.random.default_rng(0).permutation(len(images))
    rows = torch.tensor(images.reshape(len(images), -1)[order], dtype=torch.float32)
    cuts = [int(share * len(rows)) for share in SHARES]
    variance, mean = torch.var_mean(rows[: cuts[0]])
    classes = torch.tensor(labels[order].astype(np.int64))
    x = ((rows - mean) / variance.sqrt()).tensor_split(cuts)
    return Images((x[0], x[1], x[2]), tuple(classes.tensor_split(cuts)))  # type: ignore[arg-type]


def task_lives(
    images: Images, group: tuple[tuple[int, int], ...], hidden: tuple[int, ...], steps: int, run: Run
) -> tuple[BlurNetwork, Batches]:
    """A network and batches, (steps + 1, tasks, images); the last batch is from the images for the search.

    Args:
        images: The images.
        group: The range of classes of each task, (first, one past the last).
        hidden: Numbers of units of the hidden layers.
        steps: Number of steps of a lifetime.
        run: The run, whose generator draws the batches.
    """
    batches_by_task = []
    for low, high in group:
        lives, queries = (
            batch_of(images, part, (low, high), (count, BATCH), run) for part, count in ((0, steps), (1, 1))
        )
        batches_by_task.append([torch.cat(batch) for batch in zip(lives, queries, strict=True)])
    x, y = (torch.stack(tensors, 1) for tensors in zip(*batches_by_task, strict=True))
    return BlurNetwork((x.shape[-1], *hidden, y.shape[-1])), (x, y)


def test_of(images: Images, lives: int, run: Run) -> Test:
    """Lifetimes on batches (steps, lives, images), evaluated on all images of the test set.

    Learning rates are chosen on the part for the search.

    Args:
        images: The images.
        lives: Number of lifetimes.
        run: The run, whose generator draws the batches.
    """
    validation, queries = ((images.x[part][None], targets(images.classes[part], 0, 10)[None]) for part in (1, 2))
    return Test(batch_of(images, 0, (0, 10), (max(TIMES), lives, BATCH), run), queries, validation)


def batch_of(images: Images, part: int, classes: tuple[int, int], shape: tuple[int, ...], run: Run) -> Batches:
    """Images drawn from a part and a range of classes.

    Args:
        images: The images.
        part: Index of the part: training, search or test.
        classes: The range of classes, (first, one past the last).
        shape: Shape of the batches, without the features.
        run: The run, whose generator draws the images.
    """
    low, high = classes
    of_range = ((images.classes[part] >= low) & (images.classes[part] < high)).nonzero()[:, 0]
    rows = of_range[torch.randint(len(of_range), shape, generator=run.generator)]
    return images.x[part][rows], targets(images.classes[part][rows], low, high)


def targets(classes: Tensor, low: int, high: int) -> Tensor:
    """Targets of +1 for the class within the range and -1 for the others.

    Args:
        classes: The class of each image.
        low: The first class.
        high: One past the last class.
    """
    return 2.0 * torch.nn.functional.one_hot(classes - low, high - low) - 1.0
