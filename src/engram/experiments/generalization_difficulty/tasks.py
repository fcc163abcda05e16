"""Tasks and the bits that they take: as published, and as measured on shapes, a cart and pole, and data sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import gymnasium as gym
import numpy as np
from annotated_types import Ge
from scipy.stats import linregress
from sklearn.datasets import load_digits

from engram import analysis
from engram.analysis.difficulty.nearest_neighbours import distinct
from engram.lab import Run
from engram.tasks.data import load

PUBLISHED = {  # log10 of the bits
    "mnist": 16.17167,
    "svhn": 31.08383,
    "cifar10": 32.53627,
    "imagenet": 41.55428,
    "omniglot": 145.2527,
    "cartpole-1": 9.64493,
    "cartpole-2": 17.52192,
    "cartpole-3": 25.16554,
    "cartpole-4": 32.67108,
    "cartpole-5": 40.07445,
    "reacher": 25.46449,
    "hopper": 58.88156,
    "half-cheetah": 66.23502,
}
IMAGES = ("mnist", "svhn", "cifar10", "imagenet", "omniglot")  # from easy to hard


def published(config: object, run: Run) -> dict[str, Any]:
    """Compute the published table, and how the bits depend on each of their inputs."""
    found = np.zeros(len(PUBLISHED))
    for step in run.steps(len(PUBLISHED), found=found):
        found[step] = analysis.BENCHMARKS[list(PUBLISHED)[step]].difficulty().log10_bits
        run.log(step + 1, log10_bits=found[step])
    log10 = dict(zip(PUBLISHED, found.tolist(), strict=True))
    mnist, imagenet = analysis.BENCHMARKS["mnist"], analysis.BENCHMARKS["imagenet"]
    slopes = np.diff(mnist.difficulty(m=np.arange(8, 30)).log10_bits)
    per_decade = np.diff(imagenet.difficulty(n=10.0 ** np.arange(2, 20)).bits)
    errors = imagenet.difficulty(error=np.array([0.1, 0.2]))
    fineness = np.geomspace(0.3, 4, 30)
    orders = [
        linregress(-np.log10(fineness), mnist.difficulty(m=m, resolution=fineness).log10_bits).slope / m
        for m in (4, 8, 14, 27)
    ]
    return {
        **{f"log10_bits_{name}": value for name, value in log10.items()},
        "deviation": max(abs(10 ** (value - PUBLISHED[name]) - 1) for name, value in log10.items()),
        "least_step": float(np.diff([log10[name] for name in IMAGES]).min()),
        "cartpole_ratio": float(10 ** np.diff([log10[f"cartpole-{T}"] for T in range(1, 6)]).min()),
        "least_slope": float(slopes.min()),
        "largest_rise_of_slope": float(np.diff(slopes).max()),
        "per_decade": float(per_decade.mean()),
        "per_decade_spread": float(np.ptp(per_decade) / abs(per_decade.mean())),
        "per_doubling": float((errors.bits[0] - errors.bits[1]) / 2.0**errors.dim_free_log2),
        "least_order": float(min(orders)),
        "largest_order": float(max(orders)),
    }


SHAPES = {"sphere": (1, 2, 5), "torus": (2, 4), "cube": (2, 4)}
NOISE, STRIDE, WINDOWS = 0.1, 3, 4000  # of the cart and pole's observations


def shapes(config: object, run: Run) -> dict[str, Any]:
    """Measure the dimension of shapes that have a known one, by 2000 points of each."""
    todo = [(shape, m) for shape, dimensions in SHAPES.items() for m in dimensions]
    found = np.zeros(len(todo))
    for step in run.steps(len(todo), found=found):
        shape, m = todo[step]
        found[step] = analysis.intrinsic_dimension(points_on(shape, m, 2000, run.rng)).value
        run.log(step + 1, relative_error=found[step] / m - 1)
    result = {f"m_{shape}_{m}": value for (shape, m), value in zip(todo, found.tolist(), strict=True)}
    return {**result, "error": max(abs(found[step] / m - 1) for step, (_, m) in enumerate(todo))}


def points_on(shape: str, m: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points of an m-dimensional sphere, flat torus or cube."""
    if shape == "cube":
        return rng.random((count, m))
    if shape == "torus":
        return np.asarray(np.exp(2j * np.pi * rng.random((count, m))).view(float))
    points = rng.normal(size=(count, m + 1))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


@dataclass(frozen=True)
class CartPole:
    """How long the cart and pole is watched."""

    steps: Annotated[int, Ge(2000)] = 50_000
    """Steps of the cart and pole."""


def cartpole(config: CartPole, run: Run) -> dict[str, Any]:
    """Measure the dimension of windows of what is seen of a cart and pole: all or the positions, exact or noisy."""
    rng = run.rng

    def policy(observation: np.ndarray) -> int:
        if rng.random() < 0.5:
            return int(rng.integers(2))
        return int(observation[2] + 0.5 * observation[3] > 0)

    seed = int(rng.integers(2**31))
    episodes = analysis.standardised(analysis.roll_out(gym.make("CartPole-v1"), policy, steps=config.steps, seed=seed))
    noisy = [episode + rng.normal(scale=NOISE, size=episode.shape) for episode in episodes]
    seen = {
        "clean": [episode[:, [0, 2]] for episode in episodes],
        "noisy": [episode[:, [0, 2]] for episode in noisy],
        "state": noisy,
    }
    todo = [(name, window) for name in seen for window in (1, 2, 3, 4)]
    found = np.zeros(len(todo))
    for step in run.steps(len(todo), found=found):
        name, window = todo[step]
        points = analysis.stacked(seen[name], window, STRIDE)
        points = points[rng.choice(len(points), min(WINDOWS, len(points)), replace=False)]
        found[step] = analysis.intrinsic_dimension(points).value
        run.log(window, **{f"m_{name}": found[step]})
    result = {f"m_{name}_{window}": value for (name, window), value in zip(todo, found.tolist(), strict=True)}
    for name, window in (("clean", 1), ("clean", 3), ("noisy", 3)):
        task = analysis.control_task(max(1.0, result[f"m_{name}_{window}"]), 1, n=10_000, resolution=0.01)
        result[f"log10_bits_{name}_{window}"] = task.difficulty().log10_bits
    return result


Name = Literal["digits", "mnist", "omniglot", "cifar10"]
DATA: tuple[Name, ...] = get_args(Name)
NEIGHBOURS = (3, 5, 10, 20)
ERROR = 0.01  # the one target error where measured tasks are compared


@dataclass(frozen=True)
class Sizes:
    """How much of a data set is looked at."""

    whole: bool = False
    """Data sets as published: MNIST's training images, CIFAR-10 uncompressed, all of Omniglot; else what is at hand."""
    queries: Annotated[int, Ge(10)] = 2000
    """Samples of a data set whose neighbours are looked for."""
    pairs: Annotated[int, Ge(3000)] = 400_000
    """Pairs with different labels that the margin is extrapolated from; where there are no more, all are looked at."""


@dataclass(frozen=True)
class DataSet(Sizes):
    """A data set, and how much of it is looked at."""

    name: Name = "digits"
    """The data set."""


def images_of(config: DataSet) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return images with values from 0 to 1, a row each, their labels, and the alphabets of labels that have one."""
    alphabets: list[str] = []
    if config.name == "digits":
        images, labels = load_digits(return_X_y=True)
        images /= 16
    elif config.name == "omniglot":
        drawn = load("omniglot" if config.whole else "omniglot-small")
        images = drawn.images.reshape(-1, *drawn.images.shape[2:]) < 128  # ink
        labels = np.repeat(np.arange(len(drawn.names)), drawn.images.shape[1])
        alphabets = [name.split("/")[0] for name in drawn.names]
    else:
        name = "cifar10-jpeg" if config.name == "cifar10" and not config.whole else config.name
        # Of MNIST's images, those of the test come with every copy of the data.
        images, labels = load(name, split="test" if config.name == "mnist" and not config.whole else "train")
        images = np.divide(images, 255, dtype=np.float32)
    return images.reshape(len(images), -1).astype(np.float32, copy=False), labels.astype(np.int64), alphabets


def data_set(config: DataSet, run: Run) -> dict[str, Any]:
    """Measure the dimension, the radius and the margin of a data set, and compute its bits."""
    images, labels, alphabets = images_of(config)
    found = np.zeros(len(NEIGHBOURS) + 1)
    for step in run.steps(2, found=found):
        if step == 0:
            first, _ = distinct(images)
            points = images if len(first) == len(images) else images[first]
            asked = np.sort(run.rng.choice(len(points), min(config.queries, len(points)), replace=False))
            distances = analysis.nearest_distances(points, max(NEIGHBOURS), asked)
            found[:-1] = [analysis.maximum_likelihood_dimension(distances[:, :k])[0] for k in NEIGHBOURS]
        else:
            found[-1] = analysis.class_margin(
                images, labels, n_pairs=config.pairs, drop_conflicts=True, seed=run.rng
            ).value
    *dimensions, margin = found.tolist()
    result: dict[str, Any] = {f"m_{k}": m for k, m in zip(NEIGHBOURS, dimensions, strict=True)}
    classes, radius = len(np.unique(labels)), float(np.linalg.norm(images, axis=1).max())
    task = analysis.GeneralizationTask(len(images), result["m_5"], radius, margin, ERROR, classes, classes - 1)
    result |= {"n": len(images), "m": result["m_5"], "radius": radius, "margin": margin}
    result["log10_bits"] = task.difficulty().log10_bits
    if alphabets:
        kind = np.array(alphabets)[labels]
        each = [analysis.intrinsic_dimension(images[kind == name]).value for name in sorted(set(alphabets))]
        result["m_within"] = float(np.mean(each))
    run.log(1, m=result["m"], log10_bits=result["log10_bits"])
    return result


def seconds(config: DataSet) -> float:
    """Time of a trial on one core."""
    samples, features = {
        "digits": (1797, 64),
        "mnist": (60_000 if config.whole else 10_000, 784),
        "omniglot": (32_460 if config.whole else 4840, 11_025),
        "cifar10": (50_000, 3072),
    }[config.name]
    return 1 + samples * features * (8e-8 + 3e-11 * config.queries) + 4e-9 * features * config.pairs
