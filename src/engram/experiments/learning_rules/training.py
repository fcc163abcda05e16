"""Trials of learning rules: a network trained by one, at a rate that validation images have chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from engram import checks, registry
from engram.analysis import extra_memory, forward_equivalents, gradient_cosine
from engram.experiments.learning_rules.networks import TRAINED, VALIDATED, Images, Network, build, digits, targets
from engram.lab import Run, setting, settings
from engram.rules import Backprop, KolenPollack, LearningRule, train_step
from engram.rules.temporal import EProp

RATES = (0.1, 0.03, 0.01)
READOUT_ONLY = "readout-only"
RECURRENT = "core.weight_hh"
PROBES, BATCH, MOMENTUM = 256, 32, 0.9
COSTS = ("seconds", "extra_kib", "forward_equivalents", "rate", "gap")


@settings
class Training:
    """What one trial is made of."""

    rule: str = setting("backprop", "name of the learning rule")
    network: Network = setting(
        "narrow", "64-32-16-10 or 64-128-64-10 of tanh, 64-64-10 of units clipped to 0..1, or 32 leaky units"
    )
    rates: tuple[float, ...] = setting(RATES, "learning rates to choose from")
    epochs: int = setting(20, "passes over the training set", ge=1, scales=True)

    def __post_init__(self) -> None:
        checks.choice("rule", self.rule, [READOUT_ONLY, *registry.names("learning_rules")])


def rule_of(name: str) -> LearningRule[Any]:
    """The rule of a name."""
    rule: LearningRule[Any] = registry.get("learning_rules", "backprop" if name == READOUT_ONLY else name)()
    return rule


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Choose a rate, train by it, and look at accuracy, cosines to the gradient and costs on the way."""
    data = digits(config.network == "recurrent")
    seeds = torch.randint(2**62, (3,), generator=run.generator)  # the same for all rules
    validation, costs = np.zeros(len(config.rates)), np.zeros(len(COSTS))
    for number in run.steps(len(config.rates) + 1, validation=validation, costs=costs):
        last = number == len(config.rates)
        rate = config.rates[int(validation.argmax()) if last else number]
        of_network, *generators = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        rule, model = rule_of(config.rule), build(config.network, of_network)
        if config.rule == READOUT_ONLY:
            model.get_submodule("core").requires_grad_(False)
        end = TRAINED if last else TRAINED - VALIDATED
        fitted, held_out = data.of(slice(end)), data.of(slice(end, None if last else TRAINED))
        log = partial(log_epoch, run, rule, model, held_out, targets(data.of(slice(PROBES)), config.network))
        state, seconds = learn(config, rule, model, fitted, rate, generators, log if last else None)
        if last:
            batch = targets(data.of(slice(BATCH)), config.network)
            costs[:] = seconds, *costs_of(rule, model, batch, state), rate, gap(rule, model, batch, state)
        else:
            validation[number] = accuracy(rule, model, held_out)
    curves = run.metrics()
    result = {name: float(cost) for name, cost in zip(COSTS, costs, strict=True)}
    for (metric,), curve in curves.group_by("metric", maintain_order=True):
        _, early, *_, end = [*curve["value"], curve["value"][-1]]
        result[str(metric)] = end
        if str(metric).startswith("cosine"):
            result |= {f"early_{metric}": early, f"rise_of_{metric}": end - early}
    for key in ("cosine", "rise_of_cosine"):
        result[f"least_{key}"] = min(number for name, number in result.items() if name.startswith(f"{key}_"))
    return result


def learn(  # noqa: PLR0917
    config: Training,
    rule: LearningRule[Any],
    model: nn.Module,
    data: Images,
    rate: float,
    generators: Sequence[torch.Generator],
    log: Callable[[int, Any], None] | None = None,
) -> tuple[Any, float]:
    """Train a network; return the rule's state, and the seconds of the processor that the steps took.

    The generators are that of the batches and that of the rule; ``log`` is called before and after each epoch.
    """
    of_batches, of_rule = generators
    state, seconds = rule.init(model, of_rule), 0.0
    feedback_learns = isinstance(rule, KolenPollack) or (isinstance(rule, EProp) and rule.feedback == "adaptive")
    decay = rule.decay * (1 - MOMENTUM) / rate if feedback_learns else 0.0  # type: ignore[attr-defined]
    optimizer = torch.optim.SGD(model.parameters(), rate, MOMENTUM, weight_decay=decay)
    if log is not None:
        log(0, state)
    for epoch in range(config.epochs):
        began = time.process_time()
        try:
            for chosen in batches(len(data.y), of_batches):
                state = train_step(rule, model, optimizer, targets(data.of(chosen), config.network), state).state
        except FloatingPointError:  # this rate is too high
            pass
        seconds += time.process_time() - began
        if log is not None:
            log(epoch + 1, state)
    return state, seconds


def batches(images: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The images of each batch of an epoch."""
    return torch.split(torch.randperm(images, generator=generator), BATCH)


def accuracy(rule: LearningRule[Any], model: nn.Module, data: Images) -> float:
    """The share of right answers."""
    with torch.no_grad():
        return float((rule.predict(model, data.x).argmax(1) == data.y).float().mean())


def log_epoch(  # noqa: PLR0917
    run: Run,
    rule: LearningRule[Any],
    model: nn.Module,
    held_out: Images,
    probe: tuple[Tensor, Tensor],
    epoch: int,
    state: Any,
) -> None:
    """Log accuracy, and on probe images the cosine to the gradient of each hidden layer, or of recurrent weights."""
    grads, reference = rule.update(model, *probe, state).grads, Backprop().update(model, *probe, None).grads
    hidden = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in model.named_parameters()))[:-1]
    if hidden == ["core"]:
        grads, reference = ({n: g for n, g in part.items() if n == RECURRENT} for part in (grads, reference))
    of_layer = gradient_cosine(grads, reference)
    cosines = {f"cosine_{n}": of_layer[layer].cosine if layer in of_layer else 0.0 for n, layer in enumerate(hidden, 1)}
    run.log(epoch, accuracy=accuracy(rule, model, held_out), **cosines)


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


def gap(rule: LearningRule[Any], model: nn.Module, batch: tuple[Tensor, Tensor], state: Any) -> float:
    """The largest difference of a pseudo-gradient from the gradient."""
    grads, reference = rule.update(model, *batch, state).grads, Backprop().update(model, *batch, None).grads
    return max(float((grads.get(name, 0 * grad) - grad).abs().max()) for name, grad in reference.items())
