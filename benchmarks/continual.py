"""Time to measure the importance of weights and to train with penalties on them, compared with plain PyTorch loops.

All variants run in one process on one thread, in turn; the tables show medians of the thread's processor time, and
their ratios. ``python benchmarks/continual.py`` takes a minute and writes the record next to this file.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from engram.continual import EWC, MAS, OnlineEWC, SynapticIntelligence, TaskData, fisher_diagonal, gradient_magnitude

RECORD = Path(__file__).with_suffix(".json")
SIZES, BATCH, SAMPLES = (784, 256, 256, 10), 128, 1000
STEPS, MEASURES = 200, 5  # repetitions
TARGETS = {"ewc": 1.3, "online-ewc": 1.3, "si": 1.3, "mas": 1.3}  # at most this many times the time of the plain step
FASTER = 30.0  # at least this many times as fast as single-sample passes


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [part for pre, post in pairwise(SIZES) for part in (nn.Linear(pre, post), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def data(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, SIZES[0], generator=generator), torch.randint(SIZES[-1], (count,), generator=generator)


def step(name: str, implicit: bool) -> Callable[[], object]:
    """Return a training step of the second task, with the named penalty, or without one if the name is empty."""
    model, (x, classes) = network(), data(BATCH)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    kinds = {"ewc": EWC, "online-ewc": OnlineEWC, "si": SynapticIntelligence, "mas": MAS}
    penalty = kinds[name](model, 0.01, applied="proximal" if implicit else "gradient") if name else None

    def once() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), classes).backward()
        optimizer.step()

    if penalty is not None:
        penalty.attach(optimizer)
        once()
        penalty.end_task(TaskData((x, classes)))
    return once


def by_single_samples(model: nn.Sequential, x: torch.Tensor, classes: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the empirical Fisher information as most programs compute it: with one pass per sample."""
    sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for row, label in zip(x, classes, strict=True):
        loss = cross_entropy(model(row[None]), label[None])
        for total, g in zip(sums.values(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            total.add_(g.square())
    return {name: total / SAMPLES for name, total in sums.items()}


def in_batches(model: nn.Sequential, x: torch.Tensor, classes: torch.Tensor) -> dict[str, torch.Tensor]:
    return fisher_diagonal(model, zip(x.split(BATCH), classes.split(BATCH), strict=True), fisher="true")


@torch.no_grad()
def products(model: nn.Sequential, x: torch.Tensor) -> None:
    """Compute only the matrix products that every batched method needs: forward, backward and of squares."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    for rows in x.split(BATCH):
        inputs = [rows]
        for layer in layers:
            inputs.append(layer(inputs[-1]))
        for layer, before, after in zip(layers, inputs, inputs[1:], strict=False):
            after.T @ before
            if layer is not layers[0]:
                after @ layer.weight


def seconds_in_turn(ways: dict[str, Callable[[], object]], repeats: int, unseen: int) -> dict[str, list[float]]:
    """Return the seconds of each variant on a core, measured in turn, after a few turns that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn, (name, way) in product(range(repeats + unseen), ways.items()):
        start = time.thread_time()
        way()
        if turn >= unseen:
            seconds[name].append(time.thread_time() - start)
    return seconds


def measure() -> dict[str, dict[str, list[float]]]:
    model, (x, classes) = network(), data(SAMPLES)
    single = by_single_samples(model, x, classes)
    for name, importance in in_batches(model, x, classes).items():
        # Compared as a whole, because rounding moves a sample across the kink of a unit.
        assert (importance - single[name]).norm() < 1e-3 * single[name].norm(), name
    steps = {"plain": step("", implicit=True)}
    for name in TARGETS:
        steps |= {name: step(name, implicit=True), f"{name}, gradient": step(name, implicit=False)}
    measures = {
        "single-sample passes": lambda: by_single_samples(model, x, classes),
        "Fisher, true labels": lambda: in_batches(model, x, classes),
        "its matrix products alone": lambda: products(model, x),
        "Fisher, all 10 classes": lambda: fisher_diagonal(model, x.split(BATCH), fisher="all"),
        "MAS": lambda: gradient_magnitude(model, x.split(BATCH)),
    }
    return {"steps": seconds_in_turn(steps, STEPS, 10), "measures": seconds_in_turn(measures, MEASURES, 1)}


def section(record: dict[str, Any]) -> list[str]:
    steps, measures = record["steps"], record["measures"]
    plain, single = statistics.median(steps["plain"]), statistics.median(measures["single-sample passes"])
    rows = []
    for name, seconds in steps.items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        target = TARGETS.get(name)
        met = "" if target is None else f"at most {target}x: {'met' if middle / plain <= target else 'NOT MET'}"
        spread = f"{100 * (high - low) / middle:.0f}%"
        rows.append(f"| {name} | {1e3 * middle:.2f} | {spread} | {middle / plain:.2f}x | {met} |")
    faster = []
    for name, seconds in measures.items():
        ratio = single / statistics.median(seconds)
        met = f"at least {FASTER:.0f}x: {'met' if ratio >= FASTER else 'NOT MET'}" if "true" in name else ""
        faster.append(f"| {name} | {1e3 * statistics.median(seconds):.1f} | {ratio:.1f}x | {met} |")
    shape = "-".join(map(str, SIZES))
    return [
        "## Continual learning",
        "",
        f"A training step of {shape}, batch {BATCH}, with plain SGD and a penalty that keeps the weights near those of",
        "an earlier task. The penalty is applied by its proximal step or, in the rows *gradient*, by its gradient.",
        "Medians in milliseconds of processor time of repetitions, taken in turn in one thread. *Spread*:",
        "interquartile range over median.",
        "",
        f"Load average before the run {record['load']:.1f}.",
        "",
        "| penalty | step | spread | over the plain step | target |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"Importances from {SAMPLES} samples in the same network, compared with one pass per sample. No batched method",
        "can be faster than its matrix products alone.",
        "",
        "| measure | milliseconds | speed-up | target |",
        "|---|---|---|---|",
        *faster,
        "",
    ]


def main() -> None:
    torch.set_num_threads(1)
    record: dict[str, Any] = {"load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0} | measure()
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
