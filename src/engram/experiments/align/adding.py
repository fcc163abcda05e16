"""Recurrent networks that add late inputs."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import torch

from engram.lab import Run, setting, settings
from engram.nn import wide_rnn
from engram.rules import AlignAda, AlignZero, Backprop, LearningRule, train_step
from engram.tasks import DelayedAdd, Episode

TRAINED = 300


RULES = ("backprop", "align-ada", "align-ada-author", "align-zero", "readout")
SIZES = (8, 16, 128, 512, 2048)


@settings
class Adding:
    """A recurrent network, trained by one rule."""

    rule: Literal["backprop", "align-ada", "align-ada-author", "align-zero", "readout"] = setting(
        "backprop", "align-ada-author has the readout of the authors' code; readout: that alone is trained"
    )
    hidden: int = setting(128, "units", ge=1)
    epochs: int = setting(50, "passes over the 300 training episodes", ge=1, scales=True)
    learning_rate: float = setting(0.001, "as published, for squared errors summed over time", gt=0, le=1)
    wrap: bool = setting(False, "whether the targets have the defect of the authors' code")


arms: dict[str, dict[str, Any]] = {
    f"add-{rule}-{hidden}": {"rule": rule, "hidden": hidden} for hidden in SIZES for rule in RULES
}


@cache
def episodes(wrap: bool) -> Episode:
    """The published episodes."""
    return DelayedAdd(wrap=wrap).published()


def rule_of(name: str) -> LearningRule[Any]:
    """The rule of a name."""
    if name.startswith("align-ada"):
        return AlignAda(author_readout=name.endswith("author"))
    return AlignZero() if name == "align-zero" else Backprop()


def trial(config: Adding, run: Run) -> dict[str, Any]:
    """Train a network; its result is the smallest error on test episodes, and whether it diverged."""
    of_network, of_batches = (
        torch.Generator().manual_seed(int(seed)) for seed in torch.randint(2**62, (2,), generator=run.generator)
    )
    model, (x, target, _) = wide_rnn(1, config.hidden, 1, generator=of_network), episodes(config.wrap)
    model.core.requires_grad_(config.rule != "readout")
    rule, optimizer = rule_of(config.rule), torch.optim.SGD(model.parameters(), lr=2 * config.learning_rate)
    state, orders = rule.init(model, torch.Generator()), torch.empty(config.epochs, TRAINED, dtype=torch.long)
    for order in orders:
        order.copy_(torch.randperm(TRAINED, generator=of_batches))
    outcome = np.array([np.inf, 0.0])  # the smallest error, and whether it diverged
    for epoch in run.steps(config.epochs, model=model, outcome=outcome):
        if outcome[1]:
            continue
        try:
            for rows in torch.split(orders[epoch], 50):
                train_step(rule, model, optimizer, (x[:, rows], target[:, rows]), state)
        except FloatingPointError:
            outcome[1] = 1.0
            run.note(f"diverged in epoch {epoch + 1}")
            continue
        with torch.no_grad():
            loss = float((model(x[:, TRAINED:]) - target[:, TRAINED:]).square().sum(0).mean())
        outcome[0] = min(outcome[0], loss) if np.isfinite(loss) else outcome[0]
        run.log(epoch + 1, loss=loss)
    run.keep(model=model)
    return {"loss": float(outcome[0]), "diverged": float(outcome[1])}
