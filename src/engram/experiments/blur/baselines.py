"""Gradient descent on the same lives: the whole grid of rates, with and without momentum and normalisation; Adam."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from engram.experiments.blur.search import TIMES, Test, curve, right
from engram.lab import Run
from engram.learned.blur import BlurNetwork, Genome, cross_entropy

SGD_RATES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
ADAM_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
RATES = {"sgd": SGD_RATES, "momentum": SGD_RATES, "normalised": SGD_RATES, "adam": ADAM_RATES}
Grid = dict[str, list[list[float]]]  # by optimiser, of each rate the accuracy after each number of steps


def grids(sizes: tuple[int, ...], test: Test, rates: int, run: Run) -> Grid:
    """What gradient descent reaches with each of so many rates, and feedback alignment."""
    grid: Grid = {
        name: [descended(name, rate, sizes, test, run) for rate in of_name[:rates]] for name, of_name in RATES.items()
    }
    aligned = BlurNetwork.backprop(sizes, backward="fixed", synapse_std=1 / math.sqrt(sizes[1]))
    grid["feedback-alignment"] = [curve(aligned, Genome.backprop(rate), test, run) for rate in SGD_RATES[:rates]]
    return grid


def best(grid: Sequence[Sequence[float]]) -> list[float]:
    """The best accuracy of all rates, chosen separately for every number of steps."""
    return [max(column) for column in zip(*grid, strict=True)]


def descended(name: str, rate: float, sizes: tuple[int, ...], test: Test, run: Run) -> list[float]:
    """The accuracy of networks of torch's initialisation, one for each life and task, trained side by side."""
    (x, y), (asked, answers) = test
    weights = [
        torch.empty(*x.shape[1:-2], post, pre + 1)
        .uniform_(-1 / math.sqrt(pre), 1 / math.sqrt(pre), generator=run.generator)
        .requires_grad_()
        for pre, post in itertools.pairwise(sizes)
    ]
    momentum = 0.0 if name == "sgd" else 0.9
    optimizer: Any = (
        torch.optim.Adam(weights, lr=rate) if name == "adam" else torch.optim.SGD(weights, lr=rate, momentum=momentum)
    )
    accuracies = []
    for step in range(max(TIMES)):
        # The sum over networks: none is in the gradient of another.
        loss = cross_entropy(answer(weights, x[step], name == "normalised"), y[step]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step + 1 in TIMES:
            with torch.no_grad():
                accuracies.append(float(right(answer(weights, asked, name == "normalised"), answers).mean()))
    return accuracies


def answer(weights: Sequence[Tensor], x: Tensor, normalised: bool = False) -> Tensor:
    """The output of a network, its biases the last columns, hidden inputs normalised over the batch or not."""
    for place, weight in enumerate(weights):
        x = functional.pad(x, (0, 1), value=1.0) @ weight.mT
        if place + 1 == len(weights):
            break
        if normalised:  # over the batch, as the genome's network is
            centred = x - x.mean(-2, keepdim=True)
            x = centred * (centred.square().mean(-2, keepdim=True) + 1e-5).rsqrt()
        x = x.tanh()
    return x
