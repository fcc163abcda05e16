"""Gradient descent on the same lifetimes: SGD, with momentum, with normalised units, and Adam, at chosen rates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engram.experiments.blur.search import TIMES, Test, right
from engram.lab import Run
from engram.learned.blur import cross_entropy

SGD_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
ADAM_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
RATES = {"sgd": SGD_RATES, "momentum": SGD_RATES, "normalised": SGD_RATES, "adam": ADAM_RATES}


class Descent:
    """Gradient descent on the lifetimes of a test, once at each learning rate, all from the same weights.

    Args:
        sizes: Units of each layer.
        test: The lifetimes.
        run: The run that records the choices.
        rates: The number of learning rates tried for each optimiser.
        name: The name of the test, a prefix to the names of choices.
    """

    def __init__(self, sizes: tuple[int, ...], test: Test, run: Run, *, rates: int, name: str = "") -> None:
        self.sizes, self.test, self.run, self.rates, self.name = sizes, test, run, rates, name
        self._seed = int(torch.randint(2**31, (), generator=run.generator))
        self._curves: dict[tuple[str, float], dict[str, list[float]]] = {}

    def curves(self, kind: str, rate: float) -> dict[str, list[float]]:
        """The test and validation accuracies after each number of steps."""
        if (kind, rate) not in self._curves:
            generator = torch.Generator().manual_seed(self._seed)
            self._curves[kind, rate] = descended(kind, rate, self.sizes, self.test, generator)
        return self._curves[kind, rate]

    def best(self, *kinds: str) -> list[float]:
        """The test accuracy at the optimiser and rate with the best validation accuracy, for each number of steps."""
        curves_by_rate = [self.curves(kind, rate) for kind in kinds for rate in RATES[kind][: self.rates]]
        chosen = np.argmax([curves["validation"] for curves in curves_by_rate], 0)
        return [curves_by_rate[number]["asked"][time_index] for time_index, number in enumerate(chosen)]

    def after(self, time: int, *kinds: str) -> float:
        """The test accuracy after a number of steps, at the optimiser and rate chosen for it by validation."""
        time_index = TIMES.index(time)
        chosen = [
            self.curves(kind, self.run.choose(f"{self.name}{kind}_{time}", RATES[kind][: self.rates], score))
            for kind in kinds
            for score in [lambda rate, kind=kind: self.curves(kind, rate)["validation"][time_index]]
        ]
        return max(chosen, key=lambda curves: curves["validation"][time_index])["asked"][time_index]


def descended(
    name: str, rate: float, sizes: tuple[int, ...], test: Test, generator: torch.Generator
) -> dict[str, list[float]]:
    """The accuracy of networks with torch's initialisation, one for each lifetime and task, trained in parallel."""
    x, y = test.batches
    weights = [
        torch.empty(*x.shape[1:-2], post, pre + 1)
        .uniform_(-1 / math.sqrt(pre), 1 / math.sqrt(pre), generator=generator)
        .requires_grad_()
        for pre, post in itertools.pairwise(sizes)
    ]
    momentum = 0.0 if name == "sgd" else 0.9
    optimizer: Any = (
        torch.optim.Adam(weights, lr=rate) if name == "adam" else torch.optim.SGD(weights, lr=rate, momentum=momentum)
    )
    accuracies: dict[str, list[float]] = {"asked": [], "validation": []}
    for step in range(max(TIMES)):
        # Summed over networks, whose gradients are independent.
        loss = cross_entropy(answer(weights, x[step], name == "normalised"), y[step]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step + 1 in TIMES:
            for part, (images, answers) in {"asked": test.asked, "validation": test.validation}.items():
                with torch.no_grad():
                    accuracies[part].append(float(right(answer(weights, images, name == "normalised"), answers).mean()))
    return accuracies


def answer(weights: Sequence[Tensor], x: Tensor, normalised: bool = False) -> Tensor:
    """The output of a network, with biases in the last columns of the weights and optional batch normalisation."""
    for layer, weight in enumerate(weights):
        x = functional.pad(x, (0, 1), value=1.0) @ weight.mT
        if layer + 1 == len(weights):
            break
        if normalised:  # over the batch, as in the genome's network
            centred = x - x.mean(-2, keepdim=True)
            x = centred * (centred.square().mean(-2, keepdim=True) + 1e-5).rsqrt()
        x = x.tanh()
    return x
