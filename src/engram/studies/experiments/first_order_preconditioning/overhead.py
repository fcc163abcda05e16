"""The time of a step with a preconditioner relative to that of torch's own optimiser, measured side by side."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from engram.lab import Run, setting, settings
from engram.studies.experiments.first_order_preconditioning.cifar import CLASSES, build
from engram.studies.experiments.first_order_preconditioning.training import Classifier, optimizer_of

WARM = 5  # steps before times are measured


@settings
class Overhead(Classifier):
    """The settings for measuring times."""

    steps: int = setting(55, "steps of each optimiser, of which the first are not measured", gt=WARM)
    channels: tuple[int, ...] = setting((32, 64, 64), "channels of the convolutions; all but the first halve the side")


def trial(config: Overhead, run: Run) -> dict[str, Any]:
    """Train two equal networks in turns; the main result is the ratio of the median processor times of a step."""
    initial_state = run.generator.get_state()
    nets = []
    for _ in range(2):
        run.generator.set_state(initial_state)
        nets.append(build(3, config.channels, run.generator, first_stride=1).to(run.device))
    lr = config.rates[0]
    own = torch.optim.Adam if config.base == "adam" else torch.optim.SGD
    options: dict[str, Any] = {"lr": lr} if config.base == "adam" else {"lr": lr, "momentum": config.momentum}
    optimizers: list[torch.optim.Optimizer] = [own(nets[0].parameters(), **options), optimizer_of(nets[1], config, lr)]
    # Noise takes as long as photographs.
    images = torch.randn(config.batch_size, 3, 32, 32, generator=run.generator).to(run.device)
    classes = torch.randint(CLASSES, (config.batch_size,), generator=run.generator).to(run.device)
    seconds = np.zeros((config.steps, 2))
    state = {"alone": nets[0], "with_fop": nets[1], "optimizer": optimizers[0], "fop": optimizers[1]}
    for step in run.steps(config.steps, **state, seconds=seconds):
        for n in (0, 1) if step % 2 else (1, 0):
            began = time.process_time()
            optimizers[n].zero_grad()
            cross_entropy(nets[n](images), classes).backward()  # type: ignore[no-untyped-call]
            optimizers[n].step()
            seconds[step, n] = time.process_time() - began
    alone, with_fop = np.median(seconds[WARM:], axis=0).tolist()
    return {"seconds_alone": alone, "seconds_with_fop": with_fop, "ratio_of_seconds": with_fop / alone}
