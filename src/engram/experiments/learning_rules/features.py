"""Trials of synaptic rules: features learned without classes, and a readout of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engram import checks, registry
from engram.experiments.learning_rules.networks import TRAINED, VALIDATED, Images, digits
from engram.experiments.learning_rules.training import RATES, Training, accuracy, batches, learn
from engram.lab import Run, setting, settings
from engram.rules import Backprop

FEATURES, RANDOM = 16, "random"


@settings
class Features:
    """What one trial of unsupervised features with a readout is made of."""

    rule: str = setting("sanger", "name of the synaptic rule; random: none, but random features")
    rates: tuple[float, ...] = setting(RATES, "learning rates to choose from, of both")
    epochs: int = setting(20, "passes over the training set, for features and again for the readout", ge=1, scales=True)

    def __post_init__(self) -> None:
        checks.choice("rule", self.rule, [RANDOM, *registry.names("synaptic_rules")])


def trial(config: Features, run: Run) -> dict[str, Any]:
    """Learn features without classes, and then a readout of them; the rates of both are chosen together."""
    data = digits(in_time=False)
    seeds = torch.randint(2**62, (3,), generator=run.generator)
    first = (0.0,) if config.rule == RANDOM else config.rates
    rates = [(of_features, of_readout) for of_features in first for of_readout in config.rates]
    shares = np.zeros(len(rates) + 1)  # of right answers
    for number in run.steps(len(shares), shares=shares):
        last = number == len(rates)
        of_features, of_readout = rates[int(shares[:-1].argmax()) if last else number]
        of_weights, *generators = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        end = TRAINED if last else TRAINED - VALIDATED
        fitted, held_out = data.of(slice(end)), data.of(slice(end, None if last else TRAINED))
        weight = torch.randn(FEATURES, fitted.x.shape[1], generator=of_weights) / 8
        if config.rule != RANDOM:
            weight = trained_weight(config, weight, fitted.x, of_features, generators[0])
        shown = [Images(features(config, weight, part.x), part.y) for part in (fitted, held_out)]
        readout = nn.Linear(FEATURES, 10)
        for parameter in readout.parameters():
            nn.init.zeros_(parameter)
        learn(Training(epochs=config.epochs), Backprop(), readout, shown[0], of_readout, generators)
        shares[number] = accuracy(Backprop(), readout, shown[1])
        run.log(number + 1, accuracy=shares[number])
    return {"accuracy": float(shares[-1])}


def trained_weight(config: Features, weight: Tensor, x: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """The weights of linear units after training by a synaptic rule."""
    rule = registry.get("synaptic_rules", config.rule)()
    state = rule.init(weight)
    for _ in range(config.epochs):
        for chosen in batches(len(x), generator):
            grad, state = rule.update(x[chosen], x[chosen] @ weight.T, weight, state)
            weight = weight - rate * grad
    return weight


def features(config: Features, weight: Tensor, x: Tensor) -> Tensor:
    """What the readout sees: the activities of linear units, or of random ones of tanh."""
    drive = x @ weight.T
    return drive.tanh() if config.rule == RANDOM else drive
