"""Digits told apart by a small convolutional network, with and without preconditioned kernels."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engram.lab import Run, setting, settings
from engram.nn.initial import uniform
from engram.optim import FOP, auto_groups

TRAINED, LAST = 1200, 50
KERNELS = ("0.weight", "2.weight")


@settings
class Digits:
    """A network of two convolutions and a linear layer."""

    base: Literal["sgd", "adam"] = setting("sgd", "optimiser")
    lr: float = setting(0.02, "learning rate", gt=0)
    momentum: float = setting(0.0, "momentum of SGD", ge=0, lt=1)
    rho: float = setting(0.03, "rate at which preconditioners of the kernels are learned; 0: none", ge=0)
    structure: Literal["spatial", "scalar"] = setting("spatial", "for each layer a matrix, or the control, a number")
    placement: Literal["velocity", "gradient"] = setting("velocity", "what is multiplied")
    clamp: bool = setting(True, "whether eigenvalues are kept within bounds")
    steps: int = setting(450, "steps of the optimiser", ge=1, scales=True)
    batch_size: int = setting(64, "images of a step", ge=1)


def data(generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images and classes to train on, and others, by a permutation of all; scaled alike."""
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
    run.keep(net=net)
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
