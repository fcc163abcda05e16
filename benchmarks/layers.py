"""Speed of the other plastic layers in training and of a plastic agent: engram's kernels compared with plain scans.

Both backends run in one process, in turn, by the same call with ``backend="auto"`` and ``backend="eager"``; a table
shows medians and their ratio. A network without plasticity is compared with ``nn.RNN`` too.

``python benchmarks/layers.py`` takes a minute and writes the record next to this file.
"""

from __future__ import annotations

import json
import os
import statistics
import time
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from engram.plasticity import Coefficients, Hebb, Modulated, PlasticLinear, PlasticLSTM, PlasticRNN


class Busy(Hebb):
    """A rule that no kernel knows: traces fade faster where the receiving unit is active."""

    clip = 1.0

    def coefficients(self, post: Tensor, modulator: Tensor | None = None) -> Coefficients:
        return Coefficients(decay=self.eta * post.abs(), gain=self.eta, post=post)


RECORD = Path(__file__).with_suffix(".json")
TRAINED: dict[str, Callable[..., nn.Module]] = {
    "PlasticLSTM": PlasticLSTM,
    "PlasticLinear": PlasticLinear,
    "PlasticRNN, own rule": lambda *sizes, **options: PlasticRNN(*sizes, rule=Busy(), **options),
    "PlasticLSTM, own rule": lambda *sizes, **options: PlasticLSTM(*sizes, rule=Busy(), **options),
    "PlasticRNN, no plasticity": lambda *sizes, **options: PlasticRNN(*sizes, alpha=None, **options),
}
PEERS: dict[str, Callable[..., nn.Module]] = {"PlasticRNN, no plasticity": nn.RNN}
SIZES = [(1, 100, 100), (30, 32, 50), (30, 100, 100)]  # batch, units, steps
LARGE = {"PlasticRNN, no plasticity": [(1, 1025, 200)]}
ACTING = [(1, 32), (1, 100), (32, 32), (32, 100)]
REPEATS = 15


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def training(kind: str, backend: str, batch: int, units: int, steps: int) -> Callable[[], None]:
    """Return the forward and backward pass of a layer, or of its peer, with as many inputs as units."""
    peer = backend == "peer"
    net = PEERS[kind](units, units) if peer else TRAINED[kind](units, units, backend=backend, generator=generator())
    inputs = torch.randn(steps, batch, units, generator=generator())

    def train() -> None:
        net.zero_grad()
        net(inputs)[0].square().mean().backward()

    return train


def acting(rule: str, backend: str, batch: int, units: int) -> Callable[[], None]:
    """Return a hundred steps of a recurrent network, one after another, as an agent takes them."""
    rules = {"modulated": Modulated, "hebb": Hebb, "own rule": Busy}
    net = PlasticRNN(units, units, rule=rules[rule](), backend=backend, generator=generator())
    observation = torch.randn(batch, units, generator=generator())

    def act() -> None:
        step = net.acting(batch)
        for _ in range(100):
            step(observation)

    return act


def compare(ways: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the seconds of each variant, measured in turn, after a first call that compiles."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _, (name, way) in product(range(REPEATS), ways.items()):
        start = time.perf_counter()
        way()
        seconds[name].append(time.perf_counter() - start)
    return seconds


def section(record: dict[str, Any]) -> list[str]:
    rows = []
    for row in record["rows"]:
        plain, ours = (statistics.median(row["seconds"][way]) for way in ("eager", "auto"))
        low, _, high = statistics.quantiles(row["seconds"]["auto"], n=4)
        spread = f"{100 * (high - low) / ours:.0f}%"
        peer = f"{1e3 * statistics.median(row['seconds']['peer']):.1f}" if "peer" in row["seconds"] else ""
        rows.append(
            f"| {row['what']} | {row['size']} | {peer} | {1e3 * plain:.1f} | {1e3 * ours:.1f} | {spread} "
            f"| {plain / ours:.1f}x |"
        )
    return [
        "## Other plastic layers, and acting",
        "",
        "Forward and backward pass of a plastic LSTM and of a plastic linear layer, and a hundred steps of a plastic",
        "recurrent network as an agent (`PlasticRNN.acting`), with one call per step: medians in milliseconds of",
        "repetitions, taken in turn, for engram's plain scan and for its fast form, by the same call. *Own rule*: the",
        "coefficients of the rule are computed in Python. *No plasticity*: `alpha=None`, beside torch's `nn.RNN`.",
        "*Spread*: interquartile range over median. *Ratio*: plain scan over fast form.",
        "",
        f"{record['cores']} threads; load average before the run {record['load']:.1f}.",
        "",
        "| layer | batch x units x steps | `nn.RNN` | plain scan | fast form | spread | ratio |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def main() -> None:
    warnings.simplefilter("ignore")
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    torch.set_num_threads(cores)
    record: dict[str, Any] = {"cores": cores, "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0}
    cases = [(kind, size, training) for kind in TRAINED for size in [*SIZES, *LARGE.get(kind, [])]]
    cases += [(rule, size, acting) for rule, size in product(("hebb", "modulated", "own rule"), ACTING)]
    record["rows"] = []
    for kind, size, make in cases:
        ways = ("peer", "eager", "auto") if kind in PEERS else ("eager", "auto")
        seconds = compare({way: make(kind, way, *size) for way in ways})
        what = kind if make is training else f"PlasticRNN acting, {kind}"
        record["rows"].append({"what": what, "size": " x ".join(map(str, size)), "seconds": seconds})
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
