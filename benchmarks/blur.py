"""Generations of learned rules per second: 16 genomes on 6 functions of the plane, 10 steps of 2-20-2 networks.

`python benchmarks/blur.py` measures a generation computed as one population, and the same lifetimes computed one after
another. Both run in turn, in one thread; the figures are medians, with the range from the first to the third quartile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from engram.learned.blur import BlurNetwork, BlurState, Genome, cross_entropy, lifetime
from engram.tasks.functions_2d import TRAINING, function_2d

RECORD = Path(__file__).with_suffix(".json")
MEMBERS, STEPS, BATCH = 16, 10, 64
MILLISECONDS, RATIO = 50.0, 20.0  # targets: the time of a generation, the speed-up over member by member
TOGETHER, ALONE = "one population", "member by member"
NETWORK = BlurNetwork((2, 20, 2))


def lives() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, BlurState]:
    """Return the vectors of the genomes, batches of all functions, and the initial synapses."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.stack([Genome.near_backprop(0.02, generator).to_vector() for _ in range(MEMBERS)])
    samples = [function_2d(name).sample((STEPS + 1, BATCH), generator) for name in TRAINING]
    x, y = (torch.stack(part, 1) for part in zip(*samples, strict=True))
    return vectors, x, y, NETWORK.init(generator, (len(TRAINING),))


def losses(vectors: torch.Tensor, x: torch.Tensor, y: torch.Tensor, state: BlurState) -> torch.Tensor:
    genome = Genome.from_vector(vectors)
    end = lifetime(NETWORK, genome, state, (x[:-1], y[:-1]))
    return cross_entropy(NETWORK.forward(genome, end, x[-1]), y[-1])


@torch.no_grad()
def together() -> torch.Tensor:
    vectors, x, y, state = LIVES
    return losses(vectors[:, None], x, y, state)


@torch.no_grad()
def alone() -> torch.Tensor:
    vectors, x, y, state = LIVES
    all_losses = [
        losses(vector, x[:, task], y[:, task], BlurState(tuple(weight[task] for weight in state.W), ()))
        for vector in vectors
        for task in range(len(TRAINING))
    ]
    return torch.stack(all_losses).reshape(MEMBERS, len(TRAINING))


LIVES = lives()


def measure(repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of generations, measured in turn."""
    torch.set_num_threads(1)
    torch.testing.assert_close(together(), alone(), rtol=1e-3, atol=1e-3)
    seconds: dict[str, list[float]] = {TOGETHER: [], ALONE: []}
    for _ in range(repetitions):
        for name, way in ((TOGETHER, together), (ALONE, alone)):
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    seconds = record["seconds"]
    median = {way: statistics.median(values) for way, values in seconds.items()}
    lines = [
        "## Generations of learned rules",
        "",
        f"A generation of {MEMBERS} genomes on {len(TRAINING)} functions of the plane: {STEPS} steps of 2-20-2",
        f"networks with two states per neuron, on batches of {BATCH}, in one thread.",
        "",
        "| | ms per generation | quartiles | over one population |",
        "|---|---|---|---|",
    ]
    for way, values in seconds.items():
        low, _, high = (1e3 * value for value in statistics.quantiles(values, n=4))
        ratio = median[way] / median[TOGETHER]
        lines.append(f"| {way} | {1e3 * median[way]:.0f} | {low:.0f} to {high:.0f} | {ratio:.1f}x |")
    reached = median[ALONE] / median[TOGETHER]
    return [
        *lines,
        "",
        f"- at most {MILLISECONDS:.0f} ms: {_verdict(1e3 * median[TOGETHER] <= MILLISECONDS)}",
        f"- {RATIO:.0f} times as fast as member by member: {_verdict(reached >= RATIO)}",
        "",
    ]


def _verdict(reached: bool) -> str:
    return "met" if reached else "**not met**"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    record = {"seconds": measure(parser.parse_args().repetitions)}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(section(record)))
