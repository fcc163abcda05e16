"""Recurrent networks that add delayed inputs."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import torch
from torch import nn

from engram.lab import Run, setting, settings
from engram.nn import wide_rnn
from engram.rules import AlignAda, AlignZero, Backprop, LearningRule, train_step
from engram.studies.experiments.choosing import evaluate_chosen
from engram.tasks import DelayedAdd, Episode

FITTED, TRAINED = 250, 300  # of 400 episodes: those in between choose learning rates, those after are the test set
EXPLODED = 1e5  # error above which no learning rate was low enough; the targets' own squares sum to about 50

RULES = ("backprop", "align-ada", "align-ada-author", "align-zero", "readout")
SIZES = (8, 16, 128)


@settings
class Adding:
    """A recurrent network, trained by one rule."""

    rule: Literal["backprop", "align-ada", "align-ada-author", "align-zero", "readout"] = setting(
        "backprop", "align-ada-author: with the readout of the authors' code; readout: only the readout is trained"
    )
    hidden: int = setting(128, "units", ge=1)
    epochs: int = setting(50, "passes over 250 of the 300 training episodes; the other 50 choose the rate", ge=1)
    rates: tuple[float, ...] = setting(
        (0.0003, 0.001, 0.003),
        "candidate learning rates, extended if needed, for squared errors summed over time; published: 0.001",
    )
    wrap: bool = setting(False, "whether the targets have the defect of the authors' code")


arms: dict[str, dict[str, Any]] = {
    f"add-{rule}-{hidden}": {"rule": rule, "hidden": hidden} for hidden in SIZES for rule in RULES
}


@cache
def episodes(wrap: bool) -> Episode:
    """The published episodes."""
    return DelayedAdd(wrap=wrap).published()


def rule_of(name: str) -> LearningRule[Any]:
    """The rule with the given name."""
    if name.startswith("align-ada"):
        return AlignAda(author_readout=name.endswith("author"))
    return AlignZero() if name == "align-zero" else Backprop()


def trial(config: Adding, run: Run) -> dict[str, Any]:
    """Train networks at several learning rates; the result is the final test error at the chosen one.

    Initial weights with which activity explodes, so that no rate is low enough, are redrawn.
    """
    seeds = torch.randint(2**62, (2,), generator=run.generator)
    x, target, _ = episodes(config.wrap)

    def error(model: nn.Module, rows: slice) -> float:
        with torch.no_grad():
            return float((model(x[:, rows]) - target[:, rows]).square().sum(0).mean())

    def train(rate: float) -> tuple[float, list[float]]:
        of_network, of_batches = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        model = wide_rnn(1, config.hidden, 1, generator=of_network)
        while error(model, slice(FITTED)) > EXPLODED:  # as in one of forty networks of 16 units
            model = wide_rnn(1, config.hidden, 1, generator=of_network)
        model.core.requires_grad_(config.rule != "readout")
        rule, optimizer = rule_of(config.rule), torch.optim.SGD(model.parameters(), lr=2 * rate)
        state, errors = rule.init(model, torch.Generator()), []
        for _ in range(config.epochs):
            for rows in torch.split(torch.randperm(FITTED, generator=of_batches), 50):
                train_step(rule, model, optimizer, (x[:, rows], target[:, rows]), state)
            errors.append(error(model, slice(TRAINED, None)))
        return -error(model, slice(FITTED, TRAINED)), errors

    rate, results = evaluate_chosen(run, "learning_rate", config.rates, train)
    for epoch, loss in enumerate(results[rate], 1):
        run.log(epoch, loss=loss)
    return {"loss": results[rate][-1].item(), "rate": rate}
