"""Regions around MNIST images, one for each of the most frequent patterns of a network of ten layers.

Inputs are all images, with pixels from 0 to 1, as published. The published network has learned from 60,000 images,
ours learns from 8,000.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engram.lab import Run, setting, settings
from engram.studies.experiments.property_verification.networks import trained
from engram.tasks.data import load
from engram.verify import Box, activation_pattern, relaxed_region

SIZES = (784, *[10] * 10, 10)
TRAIN = 8000  # of the 10,000 images of MNIST's test set, which is the smaller file
PUBLISHED = (1e-5, 1e-3, 0.1, 1.0)  # slacks
FLAT = -10_000.0  # stands for the logarithm of a zero volume, far below that of any other
MEASURES = ("support", "log_volume", "width")


@settings
class Patterns:
    """The settings of the inputs and the budget of queries."""

    inputs: int = setting(50, "images around which regions are computed, each with a different pattern", ge=1)
    epochs: int = setting(60, "epochs of training", ge=1)
    nodes: int = setting(
        20, "most nodes of the solver per query; not a time limit, so that answers are reproducible", ge=1
    )


def trial(config: Patterns, run: Run) -> dict[str, Any]:
    """Measure the regions of both methods around one image of each frequent pattern."""
    mnist = load("mnist", split="test")
    order = run.rng.permutation(len(mnist.images))
    X, y = mnist.images.reshape(len(mnist.images), -1)[order] / 255, mnist.labels[order]
    net = trained(SIZES, X[:TRAIN], y[:TRAIN], config.epochs, run.generator)
    bits = np.hstack(activation_pattern(net, X))
    _, first_rows, count = np.unique(bits, axis=0, return_index=True, return_counts=True)
    centres = X[first_rows[np.argsort(-count, kind="stable")][: config.inputs]]
    images = Box(np.zeros(SIZES[0]), np.ones(SIZES[0]))
    table = np.zeros((len(centres), 1 + len(PUBLISHED), len(MEASURES)))
    holds = np.zeros(len(centres))
    for number in run.steps(len(centres), table=table, holds=holds):
        x0 = centres[number]
        logits = np.sort(net(x0))
        for column, slack in enumerate((None, *PUBLISHED)):
            options: dict[str, Any] = {"mode": "direct"}
            if slack is not None:  # one above the margin would exclude the input from its own region
                options = {"eps_absolute": min(slack, logits[-1] - logits[-2]), "tighten": False}
            region = relaxed_region(net, x0, images, rng=run.rng, time_limit=1e6, node_limit=config.nodes, **options)
            volume, inner_box = region.volume_box().log_volume, region.perimeter_box()
            width = np.nan_to_num(inner_box.high - inner_box.low).mean()
            table[number, column] = region.support(X), max(volume, FLAT), width
            if slack is None:
                holds[number] = region.mode == "direct"
        run.log(number + 1, support=table[number, 0, 0], log_volume=table[number, 0, 1])
    direct, structural = table[:, 0], table[:, 1:].max(1)
    result = {
        "accuracy": float((net(X[TRAIN:]).argmax(1) == y[TRAIN:]).mean()),
        "patterns": len(first_rows),
        "holds": float(holds.mean()),
    }
    for name, of_method in (("direct", direct), ("structural", structural)):
        support, volume, width = of_method.T
        # One flat region would decide a mean of logarithms.
        result |= {f"support_{name}": float(support.mean()), f"log_volume_{name}": float(np.median(volume))}
        result |= {f"width_{name}": float(width.mean())}
    # Both may be flat: then neither is larger.
    return result | {"log_volume_gain": float(np.median(structural[:, 1] - direct[:, 1]))}
