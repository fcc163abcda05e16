"""Classification of CIFAR-10 by a convolutional network, each optimiser at the learning rate that validates best.

The longer the training, the slower preconditioners have to learn, so their own rate can be chosen too. What validation
compares is accuracy, as the claims do: a network that overfits may gain accuracy while its loss rises.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from engram.lab import Run, setting, settings
from engram.nn.initial import uniform
from engram.studies.experiments.choosing import Trained
from engram.studies.experiments.first_order_preconditioning.training import Classifier, Training
from engram.studies.experiments.small_images import Images, check_counts, read_images

CLASSES = 10


@settings
class Cifar(Classifier):
    """The settings of a network of some convolutions and a linear layer."""

    images: Images = setting("cifar10-jpeg", "CIFAR-10, its JPEG-encoded copy, or enlarged digits")
    train_images: int = setting(14_000, "training images", ge=10, le=50_000)
    validation_images: int = setting(2000, "further images of the training set, which choose the learning rate", ge=10)
    test_images: int = setting(5000, "test images", ge=10, le=10_000)
    rhos: tuple[float, ...] = setting((), "candidate rates of the preconditioners, tried from rho on; none: rho alone")
    channels: tuple[int, ...] = setting((24, 48), "channels of the convolutions, which halve the side of the images")
    steps: int = setting(400, "steps of the optimiser", ge=1)

    def __post_init__(self) -> None:
        counts = {"train_images": self.train_images, "validation_images": self.validation_images}
        check_counts(self.images, self.test_images, **counts)


def data(config: Cifar) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images and classes for training, for validation and for testing, equally scaled in each colour."""
    images, labels = read_images(config.images, "train", config.train_images + config.validation_images)
    unseen, unseen_labels = read_images(config.images, "test", config.test_images)
    fitted = images[: config.train_images]
    mean, spread = fitted.mean((0, 2, 3), keepdims=True), fitted.std((0, 2, 3), keepdims=True)
    x, y = torch.from_numpy((images - mean) / spread), torch.from_numpy(labels.astype("int64"))
    tested = torch.from_numpy((unseen - mean) / spread), torch.from_numpy(unseen_labels.astype("int64"))
    return (x[: len(fitted)], y[: len(fitted)]), (x[len(fitted) :], y[len(fitted) :]), tested


def build(colors: int, channels: tuple[int, ...], generator: torch.Generator, first_stride: int = 2) -> nn.Sequential:
    """The network for images of 32 x 32 pixels, with weights and biases uniform within 1 / sqrt(fan-in).

    Args:
        colors: Channels of the images.
        channels: Channels of the convolutions; each halves the side of the images.
        generator: Source of the initial values.
        first_stride: Stride of the first convolution; at 1 it leaves the side as it is.
    """
    layers: list[nn.Module] = []
    side, inputs = 32, colors
    for number, outputs in enumerate(channels):
        stride = 2 if number else first_stride
        layers += [uniform(nn.Conv2d, inputs, outputs, 3, stride=stride, padding=1, generator=generator), nn.ReLU()]
        side, inputs = side // stride, outputs
    return nn.Sequential(*layers, nn.Flatten(), uniform(nn.Linear, inputs * side**2, CLASSES, generator=generator))


def trial(config: Cifar, run: Run) -> dict[str, Any]:
    """Train networks at several rates; the results are the loss and accuracy on test images at the validated ones.

    Of two rates the learning rate is chosen first, then that of the preconditioners, then the learning rate again.
    """
    fitted, validated, unseen = ((x.to(run.device), y.to(run.device)) for x, y in data(config))
    initial_state = run.generator.get_state()  # all rates begin with the same network and see the same batches
    trained = Trained()

    def results_at(lr: float, rho: float) -> list[float]:
        """The accuracy on validation images, and the loss and accuracy on test images."""
        key = f"{lr} {rho}"
        if key not in trained.results:
            run.generator.set_state(initial_state)
            net = build(fitted[0].shape[1], config.channels, run.generator)
            training = Training(net, replace(config, rho=rho), lr, fitted, run)
            for number in range(config.steps):
                run.beat(f"candidate: {number / config.steps:.0%}")
                training.step(number)
            trained.results[key] = [training.evaluate(*validated)[1], *training.evaluate(*unseen)]
        results: list[float] = trained.results[key]
        return results

    def learning_rate(name: str, rho: float) -> float:
        return run.choose(name, config.rates, lambda lr: results_at(lr, rho)[0], trained=trained)

    rho, own = config.rho, {}
    if config.rhos:
        first = learning_rate("first_learning_rate", rho)
        rho = run.choose("rho", config.rhos, lambda rho: results_at(first, rho)[0], trained=trained)
        own["rho"] = rho
    lr = learning_rate("learning_rate", rho)
    _, loss, accuracy = results_at(lr, rho)
    run.log(config.steps, unseen_loss=loss, accuracy=accuracy)
    return {"unseen_loss": loss, "accuracy": accuracy, "rate": lr, **own}
