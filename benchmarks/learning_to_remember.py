"""Training speed of a rule of bodies and synapses: engram's kernels compared with plain implementations.

The forward and backward pass of a window of the experiment's first arm (two snippets of 12 bits in 16 streams), in one
thread, all variants in turn: engram's kernels; engram's plain definition; the same rule without products, with all
inputs of a synapse concatenated in one tensor; and one LSTM cell per synapse by ``torch.func.vmap``, with as many
outputs, as in a port of a published rule that is such a cell. ``python benchmarks/learning_to_remember.py`` takes a
minute and writes the record next to this file.
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
from jaxtyping import Float
from torch import Tensor, nn

from engram.learned.learning_to_remember import GatedRule, RuleNetwork, Topology
from engram.learned.learning_to_remember.neural_update_rule import NeuralUpdateRule
from engram.tasks import SnippetStream

RECORD = Path(__file__).with_suffix(".json")
BITS, STREAMS, SIZES, REPEATS = 12, 16, {"types": 1, "body_hidden": 16}, 15
BODY, CHANNELS, HIDDEN = 4, 2, 8
RATIO = 5
WAYS = {
    "kernels": "engram, kernels",
    "definition": "engram, plain definition",
    "concatenated": "inputs of each synapse concatenated",
    "lstm": "LSTM cell per synapse, `torch.func.vmap`",
}


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Concatenated(NeuralUpdateRule):
    """The additive gated rule, computed from [s, beta_i, beta_j] of every synapse."""

    def __init__(self) -> None:
        super().__init__(BODY, CHANNELS, generator=generator(), **SIZES)
        self.first = nn.Linear(CHANNELS + 2 * self.known_size, HIDDEN)
        self.second = nn.Linear(HIDDEN, 3 * CHANNELS)

    def synapse(self, synapse: Tensor, post: Tensor, pre: Tensor, forward: Tensor) -> Tensor:
        """Return the next synapses."""
        shape = (len(synapse), post.shape[1], pre.shape[1], -1)
        features = synapse.permute(0, 2, 3, 1), post[:, :, None].expand(shape), pre[:, None].expand(shape)
        p, f, w = self.second(torch.tanh(self.first(torch.cat(features, 3)))).permute(0, 3, 1, 2).chunk(3, 1)
        return torch.sigmoid(f) * synapse + torch.sigmoid(w) * torch.tanh(p)


class CellASynapse(NeuralUpdateRule):
    """An LSTM cell in every synapse, with hidden and cell state for channels, mapped over streams, post and pre."""

    def __init__(self) -> None:
        super().__init__(BODY, 2 * CHANNELS, generator=generator(), **SIZES)
        self.gates = nn.Linear(2 * self.known_size + CHANNELS, 4 * CHANNELS)

    def synapse(self, synapse: Tensor, post: Tensor, pre: Tensor, forward: Tensor) -> Tensor:
        """Return the next synapses."""

        def one(state: Float[Tensor, " channels"], post: Tensor, pre: Tensor) -> Tensor:
            hidden, cell = state.chunk(2)  # torch.lstm_cell cannot be mapped
            i, f, g, o = self.gates(torch.cat((post, pre, hidden))).chunk(4)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            return torch.cat((torch.sigmoid(o) * torch.tanh(cell), cell))

        over_pre = torch.func.vmap(one, (1, None, 0), 1)
        over_post = torch.func.vmap(over_pre, (1, 0, None), 1)
        update: Tensor = torch.func.vmap(over_post)(synapse, post, pre)
        return update


def window(way: str) -> Callable[[], None]:
    """Return the forward and backward pass of a window."""
    rule: NeuralUpdateRule
    if way in ("kernels", "definition"):
        rule = GatedRule(BODY, CHANNELS, synapse_hidden=HIDDEN, generator=generator(), **SIZES)
    else:
        rule = Concatenated() if way == "concatenated" else CellASynapse()
    backend: Any = "auto" if way == "kernels" else "eager"
    net = RuleNetwork(Topology.visible(BITS, bidirectional=False), rule, backend=backend)
    inputs, state = SnippetStream(BITS).sample(STREAMS, generator()).inputs, net.init(STREAMS)

    def train() -> None:
        net.zero_grad()
        net(inputs, state)[0].square().mean().backward()

    return train


def measure(repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each variant, measured in turn, after a first call that compiles."""
    runs = {way: window(way) for way in WAYS}
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _, (way, run) in product(range(repeats), runs.items()):
        start = time.perf_counter()
        run()
        seconds[way].append(time.perf_counter() - start)
    return seconds


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    median = {way: statistics.median(seconds) for way, seconds in record["seconds"].items()}
    rows = [
        f"| {name} | {1e3 * median[way]:.2f} | {median[way] / median['kernels']:.1f}x |" for way, name in WAYS.items()
    ]
    ratio = median["lstm"] / median["kernels"]
    return [
        "## Rules learned by remembering",
        "",
        f"Forward and backward pass of a window of {record['frames']} frames with {BITS} neurons and {STREAMS}",
        "streams, in one thread: medians in milliseconds of repetitions, taken in turn; load average before the run",
        f"{record['load']:.1f}.",
        "",
        "| implementation | ms | over kernels |",
        "|---|---|---|",
        *rows,
        "",
        f"- {RATIO} times as fast as an LSTM cell per synapse: {'met' if ratio >= RATIO else '**not met**'}",
        "",
    ]


def main() -> None:
    torch.set_num_threads(1)
    record: dict[str, Any] = {"frames": 8, "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0}
    record["seconds"] = measure(REPEATS)
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
