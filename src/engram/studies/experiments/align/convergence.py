"""The distance between networks trained by backpropagation and by other rules, as they get wider."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn

from engram.analysis import alignment_by_layer, predicted_change, shuffled_control
from engram.lab import Run, setting, settings
from engram.nn import wide_mlp
from engram.rules import train_step
from engram.studies.experiments.align.digits import CLASSES, PER_RATE, TRAINED, digits, rule_of, targets

RULES = ("backprop", "align-prop", "align-ada", "align-zero", "fa")
LAYERS = ("0.weight", "3.weight", "6.weight")


@settings
class Convergence:
    """Networks with the same initial weights, each trained by one rule, full-batch on a few images."""

    widths: tuple[int, ...] = setting((16, 32, 64, 128, 256, 512), "units of each of two hidden layers")
    samples: int = setting(300, "images; those after the first 1,437 are unseen ones", ge=2, le=TRAINED)
    steps: int = setting(60, "steps, each on all images", ge=1)
    learning_rate: float = setting(3.0, "learning rate, for all rules", gt=0, le=100)

    def __post_init__(self) -> None:
        if len(set(self.widths)) < max(2, len(self.widths)):
            raise ValueError(f"widths = {self.widths}: expected two or more different ones, for a slope over them")


def trial(config: Convergence, run: Run) -> dict[str, Any]:
    """Train networks, and compare their functions and weight changes with those of backpropagation."""
    seeds = [int(seed) for seed in torch.randint(2**62, (3,), generator=run.generator)]
    distances = np.zeros((len(config.widths), len(RULES)))
    scores = np.zeros((2, len(config.widths), len(LAYERS)))
    for number in run.steps(len(config.widths), distances=distances, scores=scores):
        distances[number], scores[:, number] = distances_and_scores(config, config.widths[number], seeds)
        run.log(number + 1, distance=distances[number, 1:].mean())
    result: dict[str, Any] = {}
    for column, rule in list(enumerate(RULES))[1:]:
        slope = np.polyfit(np.log(config.widths), np.log(distances[:, column]), 1)[0]
        result[f"slope_{rule}"] = float(slope)
        result |= {
            f"distance_{rule}_{n}": float(distance)
            for n, distance in zip(config.widths, distances[:, column], strict=True)
        }
    for (row, width), (layer, _) in product(enumerate(config.widths), enumerate(LAYERS)):
        result[f"score_{layer + 1}_{width}"] = float(scores[0, row, layer])
        result[f"shuffled_{layer + 1}_{width}"] = float(scores[1, row, layer])
    for layer in range(len(LAYERS)):
        result[f"widest_score_{layer + 1}"] = float(scores[0, -1, layer])
        result[f"widest_shuffled_{layer + 1}"] = float(scores[1, -1, layer])
    return result


def distances_and_scores(config: Convergence, width: int, seeds: list[int]) -> tuple[list[float], list[list[float]]]:
    """Distances from backpropagation's function on unseen images, and alignment scores, also of shuffled weights.

    Args:
        config: The settings.
        width: Number of units of each hidden layer.
        seeds: Three seeds: of the initial weights, of the rule and of the shuffling.
    """
    x, classes = digits()
    unseen, x, target = x[TRAINED:], x[: config.samples], targets(classes[: config.samples])
    outputs, scores = [], [[0.0]]
    for name in RULES:
        model = wide_mlp((64, width, width, CLASSES), generator=torch.Generator().manual_seed(seeds[0]))
        initial = {key: value.detach().clone() for key, value in model.named_parameters()}
        rule, errors = rule_of(name), torch.zeros_like(target)
        state = rule.init(model, torch.Generator().manual_seed(seeds[1]))
        optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate * PER_RATE)
        for _ in range(config.steps):
            if name == "backprop":
                errors += model(x).detach() - target
            train_step(rule, model, optimizer, (x, target), state)
        outputs.append(model(unseen).detach())
        if name == "backprop":
            scores = alignment_scores(model, initial, predicted_change(model, initial, x, errors), seeds[2])
    return [float((output - outputs[0]).norm() / outputs[0].norm()) for output in outputs], scores


def alignment_scores(
    model: nn.Module, initial: dict[str, Any], predicted: dict[str, Any], seed: int
) -> list[list[float]]:
    """The alignment scores of all layers, and those of shuffled weights.

    Args:
        model: The trained network.
        initial: Its initial parameters, by name.
        predicted: The changes of the parameters that the theory predicts, by name.
        seed: Seed of the shuffling.
    """
    trained = {key: value.detach() for key, value in model.named_parameters()}
    scores = alignment_by_layer(trained, initial, predicted)
    control = shuffled_control(trained, initial, predicted, torch.Generator().manual_seed(seed))
    return [[score_of[name] for name in LAYERS] for score_of in (scores, control)]
