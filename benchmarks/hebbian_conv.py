"""Learning speed of Hebbian convolutions: engram's layers, the plain direct form, and a surrogate loss with autograd.

One learning step on a batch of 100 images of CIFAR-10's size, at half the published width, in one process and one
thread, all variants in turn. ``python benchmarks/hebbian_conv.py`` takes a minute and writes the record next to this
file.
"""

from __future__ import annotations

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
from torch.nn import functional

from engram.rules import HebbianConv2d, hebbian_loss, k_winners, per_sample_standardize, triangle
from engram.rules.hebbian_conv.passes import plain_pass

RECORD = Path(__file__).with_suffix(".json")
WIDTHS, KERNELS, FAN_INS = (3, 50, 98, 200), (5, 3, 3), (None, 9, 18)
BATCH, REPEATS = 100, 15
SURROGATE, DIRECT, OURS = "surrogate", "direct", "ours"
FASTER, SPARSER = 3.0, 10.0  # target speed-ups: over the surrogate with autograd; of pruned layers over dense layers


def layer(number: int, pruned: bool) -> HebbianConv2d:
    fan_in = FAN_INS[number] if pruned else None
    generator, sizes = torch.Generator().manual_seed(number), (WIDTHS[number], WIDTHS[number + 1], KERNELS[number])
    return HebbianConv2d(*sizes, lr=0.001, pool=2, fan_in=fan_in, generator=generator)


def by_surrogate(layer: HebbianConv2d) -> Callable[[Tensor], Tensor]:
    """Return a layer's step as it is usually written with autograd: loss, ``backward``, optimiser, mask and norm."""
    weight, mask = layer.weight.requires_grad_(), layer.mask
    optimizer = torch.optim.SGD([weight], lr=1e-7)

    def step(x: Tensor) -> Tensor:
        z = torch.conv2d(per_sample_standardize(x), weight)
        u = layer.threshold(z.detach())
        y = k_winners(u, 1)
        optimizer.zero_grad()
        hebbian_loss(z, y, weight).backward()
        optimizer.step()
        with torch.no_grad():
            weight.mul_(mask)
            weight.div_(weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-10)
        layer.threshold.adapt((y > 0).float().mean((0, 2, 3)))
        return functional.avg_pool2d(triangle(u), 2)

    return step


def by_definition(layer: HebbianConv2d) -> Callable[[Tensor], Tensor]:
    """Return a layer's step in plain PyTorch without a graph."""

    def step(x: Tensor) -> Tensor:
        with torch.no_grad():
            result = plain_pass(x, layer.weight, layer.threshold.theta, layer.competition, layer.connections)
            layer._learn(result, result.output[0, 0].numel() * 4 * len(x))
        return result.output

    return step


MAKE: dict[str, Callable[[HebbianConv2d], Callable[[Tensor], Tensor]]]
MAKE = {SURROGATE: by_surrogate, DIRECT: by_definition, OURS: lambda layer: layer}


def measure(numbers: tuple[int, ...], pruned: bool, x: Tensor) -> dict[str, list[float]]:
    """Return the seconds of a step through some layers, for each variant in turn, after two steps that compile."""
    ways = {way: nn.Sequential(*(layer(number, pruned) for number in numbers)) for way in MAKE}
    steps = {way: [MAKE[way](convolution) for convolution in net] for way, net in ways.items()}
    seconds: dict[str, list[float]] = {way: [] for way in MAKE}
    for repeat, (way, chain) in product(range(REPEATS + 2), steps.items()):
        start, activity = time.perf_counter(), x
        for step in chain:
            activity = step(activity)
        if repeat >= 2:
            seconds[way].append(time.perf_counter() - start)
    return seconds


def median(row: dict[str, Any], way: str) -> float:
    return statistics.median(row["seconds"][way])


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    rows = {(row["what"], row["pruned"]): row for row in record["rows"]}
    lines = []
    for (what, pruned), row in rows.items():
        low, _, high = statistics.quantiles(row["seconds"][OURS], n=4)
        times = [1e3 * median(row, way) for way in MAKE]
        cells = [what, "pruned" if pruned else "dense", *(f"{ms:.1f}" for ms in times)]
        cells += [f"{1e3 * (high - low) / times[-1]:.0%}", *(f"{ms / times[-1]:.1f}x" for ms in times[:-1])]
        lines.append("| " + " | ".join(cells) + " |")
    targets = [
        (f"speed-up of the {pruned} network over the surrogate", median(row, SURROGATE) / median(row, OURS), FASTER)
        for pruned, row in (("dense", rows["network", False]), ("pruned", rows["network", True]))
    ]
    for what in ("layer 2", "layer 3"):
        for way, name in ((OURS, "its dense form with engram's kernels"), (DIRECT, "its dense direct form")):
            ratio = median(rows[what, False], way) / median(rows[what, True], OURS)
            targets.append((f"speed-up of the pruned {what} over {name}", ratio, SPARSER))
    widths = ", ".join(map(str, WIDTHS[1:]))
    return [
        "## Hebbian convolution",
        "",
        f"A learning step on {BATCH} images of 32 x 32 x 3 through layers of {widths} filters: medians in milliseconds",
        "of repetitions, taken in turn in one thread, for the surrogate loss with autograd and an optimiser, for the",
        "direct form in plain PyTorch, and for engram's layers. *Pruned*: the filters of layers 2 and 3 see only 9 and",
        "18 of their inputs.",
        f"*Spread*: interquartile range over median. Load average before the run {record['load']:.1f}.",
        "",
        "| layers | | surrogate | direct | engram | spread | over the surrogate | over direct |",
        "|---|---|---|---|---|---|---|---|",
        *lines,
        "",
        *[f"- {name}: {r:.1f}x; at least {t:.0f}x: {'met' if r >= t else '**not met**'}" for name, r, t in targets],
        "",
    ]


def main() -> None:
    torch.set_num_threads(1)
    record: dict[str, Any] = {"load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, "rows": []}
    inputs = [torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        for number in range(2):
            inputs.append(layer(number, False).eval()(inputs[-1]))
    cases = {"network": (0, 1, 2), "layer 1": (0,), "layer 2": (1,), "layer 3": (2,)}
    for (what, numbers), pruned in product(cases.items(), (False, True)):
        if what != "layer 1" or not pruned:
            seconds = measure(numbers, pruned, inputs[numbers[0]])
            record["rows"].append({"what": what, "pruned": pruned, "seconds": seconds})
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
