"""What the bits tell of learners: regression, a Gaussian process, and three networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge
from sklearn.datasets import load_digits
from sklearn.gaussian_process.kernels import RBF
from torch import Tensor, nn

from engram import analysis
from engram.experiments.generalization_difficulty.tasks import ERROR
from engram.lab import Run

MODES = {1: 8, 2: 4, 3: 4}  # highest frequency on the torus, by its dimension


@dataclass(frozen=True)
class Regression:
    """How often functions are drawn."""

    draws: Annotated[int, Ge(1)] = 20
    """Random functions of each dimension."""


def regression(config: Regression, run: Run) -> dict[str, Any]:
    """Fit random functions of limited frequency on the torus, with as many samples as there are modes, or fewer."""
    result: dict[str, Any] = {}
    for m, M in MODES.items():
        grid = np.stack(np.meshgrid(*[np.arange(-M, M + 1)] * m, indexing="ij"), -1).reshape(-1, m)
        frequencies = grid[(grid**2).sum(1) <= M**2]
        modes = len(frequencies)
        sizes = [modes // 5, modes // 2, modes - 1, modes]
        errors = np.zeros((config.draws, len(sizes)))
        for draw in run.steps(config.draws, errors=errors):
            target = run.rng.normal(size=modes) / math.sqrt(modes)
            x = run.rng.uniform(0, 2 * np.pi, size=(modes, m))
            # Of k and -k, one is a cosine and one a sine: an orthonormal basis, in which errors are of coefficients.
            cosine = (frequencies > 0).any(1) & (frequencies[np.arange(modes), (frequencies != 0).argmax(1)] > 0)
            phase = x @ frequencies.T
            basis = math.sqrt(2) * np.where(cosine, np.cos(phase), np.sin(phase))
            basis[:, (frequencies == 0).all(1)] = 1
            for column, size in enumerate(sizes):
                errors[draw, column] = ((least_fit(basis[:size], target) - target) ** 2).sum()
            run.log(draw + 1, **{f"error_{m}": errors[draw, -2]})
        names = ("fifth", "half", "but_one", "all")
        result |= {f"error_{m}_{name}": mean for name, mean in zip(names, errors.mean(0).tolist(), strict=True)}
        # Samples from which the formula's free dimensions are none, over those from which the fit is exact.
        task = analysis.control_task(m, 1, n=1, resolution=2 * np.pi / M)
        result[f"modes_{m}"] = modes
        result[f"formula_{m}"] = float(2 ** task.difficulty().dim_theta_log2) / modes
    return result


def least_fit(basis: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the smallest coefficients that have the values of the target's."""
    # Samples that are nearly dependent magnify rounding, so that values and residuals are of higher precision.
    exact, fitted = basis.astype(np.longdouble), np.zeros(len(target), np.longdouble)
    values = exact @ target
    for _ in range(4):
        fitted += np.linalg.lstsq(basis, (values - exact @ fitted).astype(float), rcond=None)[0]
    return fitted


SIZES, FEW_SIZES = (50, 200, 800), (50, 150)  # training sets of ten classes, and of two
NOISE_INPUTS, NOISE_SD = 16, 0.5
TARGET = 0.05
RARE, SAMPLES = 1e-3, 100_000


def gaussian_process(config: object, run: Run) -> dict[str, Any]:
    """Compute the bits by which a Gaussian process falls short of generalising on digits."""
    images, labels = load_digits(return_X_y=True)
    order = run.rng.permutation(len(images))
    images, labels = images[order] / 16, labels[order]
    noise = run.rng.normal(scale=NOISE_SD, size=(len(images), NOISE_INPUTS))
    targets = np.eye(10)[labels]
    sets = {
        "ten": (images, targets, SIZES),
        "noise": (np.hstack([images, noise]), targets, SIZES),
        "two": (images[labels < 2], targets[labels < 2, :2], FEW_SIZES),
    }
    todo = [(name, size) for name, (_, _, sizes) in sets.items() for size in sizes]
    bits = np.zeros(len(todo))
    for step in run.steps(len(todo), bits=bits):
        name, size = todo[step]
        x, y, _ = sets[name]
        error = analysis.gaussian_process_test_error(x[:size], y[:size], x[-200:], y[-200:], RBF(2.0), jitter=1e-8)
        bits[step] = error.bits(TARGET)
        run.log(size, **{f"bits_{name}": bits[step]})
    error = analysis.gaussian_process_test_error(images[:200], targets[:200], images[-200:], targets[-200:], RBF(2.0))
    drawn = error.sample(SAMPLES, run.rng)
    found = error.bits(float(np.quantile(drawn, RARE)))
    result = {f"bits_{name}_{size}": value for (name, size), value in zip(todo, bits.tolist(), strict=True)}
    return {**result, "off_by": found + math.log2(RARE)}


@dataclass(frozen=True)
class Architectures:
    """How long networks are trained."""

    epochs: Annotated[int, Ge(1)] = 40
    """Passes of the networks over the digits."""


def architectures(config: Architectures, run: Run) -> dict[str, Any]:
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
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10),
        ),
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
        errors[name] = wrong(network, x[-n_test:], y[-n_test:])
    m = analysis.intrinsic_dimension(images / 16).value
    radius = float(np.linalg.norm(images / 16, axis=1).max())
    task = analysis.GeneralizationTask(len(x) - n_test, m, radius, margin, ERROR, 10, 9)
    found = analysis.architecture_information(task, errors, n_test)
    result = {f"error_{name}": error for name, error in errors.items()}
    return {**result, **{f"log10_bits_{name}": each.log10_bits for name, each in found.items()}}


@torch.no_grad()
def wrong(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of inputs that a network puts into a wrong class."""
    return float((network(x).argmax(1) != y).float().mean())
