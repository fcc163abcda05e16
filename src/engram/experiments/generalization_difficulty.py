"""How many bits must a learner bring along to generalise? (Boopathy, Liu, Hwang, Ge, Mohammedsaleh and Fiete, 2023).

The published table of tasks from the published quantities, the quantities measured anew on data, what noise and partial
observation do to them, and whether the measure tells anything of learners. Only abstract and blog post of the paper
could be read; what is called published is the authors' script, its formula applied to its inputs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, get_args

import gymnasium as gym
import numpy as np
import plotly.graph_objects as go
import torch
from annotated_types import Ge
from plotly.subplots import make_subplots
from scipy.stats import linregress
from sklearn.datasets import load_digits
from sklearn.gaussian_process.kernels import RBF
from torch import Tensor, nn

from engram.analysis import (
    BENCHMARKS,
    GeneralizationTask,
    architecture_information,
    class_margin,
    control_task,
    gaussian_process_test_error,
    intrinsic_dimension,
    maximum_likelihood_dimension,
    nearest_distances,
    roll_out,
    stacked,
    standardised,
)
from engram.analysis.difficulty.nearest_neighbours import distinct
from engram.lab import (
    Arm,
    Claim,
    Experiment,
    Measure,
    Preset,
    Results,
    Run,
    arms_of,
    at_least,
    at_most,
    least,
    value,
    within,
)
from engram.tasks.data import load

PAPER = "Boopathy et al., Model-agnostic Measure of Generalization Difficulty, ICML 2023 (arXiv 2305.01034)"
SOURCE = "author script; R{} of our protocol"
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
Table = Literal[
    "published", "shapes", "digits", "mnist", "omniglot", "cifar10", "cartpole", "regression", "direct", "architectures"
]
DATA: tuple[Table, ...] = ("digits", "mnist", "omniglot", "cifar10")
QUICK: tuple[Table, ...] = ("published", "digits", "cartpole", "regression", "architectures")
NEIGHBOURS = (3, 5, 10, 20)
ERROR = 0.01  # the one target error where measured tasks are compared
SHAPES = {"sphere": (1, 2, 5), "torus": (2, 4), "cube": (2, 4)}
NOISE, STRIDE, WINDOWS = 0.1, 3, 4000  # of the cart and pole's observations
MODES, DRAWS = {1: 8, 2: 4, 3: 4}, 20  # highest frequency on the torus, by its dimension; random functions
SIZES, FEW_SIZES = (50, 200, 800), (50, 150)  # training sets of ten classes, and of two
NOISE_INPUTS, NOISE_SD = 16, 0.5
TARGET = 0.05
RARE, SAMPLES = 1e-3, 100_000


@dataclass(frozen=True)
class Config:
    """What one trial is made of; the last field says which arms there are."""

    table: Table = "published"
    """The published one; known shapes; a data set; noise and partial observation; what the dimension predicts of
    regression; bits of a Gaussian process; bits that networks bring along."""
    whole: bool = False
    """Data sets as published: MNIST's training images, CIFAR-10 uncompressed, all of Omniglot; else what is at hand."""
    queries: Annotated[int, Ge(10)] = 2000
    """Samples of a data set whose neighbours are looked for."""
    pairs: Annotated[int, Ge(3000)] = 400_000
    """Pairs with different labels that the margin is extrapolated from; where there are no more, all are looked at."""
    steps: Annotated[int, Ge(2000)] = 50_000
    """Steps of the cart and pole."""
    epochs: Annotated[int, Ge(1)] = 40
    """Passes of the networks over the digits."""
    everything: bool = True
    """All arms, not only those that are quick and need no files."""


def arms(config: Config) -> dict[str, Arm]:
    """The published table, then what is measured."""
    # What shapes only some arms goes back to its default elsewhere, so that it is no part of a trial's identity.
    measured = {"whole": config.whole, "queries": config.queries, "pairs": config.pairs}
    own: dict[str, dict[str, Any]] = {
        **dict.fromkeys(DATA, measured),
        "cartpole": {"steps": config.steps},
        "architectures": {"epochs": config.epochs},
    }
    names = get_args(Table) if config.everything else QUICK
    return arms_of(trial, {name: replace(Config(), table=name, **own.get(name, {})) for name in names}, seconds)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Compute, or measure, one of the tables."""
    tables: dict[str, Callable[[Config, Run], dict[str, Any]]] = {
        "published": published,
        "shapes": shapes,
        **dict.fromkeys(DATA, data_set),
        "cartpole": cartpole,
        "regression": regression,
        "direct": direct,
        "architectures": architectures,
    }
    return tables[config.table](config, run)


def published(config: Config, run: Run) -> dict[str, Any]:
    """Compute the published table, and how the bits depend on each of their inputs."""
    found = np.zeros(len(PUBLISHED))
    for step in run.steps(len(PUBLISHED), found=found):
        found[step] = BENCHMARKS[list(PUBLISHED)[step]].difficulty().log10_bits
        run.log(step + 1, log10_bits=found[step])
    log10 = dict(zip(PUBLISHED, found.tolist(), strict=True))
    mnist, imagenet = BENCHMARKS["mnist"], BENCHMARKS["imagenet"]
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


def shapes(config: Config, run: Run) -> dict[str, Any]:
    """Measure the dimension of shapes that have a known one, by 2000 points of each."""
    todo = [(shape, m) for shape, dimensions in SHAPES.items() for m in dimensions]
    found = np.zeros(len(todo))
    for step in run.steps(len(todo), found=found):
        shape, m = todo[step]
        found[step] = intrinsic_dimension(points_on(shape, m, 2000, run.rng)).value
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


def images_of(config: Config) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return images with values from 0 to 1, a row each, their labels, and the alphabets of labels that have one."""
    alphabets: list[str] = []
    if config.table == "digits":
        images, labels = load_digits(return_X_y=True)
        images /= 16
    elif config.table == "omniglot":
        drawn = load("omniglot" if config.whole else "omniglot-small")
        images = drawn.images.reshape(-1, *drawn.images.shape[2:]) < 128  # ink
        labels = np.repeat(np.arange(len(drawn.names)), drawn.images.shape[1])
        alphabets = [name.split("/")[0] for name in drawn.names]
    else:
        name = "cifar10-jpeg" if config.table == "cifar10" and not config.whole else config.table
        # Of MNIST's images, those of the test come with every copy of the data.
        images, labels = load(name, split="test" if config.table == "mnist" and not config.whole else "train")
        images = np.divide(images, 255, dtype=np.float32)
    return images.reshape(len(images), -1).astype(np.float32, copy=False), labels.astype(np.int64), alphabets


def data_set(config: Config, run: Run) -> dict[str, Any]:
    """Measure the dimension, the radius and the margin of a data set, and compute its bits."""
    images, labels, alphabets = images_of(config)
    found = np.zeros(len(NEIGHBOURS) + 1)
    for step in run.steps(2, found=found):
        if step == 0:
            first, _ = distinct(images)
            points = images if len(first) == len(images) else images[first]
            asked = np.sort(run.rng.choice(len(points), min(config.queries, len(points)), replace=False))
            distances = nearest_distances(points, max(NEIGHBOURS), asked)
            found[:-1] = [maximum_likelihood_dimension(distances[:, :k])[0] for k in NEIGHBOURS]
        else:
            found[-1] = class_margin(images, labels, n_pairs=config.pairs, drop_conflicts=True, seed=run.rng).value
    *dimensions, margin = found.tolist()
    result: dict[str, Any] = {f"m_{k}": m for k, m in zip(NEIGHBOURS, dimensions, strict=True)}
    classes, radius = len(np.unique(labels)), float(np.linalg.norm(images, axis=1).max())
    task = GeneralizationTask(len(images), result["m_5"], radius, margin, ERROR, classes, classes - 1)
    result |= {"n": len(images), "m": result["m_5"], "radius": radius, "margin": margin}
    result["log10_bits"] = task.difficulty().log10_bits
    if alphabets:
        kind = np.array(alphabets)[labels]
        each = [intrinsic_dimension(images[kind == name]).value for name in sorted(set(alphabets))]
        result["m_within"] = float(np.mean(each))
    run.log(1, m=result["m"], log10_bits=result["log10_bits"])
    return result


def cartpole(config: Config, run: Run) -> dict[str, Any]:
    """Measure the dimension of windows of what is seen of a cart and pole: all or the positions, exact or noisy."""
    rng = run.rng

    def policy(observation: np.ndarray) -> int:
        if rng.random() < 0.5:
            return int(rng.integers(2))
        return int(observation[2] + 0.5 * observation[3] > 0)

    seed = int(rng.integers(2**31))
    episodes = standardised(roll_out(gym.make("CartPole-v1"), policy, steps=config.steps, seed=seed))
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
        points = stacked(seen[name], window, STRIDE)
        points = points[rng.choice(len(points), min(WINDOWS, len(points)), replace=False)]
        found[step] = intrinsic_dimension(points).value
        run.log(window, **{f"m_{name}": found[step]})
    result = {f"m_{name}_{window}": value for (name, window), value in zip(todo, found.tolist(), strict=True)}
    for name, window in (("clean", 1), ("clean", 3), ("noisy", 3)):
        task = control_task(max(1.0, result[f"m_{name}_{window}"]), 1, n=10_000, resolution=0.01)
        result[f"log10_bits_{name}_{window}"] = task.difficulty().log10_bits
    return result


def regression(config: Config, run: Run) -> dict[str, Any]:
    """Fit random functions of limited frequency on the torus, with as many samples as there are modes, or fewer."""
    result: dict[str, Any] = {}
    for m, M in MODES.items():
        grid = np.stack(np.meshgrid(*[np.arange(-M, M + 1)] * m, indexing="ij"), -1).reshape(-1, m)
        frequencies = grid[(grid**2).sum(1) <= M**2]
        modes = len(frequencies)
        sizes = [modes // 5, modes // 2, modes - 1, modes]
        errors = np.zeros((DRAWS, len(sizes)))
        for draw in run.steps(DRAWS, errors=errors):
            target = run.rng.normal(size=modes) / math.sqrt(modes)
            x = run.rng.uniform(0, 2 * np.pi, size=(modes, m))
            # Of k and -k, one is a cosine and one a sine: an orthonormal basis, in which errors are of coefficients.
            cosine = (frequencies > 0).any(1) & (frequencies[np.arange(modes), (frequencies != 0).argmax(1)] > 0)
            phase = x @ frequencies.T
            basis = math.sqrt(2) * np.where(cosine, np.cos(phase), np.sin(phase))
            basis[:, (frequencies == 0).all(1)] = 1
            for column, size in enumerate(sizes):
                errors[draw, column] = ((least_fit(basis[:size], target) - target) ** 2).sum()
            run.log(draw + 1, **{f"error_{m}": errors[draw, -2]})
        names = ("fifth", "half", "but_one", "all")
        result |= {f"error_{m}_{name}": mean for name, mean in zip(names, errors.mean(0).tolist(), strict=True)}
        # Samples from which the formula's free dimensions are none, over those from which the fit is exact.
        task = control_task(m, 1, n=1, resolution=2 * np.pi / M)
        result[f"modes_{m}"] = modes
        result[f"formula_{m}"] = float(2 ** task.difficulty().dim_theta_log2) / modes
    return result


def least_fit(basis: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the smallest coefficients that have the values of the target's."""
    # Samples that are nearly dependent magnify rounding, so that values and residuals are of higher precision.
    exact, fitted = basis.astype(np.longdouble), np.zeros(len(target), np.longdouble)
    values = exact @ target
    for _ in range(4):
        fitted += np.linalg.lstsq(basis, (values - exact @ fitted).astype(float), rcond=None)[0]
    return fitted


def direct(config: Config, run: Run) -> dict[str, Any]:
    """Compute the bits by which a Gaussian process falls short of generalising on digits."""
    images, labels = load_digits(return_X_y=True)
    order = run.rng.permutation(len(images))
    images, labels = images[order] / 16, labels[order]
    noise = run.rng.normal(scale=NOISE_SD, size=(len(images), NOISE_INPUTS))
    targets = np.eye(10)[labels]
    sets = {
        "ten": (images, targets, SIZES),
        "noise": (np.hstack([images, noise]), targets, SIZES),
        "two": (images[labels < 2], targets[labels < 2, :2], FEW_SIZES),
    }
    todo = [(name, size) for name, (_, _, sizes) in sets.items() for size in sizes]
    bits = np.zeros(len(todo))
    for step in run.steps(len(todo), bits=bits):
        name, size = todo[step]
        x, y, _ = sets[name]
        error = gaussian_process_test_error(x[:size], y[:size], x[-200:], y[-200:], RBF(2.0), jitter=1e-8)
        bits[step] = error.bits(TARGET)
        run.log(size, **{f"bits_{name}": bits[step]})
    error = gaussian_process_test_error(images[:200], targets[:200], images[-200:], targets[-200:], RBF(2.0))
    drawn = error.sample(SAMPLES, run.rng)
    found = error.bits(float(np.quantile(drawn, RARE)))
    result = {f"bits_{name}_{size}": value for (name, size), value in zip(todo, bits.tolist(), strict=True)}
    return {**result, "off_by": found + math.log2(RARE)}


def architectures(config: Config, run: Run) -> dict[str, Any]:
    """Train three networks on digits, and compute the bits at the errors that they reach."""
    images, labels = load_digits(return_X_y=True)
    margin = class_margin(images / 16, labels, "exact").value
    order = run.rng.permutation(len(images))
    x = torch.tensor(images[order] / 16, dtype=torch.float32)
    y = torch.tensor(labels[order])
    n_test = 500
    networks = {
        "linear": nn.Linear(64, 10),
        "mlp": nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        "cnn": nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10),
        ),
    }  # fmt: skip
    errors = {}
    for name, network in networks.items():
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for epoch in run.steps(config.epochs, network=network, optimizer=optimizer):
            shuffled = torch.randperm(len(x) - n_test, generator=run.generator)
            for batch in torch.split(shuffled, 32):
                loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            run.log(epoch + 1, **{f"error_{name}": wrong(network, x[-n_test:], y[-n_test:])})
        errors[name] = wrong(network, x[-n_test:], y[-n_test:])
    m = intrinsic_dimension(images / 16).value
    radius = float(np.linalg.norm(images / 16, axis=1).max())
    task = GeneralizationTask(len(x) - n_test, m, radius, margin, ERROR, 10, 9)
    found = architecture_information(task, errors, n_test)
    result = {f"error_{name}": error for name, error in errors.items()}
    return {**result, **{f"log10_bits_{name}": each.log10_bits for name, each in found.items()}}


@torch.no_grad()
def wrong(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of inputs that a network puts into a wrong class."""
    return float((network(x).argmax(1) != y).float().mean())


def _lead(arm: str, *keys: str) -> Measure:
    """Return the smallest difference of what an arm returned, of each of some results and the next."""
    return least(*(value(arm, one) - value(arm, other) for one, other in itertools.pairwise(keys)))


# No seed changes the published table.
table = partial(Claim, published="no figure", presets=("smoke", "laptop", "paper"), seeds=2, sameness="numeric")
ours = partial(Claim, published="no figure")
claims = [
    table(
        id="table",
        statement="The published tasks have the published bits (largest relative deviation)",
        source=SOURCE.format(1),
        published="MNIST 1.48e16, SVHN 1.21e31, CIFAR-10 3.44e32, ImageNet 3.58e41, Omniglot 1.79e145, 8 control tasks",
        metric=value("published", "deviation"),
        holds=at_most(1e-3),
    ),
    table(
        id="order",
        statement="MNIST < SVHN < CIFAR-10 < ImageNet < few-shot Omniglot (smallest step of log10 bits)",
        source="abstract; " + SOURCE.format(1),
        published="the order",
        metric=value("published", "least_step"),
        holds=at_least(0.0),
    ),
    table(
        id="observations",
        statement="Each observation more that the cart and pole's policy sees multiplies the bits (smallest ratio)",
        source="figure Number of Observations; " + SOURCE.format(1),
        published="2.5e7 to 7.5e7",
        metric=value("published", "cartpole_ratio"),
        holds=at_least(1e7),
    ),
    table(
        id="exponential-in-dimension",
        statement="The bits grow exponentially with the dimension (smallest slope of log10 bits, MNIST, m = 8 to 29)",
        source="blog post; " + SOURCE.format(2),
        published="exponential (no figure)",
        metric=value("published", "least_slope"),
        holds=at_least(0.0),
    ),
    table(
        id="ever-more-slowly",
        statement="ever more slowly (largest rise of the slope)",
        source=SOURCE.format(2) + "; derived",
        metric=value("published", "largest_rise_of_slope"),
        holds=at_most(0.0),
    ),
    table(
        id="linear-in-log-n",
        statement="The bits fall linearly with the logarithm of the samples (ImageNet, spread over decades)",
        source="imagenet_vary_datasize.png; " + SOURCE.format(2),
        published="3.595e41 falling to 3.425e41 over 17 decades, a straight line",
        metric=value("published", "per_decade_spread"),
        holds=at_most(1e-6),
    ),
    table(
        id="linear-in-log-error",
        statement="and by one bit a free dimension when the target error doubles",
        source=SOURCE.format(2) + "; derived",
        published="logarithmic in the error (no figure)",
        metric=value("published", "per_doubling"),
        holds=within(1.0, 1e-6),
    ),
    table(
        id="polynomial-in-resolution",
        statement="They are polynomial in 1 / resolution, of an order of 0.85 m at least",
        source="blog post; " + SOURCE.format(2),
        published="polynomial (no figure)",
        metric=value("published", "least_order"),
        holds=at_least(0.85),
    ),
    table(
        id="of-order-m",
        statement="and 1.02 m at most",
        source="blog post; " + SOURCE.format(2),
        published="polynomial (no figure)",
        metric=value("published", "largest_order"),
        holds=at_most(1.02),
    ),
    ours(
        id="known-shapes",
        statement="Spheres, tori and cubes of up to 5 dimensions have the dimension that they have (largest error)",
        source=SOURCE.format(3),
        metric=value("shapes", "error"),
        holds=at_most(0.05),
    ),
    *(
        ours(
            id=f"dimension-of-{name}",
            statement=f"{what} has the published intrinsic dimension, to 1.5",
            source=SOURCE.format(3),
            published=f"{m}",
            metric=value(arm, key),
            holds=within(m, 1.5),
        )
        for name, arm, key, m, what in (
            ("mnist", "mnist", "m", 14, "MNIST (laptop: the 10,000 test images)"),
            ("cifar10", "cifar10", "m", 27, "CIFAR-10 (laptop: its JPEG copy)"),
            ("omniglot", "omniglot", "m", 29, "Omniglot (laptop: eight alphabets)"),
            ("alphabets", "omniglot", "m_within", 22, "An alphabet of Omniglot"),
        )
    ),
    ours(
        id="order-of-measured-dimensions",
        statement="Measured dimensions rise from digits to MNIST to CIFAR-10 (smallest step)",
        source=SOURCE.format(3),
        published="14 and 27",
        metric=least(value("mnist", "m") - value("digits", "m"), value("cifar10", "m") - value("mnist", "m")),
        holds=at_least(0.0),
    ),
    ours(
        id="order-of-measured-bits",
        statement="and so do the bits, at one target error (smallest step of log10)",
        source=SOURCE.format(3),
        published="16.2 and 32.5, at different errors",
        metric=least(
            value("mnist", "log10_bits") - value("digits", "log10_bits"),
            value("cifar10", "log10_bits") - value("mnist", "log10_bits"),
        ),
        holds=at_least(0.0),
    ),
    ours(
        id="noise-adds-dimensions",
        statement="Three noisy observations fill more dimensions than three exact ones, by 1 at least",
        source="abstract: partially observed is harder; " + SOURCE.format(4),
        metric=_lead("cartpole", "m_noisy_3", "m_clean_3"),
        holds=at_least(1.0),
    ),
    ours(
        id="each-noisy-observation-adds",
        statement="Each noisy observation more adds some (smallest step, 1 to 3)",
        source=SOURCE.format(4),
        published="two each, by construction",
        metric=_lead("cartpole", "m_noisy_3", "m_noisy_2", "m_noisy_1"),
        holds=at_least(0.0),
    ),
    ours(
        id="noise-is-hard",
        statement="so that three noisy observations take more bits than three exact ones, and these than one (log10)",
        source=SOURCE.format(4),
        metric=_lead("cartpole", "log10_bits_noisy_3", "log10_bits_clean_3", "log10_bits_clean_1"),
        holds=at_least(0.0),
    ),
    ours(
        id="modes-must-be-sampled",
        statement="With one sample less than modes, a band-limited function is not found (least error, m = 1 to 3)",
        source=SOURCE.format(5),
        metric=least(*(value("regression", f"error_{m}_but_one") for m in MODES)),
        holds=at_least(1e-3),
    ),
    ours(
        id="modes-suffice",
        statement="with as many, it is (largest error)",
        source=SOURCE.format(5),
        metric=Measure(lambda results: max(results["regression"][f"error_{m}_all"] for m in MODES), ("regression",)),
        holds=at_most(1e-20),
    ),
    ours(
        id="formula-knows-when",
        statement="The formula's free dimensions end with as many samples (largest ratio to the modes)",
        source=SOURCE.format(5),
        published="2 E D dimensions, D a sample",
        metric=Measure(lambda results: max(results["regression"][f"formula_{m}"] for m in MODES), ("regression",)),
        holds=within(1.0, 0.15),
        sameness="numeric",
    ),
    ours(
        id="samples-bring-bits",
        statement="Directly computed, bits fall as training digits are added (least fall, 50 to 200 to 800)",
        source="Boopathy et al. 2024; " + SOURCE.format(6),
        metric=_lead("direct", *(f"bits_ten_{size}" for size in SIZES)),
        holds=at_least(0.0),
    ),
    ours(
        id="noise-inputs-cost-bits",
        statement="Inputs that are noise cost bits, with any number of digits (least cost)",
        source="Boopathy et al. 2024; " + SOURCE.format(6),
        metric=least(*(_lead("direct", f"bits_noise_{size}", f"bits_ten_{size}") for size in SIZES)),
        holds=at_least(0.0),
    ),
    ours(
        id="ten-classes-cost-more",
        statement="Ten classes take more bits than two (50 digits)",
        source="Boopathy et al. 2024; " + SOURCE.format(6),
        metric=_lead("direct", "bits_ten_50", "bits_two_50"),
        holds=at_least(0.0),
    ),
    ours(
        id="saddlepoint-is-exact",
        statement="The saddlepoint agrees with 100,000 draws at a probability of 1e-3 (difference in bits)",
        source=SOURCE.format(6),
        metric=value("direct", "off_by"),
        holds=within(0.0, 0.15),
    ),
    *(
        ours(
            id=f"{better}-brings-more",
            statement=f"{what} on digits (log10 of the bits, difference)",
            source="blog post, architecture information; " + SOURCE.format(7),
            published="Linear < AlexNet < ResNet < ViT on images",
            metric=_lead("architectures", f"log10_bits_{better}", f"log10_bits_{worse}"),
            holds=at_least(0.0),
        )
        for better, worse, what in (
            ("mlp", "linear", "A network with a hidden layer brings more bits than a linear one"),
            ("cnn", "mlp", "and a convolutional one as many as that, or more,"),
        )
    ),
]


def figure(results: Results) -> go.Figure:
    """The tasks with their inputs and bits: as published, computed, and measured here."""
    rows: list[tuple[Any, ...]] = [
        (name, task.n, task.m, task.radius, task.resolution, task.error) for name, task in BENCHMARKS.items()
    ]
    bits = [_mean(results, "published", f"log10_bits_{name}") for name in BENCHMARKS]
    for arm in DATA:
        if arm in results.arms:
            n, m, radius, margin = (_mean(results, arm, key) for key in ("n", "m", "radius", "margin"))
            rows.append((f"{arm}, here", n, m, radius, margin, ERROR))
            bits.append(_mean(results, arm, "log10_bits"))
    names = [row[0] for row in rows]
    numbers = [*zip(*(row[1:] for row in rows), strict=True), bits]
    plot = make_subplots(1, 2, specs=[[{"type": "table"}, {}]], column_widths=[0.6, 0.4])
    header = ["task", "samples", "dimension", "radius", "resolution", "error", "log10 bits"]
    cells = [names, *([f"{number:.4g}" for number in column] for column in numbers)]
    small = {"font": {"size": 10}, "height": 16}  # so that all rows are seen
    plot.add_trace(go.Table(header={"values": header, **small}, cells={"values": cells, **small}), 1, 1)
    here = {"y": names, "x": bits, "orientation": "h", "name": "computed, or measured"}
    plot.add_trace(go.Bar(here), 1, 2)
    published = {"y": list(PUBLISHED), "x": list(PUBLISHED.values()), "mode": "markers", "name": "published"}
    plot.add_trace(go.Scatter(published, marker={"symbol": "line-ns-open", "size": 12, "color": "black"}), 1, 2)
    plot.update_yaxes(autorange="reversed")
    plot.update_layout(
        title="log10 of the bits that a learner must bring along",
        legend={"orientation": "h"},
        margin={"t": 50, "b": 20, "l": 20, "r": 20},
    )
    return plot


def _mean(results: Results, arm: str, key: str) -> float:
    values = [of_seed[arm][key] for of_seed in results.by_seed.values() if arm in of_seed]
    return float(np.mean(values)) if values else math.nan


def seconds(config: Config) -> float:
    """Time of a trial on one core."""
    samples, features = {
        "digits": (1797, 64),
        "mnist": (60_000 if config.whole else 10_000, 784),
        "omniglot": (32_460 if config.whole else 4840, 11_025),
        "cifar10": (50_000, 3072),
    }.get(config.table, (0, 0))
    own = {
        **dict.fromkeys(DATA, samples * features * (8e-8 + 3e-11 * config.queries) + 4e-9 * features * config.pairs),
        "cartpole": 1 + 5e-5 * config.steps,
        "architectures": 0.2 * config.epochs,
    }
    return 1 + own.get(config.table, 0.0)


experiment = Experiment(
    name="generalization-difficulty",
    summary="How many bits a learner must bring along to generalise: published tasks, and tasks measured here",
    paper=PAPER,
    presets={
        "smoke": Preset(Config(queries=500, pairs=10_000, steps=3000, epochs=2, everything=False), seeds=2),
        "laptop": Preset(Config(), seeds=5),
        "paper": Preset(Config(whole=True, queries=10_000, pairs=4_000_000, steps=200_000), seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="log10_bits",
)
