"""Digit classification by wide networks: all rules from the same initial weights, each at a validated rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
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
from engram.studies.experiments.choosing import evaluate_chosen

RULES = ("backprop", "align-prop", "align-ada", "align-zero", "fa", "dfa", "last-layer")
RHOS = (0.0, 0.25, 0.5, 0.75, 1.0)
CLASSES, DRAWS, FEW_BATCH = 10, 2, 50
FITTED, TRAINED = 1150, 1437  # of 1797 images: those in between choose learning rates, those after are the test set
RATES = (2.0, 4.0, 6.0)
COMMON_RATE = 4.0
PER_RATE = 2 / CLASSES  # published rates are for squared errors averaged over classes, ours for half their sum


@settings
class Widths:
    """Networks of several widths, trained by one rule."""

    rule: str = setting("backprop", "name of the rule")
    rho: float = setting(1.0, "correlation between initial weights and feedback, for align-prop", ge=0, le=1)
    widths: tuple[int, ...] = setting((8, 32, 128, 256), "units of each of two hidden layers")
    rates: tuple[float, ...] = setting(
        RATES, "candidate learning rates, extended if needed, chosen on validation images"
    )
    epochs: int = setting(40, "passes over the training set", ge=1)


@settings
class FewSamples:
    """Networks of one width, trained by one rule on a few images, drawn twice."""

    rule: str = setting("backprop", "name of the rule")
    sizes: tuple[int, ...] = setting((50, 150, 500), "images")
    width: int = setting(128, "units of each of two hidden layers", ge=1)
    rates: tuple[float, ...] = setting(
        RATES, "candidate learning rates, extended if needed, chosen on validation images"
    )
    epochs: int = setting(
        40,
        "passes over 467 images, a third of all; with fewer images there are more passes",
        ge=1,
    )

    def __post_init__(self) -> None:
        if not all(FEW_BATCH <= size <= FITTED for size in self.sizes):
            expected = f"numbers from {FEW_BATCH}, a batch, to {FITTED}, all training images"
            raise ValueError(f"sizes = {self.sizes}: expected {expected}")


# All rules at all widths; at the second largest width, feedback of several correlations and longer training.
one_width: dict[str, Any] = {"widths": lambda arm: arm.widths[-2:][:1]}
arms_of_widths: dict[str, dict[str, Any]] = (
    {rule: {"rule": rule} for rule in RULES}
    | {f"rho-{rho:g}": {"rule": "align-prop", "rho": rho, **one_width} for rho in RHOS}
    | {
        f"longer-{rule}": {"rule": rule, "epochs": lambda arm: 3 * arm.epochs, **one_width}
        for rule in ("align-zero", "fa", "dfa")
    }
)
arms_of_few_samples = {f"few-{rule}": {"rule": rule} for rule in RULES}


@cache
def digits() -> tuple[Tensor, Tensor]:
    """All images, scaled to 0 to 1, and their classes, in a fixed order, training images first."""
    images, order = load_digits(), np.random.default_rng(0).permutation(1797)
    return torch.from_numpy(images.data / 16).float()[order], torch.from_numpy(images.target)[order]


def targets(classes: Tensor) -> Tensor:
    """The target outputs: one-hot minus 0.1, so that they sum to 0."""
    return one_hot(classes, CLASSES).float() - 1 / CLASSES


def rule_of(name: str, rho: float = 1.0) -> LearningRule[Any]:
    """The rule with the given name."""
    return AlignProp(rho) if name == "align-prop" else registry.get("learning_rules", name)()


def fit(
    rule: LearningRule[Any],
    model: nn.Module,
    samples: tuple[Tensor, Tensor],
    generators: Sequence[torch.Generator],
    *,
    rate: float,
    epochs: int,
    batch: int,
    beat: Callable[[], object] = lambda: None,
) -> None:
    """Train a network by a rule; raises FloatingPointError if it diverges.

    Args:
        rule: The learning rule.
        model: The network, which is changed.
        samples: The training images and their target outputs.
        generators: Those of the rule and of the batches.
        rate: The learning rate, in the units of the settings.
        epochs: Number of passes over the images.
        batch: Number of images in a batch; an incomplete last batch is left out.
        beat: Called before each step.
    """
    x, target = samples
    rule_generator, batch_generator = generators
    state, optimizer = rule.init(model, rule_generator), torch.optim.SGD(model.parameters(), lr=rate * PER_RATE)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=batch_generator)
        for rows in torch.split(order[: len(x) // batch * batch], batch):
            beat()
            train_step(rule, model, optimizer, (x[rows], target[rows]), state)


def train(
    rule: LearningRule[Any], width: int, chosen: Tensor, *, rate: float, epochs: int, batch: int, seeds: Tensor
) -> nn.Module:
    """A network trained by a rule on some of the images; raises FloatingPointError if it diverges.

    Args:
        rule: The learning rule.
        width: Number of units of each hidden layer.
        chosen: Indices of the training images.
        rate: The learning rate, in the units of the settings.
        epochs: Number of passes over the images.
        batch: Number of images in a batch; an incomplete last batch is left out.
        seeds: Three seeds: of the initial weights, of the rule and of the batches.
    """
    network_generator, *generators = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
    model = wide_mlp((64, width, width, CLASSES), generator=network_generator)
    x, classes = digits()
    fit(rule, model, (x[chosen], targets(classes[chosen])), generators, rate=rate, epochs=epochs, batch=batch)
    return model


@torch.no_grad()
def accuracy(model: nn.Module, rows: slice) -> float:
    """The accuracy of a network on images that are normalised as one batch."""
    x, classes = digits()
    return float((model(x[rows]).argmax(1) == classes[rows]).double().mean())


def at_rates(
    config: Widths | FewSamples, run: Run, size: int, models: Callable[[float], Iterable[nn.Module]]
) -> dict[str, float]:
    """The accuracies at the chosen and the common learning rate, as means over networks, and the chosen rate.

    Args:
        config: The settings, with the candidates as ``rates``.
        run: The run.
        size: The width or the number of samples, by which the results are named.
        models: Trains the networks at a learning rate.
    """

    def train(rate: float) -> tuple[float, list[float]]:
        row_ranges = slice(FITTED, TRAINED), slice(TRAINED, None)
        validated, tested = np.mean([[accuracy(model, rows) for rows in row_ranges] for model in models(rate)], 0)
        return float(validated), [float(tested)]

    rate, results = evaluate_chosen(run, f"rate_{size}", config.rates, train)
    run.log(size, accuracy=results[rate].item())
    published = {f"published_accuracy_{size}": results[COMMON_RATE].item()} if COMMON_RATE in results else {}
    return {f"accuracy_{size}": results[rate].item(), f"rate_{size}": rate} | published


def widths(config: Widths, run: Run) -> dict[str, Any]:
    """Train networks of all widths, each at the best learning rate in validation."""
    rule, seeds = rule_of(config.rule, config.rho), torch.randint(2**62, (3,), generator=run.generator)
    options: dict[str, Any] = {"epochs": config.epochs, "batch": 100, "seeds": seeds}
    result: dict[str, Any] = {}
    for width in config.widths:

        def models(rate: float, width: int = width) -> Iterator[nn.Module]:
            yield train(rule, width, torch.arange(FITTED), rate=rate, **options)

        result |= at_rates(config, run, width, models)
    return result | {"accuracy": result[f"accuracy_{config.widths[-1]}"]}


def few_samples(config: FewSamples, run: Run) -> dict[str, Any]:
    """Train networks on few images, averaged over two draws, at the best learning rate for each number of images."""
    seeds = torch.randint(2**62, (DRAWS, 4), generator=run.generator)  # the same for all rules
    result: dict[str, Any] = {}
    for size in config.sizes:
        epochs = max(round(config.epochs * 1400 / (3 * max(size, 100))), 1)

        def models(rate: float, size: int = size, epochs: int = epochs) -> Iterator[nn.Module]:
            for *of_training, of_images in seeds:
                chosen = torch.randperm(FITTED, generator=torch.Generator().manual_seed(int(of_images)))[:size]
                options: dict[str, Any] = {"epochs": epochs, "batch": FEW_BATCH, "seeds": torch.stack(of_training)}
                yield train(rule_of(config.rule), config.width, chosen, rate=rate, **options)

        result |= at_rates(config, run, size, models)
    return result
