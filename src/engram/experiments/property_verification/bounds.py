"""Bounds and radii: the engines' order, questions about ACAS Xu, radii by how a hidden layer learned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from sklearn.datasets import load_digits

from engram.analysis.verify import (
    AffineReLU,
    Box,
    Budget,
    acasxu_property,
    certified_radius,
    crown_bounds,
    interval_bounds,
    maximize,
    read_nnet,
    verify,
)
from engram.experiments.property_verification.networks import Array, RandomNetworks, random_network, trained
from engram.lab import Run
from engram.tasks.data import load


@dataclass(frozen=True)
class AcasXu:
    """What a question may cost."""

    boxes: Annotated[int, Ge(1)] = 20_000
    """Most boxes for one question; not seconds, so that answers are the same everywhere."""


def order(config: RandomNetworks, run: Run) -> dict[str, Any]:
    """Compare the bounds of all engines with the exact maximum and with samples."""
    names = ("interval", "crown", "lp", "milp", "sampled")
    table = np.zeros((config.networks, len(names)))
    for number in run.steps(config.networks, table=table):
        net = random_network(config.sizes, run.rng)
        centre = run.rng.normal(size=net.sizes[0])
        box = Box(centre - 0.5, centre + 0.5)
        q = np.eye(net.sizes[-1])[0]
        sampled = net(run.rng.uniform(box.low, box.high, (config.points, net.sizes[0])))[:, 0].max()
        upper = {engine: maximize(net, box, q, engine=engine).upper for engine in ("crown", "lp", "milp")}
        interval = float(interval_bounds(net, box.low, box.high)[1][0])
        # Layers within are cut with intervals by the bounds themselves, the output is here: neither is always tighter.
        upper["crown"] = min(upper["crown"], interval)
        table[number] = interval, *upper.values(), sampled
        run.log(number + 1, gap=upper["crown"] - upper["milp"])
    steps = table[:, :-1] - table[:, 1:]
    result = {f"gap_{name}": float((table[:, i] - table[:, 3]).mean()) for i, name in enumerate(names)}
    return {**result, "disorder": float((steps < -1e-6).sum())}


def acasxu(config: AcasXu, run: Run) -> dict[str, Any]:
    """Ask the standard questions about the ACAS Xu networks."""
    asked = [(number, name) for number in (1, 3, 4) for name in acasxu_property(number).networks]
    answers = np.zeros(len(asked))
    for i in run.steps(len(asked), answers=answers):
        number, name = asked[i]
        net, scale = read_nnet(load("acasxu", network=name))
        one = acasxu_property(number)
        budget = Budget(seconds=1e6, nodes=config.boxes)
        found = [verify(net, scale.box(box), one.claim, budget=budget).status for box in one.boxes]
        answers[i] = all(status == "proved" for status in found) - any(status == "refuted" for status in found)
        run.log(i + 1, proved=answers[i])
    return {"proved": float((answers > 0).mean()), "refuted": float((answers < 0).mean())}


Training = Literal["backprop", "matched", "hebbian", "random"]
# The solver may take so many nodes for one question: not seconds, so that answers are the same everywhere.
exact_radius = partial(certified_radius, method="exact", low=0.0, high=1.0, most=0.5, time_limit=1e6, node_limit=500)


@dataclass(frozen=True)
class Radii:
    """How the network learned, and how many radii are exact."""

    training: Training = "backprop"
    """How the hidden layer learned; matched: back-propagation, stopped at Hebbian's accuracy. Each arm has its own."""
    exact: Annotated[int, Ge(1)] = 1
    """Test inputs for which the solver is asked for the radius as well; the one by CROWN is for all."""
    epochs: Annotated[int, Ge(1)] = 60
    """Epochs of training."""
    hidden: Annotated[int, Ge(1)] = 64
    """Units of the hidden layer."""


def hebbian_layer(X: Array, units: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Learn weights by winner-take-all: the unit most active turns towards the input, less the mean of all inputs."""
    mean = X.mean(0)
    W = rng.normal(size=(units, X.shape[1]))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    for epoch in range(10):
        for x in X[rng.permutation(len(X))] - mean:
            winner = int(np.argmax(W @ x))
            W[winner] += 0.1 * 0.7**epoch * (x - W[winner])
            W[winner] /= max(float(np.linalg.norm(W[winner])), 1e-12)
    return W, -W @ mean


def certified_radii(config: Radii, run: Run) -> dict[str, Any]:
    """Measure certified radii of a network on digits, whose hidden layer learned in one of four ways."""
    X, y = load_digits(return_X_y=True)
    order = run.rng.permutation(len(X))
    X, y = X[order] / 16, y[order]
    train, test = slice(0, 1200), slice(1200, None)
    sizes = (64, config.hidden, 10)

    def accuracy(net: AffineReLU) -> float:
        return float((net(X[test]).argmax(1) == y[test]).mean())

    hebbian = hebbian_layer(X[train], config.hidden, run.rng)
    drawn = run.rng.normal(size=(config.hidden, 64)) / 8
    hidden = {"hebbian": hebbian, "random": (drawn, -drawn @ X[train].mean(0))}.get(config.training)
    enough = None
    if config.training == "matched":
        seed = torch.Generator().manual_seed(0)
        target = accuracy(trained(sizes, X[train], y[train], config.epochs, seed, hidden=hebbian))
        enough = lambda net: accuracy(net) >= target  # noqa: E731
    net = trained(sizes, X[train], y[train], config.epochs, run.generator, hidden=hidden, enough=enough)
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
