"""Gradient descent on the same lifetimes: SGD, with momentum, with normalised units, and Adam.

The scales of the initial weights and the learning rate are chosen by validation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from engram.lab import Run
from engram.learned.blur import cross_entropy
from engram.studies.experiments.blur.search import TIMES, Test, right

SGD_RATES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
ADAM_RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
RATES = {"sgd": SGD_RATES, "momentum": SGD_RATES, "normalised": SGD_RATES, "adam": ADAM_RATES}
OUTPUT_SCALES = (0.0, 1.0, 2.0)
# Further scales of hidden weights change nothing: units are steps, or start at 0 beside their first update.
HIDDEN_BOUNDS = (1 / 256, 1024.0)


class Setting(NamedTuple):
    """The scales are factors of torch's initial weights of the hidden layers and of the output layer.

    Normalisation cancels the scale of hidden weights. Hence it multiplies the normalised inputs of the units instead.
    """

    hidden_scale: float
    output_scale: float
    rate: float


class Descent:
    """Gradient descent on the lifetimes of a test, once in each setting, all from the same weights up to their scale.

    Args:
        sizes: Units of each layer.
        test: The lifetimes.
        run: The run that records the choices.
        hidden_scales: The scales of hidden weights that are tried.
        maximum: The maximum number of learning rates, and of scales, that are tried.
        name: The name of the test, a prefix to the names of choices.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        test: Test,
        run: Run,
        *,
        hidden_scales: Sequence[float],
        maximum: int,
        name: str = "",
    ) -> None:
        self.sizes, self.test, self.run, self.name = sizes, test, run, name
        self.rates = {kind: rates[:maximum] for kind, rates in RATES.items()}
        self.hidden_scales, self.output_scales = hidden_scales[:maximum], OUTPUT_SCALES[:maximum]
        self._seed = int(torch.randint(2**31, (), generator=run.generator))
        self._curves: dict[tuple[str, Setting], dict[str, list[float]]] = {}

    def curves(self, kind: str, setting: Setting) -> dict[str, list[float]]:
        """The test and validation accuracies after each number of steps."""
        if (kind, setting) not in self._curves:
            generator = torch.Generator().manual_seed(self._seed)
            self._curves[kind, setting] = descend(kind, setting, self.sizes, self.test, generator)
        return self._curves[kind, setting]

    def best(self, *kinds: str) -> list[float]:
        """The test accuracy of the optimiser and setting best in validation, for each number of steps."""
        all_curves = [
            self.curves(kind, Setting(*values))
            for kind in kinds
            for values in itertools.product(self.hidden_scales, self.output_scales, self.rates[kind])
        ]
        best_indices = np.argmax([curves["validation"] for curves in all_curves], 0)
        return [all_curves[number]["asked"][time_index] for time_index, number in enumerate(best_indices)]

    def after(self, time: int, *kinds: str) -> float:
        """The test accuracy after a number of steps, of the optimiser and setting chosen for it by validation."""
        time_index = TIMES.index(time)
        curves_by_kind = [self.curves(kind, self.setting(time, kind)) for kind in kinds]
        return max(curves_by_kind, key=lambda curves: curves["validation"][time_index])["asked"][time_index]

    def setting(self, time: int, kind: str) -> Setting:
        """The setting chosen by validation: each scale at the best of the values that are not chosen yet."""
        time_index, name, rates = TIMES.index(time), f"{self.name}{kind}_{time}", self.rates[kind]

        def validate(*grids: Sequence[float]) -> float:
            settings = (Setting(*values) for values in itertools.product(*grids))
            return max(self.curves(kind, setting)["validation"][time_index] for setting in settings)

        hidden_scale = self.run.choose(
            f"{name}_hidden_scale",
            self.hidden_scales,
            lambda scale: validate([scale], self.output_scales, rates),
            bounds=HIDDEN_BOUNDS,
        )
        output_scale = self.run.choose(
            f"{name}_output_scale", self.output_scales, lambda scale: validate([hidden_scale], [scale], rates)
        )
        rate = self.run.choose(name, rates, lambda rate: validate([hidden_scale], [output_scale], [rate]))
        return Setting(hidden_scale, output_scale, rate)


def descend(
    name: str, setting: Setting, sizes: tuple[int, ...], test: Test, generator: torch.Generator
) -> dict[str, list[float]]:
    """The accuracy of networks with scaled initial weights, one for each lifetime and task, trained in parallel.

    Args:
        name: The name of the optimiser, or "normalised".
        setting: The learning rate and the scales of the initial weights.
        sizes: Numbers of units of all layers, from the input to the output.
        test: The batches, and the queries on which accuracy is measured.
        generator: Source of the initial weights.
    """
    x, y = test.batches
    gain = setting.hidden_scale if name == "normalised" else None
    scales = [1.0 if gain is not None else setting.hidden_scale] * (len(sizes) - 2) + [setting.output_scale]
    weights = [
        torch.empty(*x.shape[1:-2], post, pre + 1)
        .uniform_(-1 / math.sqrt(pre), 1 / math.sqrt(pre), generator=generator)  # as torch's
        .mul_(scale)
        .requires_grad_()
        for (pre, post), scale in zip(itertools.pairwise(sizes), scales, strict=True)
    ]
    momentum = 0.0 if name == "sgd" else 0.9
    optimizer: Any = (
        torch.optim.Adam(weights, lr=setting.rate)
        if name == "adam"
        else torch.optim.SGD(weights, lr=setting.rate, momentum=momentum)
    )
    accuracies: dict[str, list[float]] = {"asked": [], "validation": []}
    for step in range(max(TIMES)):
        # Summed over networks, whose gradients are independent.
        loss = cross_entropy(answer(weights, x[step], gain), y[step]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step + 1 in TIMES:
            for part, (images, answers) in {"asked": test.asked, "validation": test.validation}.items():
                with torch.no_grad():
                    accuracies[part].append(float(right(answer(weights, images, gain), answers).mean()))
    return accuracies


def answer(weights: Sequence[Tensor], x: Tensor, gain: float | None = None) -> Tensor:
    """The output of a network, with biases in the last columns of the weights.

    With a gain, the inputs of hidden units are normalised over the batch and multiplied by it.

    Args:
        weights: The weights of each layer, (..., post, pre + 1).
        x: The inputs, (..., batch, features).
        gain: Factor of the normalised inputs of hidden units; None: no normalisation.
    """
    for layer, weight in enumerate(weights):
        x = functional.pad(x, (0, 1), value=1.0) @ weight.mT
        if layer + 1 == len(weights):
            break
        if gain is not None:  # as in the genome's network
            centred = x - x.mean(-2, keepdim=True)
            x = gain * centred * (centred.square().mean(-2, keepdim=True) + 1e-5).rsqrt()
        x = x.tanh()
    return x
