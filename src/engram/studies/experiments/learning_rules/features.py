"""Unsupervised features learned by synaptic rules, and a readout of them."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from engram import checks, registry
from engram.lab import Run, setting, settings
from engram.rules import Backprop
from engram.studies.experiments.choosing import evaluate_chosen
from engram.studies.experiments.learning_rules.networks import FITTED, TRAINED, Samples, digits
from engram.studies.experiments.learning_rules.training import RATES, Training, batches, learn, score

FEATURES, RANDOM = 16, "random"


@settings
class Features:
    """The settings of a trial of unsupervised features with a readout."""

    rule: str = setting("sanger", "name of the synaptic rule; random: random features instead")
    rates: tuple[float, ...] = setting(RATES, "candidate learning rates of features and readout, extended if needed")
    epochs: int = setting(20, "passes over the training set for the features, and as many for the readout", ge=1)

    def __post_init__(self) -> None:
        checks.choice("rule", self.rule, [RANDOM, *registry.names("synaptic_rules")])


def trial(config: Features, run: Run) -> dict[str, Any]:
    """Learn features without labels and then a readout, at learning rates chosen by the readout's validation score."""
    data = digits(in_time=False)
    seeds = torch.randint(2**62, (3,), generator=run.generator)

    @cache  # the choice has already trained the readouts of the chosen features
    def train(feature_rate: float, readout_rate: float) -> tuple[float, list[float]]:
        weight_generator, image_generator, _ = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        weight = torch.randn(FEATURES, data.x.shape[1], generator=weight_generator) / 8
        if config.rule != RANDOM:
            weight = train_weight(config, weight, data.x[:FITTED], feature_rate, image_generator)
        samples = Samples(features(config, weight, data.x), data.y)
        readout, generators = nn.Linear(FEATURES, 10), [torch.Generator().manual_seed(int(seed)) for seed in seeds[1:]]
        for parameter in readout.parameters():
            nn.init.zeros_(parameter)
        learn(Training(epochs=config.epochs), Backprop(), readout, samples.of(slice(FITTED)), readout_rate, generators)
        row_ranges = (slice(FITTED, TRAINED), slice(TRAINED, None))
        validated, tested = (score(Backprop(), readout, samples.of(part)) for part in row_ranges)
        return validated, [tested]

    def at_best(feature_rate: float) -> float:
        return max(train(feature_rate, readout_rate)[0] for readout_rate in config.rates)

    feature_rate = run.choose("feature_rate", config.rates, at_best) if config.rule != RANDOM else 0.0
    readout_rate, results = evaluate_chosen(run, "readout_rate", config.rates, lambda rate: train(feature_rate, rate))
    accuracy = results[readout_rate].item()
    run.log(1, accuracy=accuracy)
    return {"accuracy": accuracy}


def train_weight(config: Features, weight: Tensor, x: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """The weights of linear units after training by a synaptic rule.

    Args:
        config: The settings, with the rule.
        weight: Initial weights, (post, pre).
        x: The images, (samples, pre).
        rate: The learning rate.
        generator: Draws the batches.
    """
    rule = registry.get("synaptic_rules", config.rule)()
    state = rule.init(weight)
    for _ in range(config.epochs):
        for rows in batches(len(x), generator):
            grad, state = rule.update(x[rows], x[rows] @ weight.T, weight, state)
            weight = weight - rate * grad
    return weight


def features(config: Features, weight: Tensor, x: Tensor) -> Tensor:
    """The inputs of the readout: the activities of linear units, or of random tanh units.

    Args:
        config: The settings, with the rule.
        weight: The weights, (post, pre).
        x: The images, (samples, pre).
    """
    drive = x @ weight.T
    return drive.tanh() if config.rule == RANDOM else drive
