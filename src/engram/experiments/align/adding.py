"""Recurrent networks that add late inputs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le

from engram.lab import Run
from engram.nn import wide_rnn
from engram.rules import AlignAda, AlignZero, Backprop, LearningRule, train_step
from engram.tasks import DelayedAdd, Episode

TRAINED = 300


@dataclass(frozen=True)
class Adding:
    """A recurrent network, trained by one rule."""

    rule: Literal["backprop", "align-ada", "align-ada-author", "align-zero", "readout"] = "backprop"
    """The rule; align-ada-author: with the readout of the authors' code; readout: that alone is trained."""
    hidden: Annotated[int, Ge(1)] = 128
    """Units."""
    epochs: Annotated[int, Ge(1)] = 50
    """Passes over the 300 training episodes."""
    rate: Annotated[float, Gt(0), Le(1)] = 0.001
    """Learning rate, as published, for squared errors summed over time."""
    wrap: bool = False
    """Whether the targets have the defect of the authors' code."""


@cache
def episodes(wrap: bool) -> Episode:
    """Return the published episodes."""
    return DelayedAdd(wrap=wrap).published()


def rule_of(name: str) -> LearningRule[Any]:
    """Make a rule by its name."""
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
    rule, optimizer = rule_of(config.rule), torch.optim.SGD(model.parameters(), lr=2 * config.rate)
    state, orders = rule.init(model, torch.Generator()), torch.empty(config.epochs, TRAINED, dtype=torch.long)
    for order in orders:
        order.copy_(torch.randperm(TRAINED, generator=of_batches))
    found = np.array([np.inf, 0.0])  # the smallest error, and whether it diverged
    for epoch in run.steps(config.epochs, model=model, found=found):
        if found[1]:
            continue
        try:
            for rows in torch.split(orders[epoch], 50):
                train_step(rule, model, optimizer, (x[:, rows], target[:, rows]), state)
        except FloatingPointError:
            found[1] = 1.0
            run.note(f"diverged in epoch {epoch + 1}")
            continue
        with torch.no_grad():
            loss = float((model(x[:, TRAINED:]) - target[:, TRAINED:]).square().sum(0).mean())
        found[0] = min(found[0], loss) if np.isfinite(loss) else found[0]
        run.log(epoch + 1, loss=loss)
    return {"loss": float(found[0]), "diverged": float(found[1])}


def seconds(config: Adding) -> float:
    """Time of a trial on one core."""
    return 0.5 + config.epochs * (0.035 + 2e-4 * config.hidden) * (1.6 if config.rule.startswith("align") else 1)
