"""Time of a training step of a residual network by rules with feedback weights, compared with the usual loop.

The rules run the module as it is, within the mode that sends errors back through other weights. All run in one process
on one thread, in turn; the CPU time counts, and a table shows medians and their ratios.
``python benchmarks/feedback_mode.py`` takes two minutes and writes the record next to this file.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from engram import registry
from engram.rules import train_step
from engram.studies.experiments.learning_rules_on_images.networks import build
from in_turn import in_turn

RECORD = Path(__file__).with_suffix(".json")
BATCH, REPEATS = 64, 60
# At most this many times the time of the loop.
TARGETS = {"fa": 1.2, "align-prop": 1.2, "kolen-pollack": 1.35, "usf": 1.35, "frsf": 1.35, "brsf": 1.35}
TARGETS |= {"weight-mirror": 1.4}
RULES = ("backprop", *TARGETS, "dfa", "last-layer")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
    return x, torch.randint(10, (BATCH,), generator=generator)


def loop() -> Callable[[], object]:
    """Return the step as it is usually written, with autograd."""
    model, (x, classes) = build("residual", 3, torch.Generator().manual_seed(0)), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), classes).backward()
        optimizer.step()

    return step


def by_rule(name: str) -> Callable[[], object]:
    """Return the step of a rule, which keeps its state from step to step."""
    rule, model = registry.get("learning_rules", name)(), build("residual", 3, torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    state, data = rule.init(model, torch.Generator().manual_seed(1)), batch()

    def step() -> None:
        nonlocal state
        state = train_step(rule, model, optimizer, data, state).state

    return step


def measure() -> dict[str, list[float]]:
    """Return the seconds of CPU of each rule, measured in turn, after a few turns that are not counted."""
    return in_turn({"loop": loop()} | {name: by_rule(name) for name in RULES}, REPEATS, time.process_time)


def section(record: dict[str, Any]) -> list[str]:
    plain = statistics.median(record["seconds"]["loop"])
    rows = []
    for name, seconds in record["seconds"].items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        target = TARGETS.get(name)
        met = "" if target is None else f"at most {target}x: {'met' if middle / plain <= target else 'NOT MET'}"
        cells = [name, f"{1e3 * middle:.1f}", f"{100 * (high - low) / middle:.0f}%", f"{middle / plain:.2f}x", met]
        rows.append(f"| {' | '.join(cells)} |")
    return [
        "## Feedback weights in networks of linear maps and convolutions",
        "",
        f"A training step of a residual network of 78,042 weights, colour images of 32 x 32 pixels, batch {BATCH}, by",
        "rules that send errors back through other weights than those of the forward pass; *loop* is the loop that a",
        "PyTorch user writes. Medians of CPU time in milliseconds, taken in turn in one thread. *Spread*:",
        "interquartile range over median.",
        "",
        f"Load average before the run {record['load']:.1f}.",
        "",
        "| rule | step | spread | over the loop | target |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]


def main() -> None:
    torch.set_num_threads(1)
    record: dict[str, Any] = {"load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, "seconds": measure()}
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
