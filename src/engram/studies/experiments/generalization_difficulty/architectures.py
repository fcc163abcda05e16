"""The inductive bias of three networks in bits, from their errors on digits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from engram import analysis
from engram.lab import Run, setting, settings
from engram.studies.experiments.generalization_difficulty.data_sets import ERROR

TEST, HELD_OUT = 500, 300  # digits for testing, and for choosing learning rates
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(64, 10),
    "mlp": lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10)
    )
}  # fmt: skip


@settings
class Architectures:
    """The settings for training networks."""

    epochs: int = setting(40, "passes over the digits", ge=1)
    rates: tuple[float, ...] = setting(
        (1e-3, 3e-3, 1e-2), "candidate learning rates of Adam, chosen on held-out digits"
    )


def trial(config: Architectures, run: Run) -> dict[str, Any]:
    """Train three networks on digits, each at its best rate, and compute their bits from the errors reached."""
    images, labels = load_digits(return_X_y=True)
    margin = analysis.class_margin(images / 16, labels, "exact").value
    order = run.rng.permutation(len(images))
    x = torch.tensor(images[order] / 16, dtype=torch.float32)
    y = torch.tensor(labels[order])
    ends = (0, len(x) - TEST - HELD_OUT, len(x) - TEST, len(x))
    train, held_out, test = ((x[start:end], y[start:end]) for start, end in pairwise(ends))

    def learn(network: nn.Module, optimizer: torch.optim.Adam) -> None:
        for batch in torch.split(torch.randperm(len(train[0]), generator=run.generator), 32):
            loss = nn.functional.cross_entropy(network(train[0][batch]), train[1][batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    errors = {}
    for name, build in NETWORKS.items():

        def begin(rate: float, build: Callable[[], nn.Module] = build) -> tuple[nn.Module, torch.optim.Adam]:
            network = build()
            return network, torch.optim.Adam(network.parameters(), lr=rate)

        def score(rate: float, begin: Callable[..., Any] = begin) -> float:
            network, optimizer = begin(rate)
            for _ in range(config.epochs):
                learn(network, optimizer)
            return -wrong(network, *held_out)

        network, optimizer = begin(run.choose(f"{name}.learning_rate", config.rates, score))
        for epoch in run.steps(config.epochs, network=network, optimizer=optimizer):
            learn(network, optimizer)
            run.log(epoch + 1, **{f"error_{name}": wrong(network, *test)})
        run.keep(**{name: network})
        errors[name] = wrong(network, *test)
    dimension = analysis.intrinsic_dimension(images / 16).value
    radius = float(np.linalg.norm(images / 16, axis=1).max())
    task = analysis.GeneralizationTask(len(train[0]), dimension, radius, margin, ERROR, 10, 9)
    information = analysis.architecture_information(task, errors, TEST)
    result = {f"error_{name}": error for name, error in errors.items()}
    return {**result, **{f"log10_bits_{name}": bits.log10_bits for name, bits in information.items()}}


@torch.no_grad()
def wrong(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The error rate of a network.

    Args:
        network: The network.
        x: The images.
        y: Their classes.
    """
    return float((network(x).argmax(1) != y).float().mean())
