"""Genomes searched on small images of digits, and tested on images, sizes, depths and data they have never seen.

Images are split in three: those of the lives, those that the search asks, and those that only the test asks.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from engram.experiments.blur import planar
from engram.experiments.blur.baselines import Grid, best, grids
from engram.experiments.blur.planar import PlanarSearch
from engram.experiments.blur.search import TIMES, Batches, Lives, Test, curve, evolve
from engram.lab import Run, setting, settings
from engram.learned.blur import BlurNetwork, Genome
from engram.tasks import data

BATCH = 128
SHARES = (0.6, 0.8)  # of the images: up to the first those of lives, up to the second those that the search asks
GROUPS = (((0, 10),), ((0, 5), (5, 10)))  # tasks as ranges of classes, together where they have as many


@settings
class ImageSearch:
    """A search on images, and its tests."""

    planar: PlanarSearch = setting(
        PlanarSearch(generations=100, baselines=False), "the search on functions whose genome this one starts from"
    )
    depth: Literal["one", "two"] = setting("one", "hidden layers in the search: one of 64 units, or two of 48 and 32")
    images: Literal["mnist", "digits"] = setting(
        "mnist", "MNIST's test images, or scikit-learn's digits enlarged to their size, which need no download"
    )
    generations: int = setting(150, "generations of CMA-ES", ge=1, scales=True)
    size: int = setting(16, "individuals of a generation", ge=4)
    steps: int = setting(10, "steps of a life in the search", ge=1)
    rates: int = setting(6, "learning rates of gradient descent, of each kind", ge=1, le=6)
    lives: int = setting(3, "lives of a test", ge=1)


arms: dict[str, dict[str, Any]] = {"images": {}, "deep-images": {"depth": "two"}}


class Images(NamedTuple):
    """Images as rows, standardised by those of lives, and their classes: of lives, asked in the search, in the test."""

    x: tuple[Tensor, Tensor, Tensor]
    classes: tuple[Tensor, Tensor, Tensor]


def trial(config: ImageSearch, run: Run) -> dict[str, Any]:
    """Search a genome; its result is the share of right answers in a number of steps, by data and network."""
    small, large, digits = data_sets(config.images)
    hidden = (64,) if config.depth == "one" else (48, 32)
    start, _ = planar.searched(config.planar, planar.start_of(config.planar, run), run)

    def draw() -> Lives:
        return [task_lives(small, group, hidden, config.steps, run) for group in GROUPS]

    vector, _ = evolve(start, draw, run, generations=config.generations, size=config.size, sigma=0.2)
    run.keep(genome=vector)
    genome = Genome.from_vector(vector)
    result: dict[str, Any] = {"times": list(TIMES), "genome": genome.to_dict()}
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
        if layers == hidden:
            result |= descent_results(name, grids(sizes, test, config.rates, run))
    return result | one_setting(result)


def descent_results(name: str, grid: Grid) -> dict[str, Any]:
    """A grid of descent, and the best of it, with momentum or without, for each number of steps by itself."""
    oracle = best(grid["sgd"] + grid["momentum"])
    result = {f"{name}_grid": grid, f"{name}_sgd": oracle, f"{name}_normalised": best(grid["normalised"])}
    return result | {f"{name}_sgd_{time}": share for time, share in zip(TIMES, oracle, strict=True)}


def one_setting(result: dict[str, Any]) -> dict[str, Any]:
    """What descent reaches with the one setting that is best on the small images after ten steps."""
    at = TIMES.index(10)
    choices = [(name, place) for name in ("sgd", "momentum") for place in range(len(result["small_grid"][name]))]
    name, place = max(choices, key=lambda choice: result["small_grid"][choice[0]][choice[1]][at])
    return {f"{data}_one_setting": result[f"{data}_grid"][name][place] for data in ("small", "large", "digits")}


@cache
def data_sets(source: str) -> tuple[Images, Images, Images]:
    """Images of 10 x 10, the same at 28 x 28, and scikit-learn's digits of 8 x 8."""
    digits = load_digits()
    if source == "mnist":
        pixels, labels = data.load("mnist", split="test")
    else:
        pixels = np.pad(np.kron(digits.images, np.ones((3, 3))) * 255 / 16, ((0, 0), (2, 2), (2, 2)))
        labels = digits.target
    cropped = pixels[:, 4:24, 4:24].reshape(-1, 10, 2, 10, 2).mean((2, 4))
    return in_three_parts(cropped, labels), in_three_parts(pixels, labels), in_three_parts(digits.images, digits.target)


def in_three_parts(images: np.ndarray, labels: np.ndarray) -> Images:
    """Images in three parts, always the same."""
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
    """A network and batches (steps + 1, tasks, images), the last of images that only the search asks."""
    parts = []
    for low, high in group:
        lives, asked = (batch_of(images, part, (low, high), (many, BATCH), run) for part, many in ((0, steps), (1, 1)))
        parts.append([torch.cat(both) for both in zip(lives, asked, strict=True)])
    x, y = (torch.stack(some, 1) for some in zip(*parts, strict=True))
    return BlurNetwork((x.shape[-1], *hidden, y.shape[-1])), (x, y)


def test_of(images: Images, lives: int, run: Run) -> Test:
    """Lives on batches (steps, lives, images), in which all images are asked that only tests ask."""
    x, classes = images.x[2], images.classes[2]
    shape = max(TIMES), lives, BATCH
    return Test(batch_of(images, 0, (0, 10), shape, run), (x[None], targets(classes, 0, 10)[None]))


def batch_of(images: Images, part: int, classes: tuple[int, int], shape: tuple[int, ...], run: Run) -> Batches:
    """Images that are drawn from a part and of a range of classes."""
    low, high = classes
    of_range = ((images.classes[part] >= low) & (images.classes[part] < high)).nonzero()[:, 0]
    chosen = of_range[torch.randint(len(of_range), shape, generator=run.generator)]
    return images.x[part][chosen], targets(images.classes[part][chosen], low, high)


def targets(classes: Tensor, low: int, high: int) -> Tensor:
    """+1 for the class of a range, else -1."""
    return 2.0 * torch.nn.functional.one_hot(classes - low, high - low) - 1.0
