"""Certified radii of networks of one hidden layer on images, whose hidden layer learned in one of seven ways."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from sklearn.datasets import load_digits

from engram.analysis.verify import AffineReLU, certified_radius, crown_bounds
from engram.experiments.property_verification.networks import Array, trained
from engram.lab import Run, setting, settings
from engram.rules import AlignAda, FeedbackAlignment, SynapticRule
from engram.rules.synaptic import competitive
from engram.tasks.data import load

Training = Literal["backprop", "matched", "hebbian", "soft", "random", "feedback", "align"]
SOFT = competitive(temperature=0.1)
# The solver may take so many nodes for one question: not seconds, so that answers are the same everywhere.
exact_radius = partial(certified_radius, method="exact", low=0.0, high=1.0, maximum=0.5, time_limit=1e6, node_limit=500)


@settings
class Radii:
    """How the network learned, and how many radii are exact.

    Matched: back-propagation stopped at Hebbian's accuracy; soft: Hebbian with soft competition; feedback: feedback
    alignment; align: align-ada.
    """

    training: Training = setting("backprop", "how the hidden layer learned; each arm sets its own")
    images: Literal["digits", "mnist"] = setting("digits", "8 x 8 pixels, or means over squares of 4 x 4 of 28 x 28")
    exact: int = setting(1, "test inputs for which the solver is asked for the radius, too", ge=1, scales=True)
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
    """A layer learned by winner-take-all: the unit most active turns towards the input, less the mean of all inputs.

    With a rule, its pseudo-gradients turn all units instead.
    """
    mean = X.mean(0)
    W = rng.normal(size=(units, X.shape[1]))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    for epoch in range(10):
        for x in X[rng.permutation(len(X))] - mean:
            activity = W @ x
            if rule:
                pre, post, weight = map(torch.from_numpy, (x[None], activity[None], W))
                W -= 0.1 * 0.7**epoch * rule.update(pre, post, weight, None).grad.numpy()
                W /= np.maximum(np.linalg.norm(W, axis=1, keepdims=True), 1e-12)
                continue
            winner = int(np.argmax(activity))
            W[winner] += 0.1 * 0.7**epoch * (x - W[winner])
            W[winner] /= max(float(np.linalg.norm(W[winner])), 1e-12)
    return W, -W @ mean


def drawn_images(images: str, rng: np.random.Generator) -> tuple[Array, np.ndarray, int]:
    """Images between 0 and 1 and their digits in a drawn order, and how many are for training."""
    if images == "digits":
        X, y = load_digits(return_X_y=True)
        X, train = X / 16, 1200
    else:
        mnist = load("mnist", split="test")
        X, y, train = mnist.images.reshape(-1, 7, 4, 7, 4).mean((2, 4)).reshape(-1, 49) / 255, mnist.labels, 8000
    order = rng.permutation(len(X))
    return X[order], y[order], train


def trial(config: Radii, run: Run) -> dict[str, Any]:
    """Measure certified radii of a network whose hidden layer learned in one of seven ways."""
    X, y, count = drawn_images(config.images, run.rng)
    train, test = slice(0, count), slice(count, None)
    sizes = (X.shape[1], config.hidden, 10)

    def accuracy(net: AffineReLU) -> float:
        return float((net(X[test]).argmax(1) == y[test]).mean())

    hebbian = hebbian_layer(X[train], config.hidden, run.rng)
    drawn = run.rng.normal(size=sizes[1::-1]) / 8
    hidden = {"hebbian": hebbian, "random": (drawn, -drawn @ X[train].mean(0))}.get(config.training)
    if config.training == "soft":
        hidden = hebbian_layer(X[train], config.hidden, run.rng, SOFT)
    rule = {"feedback": FeedbackAlignment(), "align": AlignAda()}.get(config.training)
    enough = None
    if config.training == "matched":
        seed = torch.Generator().manual_seed(0)
        target = accuracy(trained(sizes, X[train], y[train], config.epochs, seed, hidden=hebbian))
        enough = lambda net: accuracy(net) >= target  # noqa: E731
    net = trained(sizes, X[train], y[train], config.epochs, run.generator, hidden=hidden, enough=enough, rule=rule)
    right = np.flatnonzero(net(X[test]).argmax(1) == y[test])
    chosen, labels = X[test][right], y[test][right]
    crown = certified_radius(net, chosen, labels, low=0.0, high=1.0)
    other = np.array([np.abs(X[y != c] - x).max(1).min() for x, c in zip(chosen, labels, strict=True)])
    low, high = np.maximum(chosen - 0.05, 0), np.minimum(chosen + 0.05, 1)
    ((lower, upper),) = crown_bounds(net, low, high).layers
    exact = np.zeros(min(config.exact, len(chosen)))
    for i in run.steps(len(exact), exact=exact):
        exact[i] = exact_radius(net, chosen[[i]], labels[[i]])[0]
        run.log(i + 1, radius=exact[i])
    return {
        "accuracy": accuracy(net),
        "radius": float(np.median(crown)),
        "radius_over_distance": float(np.median(crown / other)),
        "solved_over_crown": float(np.median(exact / np.maximum(crown[: len(exact)], 1e-9))),
        "unstable": float(((lower < 0) & (upper > 0)).mean()),
        "disorder": float((crown[: len(exact)] > exact + 1e-6).sum()),
    }
