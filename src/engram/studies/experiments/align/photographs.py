"""Classification of CIFAR-10 by wide convolutional networks: all rules from the same initial weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engram.lab import Run, setting, settings
from engram.nn import wide_cnn
from engram.studies.experiments.align.digits import RULES, fit, rule_of, targets
from engram.studies.experiments.choosing import evaluate_chosen
from engram.studies.experiments.small_images import Images, check_counts, read_images

PART = 500  # images that are normalised as one batch when a network is evaluated


@settings
class Photographs:
    """The settings of a convolutional network that is trained by one rule, as published by default."""

    rule: str = setting("backprop", "name of the rule; set by each arm")
    images: Images = setting("cifar10", "CIFAR-10, its JPEG-encoded copy, or enlarged digits")
    train_images: int = setting(45_000, "training images", ge=100, le=50_000)
    validation_images: int = setting(5000, "further images of the training set, which choose the learning rate", ge=10)
    test_images: int = setting(10_000, "test images", ge=10, le=10_000)
    width: int = setting(64, "channels of each convolution", ge=1)
    strides: tuple[int, ...] = setting((1, 1, 1, 2, 1, 2, 1), "stride of each convolution")
    rates: tuple[float, ...] = setting(
        (1.0, 2.0, 5.0), "candidate learning rates, extended if needed, chosen on validation images"
    )
    epochs: int = setting(150, "passes over the training set", ge=1)
    batch_size: int = setting(100, "images in a batch", ge=1)

    def __post_init__(self) -> None:
        counts = {"train_images": self.train_images, "validation_images": self.validation_images}
        check_counts(self.images, self.test_images, **counts)
        if self.batch_size > self.train_images:
            raise ValueError(f"batch_size = {self.batch_size}: expected at most train_images = {self.train_images}")


arms = {f"photographs-{rule}": {"rule": rule} for rule in RULES}


def data(config: Photographs) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images with values from 0 to 1 and their classes, for training, for validation and for testing."""
    images, labels = read_images(config.images, "train", config.train_images + config.validation_images)
    unseen, unseen_labels = read_images(config.images, "test", config.test_images)
    x, classes = torch.from_numpy(images), torch.from_numpy(labels.astype("int64"))
    first = config.train_images
    tested = torch.from_numpy(unseen), torch.from_numpy(unseen_labels.astype("int64"))
    return (x[:first], classes[:first]), (x[first:], classes[first:]), tested


@torch.no_grad()
def accuracy(model: nn.Module, samples: tuple[Tensor, Tensor]) -> float:
    """The accuracy of a network on images that are normalised in batches."""
    images, classes = samples
    answers = torch.cat([model(part).argmax(1) for part in torch.split(images, PART)])
    return float((answers == classes).double().mean())


def trial(config: Photographs, run: Run) -> dict[str, Any]:
    """Train networks at several rates; the main result is the accuracy on test images at the validated one."""
    fitted, validated, tested = ((x.to(run.device), y.to(run.device)) for x, y in data(config))
    seeds = torch.randint(2**62, (3,), generator=run.generator)  # the same for all rules and rates
    samples = fitted[0], targets(fitted[1])

    def train(rate: float) -> tuple[float, list[float]]:
        network_generator, *generators = (torch.Generator().manual_seed(int(seed)) for seed in seeds)
        model = wide_cnn(config.width, config.strides, channels=fitted[0].shape[1], generator=network_generator)
        model = model.to(run.device)
        options: dict[str, Any] = {"rate": rate, "epochs": config.epochs, "batch": config.batch_size}
        fit(rule_of(config.rule), model, samples, generators, **options, beat=run.beat)  # it may take hours
        return accuracy(model, validated), [accuracy(model, tested)]

    rate, results = evaluate_chosen(run, "learning_rate", config.rates, train)
    run.log(config.epochs, accuracy=results[rate].item())
    return {"accuracy": results[rate].item(), "rate": rate}
