"""Diffusion at laptop size: training steps and sampling, compared with the same network and schedule in diffusers.

``python benchmarks/generative_diffusion.py`` measures, in one thread and in turn: a training step of ``CondUNet`` on
128 images of 16 x 16, with the loss of ``GaussianDiffusion`` and with noise and loss of diffusers' ``DDPMScheduler``,
if diffusers is installed; 20 steps of DDIM for 100 images, by engram and by ``DDIMScheduler``; and a matmul of as many
operations as the convolutions of the training step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram.generative.diffusion import CondUNet, GaussianDiffusion, SchedulerDiffusion
from engram.tasks import GaussianBumps

RECORD = Path(__file__).with_suffix(".json")
SIZE, BATCH, DRAWN, STEPS = 16, 128, 100, 20
MOST, MOST_BOUND = 1.0, 1.3  # targets: against diffusers, and against a matmul


def flops(net: nn.Module, x: Tensor, t: Tensor, labels: Tensor) -> float:
    """The operations of the convolutions in a training step: three times those of a forward pass."""
    count = 0.0

    def add(layer: nn.Conv2d, inputs: Any, output: Tensor) -> None:
        nonlocal count
        count += 2.0 * output.numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(add) for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        net(x, t, labels)
    for hook in hooks:
        hook.remove()
    return 3 * count


def training(loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> Callable[[], None]:
    """A training step with the given loss."""
    net = CondUNet(SIZE, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=0.0)
    bumps = GaussianBumps(SIZE, 0.5, 0.5, margin=0.0)
    images, labels = bumps.images[:BATCH], bumps.labels[:BATCH]

    def step() -> None:
        optimizer.zero_grad()
        loss_of(net, images, labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def drawing(diffusion: GaussianDiffusion) -> Callable[[], None]:
    """A call that draws images by DDIM."""
    net, labels = CondUNet(SIZE, generator=torch.Generator().manual_seed(0)), torch.rand(DRAWN, 2) * SIZE
    generator = torch.Generator().manual_seed(0)
    return lambda: (diffusion.sample(net, labels, (1, SIZE, SIZE), steps=STEPS, generator=generator), None)[1]


def matmul() -> Callable[[], None]:
    """A product of square matrices with as many operations as the convolutions of a training step."""
    net = CondUNet(SIZE, generator=torch.Generator().manual_seed(0))
    batch = torch.zeros(BATCH, 1, SIZE, SIZE), torch.zeros(BATCH, dtype=torch.long), torch.zeros(BATCH, 2)
    operations = flops(net, *batch)
    side = round((operations / 2) ** (1 / 3))
    matrix = torch.randn(side, side, generator=torch.Generator().manual_seed(0))
    return lambda: (matrix @ matrix, None)[1]


def measure(repetitions: int) -> dict[str, list[float]]:
    """The milliseconds of each call, measured in turn."""
    diffusion, generator = GaussianDiffusion(100), torch.Generator().manual_seed(0)
    rows = {
        "training step": training(lambda net, x0, labels: diffusion.loss(net, x0, labels, generator)),
        "matmul of as many operations": matmul(),
        "drawing": drawing(diffusion),
    }
    try:
        from diffusers import DDIMScheduler, DDPMScheduler
    except ImportError:
        print("diffusers is not installed: not measured")
    else:
        noise_of = DDPMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")

        def theirs(net: nn.Module, x0: Tensor, labels: Tensor) -> Tensor:
            t = torch.randint(100, (len(x0),), generator=generator)
            noise = torch.randn(x0.shape, generator=generator)
            return functional.mse_loss(net(noise_of.add_noise(x0, noise, t), t, labels), noise)

        rows["training step, diffusers"] = training(theirs)
        scheduler = DDIMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2")
        rows["drawing, diffusers"] = drawing(SchedulerDiffusion(scheduler))
    times: dict[str, list[float]] = {name: [] for name in rows}
    for repetition in range(repetitions + 1):
        for name, row in rows.items():
            start = time.perf_counter()
            row()
            if repetition:  # the first is a warm-up
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def section(record: dict[str, list[float]]) -> list[str]:
    """Return the lines of the page that show the record."""
    median = {name: statistics.median(times) for name, times in record.items()}
    lines = ["## Diffusion", "", f"`CondUNet`, {SIZE} x {SIZE} pixels; one thread:", "", "| work | ms | quartiles |"]
    lines.append("|---|---|---|")
    for name, times in record.items():
        low, _, high = statistics.quantiles(times, n=4)
        lines.append(f"| {name} | {median[name]:.1f} | {low:.1f} to {high:.1f} |")
    bound = median["training step"] / median["matmul of as many operations"]
    lines += ["", f"- a training step takes {bound:.2f} times as long as the matmul; {_verdict(bound, MOST_BOUND)}"]
    for work in ("training step", "drawing"):
        if f"{work}, diffusers" in median:
            ratio = median[work] / median[f"{work}, diffusers"]
            lines.append(f"- {work}: {ratio:.2f} times as long as with diffusers; {_verdict(ratio, MOST)}")
    return [*lines, ""]


def _verdict(ratio: float, target: float) -> str:
    return f"at most {target}: {'met' if ratio <= target else '**not met**'}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    torch.set_num_threads(1)
    measured = measure(parser.parse_args().repetitions)
    RECORD.write_text(json.dumps(measured, indent=1) + "\n")
    print("\n".join(section(measured)))
