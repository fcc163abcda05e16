"""Digits told apart by wide networks: all rules from the same start, at the same rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import one_hot

from engram.lab import Run
from engram.nn import wide_mlp
from engram.rules import CATALOGUE, AlignProp, LearningRule, train_step

RULES = ("backprop", "align-prop", "align-ada", "align-zero", "fa", "dfa", "last-layer")
CLASSES, TRAINED, VALIDATED, DRAWS = 10, 1437, 287, 2
PER_RATE = 2 / CLASSES  # published rates are for squared errors averaged over classes, ours for half their sum


@dataclass(frozen=True)
class Widths:
    """Networks of several widths, trained by one rule at one rate, and again at the rate that suits it best."""

    rule: str = "backprop"
    """Name of the rule."""
    rho: Annotated[float, Ge(0), Le(1)] = 1.0
    """Correlation of initial weights and feedback, of align-prop."""
    widths: tuple[int, ...] = (8, 32, 128, 256)
    """Units of each of two hidden layers."""
    rate: Annotated[float, Gt(0), Le(100)] = 4.0
    """Learning rate, as published."""
    rates: tuple[float, ...] = (1.0, 2.0, 4.0, 6.0)
    """Rates to choose from, by images that a network is not trained on; none: no second training."""
    epochs: Annotated[int, Ge(1)] = 40
    """Passes over the training set."""


@dataclass(frozen=True)
class FewSamples:
    """Networks of one width, trained by one rule on a few images, drawn twice."""

    rule: str = "backprop"
    """Name of the rule."""
    sizes: tuple[int, ...] = (50, 150, 500)
    """Images."""
    width: Annotated[int, Ge(1)] = 128
    """Units of each of two hidden layers."""
    rate: Annotated[float, Gt(0), Le(100)] = 4.0
    """Learning rate, as published."""
    epochs: Annotated[int, Ge(1)] = 40
    """Passes over 467 images, a third of all; as many steps are taken whatever the number of images."""


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return all images, from 0 to 1, and their classes, in a fixed order: the first are to train on."""
    found, order = load_digits(), np.random.default_rng(0).permutation(1797)
    return torch.from_numpy(found.data / 16).float()[order], torch.from_numpy(found.target)[order]


def targets(classes: Tensor) -> Tensor:
    """Return what the outputs should be: one-hot, less 0.1, so that they sum to 0."""
    return one_hot(classes, CLASSES).float() - 1 / CLASSES


def rule_of(name: str, rho: float = 1.0) -> LearningRule[Any]:
    """Make a rule by its name."""
    return AlignProp(rho) if name == "align-prop" else CATALOGUE[name]()


def learned(
    rule: LearningRule[Any], width: int, chosen: Tensor, *, rate: float, epochs: int, batch: int, seeds: Tensor
) -> nn.Module:
    """Return a network that a rule has trained on some of the images; one that diverged is as it was last."""
    of_network, of_rule, of_batches = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
    model = wide_mlp((64, width, width, CLASSES), generator=of_network)
    x, classes = digits()
    x, target = x[chosen], targets(classes[chosen])
    state, optimizer = rule.init(model, of_rule), torch.optim.SGD(model.parameters(), lr=rate * PER_RATE)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=of_batches)
        for rows in torch.split(order[: len(x) // batch * batch], batch):
            try:
                train_step(rule, model, optimizer, (x[rows], target[rows]), state)
            except FloatingPointError:
                return model
    return model


@torch.no_grad()
def accuracy(model: nn.Module, rows: slice) -> float:
    """Return how often a network is right, on images that normalise one another."""
    x, classes = digits()
    return float((model(x[rows]).argmax(1) == classes[rows]).double().mean())


def widths(config: Widths, run: Run) -> dict[str, Any]:
    """Train networks of all widths, and each again at the best of the rates."""
    rule, seeds = rule_of(config.rule, config.rho), torch.randint(2**62, (3,), generator=run.generator)
    again: tuple[Any, ...] = (*config.rates, "best") if config.rates else ()
    cases: list[tuple[int, Any]] = list(product(config.widths, ("given", *again)))
    found = np.zeros(len(cases))

    def chosen(width: int) -> float:
        return max(config.rates, key=lambda rate: found[cases.index((width, rate))])

    for number in run.steps(len(cases), found=found):
        width, choice = cases[number]
        rate = config.rate if choice == "given" else chosen(width) if choice == "best" else choice
        end = TRAINED - (VALIDATED if choice in config.rates else 0)
        model = learned(rule, width, torch.arange(end), rate=rate, epochs=config.epochs, batch=100, seeds=seeds)
        found[number] = accuracy(model, slice(end, None if end == TRAINED else TRAINED))
        run.log(number + 1, accuracy=found[number])
    result: dict[str, Any] = {}
    for (width, choice), value in zip(cases, found, strict=True):
        if choice == "given":
            result[f"accuracy_{width}"] = float(value)
        elif choice == "best":
            result |= {f"best_accuracy_{width}": float(value), f"rate_{width}": chosen(width)}
    return result | {"accuracy": result[f"accuracy_{config.widths[-1]}"]}


def few_samples(config: FewSamples, run: Run) -> dict[str, Any]:
    """Train networks on few images, in draws of their own, and average."""
    seeds = torch.randint(2**62, (DRAWS, 4), generator=run.generator)  # the same for all rules
    cases = list(product(config.sizes, range(DRAWS)))
    found = np.zeros(len(cases))
    for number in run.steps(len(cases), found=found):
        size, draw = cases[number]
        *of_training, of_images = seeds[draw]
        chosen = torch.randperm(TRAINED, generator=torch.Generator().manual_seed(int(of_images)))[:size]
        epochs = max(round(config.epochs * 1400 / (3 * max(size, 100))), 1)
        model = learned(
            rule_of(config.rule),
            config.width,
            chosen,
            rate=config.rate,
            epochs=epochs,
            batch=50,
            seeds=torch.stack(of_training),
        )
        found[number] = accuracy(model, slice(TRAINED, None))
        run.log(number + 1, accuracy=found[number])
    means = found.reshape(len(config.sizes), DRAWS).mean(1)
    return {f"accuracy_{size}": float(mean) for size, mean in zip(config.sizes, means, strict=True)}


def seconds_of_widths(config: Widths) -> float:
    """Time of a trial on one core."""
    trainings = 2 + len(config.rates) if config.rates else 1
    return 0.5 + trainings * config.epochs * sum(0.004 + 3e-5 * width for width in config.widths)


def seconds_of_few_samples(config: FewSamples) -> float:
    """Time of a trial on one core."""
    return 0.5 + DRAWS * len(config.sizes) * config.epochs * 0.012
