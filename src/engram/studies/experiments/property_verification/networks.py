"""The networks to verify: random ones, and ones trained on small data sets."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from sklearn.datasets import load_digits, load_iris, make_moons
from sklearn.decomposition import PCA
from torch import nn

from engram.lab import setting, settings
from engram.nn.initial import uniform
from engram.rules import LearningRule, train_step
from engram.verify import AffineReLU, as_affine_relu

Array = np.ndarray[Any, np.dtype[np.float64]]
Sizes = Literal["2-4-2", "5-8-8-2", "5-2-5-4-3", "5-8-8-3"]
STEPS_BETWEEN_STOPS = 10  # between two calls of ``enough``; an epoch is too many, since accuracies then overshoot


@settings
class RandomNetworks:
    """The settings of random networks and samples of their inputs."""

    sizes: Sizes = setting("2-4-2", "units of a network; set by each arm")
    networks: int = setting(6, "networks per trial", ge=2)
    points: int = setting(100_000, "samples of the box, for estimating shares and finding counterexamples", ge=100)


def random_network(sizes: str, rng: np.random.Generator) -> AffineReLU:
    """A network with weights and biases drawn from N(0, 1)."""
    units = [int(size) for size in sizes.split("-")]
    pairs = list(itertools.pairwise(units))
    return AffineReLU(
        tuple(rng.normal(size=(after, before)) for before, after in pairs),
        tuple(rng.normal(size=after) for _, after in pairs),
    )


def data_set(name: str, rng: np.random.Generator) -> tuple[Array, np.ndarray, Array, np.ndarray]:
    """Inputs and classes for training, then for the test; inputs lie in [0, 1], and digits have 8 components."""
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
    weight_decay: float = 0.0,
) -> AffineReLU:
    """A network trained by Adam on the cross-entropy, or on the squared error if ``y`` has a value for each output.

    Args:
        sizes: Units of each layer, from the inputs to the outputs.
        X: The inputs.
        y: Their classes, or a value for each output.
        epochs: Passes over the inputs, at most.
        generator: Draws the initial weights and the batches.
        hidden: Fixed weights and biases of the first layer (default: they are trained).
        enough: Called with the network after every 10 steps; training ends if it returns true.
        rule: A learning rule whose pseudo-gradients Adam uses (default: backpropagation).
        weight_decay: Weight decay.
    """
    linear = [uniform(nn.Linear, *pair, dtype=torch.float64, generator=generator) for pair in itertools.pairwise(sizes)]
    net = nn.Sequential(*[module for layer in linear for module in (layer, nn.ReLU())][:-1])
    with torch.no_grad():
        if hidden is not None:
            linear[0].weight.copy_(torch.from_numpy(hidden[0]))
            linear[0].bias.copy_(torch.from_numpy(hidden[1]))
            linear[0].requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=5e-3, weight_decay=weight_decay)
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y if y.ndim == 2 else y.astype(np.int64))
    error = nn.functional.mse_loss if y.ndim == 2 else nn.functional.cross_entropy
    state = rule.init(net, generator) if rule else None
    batches = (
        batch for _ in range(epochs) for batch in torch.split(torch.randperm(len(inputs), generator=generator), 32)
    )
    for step, batch in enumerate(batches, 1):
        if rule:
            state = train_step(rule, net, optimizer, (inputs[batch], targets[batch]), state).state
        else:
            loss = error(net(inputs[batch]), targets[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if enough is not None and step % STEPS_BETWEEN_STOPS == 0 and enough(as_affine_relu(net)):
            break
    return as_affine_relu(net)
