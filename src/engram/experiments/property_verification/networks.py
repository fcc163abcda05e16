"""The networks whose properties are proved: random ones, and ones trained on small data sets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge
from sklearn.datasets import load_digits, load_iris, make_moons
from sklearn.decomposition import PCA
from torch import nn

from engram.analysis.verify import AffineReLU, as_affine_relu
from engram.nn.initial import uniform
from engram.rules import LearningRule, train_step

Array = np.ndarray[Any, np.dtype[np.float64]]
Sizes = Literal["2-4-2", "5-8-8-2", "5-2-5-4-3", "5-8-8-3"]


@dataclass(frozen=True)
class RandomNetworks:
    """Random networks and samples of their inputs."""

    sizes: Sizes = "2-4-2"
    """Units of a network; each arm has its own."""
    networks: Annotated[int, Ge(2)] = 6
    """Networks of a trial."""
    points: Annotated[int, Ge(100)] = 100_000
    """Samples for shares of the box, and for inputs that break what was proved."""


def random_network(sizes: str, rng: np.random.Generator) -> AffineReLU:
    """Draw weights and biases from N(0, 1)."""
    units = [int(size) for size in sizes.split("-")]
    pairs = list(itertools.pairwise(units))
    return AffineReLU(
        tuple(rng.normal(size=(after, before)) for before, after in pairs),
        tuple(rng.normal(size=after) for _, after in pairs),
    )


def data_set(name: str, rng: np.random.Generator) -> tuple[Array, np.ndarray, Array, np.ndarray]:
    """Return training inputs and classes, then those of the test; inputs between 0 and 1, digits in 8 components."""
    if name == "moons":
        X, y = make_moons(600, noise=0.15, random_state=int(rng.integers(2**31)))
    else:
        X, y = (load_iris if name == "iris" else load_digits)(return_X_y=True)
    if name == "digits":
        X = PCA(8, random_state=0).fit_transform(X)
    X = (X - X.min(0)) / (X.max(0) - X.min(0))
    order = rng.permutation(len(X))
    train, test = order[: 2 * len(X) // 3], order[2 * len(X) // 3 :]
    return X[train], y[train], X[test], y[test]


def trained(
    sizes: tuple[int, ...],
    X: Array,
    y: np.ndarray,
    epochs: int,
    generator: torch.Generator,
    *,
    hidden: tuple[Array, Array] | None = None,
    enough: Callable[[AffineReLU], bool] | None = None,
    rule: LearningRule[Any] | None = None,
) -> AffineReLU:
    """Train by Adam on the cross-entropy of classes, or on the squared error where ``y`` has a value for each output.

    With ``hidden``, the read-out alone is trained; with ``rule``, Adam takes its pseudo-gradients in the place of
    gradients; ``enough`` may stop it earlier.
    """
    linear = [uniform(nn.Linear, *pair, dtype=torch.float64, generator=generator) for pair in itertools.pairwise(sizes)]
    net = nn.Sequential(*[layer for one in linear for layer in (one, nn.ReLU())][:-1])
    with torch.no_grad():
        if hidden is not None:
            linear[0].weight.copy_(torch.from_numpy(hidden[0]))
            linear[0].bias.copy_(torch.from_numpy(hidden[1]))
            linear[0].requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=5e-3)
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y if y.ndim == 2 else y.astype(np.int64))
    error = nn.functional.mse_loss if y.ndim == 2 else nn.functional.cross_entropy
    state = rule.init(net, generator) if rule else None
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(inputs), generator=generator), 32):
            if rule:
                state = train_step(rule, net, optimizer, (inputs[batch], targets[batch]), state).state
                continue
            loss = error(net(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if enough is not None and enough(as_affine_relu(net)):
            break
    return as_affine_relu(net)
