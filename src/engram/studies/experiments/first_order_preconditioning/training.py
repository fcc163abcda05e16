"""The training of a convolutional network, with and without preconditioned kernels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from engram.lab import Run, setting, settings
from engram.optim import FOP, auto_groups
from engram.studies.experiments.first_order_preconditioning.cosine import decay

PART = 1000  # images that are judged at once


@settings
class Classifier:
    """The settings of an optimiser and its training, the base of each study's config."""

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


def optimizer_of(net: nn.Module, config: Classifier, lr: float) -> FOP:
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
        net: The network, which is changed.
        config: The settings.
        lr: Learning rate.
        samples: The training images and their classes.
        run: The run.
    """

    def __init__(self, net: nn.Module, config: Classifier, lr: float, samples: tuple[Tensor, Tensor], run: Run) -> None:
        self.images, self.classes = samples
        self.net, self.run, self.config, self.lr = net.to(run.device), run, config, lr
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
    def evaluate(self, images: Tensor, classes: Tensor) -> tuple[float, float]:
        """The loss and accuracy on other images; a loss that is not finite is replaced by that of guessing."""
        logits = torch.cat([self.net(part) for part in torch.split(images, PART)])
        loss = float(cross_entropy(logits, classes))
        return finite(loss), float((logits.argmax(1) == classes).double().mean())


def finite(loss: float) -> float:
    """The loss, or that of guessing if it is not finite."""
    return loss if math.isfinite(loss) else math.log(10)
