"""Bits that three networks bring along, at the errors that they reach on digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from engram import analysis
from engram.experiments.generalization_difficulty.data_sets import ERROR
from engram.lab import Run, setting, settings


@settings
class Architectures:
    """How long networks are trained."""

    epochs: int = setting(40, "passes of the networks over the digits", ge=1, scales=True)


def trial(config: Architectures, run: Run) -> dict[str, Any]:
    """Train three networks on digits, and compute the bits at the errors that they reach."""
    images, labels = load_digits(return_X_y=True)
    margin = analysis.class_margin(images / 16, labels, "exact").value
    order = run.rng.permutation(len(images))
    x = torch.tensor(images[order] / 16, dtype=torch.float32)
    y = torch.tensor(labels[order])
    n_test = 500
    networks = {
        "linear": nn.Linear(64, 10),
        "mlp": nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        "cnn": nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10)
        )
    }  # fmt: skip
    errors = {}
    for name, network in networks.items():
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
        for epoch in run.steps(config.epochs, network=network, optimizer=optimizer):
            shuffled = torch.randperm(len(x) - n_test, generator=run.generator)
            for batch in torch.split(shuffled, 32):
                loss = nn.functional.cross_entropy(network(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            run.log(epoch + 1, **{f"error_{name}": wrong(network, x[-n_test:], y[-n_test:])})
        run.keep(**{name: network})
        errors[name] = wrong(network, x[-n_test:], y[-n_test:])
    m = analysis.intrinsic_dimension(images / 16).value
    radius = float(np.linalg.norm(images / 16, axis=1).max())
    task = analysis.GeneralizationTask(len(x) - n_test, m, radius, margin, ERROR, 10, 9)
    information = analysis.architecture_information(task, errors, n_test)
    result = {f"error_{name}": error for name, error in errors.items()}
    return {**result, **{f"log10_bits_{name}": bits.log10_bits for name, bits in information.items()}}


@torch.no_grad()
def wrong(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of inputs that a network puts into a wrong class."""
    return float((network(x).argmax(1) != y).float().mean())
