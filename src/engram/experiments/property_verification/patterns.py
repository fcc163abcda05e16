"""Regions in balls around MNIST images, one for each of the most frequent patterns of a network of ten layers.

A ball hardly ever contains a second image, so volume and perimeter relative to the ball are more informative than
support.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.analysis.verify import Box, activation_pattern, relaxed_region
from engram.experiments.property_verification.networks import trained
from engram.lab import Run, setting, settings
from engram.tasks.data import load

SIZES = (784, *[10] * 10, 10)
TRAIN = 8000  # of the 10,000 images of MNIST's test set, which is the smaller file
PUBLISHED = (1e-5, 1e-3, 0.1, 1.0)  # slacks
METHODS = ("direct", *(f"eps {eps:g}" for eps in PUBLISHED), "tight")
FLAT = -10_000.0  # stands for the logarithm of a zero volume, far below that of any other
MEASURES = ("support", "log_volume", "perimeter")


@settings
class Patterns:
    """The settings of the inputs and the budget of queries."""

    inputs: int = setting(50, "images around which regions are computed, each with a different pattern", ge=1)
    radius: float = setting(0.05, "radius of the ball around an image, with pixels from 0 to 1", gt=0)
    epochs: int = setting(60, "epochs of training", ge=1)
    nodes: int = setting(
        20, "most nodes of the solver per query; not a time limit, so that answers are reproducible", ge=1
    )


def trial(config: Patterns, run: Run) -> dict[str, Any]:
    """Measure the regions of both methods around one image of each frequent pattern."""
    mnist = load("mnist", split="test")
    order = run.rng.permutation(len(mnist.images))
    X, y = mnist.images.reshape(-1, 784)[order] / 255, mnist.labels[order]
    net = trained(SIZES, X[:TRAIN], y[:TRAIN], config.epochs, run.generator)
    bits = np.hstack(activation_pattern(net, X))
    _, first_rows, count = np.unique(bits, axis=0, return_index=True, return_counts=True)
    centres = X[first_rows[np.argsort(-count, kind="stable")][: config.inputs]]
    table = np.zeros((len(centres), len(METHODS), len(MEASURES)))
    holds = np.zeros(len(centres))
    for number in run.steps(len(centres), table=table, holds=holds):
        x0 = centres[number]
        box = Box(np.maximum(x0 - config.radius, 0), np.minimum(x0 + config.radius, 1))
        logits = np.sort(net(x0))
        full_size = np.log(box.high - box.low).sum(), (box.high - box.low).sum()
        for column, name in enumerate(METHODS):
            # A slack above the margin would exclude the input from its own region.
            options: Any = {"mode": "direct"} if name == "direct" else {}
            if name.startswith("eps"):
                options = {"eps_absolute": min(PUBLISHED[column - 1], logits[-1] - logits[-2]), "tighten": False}
            region = relaxed_region(net, x0, box, rng=run.rng, time_limit=1e6, node_limit=config.nodes, **options)
            volume = region.volume_box().log_volume - full_size[0]
            inner_box = region.perimeter_box()
            width = np.nan_to_num(inner_box.high - inner_box.low).sum() / full_size[1]
            table[number, column] = region.support(X), max(volume, FLAT), width
            if name == "direct":
                holds[number] = region.mode == "direct"
        run.log(number + 1, support=table[number, -1, 0], log_volume=table[number, -1, 1])
    best = table[:, 1 : len(PUBLISHED) + 1].max(1)
    result = {
        "accuracy": float((net(X[TRAIN:]).argmax(1) == y[TRAIN:]).mean()),
        "patterns": len(first_rows),
        "holds": float(holds.mean()),
    }
    for name, of_method in (("direct", table[:, 0]), ("structural", best), ("tight", table[:, -1])):
        result |= {f"{measure}_{name}": float(of_method[:, i].mean()) for i, measure in enumerate(MEASURES)}
        result[f"log_volume_{name}"] = float(np.median(of_method[:, 1]))  # one flat region would decide a mean
    # Both may be flat: then neither is larger.
    return result | {"log_volume_gain": float(np.median(best[:, 1] - table[:, 0, 1]))}
