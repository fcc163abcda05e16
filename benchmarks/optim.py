"""Time of a training step with learned preconditioners, compared with the same step with ``torch.optim.SGD``.

A step is a forward pass, a backward pass and a step of the optimiser with momentum 0.9; all variants of a network run
in one process on one thread, in turn. ``python benchmarks/optim.py`` takes five minutes and writes the record next to
this file; ``--profile`` shows the time of each part of the optimiser's step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from engram.optim import FOP, auto_groups

RECORD = Path(__file__).with_suffix(".json")
WAYS = {
    "resnet": {"sgd": None, "fop, spatial": {"structure": "spatial"}, "fop, scalar": {"structure": "scalar"}},
    "dense": {"sgd": None, "fop, left": {"structure": "left"}},
}
REPEATS = {"resnet": 15, "dense": 100}
SAID = {"resnet": "ResNet-18, 32 x 32, batch 64", "dense": "784-512-512-10, batch 512, FOP on its 512 x 512"}
TARGETS = {("resnet", "fop, spatial"): 1.05, ("dense", "fop, left"): 1.5}  # at most this many times the step with SGD


class Block(nn.Module):
    """Two convolutions and a shortcut, as in ResNet-18."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        straight = stride == 1 and before == after
        conv = nn.Conv2d(before, after, 1, stride, bias=False)
        self.shortcut = nn.Identity() if straight else nn.Sequential(conv, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.body(x) + self.shortcut(x))


def resnet() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    first = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)]
    net = nn.Sequential(*first, *(Block(*width) for width in [*widths, (512, 512, 1)]), *last)
    return net, torch.randn(64, 3, 32, 32), torch.randint(10, (64,))


def dense() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return net, torch.randn(512, 784), torch.randint(10, (512,))


def optimizer_of(net: nn.Module, options: dict[str, Any] | None) -> torch.optim.Optimizer:
    if options is None:
        return torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
    chosen = auto_groups(net)
    if chosen[0]["structure"] == "none":  # the dense network has no kernels
        square = [p for p in net.parameters() if p.shape == (512, 512)]
        chosen = [{"params": square}, {"params": [p for p in net.parameters() if p is not square[0]]}]
    chosen[0] |= options
    chosen[1]["structure"] = "none"
    return FOP(chosen, lr=1e-3, momentum=0.9)


def way(case: tuple[nn.Module, Tensor, Tensor], options: dict[str, Any] | None) -> Callable[[], float]:
    """Return a training step, which returns the seconds of the optimiser's part."""
    net, x, classes = case
    optimizer = optimizer_of(net, options)

    def step() -> float:
        optimizer.zero_grad()
        cross_entropy(net(x), classes).backward()
        start = time.perf_counter()
        optimizer.step()
        return time.perf_counter() - start

    return step


def measure(network: str) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each variant, measured in turn, after a few turns that are not counted."""
    make = {"resnet": resnet, "dense": dense}[network]
    ways = {name: way(make(), options) for name, options in WAYS[network].items()}
    seconds: dict[str, dict[str, list[float]]] = {name: {"step": [], "optimiser": []} for name in ways}
    for turn, (name, step) in product(range(REPEATS[network] + 3), ways.items()):
        start = time.perf_counter()
        optimiser_seconds = step()
        if turn >= 3:
            seconds[name]["step"].append(time.perf_counter() - start)
            seconds[name]["optimiser"].append(optimiser_seconds)
    return seconds


def section(record: dict[str, Any]) -> list[str]:
    rows = []
    for network, ways in record["seconds"].items():
        plain = statistics.median(ways["sgd"]["step"])
        for name, seconds in ways.items():
            low, middle, high = statistics.quantiles(seconds["step"], n=4)
            target = TARGETS.get((network, name))
            met = "" if target is None else f"at most {target}x: {'met' if middle / plain <= target else 'NOT MET'}"
            optimiser_ms = 1e3 * statistics.median(seconds["optimiser"])
            spread = f"{100 * (high - low) / middle:.0f}%"
            cells = [
                SAID[network],
                name,
                f"{1e3 * middle:.1f}",
                spread,
                f"{optimiser_ms:.2f}",
                f"{middle / plain:.3f}x",
                met,
            ]
            rows.append(f"| {' | '.join(cells)} |")
    return [
        "## Preconditioned steps",
        "",
        "A training step with `FOP`, momentum 0.9, compared with the same step with `torch.optim.SGD`: medians in",
        "milliseconds of repetitions, taken in turn in one thread. *Spread*: interquartile range over median.",
        "*Optimiser's part*: the time of the optimiser in a step.",
        "",
        f"Load average before the run {record['load']:.1f}.",
        "",
        "| network | optimiser | step | spread | optimiser's part | over SGD | target |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def profile() -> None:
    for network, make in (("resnet", resnet), ("dense", dense)):
        net, x, classes = make()
        optimizer = optimizer_of(net, list(WAYS[network].values())[1])
        for turn in range(3):
            optimizer.zero_grad()
            cross_entropy(net(x), classes).backward()
            if turn < 2:
                optimizer.step()
        with torch.profiler.profile() as profile:
            optimizer.step()
        print(SAID[network], profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12), sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", action="store_true")
    torch.set_num_threads(1)
    if parser.parse_args().profile:
        profile()
        return
    record: dict[str, Any] = {"load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0}
    record["seconds"] = {network: measure(network) for network in WAYS}
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
