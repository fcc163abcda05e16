"""Training of a network by a learning rule, at a learning rate chosen by validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from engram import registry
from engram.analysis import extra_memory, forward_equivalents, gradient_cosine
from engram.lab import Run, setting, settings
from engram.rules import Backprop, LearningRule, apply_rule, train_step
from engram.studies.experiments.choosing import evaluate_chosen
from engram.studies.experiments.learning_dynamics import operator_of, path_of
from engram.studies.experiments.learning_rules.networks import (
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
from engram.verify import as_affine_relu, certified_radius

RATES = (0.03, 0.1, 0.3)
READOUT_ONLY = "readout-only"
RECURRENT = "core.weight_hh"
PROBES, BATCH, MOMENTUM = 256, 32, 0.9
IN_TIME: tuple[Network, ...] = ("recurrent", "adding")  # networks with a core beside the readout
TRACED: tuple[Network, ...] = ("narrow",)  # networks whose dynamics of learning are described
COMPONENTS, DELAYS, RANK, NO_CHANGE = 5, 5, 4, 1e-3
COSTS = ("seconds", "extra_kib", "forward_equivalents", "gap", "residual", "radius")
CERTIFIED = 100  # test images with certified radii
SETTLED = {"free_steps": 300, "nudge_steps": 15, "epsilon": 0.8, "tolerance": 1e-3}
OPTIONS: dict[str, dict[str, Any]] = {"ep": SETTLED, "ep-one-sided": SETTLED}


@settings
class Training:
    """The settings of a trial."""

    rule: str = setting("backprop", "name of the learning rule")
    network: Network = setting(
        "narrow",
        "tanh networks 64-32-16-10, 64-128-64-10, 64-16-8-10 or 64-16-16-16-16-10; 64-64-10 with units clipped to 0..1 "
        "or ReLU; 32 leaky units; 8 and 16 convolutional tanh channels; a student 16-32-32-4 of a teacher; 32 leaky "
        "units that add bits",
    )
    rates: tuple[float, ...] = setting(RATES, "candidate learning rates, extended if needed")
    epochs: int = setting(20, "passes over the training set", ge=1)

    def __post_init__(self) -> None:
        if self.rule != READOUT_ONLY:
            registry.check("learning_rules", self.rule, "rule")
        elif self.network not in IN_TIME:
            raise ValueError(f"network = {self.network!r}: expected {' or '.join(IN_TIME)}, with rule = {self.rule!r}")


def rule_of(name: str) -> LearningRule[Any]:
    """The learning rule of a name; backpropagation if only the readout is trained."""
    rule_class = registry.get("learning_rules", "backprop" if name == READOUT_ONLY else name)
    rule: LearningRule[Any] = rule_class(**OPTIONS.get(name, {}))
    return rule


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Choose a learning rate, train with it, and measure accuracy, cosines to the gradient and costs."""
    data, measure = samples_for(config.network), measure_of(config.network)
    seeds = torch.randint(2**62, (3,), generator=run.generator)  # the same for all rules
    rule = rule_of(config.rule)
    names = [measure, *(f"cosine_{number}" for number, _ in enumerate(HIDDEN[config.network], 1))]
    probe, batch = (targets(data.of(slice(size)), config.network) for size in (PROBES, BATCH))
    fitted, validated, tested = (
        data.of(part) for part in (slice(FITTED), slice(FITTED, TRAINED), slice(TRAINED, None))
    )
    shape = config.epochs + 1, len(names)
    is_traced = config.network in TRACED and config.epochs > 2 * DELAYS  # otherwise there is too little to fit

    def train(rate: float) -> tuple[float, list[float]]:
        network_generator, *generators = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        model, curves, activity = build(config.network, network_generator), np.zeros(shape), list[np.ndarray]()
        if config.rule == READOUT_ONLY:
            model.get_submodule("core").requires_grad_(False)

        def log(epoch: int, state: Any) -> None:
            curves[epoch] = score(rule, model, tested), *cosines_of(rule, model, probe, state)
            if is_traced:
                activity.append(hidden_activity(model, probe[0]))

        state, seconds = learn(config, rule, model, fitted, rate, generators, log)
        costs = *costs_of(rule, model, batch, state), *gap_and_residual(rule, model, batch, state)
        radius = certify(model, tested) if config.network == "rectified" else 0.0
        operator = dynamics_of(activity) if is_traced else []
        return score(rule, model, validated), [seconds, *costs, radius, *operator, *curves.ravel()]

    sizes = len(COSTS), RANK**2 * is_traced, math.prod(shape)
    rate, results = evaluate_chosen(run, "learning_rate", config.rates, train)
    costs, operator, flat = np.split(results[rate], np.cumsum(sizes)[:2])
    curves = flat.reshape(shape)
    for epoch, row in enumerate(curves):
        run.log(epoch, **dict(zip(names, row, strict=True)))
    early, end = (dict(zip(names, curves[epoch].tolist(), strict=True)) for epoch in (1, -1))
    result = {"rate": rate} | dict(zip(COSTS, costs.tolist(), strict=True)) | end
    if config.network != "rectified":
        del result["radius"]
    if operator.any():
        result["dynamics"] = operator.round(5).tolist()
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
    """Train a network; return the rule's state and the CPU time of the steps in seconds.

    Args:
        config: The settings.
        rule: The learning rule.
        model: The network.
        data: The training samples.
        rate: Learning rate.
        generators: One for the batches and one for the rule.
        log: Called with the epoch and the rule's state, before training and after each epoch.
    """
    batch_generator, rule_generator = generators
    state, seconds = rule.init(model, rule_generator), 0.0
    decay = rule.weight_decay(rate, MOMENTUM)
    optimizer = torch.optim.SGD(model.parameters(), rate, MOMENTUM, weight_decay=decay)
    for epoch in range(config.epochs + 1):
        if epoch:
            start = time.process_time()
            for rows in batches(len(data.y), batch_generator):
                state = train_step(rule, model, optimizer, targets(data.of(rows), config.network), state).state
            seconds += time.process_time() - start
        if log is not None:
            log(epoch, state)
    return state, seconds


def batches(images: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The indices of the images in each batch of an epoch."""
    return torch.split(torch.randperm(images, generator=generator), BATCH)


def measure_of(network: Network) -> str:
    """The name of what ``score`` measures for a network: accuracy, or the explained share of variance."""
    return "explained" if network in VALUED else "accuracy"


@torch.no_grad()
def score(rule: LearningRule[Any], model: nn.Module, data: Samples) -> float:
    """The accuracy of a network, or the share of variance that it explains.

    Args:
        rule: The rule, which may have a way of its own to predict.
        model: The network.
        data: Inputs and targets.
    """
    output = rule.predict(model, data.x)
    if data.y.is_floating_point():
        return 1 - float((output - data.y).square().mean() / data.y.var())
    return float((output.argmax(1) == data.y).float().mean())


def cosines_of(rule: LearningRule[Any], model: nn.Module, probe: tuple[Tensor, Tensor], state: Any) -> list[float]:
    """The cosine to the gradient on probe images, for each hidden layer or the recurrent weights.

    Args:
        rule: The rule.
        model: The network.
        probe: Inputs and targets of the probe images.
        state: The state of the rule.
    """
    grads, reference = apply_rule(rule, model, *probe, state).grads, Backprop().update(model, *probe, None).grads
    hidden = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters()))[:-1]
    if hidden == ["core"]:
        grads, reference = (
            {parameter_name: grad for parameter_name, grad in part.items() if parameter_name == RECURRENT}
            for part in (grads, reference)
        )
    by_layer = gradient_cosine(grads, reference)
    return [by_layer[layer].cosine if layer in by_layer else 0.0 for layer in hidden]


@torch.no_grad()
def hidden_activity(model: nn.Module, images: Tensor) -> np.ndarray:
    """The activity of the last hidden layer, (images, units)."""
    return model[:-1](images).double().numpy()  # type: ignore[index, no-any-return]


def dynamics_of(activity: Sequence[np.ndarray]) -> list[float]:
    """The entries of the operator by which hidden activity changed over the epochs; zeros if it is undetermined."""
    activities = np.stack(activity)
    if np.isfinite(activities).all() and np.ptp(activities, axis=0).max() > NO_CHANGE:
        with suppress(ValueError):  # the activity changed in fewer directions than the operator needs
            return operator_of(path_of(activities, COMPONENTS), DELAYS, RANK).ravel().tolist()
    return [0.0] * RANK**2


def step_of(config: Training) -> Callable[[], object]:
    """A function to be timed, which makes a training step on a batch."""
    rule, model = rule_of(config.rule), build(config.network, torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(model.parameters(), 0.0, MOMENTUM)
    batch = targets(samples_for(config.network).of(slice(BATCH)), config.network)
    state = rule.init(model, torch.Generator().manual_seed(0))
    return partial(train_step, rule, model, optimizer, batch, state)


def costs_of(
    rule: LearningRule[Any], model: nn.Module, batch: tuple[Tensor, Tensor], state: Any
) -> tuple[float, float]:
    """The memory beyond a forward pass in KiB, and the multiplications of an update in units of forward passes.

    Args:
        rule: The rule.
        model: The network.
        batch: Inputs and targets.
        state: The state of the rule.
    """

    def forward() -> Tensor:
        with torch.no_grad():
            return model(batch[0])  # type: ignore[no-any-return]

    update = partial(rule.update, model, *batch, state)
    tensors = [leaf for leaf in tree_leaves(state) if isinstance(leaf, Tensor)]
    return extra_memory(update, forward, tensors) / 1024, forward_equivalents(update, forward)


def certify(model: nn.Module, data: Samples) -> float:
    """The median of the certified radius, in max |x - x0|, over test images; it is 0 for a misclassified image."""
    x, y = data.of(slice(CERTIFIED))
    return float(np.median(certified_radius(as_affine_relu(model.eval()), x.double().numpy(), y.numpy())))


def gap_and_residual(
    rule: LearningRule[Any], model: nn.Module, batch: tuple[Tensor, Tensor], state: Any
) -> tuple[float, float]:
    """The largest deviation of a pseudo-gradient from the gradient, and the residual of a settling network.

    The residual is 0 for a network that need not settle.

    Args:
        rule: The rule.
        model: The network.
        batch: Inputs and targets.
        state: The state of the rule.
    """
    update, reference = rule.update(model, *batch, state), Backprop().update(model, *batch, None).grads
    differences = [float((update.grads.get(name, 0 * grad) - grad).abs().max()) for name, grad in reference.items()]
    return max(differences), float(update.info.get("residual", 0.0))
