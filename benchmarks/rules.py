"""Time of a training step by each learning rule, compared with the loop that a PyTorch user writes.

A step computes the gradient and applies ``torch.optim.SGD``. All rules run in one process on one thread, in turn; a
table shows medians and their ratios. ``python benchmarks/rules.py`` takes a minute and writes the record next to this
file.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from engram import registry
from engram.analysis import extra_memory, forward_equivalents
from engram.rules import train_step
from in_turn import in_turn

RECORD = Path(__file__).with_suffix(".json")
SIZES, BATCH, REPEATS = (784, 256, 256, 10), 128, 200
TARGETS = {"fa": 1.1, "dfa": 1.1, "usf": 1.1, "kolen-pollack": 1.1, "pc-fixed": 2.0}
# Without the rules for sequences.
RULES = [name for name in registry.names("learning_rules") if not name.startswith(("eprop", "rtrl"))]
TARGETS |= {"align-zero": 1.5, "align-ada": 1.5}  # at most this many times the time of the loop


def network(activation: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [part for pre, post in pairwise(SIZES) for part in (nn.Linear(pre, post), activation())]
    return nn.Sequential(*layers[:-1])


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(BATCH, SIZES[0], generator=generator), torch.randint(SIZES[-1], (BATCH,), generator=generator)


def loop() -> Callable[[], object]:
    """Return the step as it is usually written, with autograd."""
    model, (x, classes) = network(nn.Tanh), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), classes).backward()
        optimizer.step()

    return step


def by_rule(name: str) -> Callable[[], object]:
    """Return the step of a rule, which keeps its state from step to step."""
    rule, model, data = registry.get("learning_rules", name)(), network(activation(name)), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    state = rule.init(model, torch.Generator().manual_seed(1))

    def step() -> None:
        nonlocal state
        state = train_step(rule, model, optimizer, data, state).state

    return step


def activation(name: str) -> type[nn.Module]:
    return nn.Sigmoid if name == "reinforce" else nn.Tanh


def costs(name: str) -> dict[str, float]:
    """Return the memory of an update beyond a forward pass, and its multiplications relative to a forward pass."""
    rule, model, (x, classes) = registry.get("learning_rules", name)(), network(activation(name)), batch()
    state = rule.update(model, x, classes, rule.init(model, torch.Generator().manual_seed(1))).state
    state_tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(state) if isinstance(leaf, torch.Tensor)]

    def update() -> object:
        return rule.update(model, x, classes, state)

    with torch.no_grad():
        memory = extra_memory(update, lambda: model(x), state_tensors)
        return {"bytes": memory, "forwards": forward_equivalents(update, lambda: model(x))}


def measure() -> dict[str, list[float]]:
    """Return the seconds of each rule, measured in turn, after a few turns that are not counted."""
    return in_turn({"loop": loop()} | {name: by_rule(name) for name in RULES}, REPEATS)


def section(record: dict[str, Any]) -> list[str]:
    plain = statistics.median(record["seconds"]["loop"])
    rows = []
    for name, seconds in record["seconds"].items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        target = TARGETS.get(name)
        met = "" if target is None else f"at most {target}x: {'met' if middle / plain <= target else 'NOT MET'}"
        cost = record["costs"].get(name, {"bytes": None, "forwards": None})
        memory = "" if cost["bytes"] is None else f"{cost['bytes'] / 1e6:.2f}"
        forwards = "" if cost["forwards"] is None else f"{cost['forwards']:.2f}"
        spread = f"{100 * (high - low) / middle:.0f}%"
        cells = [name, f"{1e3 * middle:.2f}", spread, f"{middle / plain:.2f}x", met, memory, forwards]
        rows.append(f"| {' | '.join(cells)} |")
    return [
        "## Learning rules",
        "",
        f"A training step of {'-'.join(map(str, SIZES))}, tanh, batch {BATCH}, with plain SGD, by each rule of",
        "`engram.rules` through `train_step`; *loop* is the loop that a PyTorch user writes, with autograd.",
        "Medians in milliseconds of repetitions, taken in turn in one thread. *Spread*: interquartile range over",
        "median. *Memory*: the memory of an update beyond a forward pass in megabytes, including pseudo-gradients and",
        "the rule's state. *Forwards*: the matrix products of an update relative to those of a forward pass.",
        "",
        f"Load average before the run {record['load']:.1f}.",
        "",
        "| rule | step | spread | over the loop | target | memory | forwards |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def main() -> None:
    torch.set_num_threads(1)
    record: dict[str, Any] = {"load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, "seconds": measure()}
    record["costs"] = {name: costs(name) for name in RULES}
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
