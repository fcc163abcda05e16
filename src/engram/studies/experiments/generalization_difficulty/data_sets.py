"""The measured dimension, radius and margin of data sets, and the bits that follow."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from sklearn.datasets import load_digits

from engram import analysis
from engram.analysis.difficulty.nearest_neighbours import distinct
from engram.lab import Run, setting, settings
from engram.tasks.data import load

Name = Literal["digits", "mnist", "omniglot", "cifar10", "cifar10-as-mnist"]
DATA: tuple[Name, ...] = get_args(Name)
NEIGHBOURS = (3, 5, 10, 20)
AS_MNIST = 10_000, slice(2, 30)  # images, and the rows and columns that are cut out: as many as MNIST has
ERROR = 0.01  # the common target error for comparing measured tasks


@settings
class DataSet:
    """The settings of a data set and the part of it that is used.

    The published data sets are MNIST's training images, uncompressed CIFAR-10 and all of Omniglot; otherwise a trial
    uses smaller versions of them. If a data set has fewer pairs with different labels than requested, all are used. A
    control has as many images of CIFAR-10 as MNIST has test images, cut to 28 x 28 pixels and without colour.
    """

    whole: bool = setting(False, "whether to use the data sets as published")
    queries: int = setting(2000, "samples whose nearest neighbours are found", ge=10)
    pairs: int = setting(400_000, "pairs from which the margin is extrapolated", ge=3000)
    name: Name = setting("digits", "the data set; set by each arm")


def memory(config: DataSet) -> float:
    """The bytes that a trial needs: most of them for the margin, in which all images are compared."""
    numbers = {"mnist": 60_000 * 28 * 28, "omniglot": 32_460 * 105 * 105, "cifar10": 50_000 * 32 * 32 * 3}
    return 0.5e9 + 11 * 4 * numbers.get(config.name, 0) * config.whole  # 11 times the images were measured


def images_of(config: DataSet) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images as rows with values from 0 to 1, their labels, and the alphabets of labels, if any."""
    alphabets: list[str] = []
    if config.name == "digits":
        images, labels = load_digits(return_X_y=True)
        images /= 16
    elif config.name == "omniglot":
        characters = load("omniglot" if config.whole else "omniglot-small")
        images = characters.images.reshape(-1, *characters.images.shape[2:]) < 128  # ink
        labels = np.repeat(np.arange(len(characters.names)), characters.images.shape[1])
        alphabets = [name.split("/")[0] for name in characters.names]
    else:
        is_cifar = config.name.startswith("cifar10")
        name = ("cifar10" if config.whole else "cifar10-jpeg") if is_cifar else config.name
        count, cut = AS_MNIST
        # Every copy of MNIST has the test images.
        part: dict[str, Any] = {"split": "test" if config.name == "mnist" and not config.whole else "train"}
        part |= {"first": count} if config.name == "cifar10-as-mnist" else {}
        images, labels = load(name, **part)
        if config.name == "cifar10-as-mnist":
            images = images[:, cut, cut].mean(3, dtype=np.float32)
        images = np.divide(images, 255, dtype=np.float32)
    return images.reshape(len(images), -1).astype(np.float32, copy=False), labels.astype(np.int64), alphabets


def trial(config: DataSet, run: Run) -> dict[str, Any]:
    """Measure the dimension, the radius and the margin of a data set, and compute its bits."""
    images, labels, alphabets = images_of(config)
    measured = np.zeros(len(NEIGHBOURS) + 1)
    for step in run.steps(2, measured=measured):
        if step == 0:
            distinct_rows, _ = distinct(images)
            points = images if len(distinct_rows) == len(images) else images[distinct_rows]
            query_rows = np.sort(run.rng.choice(len(points), min(config.queries, len(points)), replace=False))
            distances = analysis.nearest_distances(points, max(NEIGHBOURS), query_rows)
            measured[:-1] = [analysis.maximum_likelihood_dimension(distances[:, :k])[0] for k in NEIGHBOURS]
        else:
            measured[-1] = analysis.class_margin(
                images, labels, n_pairs=config.pairs, drop_conflicts=True, seed=run.rng
            ).value
    *dimensions, margin = measured.tolist()
    result: dict[str, Any] = {f"m_{k}": dimension for k, dimension in zip(NEIGHBOURS, dimensions, strict=True)}
    classes, radius = len(np.unique(labels)), float(np.linalg.norm(images, axis=1).max())
    task = analysis.GeneralizationTask(len(images), result["m_5"], radius, margin, ERROR, classes, classes - 1)
    result |= {"n": len(images), "m": result["m_5"], "radius": radius, "margin": margin}
    result["log10_bits"] = task.difficulty().log10_bits
    if alphabets:
        alphabet_of_image = np.array(alphabets)[labels]
        within = [
            analysis.intrinsic_dimension(images[alphabet_of_image == name]).value for name in sorted(set(alphabets))
        ]
        result["m_within"] = float(np.mean(within))
    run.log(1, m=result["m"], log10_bits=result["log10_bits"])
    return result
