"""Continual learners in one training loop: what each adds to the loss, to the optimiser, or at the end of a task."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engram.continual import (
    EWC,
    MAS,
    DHPSoftmax,
    L2Anchor,
    LwF,
    OnlineEWC,
    QuadraticPenalty,
    Replay,
    SynapticIntelligence,
    fisher_diagonal,
    freeze_body,
)
from engram.learned.updates import LearnedOptimizer, UpdateRule
from engram.nn.initial import kaiming, uniform
from engram.plasticity import Modulated, Oja, PlasticLSTM, PlasticRNN
from engram.tasks import ClassificationTask

Learner = Literal[
    "finetune", "frozen", "l2", "ewc", "online-ewc", "si", "mas", "lwf", "replay", "learned", "dhp", "dhp-control",
    "rnn", "plastic-rnn", "modulated-rnn", "lstm", "plastic-lstm",
]  # fmt: skip
STRENGTHS: dict[str, tuple[float, ...]] = {
    "l2": (0.001, 0.01, 0.1, 1.0),
    "ewc": (0.1, 1.0, 10.0, 100.0),
    "online-ewc": (0.1, 1.0, 10.0, 100.0),
    "si": (0.01, 0.1, 1.0, 10.0),
    "mas": (0.01, 0.1, 1.0, 10.0),
    "lwf": (0.3, 1.0, 3.0),
}
SIDE, CLASSES, RATE, KEPT = 8, 10, 1e-3, 100


def _lstm(few: int, many: int, *, generator: torch.Generator) -> nn.LSTM:
    return uniform(nn.LSTM, few, many, bound=many**-0.5, generator=generator)


RECURRENT: dict[str, Callable[..., nn.Module]] = {
    "rnn": partial(PlasticRNN, alpha=None),
    "plastic-rnn": lambda *sizes, **options: PlasticRNN(*sizes, rule=Oja(0.05), **options),
    "modulated-rnn": lambda *sizes, **options: PlasticRNN(*sizes, rule=Modulated(), **options),
    "lstm": _lstm,
    "plastic-lstm": PlasticLSTM,
}


class Rows(nn.Module):
    """A recurrent network that reads an image row by row; its last activity is what it makes of it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return features of flat images; traces begin at zero for each."""
        output, _ = self.net(images.view(len(images), SIDE, SIDE).transpose(0, 1))
        return output[-1]  # type: ignore[no-any-return]


class Net(nn.Module):
    """A body, from images to features, and a head with outputs for all classes, which may be told the labels."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits."""
        features = self.body(images)
        told = (labels,) if isinstance(self.head, DHPSoftmax) and labels is not None else ()
        return self.head(features, *told)  # type: ignore[no-any-return]


def new_net(learner: Learner, units: int, features: int, generator: torch.Generator) -> Net:
    """Return the untrained network of a learner; they are alike wherever their parts are."""
    if learner in RECURRENT:
        body: nn.Module = Rows(RECURRENT[learner](SIDE, features, generator=generator))
    else:
        first = kaiming(nn.Linear, SIDE**2, units, generator=generator)
        layers = [first, nn.ReLU(), kaiming(nn.Linear, units, features, generator=generator), nn.ReLU()]
        body = nn.Sequential(*layers)
    if learner not in ("dhp", "dhp-control"):
        return Net(body, kaiming(nn.Linear, features, CLASSES, generator=generator))
    scale = 0.01 if learner == "dhp" else 0.0
    head = DHPSoftmax(features, CLASSES, init="author", alpha_scale=scale, bias=True, generator=generator)
    head.alpha.requires_grad_(learner == "dhp")
    return Net(body, head)


class Stage(NamedTuple):
    """Copies of body and head as they were after a task."""

    body: nn.Module
    head: nn.Module


def learned_in_order(
    learner: Learner,
    net: Net,
    tasks: list[ClassificationTask],
    *,
    strength: float,
    steps: int,
    batch_size: int,
    rule: UpdateRule | None,
    generator: torch.Generator,
) -> list[Stage]:
    """Train a network on tasks, one after another; return it as it was before the first and after each.

    Whatever the learner, the loss of a task runs over the outputs of its classes alone, which are known.
    """
    held = _penalty(learner, net, strength)
    lwf = LwF(net, strength) if learner == "lwf" else None
    memory = Replay(KEPT, generator) if learner == "replay" else None
    body = list(net.body.parameters())
    rates = [{"params": body, "lr": RATE}, {"params": [*net.head.parameters()], "lr": RATE}]
    learned = LearnedOptimizer(body, RATE, rule=rule) if learner == "learned" else None
    adam = torch.optim.Adam(rates[1:] if learned is not None else rates)
    if isinstance(held, SynapticIntelligence):
        held.attach(adam, implicit=False)
    found = [Stage(copy.deepcopy(net.body), copy.deepcopy(net.head))]
    for number, task in enumerate(tasks):
        images, labels = task.train
        for _ in range(steps):
            batch = torch.randint(len(images), (batch_size,), generator=generator)
            x, y = images[batch], labels[batch]
            logits = net(x, y)
            loss = _loss(logits, y, task.classes)
            if held is not None and not isinstance(held, SynapticIntelligence):
                loss = loss + held.penalty()
            if lwf is not None:
                loss = loss + lwf.penalty(x, logits)
            if memory is not None and number:
                loss = loss + _replayed(net, memory, tasks[:number], batch_size)
            for optimizer in (adam, learned):
                if optimizer is not None:
                    optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in (adam, learned):
                if optimizer is not None:
                    optimizer.step()
        _consolidate(held, task)
        if lwf is not None:
            lwf.consolidate(task.classes)
        if learned is not None:
            options: dict[str, Any] = {"fisher": "sample", "classes": task.classes, "generator": generator}
            importance = fisher_diagonal(net, [tuple(task.train)], **options)
            learned.consolidate([importance[f"body.{name}"] for name, _ in net.body.named_parameters()])
        if memory is not None:
            memory.add(images, labels + CLASSES * number)  # labels that tell the task
        if learner == "frozen" and not number:
            adam = torch.optim.Adam(freeze_body(net, "head"), RATE)
        found.append(Stage(copy.deepcopy(net.body), copy.deepcopy(net.head)))
    return found


def _penalty(learner: Learner, net: Net, strength: float) -> QuadraticPenalty | None:
    kinds: dict[str, Callable[[], QuadraticPenalty]] = {
        "l2": lambda: L2Anchor(net, strength),
        "ewc": lambda: EWC(net, strength),
        "online-ewc": lambda: OnlineEWC(net, strength),
        "si": lambda: SynapticIntelligence(net, strength),
        "mas": lambda: MAS(net, strength),
    }
    return kinds[learner]() if learner in kinds else None


def _loss(logits: Tensor, labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Return the cross-entropy over the outputs of a task."""
    hidden = torch.ones(logits.shape[1], dtype=torch.bool)
    hidden[list(classes)] = False
    return functional.cross_entropy(logits.masked_fill(hidden, -torch.inf), labels)


def _replayed(net: Net, memory: Replay, tasks: list[ClassificationTask], batch_size: int) -> Tensor:
    images, told = memory.sample(batch_size)
    logits, labels, total = net(images), told % CLASSES, torch.zeros(())
    for number, task in enumerate(tasks):
        rows = told // CLASSES == number
        if rows.any():
            total = total + _loss(logits[rows], labels[rows], task.classes) * rows.float().mean()
    return total


def _consolidate(held: QuadraticPenalty | None, task: ClassificationTask) -> None:
    """Let a penalty note what the weights matter for a task that ends."""
    match held:
        case EWC():
            held.consolidate([tuple(task.train)], classes=task.classes)
        case MAS():
            held.consolidate([task.train.inputs])
        case SynapticIntelligence() | L2Anchor():
            held.consolidate()
