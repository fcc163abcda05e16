"""Regions in balls around images of MNIST, one for each of the most frequent patterns of a network of ten layers.

A ball hardly ever holds a second image, so that volume and perimeter, as parts of the ball's, tell more than support.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt

from engram.analysis.verify import Box, activation_pattern, relaxed_region
from engram.experiments.property_verification.networks import trained
from engram.lab import Run
from engram.tasks.data import load

SIZES = (784, *[10] * 10, 10)
TRAIN = 8000  # of the 10,000 images of MNIST's test set: as small a file as has them
PUBLISHED = (1e-5, 1e-3, 0.1, 1.0)  # slacks
METHODS = ("direct", *(f"eps {eps:g}" for eps in PUBLISHED), "tight")
FLAT = -10_000.0  # logarithm of a volume of 0; that of regions with a volume is far above, and means have to be finite
MEASURES = ("support", "log_volume", "perimeter")


@dataclass(frozen=True)
class Patterns:
    """Inputs, and what a question may cost."""

    inputs: Annotated[int, Ge(1)] = 50
    """Images around which regions are computed, one for each of so many patterns."""
    radius: Annotated[float, Gt(0.0)] = 0.05
    """Of the ball that holds the regions, in each pixel; values are from 0 to 1."""
    epochs: Annotated[int, Ge(1)] = 60
    """Epochs of training."""
    nodes: Annotated[int, Ge(1)] = 20
    """The solver may take so many nodes for one question: not seconds, so that answers are the same everywhere."""


def trial(config: Patterns, run: Run) -> dict[str, Any]:
    """Measure the regions of both methods around one image of each frequent pattern."""
    found = load("mnist", split="test")
    order = run.rng.permutation(len(found.images))
    X, y = found.images.reshape(-1, 784)[order] / 255, found.labels[order]
    net = trained(SIZES, X[:TRAIN], y[:TRAIN], config.epochs, run.generator)
    bits = np.hstack(activation_pattern(net, X))
    _, first, count = np.unique(bits, axis=0, return_index=True, return_counts=True)
    chosen = X[first[np.argsort(-count, kind="stable")][: config.inputs]]
    table = np.zeros((len(chosen), len(METHODS), len(MEASURES)))
    holds = np.zeros(len(chosen))
    for number in run.steps(len(chosen), table=table, holds=holds):
        x0 = chosen[number]
        box = Box(np.maximum(x0 - config.radius, 0), np.minimum(x0 + config.radius, 1))
        top = np.sort(net(x0))
        whole = np.log(box.high - box.low).sum(), (box.high - box.low).sum()
        for place, name in enumerate(METHODS):
            # A slack above the margin would leave the input outside its own region.
            kind: Any = {"mode": "direct"} if name == "direct" else {}
            if name.startswith("eps"):
                kind = {"eps_absolute": min(PUBLISHED[place - 1], top[-1] - top[-2]), "tighten": False}
            region = relaxed_region(net, x0, box, rng=run.rng, time_limit=1e6, node_limit=config.nodes, **kind)
            volume = region.volume_box().log_volume - whole[0]
            sides = region.perimeter_box()
            width = np.nan_to_num(sides.high - sides.low).sum() / whole[1]
            table[number, place] = region.support(X), max(volume, FLAT), width
            if name == "direct":
                holds[number] = region.mode == "direct"
        run.log(number + 1, support=table[number, -1, 0], log_volume=table[number, -1, 1])
    best = table[:, 1 : len(PUBLISHED) + 1].max(1)
    result = {
        "accuracy": float((net(X[TRAIN:]).argmax(1) == y[TRAIN:]).mean()),
        "patterns": len(first),
        "holds": float(holds.mean()),
    }
    for name, of_method in (("direct", table[:, 0]), ("structural", best), ("tight", table[:, -1])):
        result |= {f"{one}_{name}": float(of_method[:, i].mean()) for i, one in enumerate(MEASURES)}
    return result


def seconds(config: Patterns) -> float:
    """Time of a trial: epochs, and six regions for each image."""
    return 1.8 * config.epochs + 30.0 * config.inputs
