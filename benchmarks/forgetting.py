"""Accuracy and speed of linear probes, and the time of a step of a learned update.

Three probes are fitted to the same frozen features of digits, with ten seeds: engram's probe; scikit-learn's logistic
regression, which solves the same problem; and a probe trained by 30 epochs of gradient descent, as in published
protocols (batches of 32, rate 0.01, momentum 0.9). The steps of optimisers are on a convolutional body of 52,720
weights with given gradients. All variants run in one process on one thread, in turn.
``python benchmarks/forgetting.py`` takes some minutes.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import cross_entropy

from engram.analysis import LinearProbe
from engram.learned.updates import GatedCoordinateRule, LearnedOptimizer

RECORD = Path(__file__).with_suffix(".json")
TRAINED, UNITS, L2, SEEDS, REPEATS, STEPS = 1200, 64, 1e-2, 10, 5, 50
PARAMETERS = ((16, 1, 3, 3), (16,), (16, 16, 3, 3), (16,), (64, 784), (64,))
Examples = tuple[np.ndarray, np.ndarray]


def features() -> tuple[Examples, Examples]:
    """Return the features of digits in a random, untrained layer of rectified units, for training and test."""
    images, labels = load_digits(return_X_y=True)
    layer = np.random.default_rng(0).normal(size=(images.shape[1], UNITS)) / 8
    features = np.maximum(images / 16 @ layer, 0)
    return (features[:TRAINED], labels[:TRAINED]), (features[TRAINED:], labels[TRAINED:])


def by_descent(train: Examples, test: Examples, seed: int) -> float:
    torch.manual_seed(seed)
    head, (x, y) = nn.Linear(UNITS, 10), (torch.from_numpy(part) for part in train)
    x, optimizer = x.float(), torch.optim.SGD(head.parameters(), 0.01, 0.9)
    for _ in range(30):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            cross_entropy(head(x[batch]), y[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        answers = head(torch.from_numpy(test[0]).float()).argmax(1).numpy()
    return float((answers == test[1]).mean())


def probes() -> dict[str, dict[str, list[float]]]:
    """Return the accuracies and the seconds of each probe."""
    train, test = features()
    logistic = LogisticRegression(C=1 / (L2 * TRAINED), tol=1e-6, max_iter=5000)
    ways: dict[str, Callable[[int], float]] = {
        "engram": lambda seed: LinearProbe(L2).fit(*train).score(*test),
        "scikit-learn": lambda seed: make_pipeline(StandardScaler(), logistic).fit(*train).score(*test),
        "gradient descent": lambda seed: by_descent(train, test, seed),
    }
    measured: dict[str, dict[str, list[float]]] = {name: {"accuracy": [], "seconds": []} for name in ways}
    for seed in range(SEEDS):
        for name, way in ways.items():
            start = time.perf_counter()
            measured[name]["accuracy"].append(way(seed))
            measured[name]["seconds"].append(time.perf_counter() - start)
    return measured


def steps() -> dict[str, list[float]]:
    """Return the seconds of a step of each optimiser."""
    generator = torch.Generator().manual_seed(0)
    seconds: dict[str, list[float]] = {"Adam": [], "learned": []}
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for name in seconds:
        params = [torch.randn(shape, generator=generator).requires_grad_() for shape in PARAMETERS]
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        if name == "Adam":
            optimizers[name] = torch.optim.Adam(params, 1e-3)
            continue
        learned = LearnedOptimizer(params, rule=GatedCoordinateRule(len(params), generator=generator))
        learned.consolidate([torch.rand(p.shape, generator=generator) for p in params])
        optimizers[name] = learned
    for _ in range(REPEATS):
        for name, optimizer in optimizers.items():
            start = time.perf_counter()
            for _ in range(STEPS):
                optimizer.step()
            seconds[name].append((time.perf_counter() - start) / STEPS)
    return seconds


def section(record: dict[str, Any]) -> list[str]:
    ours = record["probes"]["engram"]
    rows = []
    for name, measured in record["probes"].items():
        accuracy, seconds = measured["accuracy"], statistics.median(measured["seconds"])
        times = seconds / statistics.median(ours["seconds"])
        spread = max(accuracy) - min(accuracy)
        rows.append(f"| {name} | {statistics.mean(accuracy):.4f} | {spread:.4f} | {1e3 * seconds:.0f} | {times:.1f}x |")
    descent = record["probes"]["gradient descent"]
    gap = abs(statistics.mean(ours["accuracy"]) - statistics.mean(record["probes"]["scikit-learn"]["accuracy"]))
    targets = {
        "accuracy within 0.005 of scikit-learn's": gap <= 0.005,
        "at least as accurate as gradient descent": min(ours["accuracy"]) >= statistics.mean(descent["accuracy"]),
        "the same with every seed": max(ours["accuracy"]) == min(ours["accuracy"]),
        "faster than gradient descent": statistics.median(ours["seconds"]) < statistics.median(descent["seconds"]),
    }
    adam, learned = (statistics.median(record["steps"][name]) for name in ("Adam", "learned"))
    return [
        "## Forgetting",
        "",
        f"Probes of the same frozen features of digits ({UNITS} units), fitted to {TRAINED} images: accuracy on other",
        f"images, its range over {SEEDS} seeds, and the time in milliseconds.",
        "",
        f"Load average before the run {record['load']:.1f}.",
        "",
        "| probe | accuracy | range over seeds | ms | over engram |",
        "|---|---|---|---|---|",
        *rows,
        "",
        *[f"- {name}: {'met' if met else 'NOT MET'}" for name, met in targets.items()],
        "",
        f"A step of a learned update of 52,720 weights takes {1e3 * learned:.1f} ms, a step of Adam "
        f"{1e3 * adam:.2f} ms.",
        "",
    ]


def main() -> None:
    torch.set_num_threads(1)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    record: dict[str, Any] = {"load": load, "probes": probes(), "steps": steps()}
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
