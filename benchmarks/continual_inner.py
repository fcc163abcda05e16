"""Time and memory of differentiating through learning: a meta-learning step of ANML, and a thousand inner steps.

`python benchmarks/continual_inner.py` measures in one thread, all variants in turn, and writes the record next to this
file. An outer step of order 2 (20 inner steps, 84 images, 64 and 32 channels, 1,000 outputs) is measured with
`SequentialMetaLearner` and as in the author's program, which processes one image at a time with batch norm on each
image and runs both networks in every step. 1,000 inner steps of a small network are measured with and without
checkpoints.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram.analysis import peak_memory
from engram.continual.anml import GatedNet, SequentialMetaLearner, anml_net
from engram.meta import FastWeights, sgd

RECORD = Path(__file__).with_suffix(".json")
STEPS, OTHERS, CLASSES, INNER_LR = 20, 64, 1000, 0.1
LONG = 1000
FASTER, LONGER, SMALLER = 3.0, 2.0, 5.0  # targets: at least, at most, at least
OURS, AUTHOR = "engram", "an image at a time"
KEPT, CHECKPOINTED = "every step kept", "checkpoints"


def one_by_one(body: nn.Sequential, weights: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    """Return features as the author's program computes them: in a loop, with batch norm on a single image."""
    outputs = []
    for image in x:
        z = image[None]
        for place, layer in enumerate(body):
            weight, bias = (weights.get(f"{prefix}.{place}.{part}") for part in ("weight", "bias"))
            if isinstance(layer, nn.Conv2d):
                z = functional.conv2d(z, weight, bias)
            elif isinstance(layer, nn.InstanceNorm2d):
                z = functional.batch_norm(z, None, None, weight, bias, training=True)
            else:
                z = layer(z)
        outputs.append(z)
    return torch.cat(outputs)


def by_image(net: GatedNet, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    gate = one_by_one(net.gate[0], weights, "gate.0", x)
    gate = torch.sigmoid(functional.linear(gate, weights["gate.1.weight"], weights["gate.1.bias"]))
    features = one_by_one(net.body, weights, "body", x) * gate
    return functional.linear(features, weights["head.weight"], weights["head.bias"])


def author(net: GatedNet, optimizer: torch.optim.Optimizer, data: tuple[Tensor, ...]) -> float:
    """Make the same outer step and return its loss."""
    x, y, other_images, labels = data
    weights = dict(net.named_parameters())
    fast = [name for name in weights if not name.startswith("gate")]
    for i in range(STEPS):
        loss = functional.cross_entropy(by_image(net, weights, x[i : i + 1]), y[i : i + 1])
        gradients = torch.autograd.grad(loss, [weights[name] for name in fast], create_graph=True)
        weights |= {name: weights[name] - INNER_LR * g for name, g in zip(fast, gradients, strict=True)}
    loss = functional.cross_entropy(by_image(net, weights, torch.cat((other_images, x))), torch.cat((labels, y)))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def outer_steps() -> dict[str, Callable[[], float]]:
    """Return both implementations of an outer step, each with its own network."""
    generator = torch.Generator().manual_seed(0)
    net = anml_net(body_channels=64, gate_channels=32, num_outputs=CLASSES, generator=generator)
    x, other_images = (torch.rand(n, 1, 28, 28, generator=generator) for n in (STEPS, OTHERS))
    labels = torch.randint(CLASSES, (OTHERS,), generator=generator)
    data = x, torch.full((STEPS,), 3), other_images, labels
    learner = SequentialMetaLearner(net, generator, inner_lr=INNER_LR, zap=False)
    twin = copy.deepcopy(net)
    adam = torch.optim.Adam(twin.parameters(), lr=1e-3)
    return {OURS: lambda: learner.step(*data).loss, AUTHOR: lambda: author(twin, adam, data)}


def long_learning(checkpointed: bool) -> tuple[Tensor, ...]:
    """Return the gradient through a thousand steps of a 64-64-64-10 network."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    x, y = torch.randn(LONG, 16, 64, generator=generator), torch.randint(10, (LONG, 16), generator=generator)

    def loss(fast: FastWeights, i: int) -> Tensor:
        return functional.cross_entropy(fast(x[i]), y[i])

    fast, _ = FastWeights(net, sgd(0.1)).adapt(loss, range(LONG), checkpointed=checkpointed)
    return torch.autograd.grad(loss(fast, 0), list(net.parameters()))


def timed(ways: dict[str, Callable[[], Any]], repetitions: int) -> dict[str, list[float]]:
    """Return the seconds of each variant, measured in turn after one turn that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repetitions + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def measure(repetitions: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    losses = {name: [step() for _ in range(2)] for name, step in outer_steps().items()}
    # After a step of Adam rounding matters: its first step is the sign of the gradients, even of those near zero.
    for our_loss, author_loss, tolerance in zip(losses[OURS], losses[AUTHOR], (1e-5, 1e-2), strict=True):
        assert abs(our_loss - author_loss) <= tolerance * abs(our_loss), "both make the same step"
    ways = {KEPT: lambda: long_learning(False), CHECKPOINTED: lambda: long_learning(True)}
    memory = {name: peak_memory(way) for name, way in ways.items()}
    return {"step": timed(outer_steps(), repetitions), "long": timed(ways, max(1, repetitions // 3)), "memory": memory}


def section(record: dict[str, Any]) -> list[str]:
    """Return the lines of the page that show the record."""
    lines = [
        "## Differentiating through learning",
        "",
        f"An outer step of ANML (order 2, 20 inner steps), and {LONG:,} inner steps of a 64-64-64-10 network, in one",
        "thread:",
        "",
        "| | ms | quartiles | peak memory, MB |",
        "|---|---|---|---|",
    ]
    seconds = {**record["step"], **record["long"]}
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        low, _, high = (1e3 * value for value in statistics.quantiles(values * 2, n=4))
        peak = f"{record['memory'][name] / 1e6:.1f}" if name in record["memory"] else ""
        lines.append(f"| {name} | {1e3 * median[name]:.0f} | {low:.0f} to {high:.0f} | {peak} |")
    ratio = median[AUTHOR] / median[OURS]
    longer = median[CHECKPOINTED] / median[KEPT]
    smaller = record["memory"][KEPT] / record["memory"][CHECKPOINTED]
    return [
        *lines,
        "",
        f"- {FASTER:.0f} times as fast as an image at a time: {ratio:.1f}x, {_verdict(ratio >= FASTER)}",
        f"- a fifth of the memory in at most twice the time: {smaller:.1f}x less memory in {longer:.2f}x the time, "
        f"{_verdict(smaller >= SMALLER and longer <= LONGER)}",
        "",
    ]


def _verdict(reached: bool) -> str:
    return "met" if reached else "**not met**"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=9)
    record = measure(parser.parse_args().repetitions)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print("\n".join(section(record)))
