"""Digits told apart by wide networks: all rules from the same start, at the same rate."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import one_hot

from engram import registry
from engram.lab import Run, setting, settings
from engram.nn import wide_mlp
from engram.rules import AlignProp, LearningRule, train_step

RULES = ("backprop", "align-prop", "align-ada", "align-zero", "fa", "dfa", "last-layer")
RHOS = (0.0, 0.25, 0.5, 0.75, 1.0)
CLASSES, TRAINED, VALIDATED, DRAWS = 10, 1437, 287, 2
PER_RATE = 2 / CLASSES  # published rates are for squared errors averaged over classes, ours for half their sum


@settings
class Widths:
    """Networks of several widths, trained by one rule at one rate, and again at the rate that suits it best."""

    rule: str = setting("backprop", "name of the rule")
    rho: float = setting(1.0, "correlation of initial weights and feedback, of align-prop", ge=0, le=1)
    widths: tuple[int, ...] = setting((8, 32, 128, 256), "units of each of two hidden layers")
    learning_rate: float = setting(4.0, "as published", gt=0, le=100)
    rates: tuple[float, ...] = setting(
        (1.0, 2.0, 4.0, 6.0), "rates to choose from, by images not trained on; none: no second training"
    )
    epochs: int = setting(40, "passes over the training set", ge=1, scales=True)


@settings
class FewSamples:
    """Networks of one width, trained by one rule on a few images, drawn twice."""

    rule: str = setting("backprop", "name of the rule")
    sizes: tuple[int, ...] = setting((50, 150, 500), "images")
    width: int = setting(128, "units of each of two hidden layers", ge=1)
    learning_rate: float = setting(4.0, "as published", gt=0, le=100)
    epochs: int = setting(
        40, "passes over 467 images, a third of all; for fewer images as many steps", ge=1, scales=True
    )


# All rules at all widths, and feedback of any correlation at the last width but one.
arms_of_widths: dict[str, dict[str, Any]] = {rule: {"rule": rule} for rule in RULES} | {
    f"rho-{rho:g}": {"rule": "align-prop", "rho": rho, "widths": lambda arm: arm.widths[-2:][:1], "rates": ()}
    for rho in RHOS
}
arms_of_few_samples = {f"few-{rule}": {"rule": rule} for rule in RULES}


@cache
def digits() -> tuple[Tensor, Tensor]:
    """All images, from 0 to 1, and their classes, in a fixed order: the first are to train on."""
    images, order = load_digits(), np.random.default_rng(0).permutation(1797)
    return torch.from_numpy(images.data / 16).float()[order], torch.from_numpy(images.target)[order]


def targets(classes: Tensor) -> Tensor:
    """What the outputs should be: one-hot, less 0.1, so that they sum to 0."""
    return one_hot(classes, CLASSES).float() - 1 / CLASSES


def rule_of(name: str, rho: float = 1.0) -> LearningRule[Any]:
    """The rule of a name."""
    return AlignProp(rho) if name == "align-prop" else registry.get("learning_rules", name)()


def trained(
    rule: LearningRule[Any], width: int, chosen: Tensor, *, rate: float, epochs: int, batch: int, seeds: Tensor
) -> nn.Module:
    """A network that a rule has trained on some of the images; one that diverged is as it was last."""
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
    """How often a network is right, on images that normalise one another."""
    x, classes = digits()
    return float((model(x[rows]).argmax(1) == classes[rows]).double().mean())


def widths(config: Widths, run: Run) -> dict[str, Any]:
    """Train networks of all widths, and each again at the best of the rates."""
    rule, seeds = rule_of(config.rule, config.rho), torch.randint(2**62, (3,), generator=run.generator)
    again: tuple[Any, ...] = (*config.rates, "best") if config.rates else ()
    cases: list[tuple[int, Any]] = list(product(config.widths, ("given", *again)))
    accuracies = np.zeros(len(cases))

    def chosen(width: int) -> float:
        return max(config.rates, key=lambda rate: accuracies[cases.index((width, rate))])

    for number in run.steps(len(cases), accuracies=accuracies):
        width, choice = cases[number]
        rate = config.learning_rate if choice == "given" else chosen(width) if choice == "best" else choice
        end = TRAINED - (VALIDATED if choice in config.rates else 0)
        model = trained(rule, width, torch.arange(end), rate=rate, epochs=config.epochs, batch=100, seeds=seeds)
        accuracies[number] = accuracy(model, slice(end, None if end == TRAINED else TRAINED))
        run.log(number + 1, accuracy=accuracies[number])
    result: dict[str, Any] = {}
    for (width, choice), value in zip(cases, accuracies, strict=True):
        if choice == "given":
            result[f"accuracy_{width}"] = float(value)
        elif choice == "best":
            result |= {f"best_accuracy_{width}": float(value), f"rate_{width}": chosen(width)}
    return result | {"accuracy": result[f"accuracy_{config.widths[-1]}"]}


def few_samples(config: FewSamples, run: Run) -> dict[str, Any]:
    """Train networks on few images, in draws of their own, and average."""
    seeds = torch.randint(2**62, (DRAWS, 4), generator=run.generator)  # the same for all rules
    cases = list(product(config.sizes, range(DRAWS)))
    accuracies = np.zeros(len(cases))
    for number in run.steps(len(cases), accuracies=accuracies):
        size, draw = cases[number]
        *of_training, of_images = seeds[draw]
        chosen = torch.randperm(TRAINED, generator=torch.Generator().manual_seed(int(of_images)))[:size]
        epochs = max(round(config.epochs * 1400 / (3 * max(size, 100))), 1)
        options: dict[str, Any] = {"rate": config.learning_rate, "epochs": epochs, "batch": 50}
        model = trained(rule_of(config.rule), config.width, chosen, seeds=torch.stack(of_training), **options)
        accuracies[number] = accuracy(model, slice(TRAINED, None))
        run.log(number + 1, accuracy=accuracies[number])
    means = accuracies.reshape(len(config.sizes), DRAWS).mean(1)
    return {f"accuracy_{size}": float(mean) for size, mean in zip(config.sizes, means, strict=True)}
