"""Training of a network on images by a learning rule, in one cycle of the learning rate."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from engram import references, registry
from engram.analysis import extra_memory
from engram.lab import Run, setting, settings
from engram.lab.trial.unrecorded import UnrecordedRun
from engram.rules import Backprop, KolenPollack, LearningRule, WeightMirror, apply_rule, train_step
from engram.studies.experiments.learning_rules_on_images.networks import (
    CLASSES,
    CONVOLUTIONS,
    BranchFeedback,
    Network,
    build,
    is_3x3,
)
from engram.studies.experiments.small_images import Images, check_files, read_pixels

BATCH, MOMENTUM, DECAY, RISING = 64, 0.9, 5e-4, 0.1
PROBES, WATCHED, EVALUATED = 256, 1000, 500  # images for cosines, for curves, and in a batch of an evaluation
CHANNELS_LAST = torch.channels_last
CHOOSING_SEEDS, CHOOSING_IMAGES, CHOOSING_EPOCHS = (500, 501), 10_000, 2  # to judge a learning rate
LAYERS = range(1, len(CONVOLUTIONS) + 1)
RANDOM = "random-features"
RIDGES = (1.0, 10.0, 100.0, 1000.0)
OWN: dict[str, Callable[[], LearningRule[Any]]] = {
    "skips": partial(BranchFeedback, random=False),
    "fa-in-branches": partial(BranchFeedback, random=True),
    "kolen-pollack": partial(KolenPollack, decay="optimizer"),
    "weight-mirror": partial(WeightMirror, warm_up=200),
    "weight-mirror-cold": WeightMirror,
}


@settings
class Training:
    """The settings of a trial."""

    rule: str = setting("backprop", "name of the learning rule or control")
    network: Network = setting("residual", "a residual network, or a chain of the same convolutions")
    rate: float = setting(0.1, "the largest learning rate, reached after a tenth of the steps", gt=0)
    rates: tuple[float, ...] = setting((), "rates to choose from by validation instead, extended if needed")
    images: Images = setting(
        "cifar10-jpeg", "CIFAR-10, its JPEG-encoded copy, or enlarged digits, which need no download"
    )
    train_images: int = setting(45_000, "training images; the last 5000 are for validation", ge=BATCH, le=45_000)
    test_images: int = setting(10_000, "test images", ge=100, le=10_000)
    epochs: int = setting(1, "passes over the training images", ge=1)
    longer: int = setting(1, "factor on the passes, for a control at equal time", ge=1)

    def __post_init__(self) -> None:
        if self.rule not in OWN and self.rule != RANDOM:
            registry.check("learning_rules", self.rule, "rule")


def rule_of(name: str) -> LearningRule[Any]:
    """The learning rule or control of a name."""
    rule: LearningRule[Any] = OWN[name]() if name in OWN else registry.get("learning_rules", name)()
    return rule


class Samples(NamedTuple):
    """Images and their classes."""

    images: UInt8[np.ndarray, "n height width channels"]
    labels: np.ndarray
    mean: Float[Tensor, "channels 1 1"]
    scale: Float[Tensor, "channels 1 1"]

    def batch(self, rows: Any, flipped: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """Some images, normalised, and their classes; those of a mask are mirrored."""
        images = self.images[rows]
        if flipped is not None:
            images[flipped] = images[flipped, :, ::-1]
        x = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32, memory_format=CHANNELS_LAST)
        return (x - self.mean) * self.scale, torch.from_numpy(self.labels[rows])


@cache
def samples(images: Images, part: Literal["train", "validation", "test"]) -> Samples:
    """The images of a part; the last tenth of the training images is for validation."""
    pixels, labels = read_pixels(images, "test" if part == "test" else "train")
    if part == "test":
        return Samples(pixels, labels.astype(np.int64), *samples(images, "train")[2:])
    fitted = len(pixels) - len(pixels) // 10
    # Every ninth image is enough for the mean and the standard deviation of a channel.
    mean, std = (torch.from_numpy(f(pixels[:fitted:9], axis=(0, 1, 2))).float() for f in (np.mean, np.std))
    chosen = slice(fitted) if part == "train" else slice(fitted, None)
    return Samples(pixels[chosen], labels[chosen].astype(np.int64), mean[:, None, None], 1 / std[:, None, None])


@dataclass
class Carried:
    """What changes in training beside the network and the optimiser: the state of the rule, and its seconds of CPU."""

    state: Any
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The tensors of the state, and the seconds."""
        leaves = tree_flatten(self.state)[0]  # None, of a rule without state, is a leaf
        return {"seconds": self.seconds} | {
            str(number): None if leaf is None else leaf.clone() for number, leaf in enumerate(leaves)
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restore them."""
        leaves, form = tree_flatten(self.state)
        self.seconds = saved["seconds"]
        self.state = tree_unflatten([saved[str(number)] for number in range(len(leaves))], form)


def cycle(step: int, total: int) -> float:
    """The share of the largest learning rate in a step: it rises for a tenth of the steps, then falls, by cosines."""
    rising = max(1, round(RISING * total))
    if step < rising:
        return (1 - math.cos(math.pi * (step + 1) / rising)) / 2
    return (1 + math.cos(math.pi * (step - rising + 1) / (total - rising))) / 2 if total > rising else 1.0


def learn(config: Training, run: Run, *, is_watched: bool = True) -> tuple[LearningRule[Any], nn.Sequential, Carried]:
    """Train a network; return the rule, the network, and what else changed.

    Args:
        config: The settings.
        run: The run.
        is_watched: Whether accuracy on some validation images and cosines to the gradient are logged after each pass.
    """
    seeds = torch.randint(2**62, (3,), generator=run.generator)  # the same for all rules
    network_generator, rule_generator = (torch.Generator().manual_seed(int(seed)) for seed in seeds[:2])
    rng = np.random.default_rng(int(seeds[2]))
    data = samples(config.images, "train")
    model, rule = build(config.network, data.images.shape[3], network_generator), rule_of(config.rule)
    carried = Carried(rule.init(model, rule_generator))
    optimizer = torch.optim.SGD(model.parameters(), config.rate, MOMENTUM, weight_decay=DECAY)
    images = min(config.train_images, len(data.images))
    order, batches, probes = np.arange(images), images // BATCH, np.arange(min(PROBES, images))
    total = config.epochs * config.longer * batches
    for step in run.steps(total, model=model, optimizer=optimizer, carried=carried, order=order, rng=rng):
        start = time.process_time()
        if step % batches == 0:
            rng.shuffle(order)
        rows = order[step % batches * BATCH :][:BATCH]
        x, y = data.batch(rows, flipped=rng.random(BATCH) < 0.5)
        optimizer.param_groups[0]["lr"] = config.rate * cycle(step, total)
        update = train_step(rule, model, optimizer, (x, y), carried.state)
        carried.state = update.state
        carried.seconds += time.process_time() - start
        run.log(step + 1, every=max(1, total // 40), loss=update.info["loss"])
        if (step + 1) % batches == 0 and is_watched:
            scored = accuracy(rule, model, samples(config.images, "validation"), WATCHED)
            run.log(step + 1, validated=scored, **alignment(rule, model, data.batch(probes), carried.state))
    return rule, model, carried


@torch.no_grad()
def accuracy(rule: LearningRule[Any], model: nn.Module, data: Samples, count: int | None = None) -> float:
    """The share of images that a network classifies rightly, with the running statistics of batch norm.

    Args:
        rule: The rule, which may have a way of its own to predict.
        model: The network, which stays in training mode.
        data: The images.
        count: Number of images (default: all).
    """
    frozen, right = copy.deepcopy(model).eval(), 0
    rows = np.arange(len(data.images))[:count]
    for start in range(0, len(rows), EVALUATED):
        x, y = data.batch(rows[start : start + EVALUATED])
        right += int((rule.predict(frozen, x).argmax(1) == y).sum())
    return right / len(rows)


def alignment(rule: LearningRule[Any], model: nn.Module, probe: tuple[Tensor, Tensor], state: Any) -> dict[str, float]:
    """The cosine to the gradient in each 3x3 convolution, and their norms' ratio, on a batch of images.

    Batch norm uses the statistics of these images, and its running statistics stay as they are.

    Args:
        rule: The rule.
        model: The network.
        probe: The images and their classes.
        state: The state of the rule.
    """
    twin = copy.deepcopy(model)
    ours, exact = apply_rule(rule, twin, *probe, state).grads, Backprop().update(twin, *probe, None).grads
    measured = {}
    weights = [name for name, parameter in model.named_parameters() if is_3x3(parameter)]
    for number, name in zip(LAYERS, weights, strict=True):
        gradient = ours.get(name, torch.zeros_like(exact[name]))
        measured[f"cosine_{number}"] = float(torch.cosine_similarity(gradient.flatten(), exact[name].flatten(), dim=0))
        measured[f"norms_{number}"] = float(gradient.norm() / exact[name].norm())
    return measured


def evaluate(config: Training, rule: LearningRule[Any], model: nn.Module, carried: Carried) -> dict[str, float]:
    """The results of a trained network."""
    data = samples(config.images, "train")
    batch = data.batch(np.arange(BATCH))
    tensors = [leaf for leaf in tree_leaves(carried.state) if isinstance(leaf, Tensor)]
    twin = copy.deepcopy(model)

    def forward() -> Tensor:
        with torch.no_grad():
            return twin(batch[0])  # type: ignore[no-any-return]

    measured = alignment(rule, model, data.batch(np.arange(min(PROBES, config.train_images))), carried.state)
    return {
        "accuracy": accuracy(rule, model, samples(config.images, "test"), config.test_images),
        "seconds": carried.seconds,
        "extra_kib": extra_memory(partial(rule.update, twin, *batch, carried.state), forward, tensors) / 1024,
        "mean_cosine": float(np.mean([measured[f"cosine_{number}"] for number in LAYERS])),
    } | measured


@references.cached
def score(config: Training) -> float:
    """The score of a learning rate: the mean accuracy on validation images over two seeds that no trial has.

    Args:
        config: The settings, with the rate; training is shorter.
    """
    images = min(config.train_images, CHOOSING_IMAGES)
    config = replace(config, rates=(), train_images=images, epochs=CHOOSING_EPOCHS, longer=1)
    runs = (UnrecordedRun(torch.Generator().manual_seed(s), np.random.default_rng(s)) for s in CHOOSING_SEEDS)
    learned = (learn(config, run, is_watched=False)[:2] for run in runs)
    validation = samples(config.images, "validation")
    return float(np.mean([accuracy(rule, model, validation) for rule, model in learned]))


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Train a network by a rule; the results are its test accuracy, cosines to the gradient, and costs.

    Rates to choose from are judged as those that are stored were, on the same seeds in every trial.
    """
    if config.rule == RANDOM:
        return features(config, run)
    if config.rates:
        rate = run.choose("learning_rate", config.rates, lambda rate: score(replace(config, rates=(), rate=rate)))
        config = replace(config, rates=(), rate=rate)
    return evaluate(config, *learn(config, run))


def features(config: Training, run: Run) -> dict[str, Any]:
    """The test accuracy of a ridge classifier on the last features of an untrained network.

    Batch norm has the statistics of the training images; validation chooses the regularisation.
    """
    seeds = torch.randint(2**62, (3,), generator=run.generator)
    data = samples(config.images, "train")
    model = build(config.network, data.images.shape[3], torch.Generator().manual_seed(int(seeds[0])))[:-1]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # averages over all batches
    parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    fitted = np.arange(len(data.images))[: config.train_images]
    with torch.no_grad():
        for rows in np.split(fitted, range(EVALUATED, len(fitted), EVALUATED)):
            model(data.batch(rows)[0])
        model.eval()
        for part, count in (("train", config.train_images), ("validation", None), ("test", config.test_images)):
            source = samples(config.images, part)
            rows = np.arange(len(source.images))[:count]
            batches = [source.batch(rows[start : start + EVALUATED]) for start in range(0, len(rows), EVALUATED)]
            parts[part] = torch.cat([model(x) for x, _ in batches]).numpy(), torch.cat([y for _, y in batches]).numpy()

    def score(alpha: float, part: str = "validation") -> float:
        scaled = make_pipeline(StandardScaler(), RidgeClassifier(alpha=alpha))
        return float(scaled.fit(*parts["train"]).score(*parts[part]))

    return {"accuracy": score(run.choose("ridge", RIDGES, score), "test")}


def step_of(config: Training) -> Callable[[], object]:
    """A function to be timed, which makes a training step on a batch of colour images."""
    generator = torch.Generator().manual_seed(0)
    rule, model = rule_of(config.rule), build(config.network, 3, generator)
    x = torch.randn(BATCH, 3, 32, 32, generator=generator).contiguous(memory_format=CHANNELS_LAST)
    optimizer = torch.optim.SGD(model.parameters(), 0.0, MOMENTUM)
    batch = x, torch.arange(BATCH) % CLASSES
    return partial(train_step, rule, model, optimizer, batch, rule.init(model, generator))


def check_requirements(config: Training) -> None:
    """Raise DataError if the images are missing and cannot be fetched."""
    check_files(config.images)
