"""Digit classification by a small convolutional network, with and without preconditioned kernels."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engram.experiments.first_order_preconditioning.cosine import decay
from engram.lab import Run, setting, settings
from engram.nn.initial import uniform
from engram.optim import FOP, auto_groups

TRAINED, VALIDATED, LAST = 1200, 200, 50
KERNELS = ("0.weight", "2.weight")


@settings
class Digits:
    """The settings of a network of two convolutions and a linear layer."""

    base: Literal["sgd", "adam"] = setting("sgd", "optimiser")
    rates: tuple[float, ...] = setting(
        (0.02,), "candidate learning rates; if there are several, one is chosen by validation"
    )
    decays: bool = setting(False, "whether the learning rate falls to 0 along a cosine")
    momentum: float = setting(0.0, "momentum of SGD", ge=0, lt=1)
    rho: float = setting(0.03, "learning rate of the preconditioners of kernels; 0: none", ge=0)
    structure: Literal["spatial", "scalar"] = setting("spatial", "a matrix per layer, or the control, a scalar")
    placement: Literal["velocity", "gradient"] = setting("velocity", "what the preconditioner is applied to")
    clamp: bool = setting(True, "whether eigenvalues are clamped")
    steps: int = setting(450, "steps of the optimiser", ge=1)
    batch_size: int = setting(64, "images in a batch", ge=1)


def data(generator: torch.Generator) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images and classes for training and for testing, randomly split and equally scaled."""
    digits = load_digits()
    order = torch.randperm(len(digits.target), generator=generator)
    images = torch.from_numpy(digits.images / 16).float()[order, None]
    images = (images - images[:TRAINED].mean()) / images[:TRAINED].std()
    classes = torch.from_numpy(digits.target)[order]
    return (images[:TRAINED], classes[:TRAINED]), (images[TRAINED:], classes[TRAINED:])


def build(generator: torch.Generator) -> nn.Sequential:
    """The network, with weights and biases uniform within 1 / sqrt(fan-in)."""
    return nn.Sequential(
        uniform(nn.Conv2d, 1, 16, 3, padding=1, generator=generator),
        nn.ReLU(),
        uniform(nn.Conv2d, 16, 32, 3, stride=2, padding=1, generator=generator),
        nn.ReLU(),
        nn.Flatten(),
        uniform(nn.Linear, 512, 10, generator=generator),
    )


def optimizer_of(net: nn.Module, config: Digits, lr: float) -> FOP:
    """The optimiser of a trial.

    Args:
        net: The network.
        config: The settings.
        lr: The learning rate.
    """
    groups = auto_groups(net)
    groups[0]["structure"] = config.structure if config.rho else "none"
    return FOP(
        groups,
        lr=lr,
        base=config.base,
        momentum=config.momentum,
        rho=config.rho,
        placement=config.placement,
        eig_range=(1e-2, 1e2) if config.clamp else None,
    )


class Training:
    """The training of a network on some images.

    Args:
        config: The settings.
        lr: Learning rate.
        images: The training images.
        classes: Their classes.
        run: The run.
    """

    def __init__(self, config: Digits, lr: float, images: Tensor, classes: Tensor, run: Run) -> None:
        self.images, self.classes, self.run, self.config, self.lr = images, classes, run, config, lr
        self.net = build(run.generator).to(run.device)
        self.optimizer = optimizer_of(self.net, config, lr)

    def step(self, number: int) -> Tensor:
        """Take a step on a random batch and return its loss."""
        size = self.config.batch_size
        rows = torch.randint(len(self.images), (size,), generator=self.run.generator).to(self.run.device)
        self.optimizer.zero_grad()
        loss = cross_entropy(self.net(self.images[rows]), self.classes[rows])
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.decays:
            decay(self.optimizer, self.lr, number, self.config.steps)
        self.optimizer.step()
        return loss

    @torch.no_grad()
    def judged(self, images: Tensor, classes: Tensor) -> tuple[float, float]:
        """The loss and accuracy on other images; a loss that is not finite is replaced by that of guessing."""
        logits = self.net(images)
        loss = float(cross_entropy(logits, classes))
        return finite(loss), float((logits.argmax(1) == classes).double().mean())


def finite(loss: float) -> float:
    """The loss, or that of guessing if it is not finite."""
    return loss if math.isfinite(loss) else math.log(10)


def trial(config: Digits, run: Run) -> dict[str, Any]:
    """Train one network; the results are the losses on the last batches and on other images, and the matrices."""
    (images, classes), unseen = (tuple(t.to(run.device) for t in part) for part in data(run.generator))

    def score(lr: float) -> float:
        training = Training(config, lr, images[VALIDATED:], classes[VALIDATED:], run)
        for number in range(config.steps):
            training.step(number)
        return -training.judged(images[:VALIDATED], classes[:VALIDATED])[0]

    lr = run.choose("learning_rate", config.rates, score) if len(config.rates) > 1 else config.rates[0]
    training = Training(config, lr, images, classes, run)
    net, optimizer = training.net, training.optimizer
    for step in run.steps(config.steps, net=net, optimizer=optimizer):
        run.log(step + 1, every=min(LAST, config.steps), loss=training.step(step))
    run.keep(net=net)
    unseen_loss, accuracy = training.judged(*unseen)
    last = finite(run.ends("loss", config.steps)[1])
    result: dict[str, Any] = {"loss": last, "unseen_loss": unseen_loss, "accuracy": accuracy}
    if config.rho:
        parameters = dict(net.named_parameters())
        result["shown"] = {}
        for number, name in enumerate(KERNELS, 1):
            preconditioner = optimizer.preconditioner(parameters[name])
            preconditioner = preconditioner.cpu() if preconditioner.ndim else preconditioner.cpu() * torch.eye(9)
            result[f"trace_{number}"] = float(preconditioner.trace()) / 9
            result["shown"][f"matrix_{number}"] = preconditioner.flatten().tolist()
    return result
