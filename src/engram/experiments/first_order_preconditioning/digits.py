"""Digits told apart by a small convolutional network, with and without preconditioned kernels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engram.lab import Run
from engram.nn.initial import uniform
from engram.optim import FOP, auto_groups

TRAINED, LAST = 1200, 50
KERNELS = ("0.weight", "2.weight")


@dataclass(frozen=True)
class Digits:
    """A network of two convolutions and a linear layer."""

    base: Literal["sgd", "adam"] = "sgd"
    """Optimiser."""
    lr: Annotated[float, Gt(0)] = 0.02
    """Learning rate."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Momentum of SGD."""
    rho: Annotated[float, Ge(0)] = 0.03
    """Rate at which preconditioners of the kernels are learned; 0: none."""
    structure: Literal["spatial", "scalar"] = "spatial"
    """A matrix over the 9 places of a kernel, or the control, one number; of each layer."""
    placement: Literal["velocity", "gradient"] = "velocity"
    """What is multiplied: the direction of the base, or what enters it."""
    clamp: bool = True
    """Whether eigenvalues are kept within bounds."""
    steps: Annotated[int, Ge(1)] = 450
    """Steps of the optimiser."""
    batch_size: Annotated[int, Ge(1)] = 64
    """Images of a step."""


def data(generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return images and classes to train on, and others, by a permutation of all; scaled alike."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=generator)
    images = torch.from_numpy(found.images / 16).float()[order, None]
    images = (images - images[:TRAINED].mean()) / images[:TRAINED].std()
    classes = torch.from_numpy(found.target)[order]
    return (images[:TRAINED], classes[:TRAINED]), (images[TRAINED:], classes[TRAINED:])


def build(generator: torch.Generator) -> nn.Sequential:
    """Build the network, its weights and biases uniform within 1 / sqrt(inputs of a unit)."""
    return nn.Sequential(
        uniform(nn.Conv2d, 1, 16, 3, padding=1, generator=generator),
        nn.ReLU(),
        uniform(nn.Conv2d, 16, 32, 3, stride=2, padding=1, generator=generator),
        nn.ReLU(),
        nn.Flatten(),
        uniform(nn.Linear, 512, 10, generator=generator),
    )


def optimizer_of(net: nn.Module, config: Digits) -> FOP:
    """Build the optimiser of a trial."""
    groups = auto_groups(net)
    groups[0]["structure"] = config.structure if config.rho else "none"
    return FOP(
        groups,
        lr=config.lr,
        base=config.base,
        momentum=config.momentum,
        rho=config.rho,
        placement=config.placement,
        eig_range=(1e-2, 1e2) if config.clamp else None,
    )


def trial(config: Digits, run: Run) -> dict[str, Any]:
    """Train one network; its result is the loss of the last batches, the accuracy on other images, and the matrices."""
    (images, classes), (unseen, answers) = (tuple(t.to(run.device) for t in part) for part in data(run.generator))
    net = build(run.generator).to(run.device)
    optimizer = optimizer_of(net, config)
    for step in run.steps(config.steps, net=net, optimizer=optimizer):
        rows = torch.randint(TRAINED, (config.batch_size,), generator=run.generator).to(run.device)
        optimizer.zero_grad()
        loss = cross_entropy(net(images[rows]), classes[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        run.log(step + 1, every=min(LAST, config.steps), loss=loss)
    with torch.no_grad():
        accuracy = (net(unseen).argmax(1) == answers).double().mean()
    # A loss that is not a number is one of nothing learned.
    last = run.ends("loss", config.steps)[1]
    result: dict[str, Any] = {"loss": last if math.isfinite(last) else math.log(10), "accuracy": float(accuracy)}
    if config.rho:
        parameters = dict(net.named_parameters())
        for number, name in enumerate(KERNELS, 1):
            P = optimizer.preconditioner(parameters[name])
            assert isinstance(P, Tensor)
            P = P.cpu() if P.ndim else P.cpu() * torch.eye(9)
            result |= {f"trace_{number}": float(P.trace()) / 9, f"matrix_{number}": P.flatten().tolist()}
    return result


def seconds(config: Digits) -> float:
    """Time of a trial on one core."""
    return 0.1 + config.steps * 2.3e-3
