"""Certified radii of networks with one hidden layer on images, trained in one of eight ways."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from sklearn.datasets import load_digits

from engram.lab import Run, setting, settings
from engram.rules import AlignAda, FeedbackAlignment, SynapticRule
from engram.rules.synaptic import competitive
from engram.studies.experiments.property_verification.networks import Array, trained
from engram.tasks.data import load
from engram.verify import AffineReLU, certified_radius, crown_bounds

Training = Literal["backprop", "matched", "decay", "hebbian", "soft", "random", "feedback", "align"]
# Candidate weight decays, close enough to each other that one of them ends at about the Hebbian accuracy.
DECAYS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
JUDGED = 300  # validation images whose radii choose one of them
# Training stops by the mean of three validations: a single one above the required accuracy is often so by chance, and
# with five the network is already more accurate than their mean.
VALIDATIONS = 3
SOFT = competitive(temperature=0.1)
# A limit on the solver's nodes per query, not on time, so that answers are the same everywhere.
exact_radius = partial(certified_radius, method="exact", low=0.0, high=1.0, maximum=0.5, time_limit=1e6, node_limit=500)


@settings
class Radii:
    """The settings for training a network and computing exact radii.

    ``matched`` is back-propagation stopped at the validation accuracy of the Hebbian network, ``decay`` the weight
    decay with the largest radii among those that reach this accuracy, ``soft`` Hebbian learning with soft competition,
    ``feedback`` feedback alignment, and ``align`` align-ada.
    """

    training: Training = setting("backprop", "how the hidden layer learns; set by each arm")
    images: Literal["digits", "mnist"] = setting(
        "digits", "digits of 8 x 8 pixels, or MNIST averaged over squares of 4 x 4 pixels"
    )
    exact: int = setting(1, "test inputs for which the exact radius is also computed", ge=1)
    epochs: int = setting(60, "epochs of training", ge=1)
    hidden: int = setting(64, "units of the hidden layer", ge=1)


WAYS = get_args(Training)
arms: dict[str, dict[str, Any]] = {
    **{f"radius-{way}": {"training": way} for way in WAYS},
    # The specified network and training on MNIST: 49-32-10 for 15 epochs.
    **{f"mnist-{way}": {"training": way, "images": "mnist", "hidden": 32, "epochs": 15} for way in WAYS},
}


def hebbian_layer(
    X: Array, units: int, rng: np.random.Generator, rule: SynapticRule[None] | None = None
) -> tuple[Array, Array]:
    """A layer trained by winner-take-all learning: the most active unit moves towards the centred input.

    Args:
        X: The inputs.
        units: Number of units.
        rng: Draws the initial weights and the order of the inputs.
        rule: A synaptic rule whose pseudo-gradients update all units instead.
    """
    mean = X.mean(0)
    weights = rng.normal(size=(units, X.shape[1]))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    for epoch in range(10):
        for x in X[rng.permutation(len(X))] - mean:
            activity = weights @ x
            if rule:
                pre, post, weight = map(torch.from_numpy, (x[None], activity[None], weights))
                weights -= 0.1 * 0.7**epoch * rule.update(pre, post, weight, None).grad.numpy()
                weights /= np.maximum(np.linalg.norm(weights, axis=1, keepdims=True), 1e-12)
                continue
            winner = int(np.argmax(activity))
            weights[winner] += 0.1 * 0.7**epoch * (x - weights[winner])
            weights[winner] /= max(float(np.linalg.norm(weights[winner])), 1e-12)
    return weights, -weights @ mean


def drawn_images(images: str, rng: np.random.Generator) -> list[tuple[Array, np.ndarray]]:
    """Randomly ordered images in [0, 1] with their digits, for training, validation and test."""
    if images == "digits":
        X, y = load_digits(return_X_y=True)
        X, ends = X / 16, (1000, 1200)
    else:
        mnist = load("mnist", split="test")
        X, y = mnist.images.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49) / 255, mnist.labels
        ends = (7000, 8000)
    order = rng.permutation(len(X))
    return list(zip(np.split(X[order], ends), np.split(y[order], ends), strict=True))


def is_correct(net: AffineReLU, X: Array, y: np.ndarray) -> np.ndarray:
    """Whether a network classifies each image correctly.

    Args:
        net: The network.
        X: The images, (images, pixels).
        y: Their classes.
    """
    return np.asarray(net(X).argmax(1) == y)


def radii(net: AffineReLU, X: Array, y: np.ndarray) -> Array:
    """Certified radii of the images that a network classifies correctly.

    Args:
        net: The network.
        X: The images, (images, pixels).
        y: Their classes.
    """
    correct = is_correct(net, X, y)
    return certified_radius(net, X[correct], y[correct], low=0.0, high=1.0)


def trial(config: Radii, run: Run) -> dict[str, Any]:
    """Measure certified radii of a network trained in one of eight ways."""
    (X, y), validation, (X_test, y_test) = drawn_images(config.images, run.rng)
    sizes = (X.shape[1], config.hidden, 10)
    hebbian = hebbian_layer(X, config.hidden, run.rng)
    weights = run.rng.normal(size=sizes[1::-1]) / 8
    hidden = {"hebbian": hebbian, "random": (weights, -weights @ X.mean(0))}.get(config.training)
    if config.training == "soft":
        hidden = hebbian_layer(X, config.hidden, run.rng, SOFT)
    learn = partial(trained, sizes, X, y, config.epochs, hidden=hidden)
    rule = {"feedback": FeedbackAlignment(), "align": AlignAda()}.get(config.training)
    is_rival = config.training in ("matched", "decay")
    hebbian_accuracy = is_correct(learn(run.generator, hidden=hebbian), *validation).mean() if is_rival else 0.0
    latest: deque[float] = deque(maxlen=VALIDATIONS)

    def as_accurate(net: AffineReLU) -> bool:
        """Whether training has reached the accuracy of the Hebbian network, as a mean of the latest validations."""
        latest.append(float(is_correct(net, *validation).mean()))
        return len(latest) == VALIDATIONS and float(np.mean(latest)) >= hebbian_accuracy

    def score(decay: float) -> float:
        """The median radius of a network as accurate as the Hebbian one, otherwise its accuracy minus 1."""
        net = learn(run.generator, weight_decay=decay)
        accuracy = float(is_correct(net, *validation).mean())
        return float(np.median(radii(net, *judged))) if accuracy >= hebbian_accuracy else accuracy - 1

    judged = validation[0][:JUDGED], validation[1][:JUDGED]
    decay = run.choose("weight_decay", DECAYS, score) if config.training == "decay" else 0.0
    enough = as_accurate if config.training == "matched" else None
    net = learn(run.generator, enough=enough, rule=rule, weight_decay=decay)
    correct, crown = is_correct(net, X_test, y_test), radii(net, X_test, y_test)
    inputs, labels = X_test[correct], y_test[correct]
    images, classes = np.concatenate((X, X_test)), np.concatenate((y, y_test))
    nearest = np.array(
        [np.abs(images[classes != label] - x).max(1).min() for x, label in zip(inputs, labels, strict=True)]
    )
    low, high = np.maximum(inputs - 0.05, 0), np.minimum(inputs + 0.05, 1)
    ((lower, upper),) = crown_bounds(net, low, high).layers
    exact = np.zeros(min(config.exact, len(inputs)))
    for i in run.steps(len(exact), exact=exact):
        exact[i] = exact_radius(net, inputs[[i]], labels[[i]])[0]
        run.log(i + 1, radius=exact[i])
    return {
        "accuracy": float(correct.mean()),
        "radius": float(np.median(crown)),
        "radius_over_distance": float(np.median(crown / nearest)),
        "solved_over_crown": float(np.median(exact / np.maximum(crown[: len(exact)], 1e-9))),
        "unstable": float(((lower < 0) & (upper > 0)).mean()),
        "disorder": float((crown[: len(exact)] > exact + 1e-6).sum()),
    }
