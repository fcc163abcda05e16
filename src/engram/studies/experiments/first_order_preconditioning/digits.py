"""Digit classification by a small convolutional network, with and without preconditioned kernels."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from engram.lab import Run, settings
from engram.nn.initial import uniform
from engram.studies.experiments.first_order_preconditioning.training import Classifier, Training, finite

TRAINED, VALIDATED, LAST = 1200, 200, 50
KERNELS = ("0.weight", "2.weight")


@settings
class Digits(Classifier):
    """The settings of a network of two convolutions and a linear layer."""


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


def trial(config: Digits, run: Run) -> dict[str, Any]:
    """Train one network; the results are the losses on the last batches and on other images, and the matrices."""
    (images, classes), unseen = (tuple(t.to(run.device) for t in part) for part in data(run.generator))

    def score(lr: float) -> float:
        training = Training(build(run.generator), config, lr, (images[VALIDATED:], classes[VALIDATED:]), run)
        for number in range(config.steps):
            training.step(number)
        return -training.evaluate(images[:VALIDATED], classes[:VALIDATED])[0]

    lr = run.choose("learning_rate", config.rates, score) if len(config.rates) > 1 else config.rates[0]
    training = Training(build(run.generator), config, lr, (images, classes), run)
    net, optimizer = training.net, training.optimizer
    for step in run.steps(config.steps, net=net, optimizer=optimizer):
        run.log(step + 1, every=min(LAST, config.steps), loss=training.step(step))
    run.keep(net=net)
    unseen_loss, accuracy = training.evaluate(*unseen)
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
