"""Trials of learning rules: a network trained by one, at a rate that validation images have chosen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from engram import registry
from engram.analysis import extra_memory, forward_equivalents, gradient_cosine
from engram.analysis.verify import as_affine_relu, certified_radius
from engram.experiments.choosing import judged
from engram.experiments.learning_rules.networks import (
    FITTED,
    HIDDEN,
    TRAINED,
    VALUED,
    Network,
    Samples,
    build,
    samples_for,
    targets,
)
from engram.lab import Run, setting, settings
from engram.rules import Backprop, LearningRule, apply_rule, train_step

RATES = (0.03, 0.1, 0.3)
READOUT_ONLY = "readout-only"
RECURRENT = "core.weight_hh"
PROBES, BATCH, MOMENTUM = 256, 32, 0.9
COSTS = ("seconds", "extra_kib", "forward_equivalents", "gap", "residual", "radius")
CERTIFIED = 100  # test images whose radius is certified
SETTLED = {"free_steps": 300, "nudge_steps": 15, "epsilon": 0.8, "tolerance": 1e-3}
OPTIONS: dict[str, dict[str, Any]] = {"ep": SETTLED, "ep-one-sided": SETTLED}


@settings
class Training:
    """What one trial is made of."""

    rule: str = setting("backprop", "name of the learning rule")
    network: Network = setting(
        "narrow",
        "64-32-16-10, 64-128-64-10, 64-16-8-10 or 64-16-16-16-16-10 of tanh, 64-64-10 of units clipped to 0..1 or of "
        "ReLU, 32 leaky units, 8 and 16 channels of tanh, a student 16-32-32-4 of a teacher, 32 leaky units that add",
    )
    rates: tuple[float, ...] = setting(RATES, "learning rates to choose from, and beyond")
    epochs: int = setting(20, "passes over the training set", ge=1, scales=True)

    def __post_init__(self) -> None:
        if self.rule != READOUT_ONLY:
            registry.check("learning_rules", self.rule, "rule")


def rule_of(name: str) -> LearningRule[Any]:
    """The rule of a name."""
    made = registry.get("learning_rules", "backprop" if name == READOUT_ONLY else name)
    rule: LearningRule[Any] = made(**OPTIONS.get(name, {}))
    return rule


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Choose a rate, train by it, and look at accuracy, cosines to the gradient and costs on the way."""
    data, measure = samples_for(config.network), measure_of(config.network)
    seeds = torch.randint(2**62, (3,), generator=run.generator)  # the same for all rules
    rule = rule_of(config.rule)
    names = [measure, *(f"cosine_{number}" for number, _ in enumerate(HIDDEN[config.network], 1))]
    probe, batch = (targets(data.of(slice(size)), config.network) for size in (PROBES, BATCH))
    fitted, validated, tested = (
        data.of(part) for part in (slice(FITTED), slice(FITTED, TRAINED), slice(TRAINED, None))
    )
    shape = config.epochs + 1, len(names)

    def train(rate: float) -> tuple[float, list[float]]:
        of_network, *generators = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        model, curves = build(config.network, of_network), np.zeros(shape)
        if config.rule == READOUT_ONLY:
            model.get_submodule("core").requires_grad_(False)

        def log(epoch: int, state: Any) -> None:
            curves[epoch] = score(rule, model, tested), *cosines_of(rule, model, probe, state)

        state, seconds = learn(config, rule, model, fitted, rate, generators, log)
        costs = *costs_of(rule, model, batch, state), *gap_and_residual(rule, model, batch, state)
        radius = certified(model, tested) if config.network == "rectified" else 0.0
        return score(rule, model, validated), [seconds, *costs, radius, *curves.ravel()]

    rate, results = judged(run, "learning_rate", config.rates, train, len(COSTS) + math.prod(shape))
    costs, curves = results[rate][: len(COSTS)], results[rate][len(COSTS) :].reshape(shape)
    for epoch, row in enumerate(curves):
        run.log(epoch, **dict(zip(names, row, strict=True)))
    early, end = (dict(zip(names, curves[epoch].tolist(), strict=True)) for epoch in (1, -1))
    result = {"rate": rate} | dict(zip(COSTS, costs.tolist(), strict=True)) | end
    if config.network != "rectified":
        del result["radius"]
    for name in names[1:]:
        result |= {f"early_{name}": early[name], f"rise_of_{name}": end[name] - early[name]}
    for key in ("cosine", "rise_of_cosine"):
        result[f"least_{key}"] = min(value for name, value in result.items() if name.startswith(f"{key}_"))
    return result


def learn(  # noqa: PLR0917
    config: Training,
    rule: LearningRule[Any],
    model: nn.Module,
    data: Samples,
    rate: float,
    generators: Sequence[torch.Generator],
    log: Callable[[int, Any], None] | None = None,
) -> tuple[Any, float]:
    """Train a network; return the rule's state, and the seconds of the processor that the steps took.

    The generators are that of the batches and that of the rule; ``log`` is called before and after each epoch.
    """
    of_batches, of_rule = generators
    state, seconds = rule.init(model, of_rule), 0.0
    decay = rule.weight_decay(rate, MOMENTUM)
    optimizer = torch.optim.SGD(model.parameters(), rate, MOMENTUM, weight_decay=decay)
    for epoch in range(config.epochs + 1):
        if epoch:
            began = time.process_time()
            for chosen in batches(len(data.y), of_batches):
                state = train_step(rule, model, optimizer, targets(data.of(chosen), config.network), state).state
            seconds += time.process_time() - began
        if log is not None:
            log(epoch, state)
    return state, seconds


def batches(images: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The images of each batch of an epoch."""
    return torch.split(torch.randperm(images, generator=generator), BATCH)


def measure_of(network: Network) -> str:
    """What ``score`` is called: the share of right answers, or of the variance of values that is explained."""
    return "explained" if network in VALUED else "accuracy"


@torch.no_grad()
def score(rule: LearningRule[Any], model: nn.Module, data: Samples) -> float:
    """How well a network does."""
    output = rule.predict(model, data.x)
    if data.y.is_floating_point():
        return 1 - float((output - data.y).square().mean() / data.y.var())
    return float((output.argmax(1) == data.y).float().mean())


def cosines_of(rule: LearningRule[Any], model: nn.Module, probe: tuple[Tensor, Tensor], state: Any) -> list[float]:
    """On probe images the cosine to the gradient of each hidden layer, or of recurrent weights."""
    grads, reference = apply_rule(rule, model, *probe, state).grads, Backprop().update(model, *probe, None).grads
    hidden = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters()))[:-1]
    if hidden == ["core"]:
        grads, reference = ({n: g for n, g in part.items() if n == RECURRENT} for part in (grads, reference))
    of_layer = gradient_cosine(grads, reference)
    return [of_layer[layer].cosine if layer in of_layer else 0.0 for layer in hidden]


def step_of(config: Training) -> Callable[[], object]:
    """A step of training on a batch, as often as one likes: to be timed."""
    rule, model = rule_of(config.rule), build(config.network, torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), 0.0, MOMENTUM)
    batch = targets(samples_for(config.network).of(slice(BATCH)), config.network)
    state = rule.init(model, torch.Generator().manual_seed(0))
    return partial(train_step, rule, model, optimizer, batch, state)


def costs_of(
    rule: LearningRule[Any], model: nn.Module, batch: tuple[Tensor, Tensor], state: Any
) -> tuple[float, float]:
    """KiB beyond those of a forward pass, and how many forward passes' multiplications an update does."""

    def forward() -> Tensor:
        with torch.no_grad():
            return model(batch[0])  # type: ignore[no-any-return]

    update = partial(rule.update, model, *batch, state)
    tensors = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]
    return extra_memory(update, forward, tensors) / 1024, forward_equivalents(update, forward)


def certified(model: nn.Module, data: Samples) -> float:
    """The median radius of max |x - x0| within which the answer to an image is surely right; 0 where it is wrong."""
    x, y = data.of(slice(CERTIFIED))
    return float(np.median(certified_radius(as_affine_relu(model.eval()), x.double().numpy(), y.numpy())))


def gap_and_residual(
    rule: LearningRule[Any], model: nn.Module, batch: tuple[Tensor, Tensor], state: Any
) -> tuple[float, float]:
    """The largest difference of a pseudo-gradient from the gradient, and how far from settled a network is that has to.

    A network that has not to settle is.
    """
    update, reference = rule.update(model, *batch, state), Backprop().update(model, *batch, None).grads
    differences = [float((update.grads.get(name, 0 * grad) - grad).abs().max()) for name, grad in reference.items()]
    return max(differences), float(update.info.get("residual", 0.0))
