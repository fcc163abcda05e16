"""Learning the Penn Treebank, from the user's files, by truncated back-propagation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import nn

from engram.experiments.plastic_language.model import LanguageModel, Memory, Model, in_rows, losses, perplexity
from engram.lab import Run
from engram.tasks import read_penn_treebank

TYPES = 10_000
# So many units of the LSTM that those of the plastic one are 200, and all of them have 4.8 million parameters.
BASIC = Model(
    layers=2,
    embedding_size=200,
    weight_init=0.1,
    gate_bias=0.0,
    hidden_size=211,
    rates="connection",
    alpha_init=1e-4,
    eta_init=0.01,
)


@dataclass(frozen=True)
class Treebank:
    """The network, as published, and how it is trained.

    The initial weights, the decay of the learning rate and that of the weights were searched for each network, within
    0.09 to 0.12, 0.25 to 0.4 from the fourth to the sixth epoch on, and 1e-6 to 0.01; here all have the same ones.
    """

    model: Model = BASIC
    batch_size: Annotated[int, Ge(1)] = 20
    """Parts of the text that are read side by side."""
    epochs: Annotated[int, Ge(1)] = 13
    """Passes over the text."""
    window: Annotated[int, Ge(1)] = 20
    """Words through which the gradient flows back."""
    learning_rate: Annotated[float, Gt(0), Le(100)] = 1.0
    """Learning rate of gradient descent."""
    decay: Annotated[float, Gt(0), Le(1)] = 0.3
    """What the learning rate is multiplied by after each of the later epochs."""
    decay_from: Annotated[int, Ge(1), Lt(1000)] = 5
    """The first epoch with a smaller learning rate, counted from 1."""
    weight_decay: Annotated[float, Ge(0), Le(1)] = 1e-6
    """Share of a weight that is added to its gradient."""
    gradient_norm: Annotated[float, Gt(0)] = 5.0
    """Norm above which the gradient is scaled down to it."""


def trial(config: Treebank, run: Run) -> dict[str, Any]:
    """Train on the text, window by window; judge by the perplexity of its test part."""
    corpus = read_penn_treebank()
    train, valid, test = (
        in_rows(part, config.batch_size).to(run.device) for part in (corpus.train, corpus.valid, corpus.test)
    )
    net = LanguageModel(config.model, len(corpus.words), run.generator).to(run.device)
    optimizer = torch.optim.SGD(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    starts = range(0, len(train) - 1, config.window)
    memory = Memory()
    for step in run.steps(config.epochs * len(starts), net=net, optimizer=optimizer, memory=memory):
        epoch, number = divmod(step, len(starts))
        if number == 0:
            memory.carried = None
            rate = config.learning_rate * config.decay ** max(0, epoch + 2 - config.decay_from)
            for group in optimizer.param_groups:
                group["lr"] = rate
        words = train[starts[number] : starts[number] + config.window + 1]
        logits, carried = net(words[:-1], memory.carried)
        memory.keep(carried)
        loss = losses(logits, words[1:]).mean()
        optimizer.zero_grad()
        (loss * len(words[1:])).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), config.gradient_norm)
        optimizer.step()
        run.log(step + 1, every=len(starts), loss=loss)
        if number == len(starts) - 1:
            run.log(step + 1, valid_perplexity=perplexity(net, valid, config.window))
    tested = perplexity(net, test, config.window)
    return {"loss": math.log(tested), "perplexity": tested}


def seconds(config: Treebank) -> float:
    """Time of a trial on one core: as of documents, and a cost for each word that is predicted."""
    each = config.model.seconds(config.batch_size) + 2e-10 * config.batch_size * TYPES * config.model.hidden_size
    return 60 + config.epochs * 950_000 / config.batch_size * each
