"""Continual learners: networks, some with recurrent bodies or plastic heads, and methods from the registry."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from engram import references, registry
from engram.continual import ContinualMethod, DHPSoftmax, random_batches, train_on_tasks
from engram.learned.updates import AdamRule, LearnedUpdate, UpdateRule
from engram.nn.initial import kaiming, uniform
from engram.plasticity import Modulated, Oja, PlasticLSTM, PlasticRNN
from engram.tasks import ClassificationTask

LEARNERS = (
    "finetune", "frozen", "l2", "ewc", "online-ewc", "si", "mas", "lwf", "replay", "learned", "adam-resets",
    "dhp", "dhp-control", "rnn", "plastic-rnn", "modulated-rnn", "lstm", "plastic-lstm",
)  # fmt: skip
STRENGTHS: dict[str, tuple[float, ...]] = {  # candidates, extended if needed; 0 is plain training
    "l2": (0.0, 0.001, 0.01, 0.1, 1.0),
    "ewc": (0.0, 0.1, 1.0, 10.0, 100.0),
    "online-ewc": (0.0, 0.1, 1.0, 10.0, 100.0),
    "si": (0.0, 0.01, 0.1, 1.0, 10.0),
    "mas": (0.0, 0.001, 0.01, 0.1, 1.0),
    "lwf": (0.0, 0.1, 0.3, 1.0),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "l2": {"applied": "loss"},
    "ewc": {"applied": "loss"},
    "online-ewc": {"applied": "loss"},
    "si": {"applied": "gradient"},
    "mas": {"applied": "loss", "all_outputs": True},
    "replay": {"capacity": 100},
}
STRENGTHS_OF_OTHERS = (0.0, 0.01, 0.1, 1.0, 10.0)
CLASSES, RATE = 10, 1e-3


def _lstm(inputs: int, units: int, *, generator: torch.Generator) -> nn.LSTM:
    return uniform(nn.LSTM, inputs, units, bound=units**-0.5, generator=generator)


RECURRENT: dict[str, Callable[..., nn.Module]] = {
    "rnn": partial(PlasticRNN, alpha=None),
    "plastic-rnn": lambda *sizes, **options: PlasticRNN(*sizes, rule=Oja(0.05), **options),
    "modulated-rnn": lambda *sizes, **options: PlasticRNN(*sizes, rule=Modulated(), **options),
    "lstm": _lstm,
    "plastic-lstm": PlasticLSTM,
}


def learners() -> list[str]:
    """The names of the library's learners and of all continual methods registered by other packages."""
    return list(dict.fromkeys((*LEARNERS, *registry.names("continual_methods"))))


def is_method(learner: str) -> bool:
    """Whether a learner is a continual method rather than a network."""
    return references.is_reference(learner) or learner in registry.names("continual_methods")


def strengths_of(learner: str) -> tuple[float, ...]:
    """The candidate strengths of a learner; empty if it has none."""
    if learner in STRENGTHS or not is_method(learner):
        return STRENGTHS.get(learner, ())
    parameters = inspect.signature(registry.get("continual_methods", learner)).parameters
    return STRENGTHS_OF_OTHERS if "strength" in parameters else ()


class Rows(nn.Module):
    """A recurrent network that reads an image row by row; its last activity is the feature vector."""

    def __init__(self, net: nn.Module, rows: int) -> None:
        super().__init__()
        self.net, self.rows = net, rows

    def forward(self, images: Tensor) -> Tensor:
        """The features of flat images; plastic traces start at zero for each image."""
        output, _ = self.net(images.view(len(images), self.rows, -1).transpose(0, 1))
        return output[-1]  # type: ignore[no-any-return]


class Net(nn.Module):
    """A body from images to features and a head with outputs for all classes, which may take the labels."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """The logits."""
        features = self.body(images)
        with_labels = (labels,) if isinstance(self.head, DHPSoftmax) and labels is not None else ()
        return self.head(features, *with_labels)  # type: ignore[no-any-return]


def new_net(
    learner: str, units: int, features: int, generator: torch.Generator, shape: tuple[int, int] = (8, 8)
) -> Net:
    """The untrained network of a learner; parts shared by learners start from the same weights.

    Args:
        learner: Its name.
        units: Units of the first layer of the body.
        features: Units of the second layer, or of the recurrent layer.
        generator: Draws the weights.
        shape: The rows of an image, and the numbers in each.
    """
    rows, columns = shape
    if learner in RECURRENT:
        body: nn.Module = Rows(RECURRENT[learner](columns, features, generator=generator), rows)
    else:
        first = kaiming(nn.Linear, rows * columns, units, generator=generator)
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


def method_of(
    learner: str, net: Net, strength: float, rule: UpdateRule | None, generator: torch.Generator
) -> ContinualMethod:
    """The method that protects a learner from forgetting, or plain training if its body or head is to do so.

    With ``adam-resets`` the body is updated as by the learned update, but by Adam alone, with the decays of the learned
    update and moments that start again from zero with each task: only the output of its network is left out.

    Args:
        learner: The name of the learner.
        net: The network.
        strength: Strength of the penalty, for learners that have one.
        rule: The trained rule of the learned update; other learners ignore it.
        generator: Source of the method's random numbers.
    """
    if learner == "adam-resets":
        return LearnedUpdate(net, RATE, rule=AdamRule(), generator=generator)
    if not is_method(learner):
        return ContinualMethod(net)
    options = dict(OPTIONS.get(learner, {}))
    if strengths_of(learner):
        options["strength"] = strength
    if learner == "learned":
        options |= {"lr": RATE, "rule": rule}
    method: ContinualMethod = registry.get("continual_methods", learner)(net, generator=generator, **options)
    return method


def stored_bytes(method: ContinualMethod) -> int:
    """The bytes of all tensors that a method stores between tasks, except the state of its generator."""
    state = {name: value for name, value in method.state_dict().items() if name != "generator"}
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(state) if isinstance(leaf, Tensor))


def learn_in_order(
    net: Net,
    tasks: list[ClassificationTask],
    method: ContinualMethod,
    *,
    steps: int,
    batch_size: int,
    generator: torch.Generator,
) -> list[Stage]:
    """Train a network on tasks one after another; the result is copies of it before the first and after each.

    For all learners, the loss on a task covers only the outputs of its classes, which are known.

    Args:
        net: The network, which is changed.
        tasks: The tasks in their order.
        method: The method that protects what the network has learned.
        steps: Number of training steps for a task.
        batch_size: Number of images in a batch.
        generator: Draws the batches.
    """
    adam, draw = torch.optim.Adam(net.parameters(), RATE, fused=True), random_batches(batch_size, generator)
    training = train_on_tasks(net, tasks, method, adam, steps=steps, draw=draw, labelled=True)
    return [copied(net), *(copied(net) for step in training if step.ends_task)]


def copied(net: Net) -> Stage:
    """Copies of body and head as they are now."""
    return Stage(copy.deepcopy(net.body), copy.deepcopy(net.head))
