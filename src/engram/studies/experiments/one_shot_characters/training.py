"""Training, model selection and evaluation of classifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from engram.lab import Run
from engram.studies.experiments.one_shot_characters.classifiers import (
    MOST,
    Classifier,
    discriminants,
    gaussian_logits,
    nearest_logits,
)
from engram.studies.experiments.one_shot_characters.config import Config
from engram.tasks import OneShotCharacters, synthetic_glyphs
from engram.tasks.data import load
from engram.tasks.data.omniglot import CHARACTERS, DRAWINGS

BLURS = (0.5, 1.0, 1.5, 2.0, 3.0)  # blur widths in sixteenths of a drawing
RANDOM_FEATURES, SHRINKAGE = 2000, 0.1  # for discriminants, from pilots on this task


def memory(config: Config) -> float:
    """The bytes that a trial needs, most of them for the features of all drawings in four turns; 0 for networks."""
    if config.network != "discriminants":
        return 0.0
    is_synthetic = config.characters not in CHARACTERS
    characters, drawings = (
        (config.classes, config.drawings) if is_synthetic else (CHARACTERS[config.characters], DRAWINGS)
    )
    per_drawing = 29e3 + 4 * config.size**2  # .4 GB were measured with 12,000 turned drawings of 31 x 31 pixels
    return 0.5e9 + per_drawing * 4 * drawings * (characters - config.withheld - config.validation)


def tasks_of(config: Config, generator: torch.Generator) -> list[OneShotCharacters]:
    """The tasks with training, validation and withheld characters."""
    if config.characters == "glyphs":
        images = synthetic_glyphs(config.classes, config.drawings, generator, config.size, config.variability)
    else:
        images = torch.from_numpy(load(config.characters, size=config.size).images).float() / 255
        images = 1 - images if config.inverted else images
    images = images[torch.randperm(len(images), generator=generator)]
    held_out = (config.validation, config.withheld)
    image_sets = torch.split(images, [len(images) - sum(held_out), *held_out])
    return [OneShotCharacters(part, config.ways) for part in image_sets]


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train a classifier on new episodes; the results are accuracies on withheld characters."""
    training, validation, test = tasks_of(config, run.generator)
    result: dict[str, Any] = {}
    device: torch.device | str = "cpu"
    if config.network == "blurred-pixels":
        classify = nearest(config, training, run)
    elif config.network == "discriminants":
        classify = discriminating(config, training, validation, run)
    else:
        learner = train(config, training, validation, run)
        classify, device, result = learner.net, run.device, {"loss": run.ends("loss")[1]}
        if config.network in ("connection", "homogeneous"):
            result["eta"] = float(learner.net.state_dict()["head.rule.eta"])
    return result | {
        "accuracy": share_right(classify, test, config, run, device=device, distinct=False),
        "accuracy_other_drawing": share_right(classify, test, config, run, device=device),
    }


def train(config: Config, training_task: OneShotCharacters, validation_task: OneShotCharacters, run: Run) -> Learner:
    """Train a network at the best of several learning rates, each tried for fewer steps.

    Args:
        config: The settings.
        training_task: The task with training characters.
        validation_task: The task with validation characters.
        run: The run.
    """

    def score(rate: float) -> float:
        learner = Learner(config, rate, training_task, run.generator, run.device)
        for _ in range(config.tried_updates):
            learner.update()
        return share_right(learner.net, validation_task, config, run, device=run.device)

    has_candidates = len(config.rates) > 1
    rate = run.choose("learning_rate", config.rates, score, bounds=(0.0, 1.0)) if has_candidates else config.rates[0]
    learner = Learner(config, rate, training_task, run.generator, run.device)
    state = {"net": learner.net, "optimizer": learner.optimizer, "schedule": learner.schedule}
    for step in run.steps(config.updates, **state):
        run.log(step + 1, every=max(1, config.updates // 100), **learner.update())
    run.keep(net=learner.net)
    return learner


class Learner:
    """The training of a network.

    Args:
        config: The settings.
        rate: Initial learning rate.
        task: The training task.
        generator: Draws weights and episodes.
        device: Device of the network.
    """

    def __init__(
        self,
        config: Config,
        rate: float,
        task: OneShotCharacters,
        generator: torch.Generator,
        device: torch.device | None = None,
    ) -> None:
        self.task, self.batch_size, self.generator, self.device = task, config.batch_size, generator, device
        self.net = Classifier(config, generator).to(device)
        trained_parameters = [p for p in self.net.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained_parameters, lr=rate, fused=True)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, config.decay_updates, config.decay)

    def update(self) -> dict[str, Tensor]:
        """Take a step on a batch of new episodes and return loss and accuracy."""
        inputs, targets, _ = self.task.sample(self.batch_size, self.generator)
        logits, target = self.net(*self.task.split(inputs.to(self.device))), targets[-1].to(self.device)
        loss = functional.binary_cross_entropy(logits.softmax(1), target)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.schedule.step()
        return {"loss": loss, "accuracy": (logits.argmax(1) == target.argmax(1)).float().mean()}


def step_of(config: Config) -> Callable[[], object]:
    """A function to be timed, which makes a training step on a batch of episodes, or classifies a batch."""
    generator = torch.Generator().manual_seed(0)
    training, *_ = tasks_of(config, generator)
    if config.network != "blurred-pixels":
        return Learner(config, config.rates[0], training, generator).update
    images, labels = training.split(training.sample(config.batch_size, generator).inputs)
    return lambda: nearest_logits(blurred(images, BLURS[0]), labels)


@torch.no_grad()
def share_right(
    classify: Callable[..., Tensor],
    task: OneShotCharacters,
    config: Config,
    run: Run,
    *,
    device: torch.device | str = "cpu",
    distinct: bool = True,
) -> float:
    """The accuracy of a classifier on test episodes.

    Args:
        classify: Maps drawings and labels to logits.
        task: The task.
        config: The settings.
        run: The run.
        device: Where the classifier computes.
        distinct: Whether the last drawing differs from the one shown with its label.
    """
    task, n_correct, batch = replace(task, distinct=distinct), 0, 250
    for remaining in range(config.test_episodes, 0, -batch):
        inputs, targets, _ = task.sample(min(batch, remaining), run.generator)
        logits = classify(*task.split(inputs.to(device)))
        n_correct += int((logits.argmax(1).cpu() == targets[-1].argmax(1)).sum())
    return n_correct / config.test_episodes


def blurred(images: Float[Tensor, "a b size size"], width: float) -> Float[Tensor, "a b size size"]:
    """Drawings blurred with a width of ``width`` sixteenths of a drawing."""
    sigma = width * images.shape[2] / 16
    return torch.from_numpy(gaussian_filter(images.numpy(), sigma, axes=(2, 3), mode="nearest"))


def nearest(config: Config, training_task: OneShotCharacters, run: Run) -> Callable[..., Tensor]:
    """A nearest-drawing classifier, with the blur that is best for the training characters.

    Args:
        config: The settings.
        training_task: The task with training characters.
        run: The run.
    """

    def at_blur(width: float) -> Callable[..., Tensor]:
        return lambda images, labels: nearest_logits(blurred(images, width), labels)

    return at_blur(run.choose("blur", BLURS, lambda width: share_right(at_blur(width), training_task, config, run)))


def discriminating(
    config: Config, training_task: OneShotCharacters, validation_task: OneShotCharacters, run: Run
) -> Callable[..., Tensor]:
    """A classifier with the best number of discriminants of random ReLU features.

    Args:
        config: The settings.
        training_task: The task with training characters.
        validation_task: The task with validation characters.
        run: The run.
    """
    weights = torch.randn((config.size**2, RANDOM_FEATURES), generator=run.generator) / config.size
    shift, scale = training_task.images.mean(), training_task.images.std()

    def features(images: Float[Tensor, "a b size size"]) -> Float[Tensor, "a b features"]:
        return torch.relu((images.flatten(2) - shift) / scale @ weights)

    # Rotated characters count as new ones.
    turned = torch.cat([training_task.images.rot90(turns, (2, 3)) for turns in range(4)])
    model = discriminants(features(turned), SHRINKAGE)

    def with_number(number: float) -> Callable[..., Tensor]:
        return lambda images, labels: gaussian_logits(model, features(images), labels, int(number))

    def score(number: float) -> float:
        return share_right(with_number(number), validation_task, config, run)

    return with_number(run.choose("discriminants", (8, 16, 32, 64), score, bounds=(1, MOST)))
