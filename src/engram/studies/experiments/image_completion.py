"""A plastic network memorises natural images shown a few times and completes them (Miconi, Clune and Stanley, 2018).

Each episode shows a few images, then half of one of them; the network must restore the other half. There is one unit
per pixel, whose activity is clamped to the pixel while it is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from sklearn.linear_model import Ridge
from torch import Tensor

from engram import registry
from engram.lab import (
    Experiment,
    Points,
    Preset,
    Quantity,
    Results,
    Run,
    Study,
    Task,
    claims_from,
    metric,
    setting,
    settings,
)
from engram.lab.output.figures import PALETTE
from engram.plasticity import PlasticRNN
from engram.studies.experiments.choosing import at_best_rate
from engram.tasks import ClampedEpisode, ImageCompletion, natural_crops, standardise
from engram.tasks.data import load

CIFAR_TRAINING = 40_000  # the first four of CIFAR-10's five training batches; the fifth is held out
CIFAR_SIZE = 32
NON_PLASTIC = "non-plastic"
NETWORKS = ("connection", "homogeneous", NON_PLASTIC)
NOT_SHOWN = "not-shown"  # the arm of a regression, which sees half of an image and none of those presented before
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)


@settings
class Config:
    """The settings of a trial."""

    network: Literal["connection", "homogeneous", "non-plastic", "regression"] = setting(
        "connection",
        "a plasticity coefficient for each connection, a single one, or no plasticity; or in place of a network a "
        "linear regression of one half of an image on the other, which is shown no image before",
    )
    rule: str = setting("hebb", "plasticity rule of a plastic network")
    images: Literal["photographs", "cifar10", "cifar10-jpeg"] = setting(
        "photographs", "crops of two photographs that need no download, CIFAR-10, or its JPEG-encoded copy"
    )
    size: int = setting(8, "side of the images, in pixels, even; 32 for CIFAR-10", ge=2, le=64)
    patterns: int = setting(3, "images to memorise in an episode", ge=1)
    cycles: int = setting(2, "presentations of all images", ge=1)
    presentation_steps: int = setting(8, "steps for which an image is shown", ge=1)
    blank_steps: int = setting(2, "steps without input after each image", ge=0)
    probe_steps: int = setting(3, "steps for which half of an image is shown at the end", ge=1)
    updates: int = setting(1500, "steps of the optimiser, each on a batch of new episodes", ge=8)
    batch_size: int = setting(2, "episodes in a batch", ge=1)
    learning_rate: float = setting(1e-3, "learning rate of Adam", gt=0, le=1)
    rates: tuple[float, ...] = setting((), "learning rates to choose from in shorter trials; none: learning_rate")
    test_episodes: int = setting(500, "test episodes with held-out images", ge=1)

    def __post_init__(self) -> None:
        registry.check("plasticity_rules", self.rule, "rule")
        if self.images != "photographs" and self.size != CIFAR_SIZE:
            raise ValueError(f"size = {self.size}: expected {CIFAR_SIZE}, the size of images = {self.images!r}")
        if self.size % 2:
            raise ValueError(f"size = {self.size}: expected an even number")


# The best learning rate of each among 1e-4, 3e-4, 1e-3, 3e-3 and 1e-2 in pilots with other seeds; published: 1e-4.
RATES = {"": (3e-3, 1e-3, 1e-3), "-large": (1e-3, 3e-4, 3e-4)}
arms: dict[str, dict[str, Any]] = {
    f"{network}{ending}": {"network": network, "learning_rate": rate}
    for ending, rates in RATES.items()
    for network, rate in zip(NETWORKS, rates, strict=True)
}
for network in NETWORKS:
    arms[f"{network}-large"] |= {"images": "photographs", "size": 16}
of_networks = tuple(arms)
arms[NOT_SHOWN] = {"network": "regression"}
published: dict[str, Any] = {"images": "cifar10", "size": 32, "cycles": 3, "presentation_steps": 20}
published |= {"updates": 100_000, "batch_size": 1, "test_episodes": 1000}
published |= {f"{network}.learning_rate": 1e-4 for network in NETWORKS}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={"size": 4, "presentation_steps": 2, "blank_steps": 1, "updates": 16, "test_episodes": 4}
        # Too short for a kernel, which takes seconds to compile.
        | {"homogeneous": {"patterns": 1, "cycles": 1, "presentation_steps": 1, "blank_steps": 0}},
        arms=(*NETWORKS, NOT_SHOWN),
    ),
    "laptop": Preset(seeds=5, arms=of_networks),
    # A quarter of the published updates, on re-encoded images.
    "large": Preset(
        seeds=3,
        changes=published | {"images": "cifar10-jpeg", "updates": 25_000},
        arms=("connection", NON_PLASTIC, NOT_SHOWN),
        looks=(3, 5),
    ),
    "published": Preset(
        seeds=10,
        published="the authors' code, images/images.py: images, sizes, episodes and learning rate",
        changes=published,
        arms=NETWORKS,
    ),
}


def check_requirements(config: Config) -> None:
    """Load an image, so that a run without them fails at once."""
    if config.images != "photographs":
        load(config.images, split="train", first=1)


def task_of(config: Config, split: Literal["train", "test"]) -> ImageCompletion:
    """The task with the training images or with held-out ones."""
    if config.images == "photographs":
        images = natural_crops(config.size, split)
    else:
        part = slice(CIFAR_TRAINING) if split == "train" else slice(CIFAR_TRAINING, None)
        images = standardise(load(config.images, split="train").images[part])
    return ImageCompletion(
        images, config.patterns, config.cycles, config.presentation_steps, config.blank_steps, config.probe_steps
    )


def build(config: Config, generator: torch.Generator) -> PlasticRNN:
    """The network of a trial: one unit for each pixel, and a last one whose activity is always 1."""
    pixels, alpha = config.size**2, None if config.network == NON_PLASTIC else config.network
    rule = None if alpha is None else registry.get("plasticity_rules", config.rule)()
    net = PlasticRNN(pixels, pixels + 1, rule=rule, alpha=alpha, generator=generator)
    # Each pixel is the input of its unit; this mapping is fixed.
    net.weight_ih.requires_grad_(False).copy_(torch.eye(pixels + 1, pixels))
    net.bias.requires_grad_(False).zero_()[-1] = 1.0
    return net


def answer(net: PlasticRNN, episode: ClampedEpisode) -> Float[Tensor, "batch pixels"]:
    """The network's output for the pixels at the last step."""
    always = episode.clamp.new_ones(*episode.clamp.shape[:2], 1)
    activity: Tensor = net(episode.inputs, clamp=torch.cat((episode.clamp, always), dim=2))[0]
    return activity[-1, :, :-1]


def squared_errors(answer: Float[Tensor, "batch pixels"], episode: ClampedEpisode) -> Float[Tensor, "batch hidden"]:
    """The squared errors at the hidden pixels; the other pixels are given."""
    hidden = ~episode.clamp[-1]
    return (answer - episode.targets[-1])[hidden].square().view(len(answer), -1)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train one network on new episodes; the results are the errors over the last eighth and on held-out images."""
    if config.network == "regression":
        return {"held_out_error": error_if_not_shown(config)}
    config = at_best_rate(config, run, trial, "updates", lambda result: -result["error"], part=1 / 3)
    task, held_out = task_of(config, "train"), task_of(config, "test")
    net = build(config, run.generator).to(run.device)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=config.learning_rate, fused=True)

    def errors_in(task: ImageCompletion, episodes: int) -> Tensor:
        episode = ClampedEpisode(*(tensor.to(run.device) for tensor in task.sample(episodes, run.generator)))
        return squared_errors(answer(net, episode), episode)

    for step in run.steps(config.updates, net=net, optimizer=optimizer):
        errors = errors_in(task, config.batch_size)
        loss = errors.sum() / config.batch_size
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        run.log(step + 1, every=max(1, config.updates // 160), error=errors.mean(), loss=loss)
    run.keep(net=net)
    first, last = run.ends("error", parts=8)
    result = {"error": last, "first_error": first}
    with torch.no_grad():
        batch = 1 + 2_000_000 // net.hidden_size**2  # episodes per batch, to limit memory
        sizes = [min(batch, remaining) for remaining in range(config.test_episodes, 0, -batch)]
        held_out_errors = [errors_in(held_out, size) for size in sizes]
    result["held_out_error"] = float(torch.cat(held_out_errors).mean())
    if config.network != NON_PLASTIC and "rule.eta" in (state := net.state_dict()):
        result["eta"] = float(state["rule.eta"])
    return result


def error_if_not_shown(config: Config) -> float:
    """The error of ridge regressions of one half of an image on the other, over both halves of all held-out images.

    The penalty is chosen by the error on the last fifth of the training images.

    Args:
        config: The settings.
    """
    images, unseen = (task_of(config, split).images.flatten(1).numpy() for split in ("train", "test"))
    validated, middle = len(images) * 4 // 5, images.shape[1] // 2
    errors = []
    for visible, hidden in ((slice(middle), slice(middle, None)), (slice(middle, None), slice(middle))):

        def error(
            penalty: float, fitted: np.ndarray, asked: np.ndarray, x: slice = visible, y: slice = hidden
        ) -> float:
            regression = Ridge(penalty).fit(fitted[:, x], fitted[:, y])
            return float(np.square(regression.predict(asked[:, x]) - asked[:, y]).mean(dtype=np.float64))

        best = min(PENALTIES, key=lambda penalty: error(penalty, images[:validated], images[validated:]))
        errors.append(error(best, images, unseen))
    return float(np.mean(errors))


def changes_of(rule: str) -> dict[str, Any]:
    """The settings of the arm of a rule, or of a network without plasticity, at a chosen rate."""
    network = {"network": NON_PLASTIC} if rule == NON_PLASTIC else {"network": "connection", "rule": rule}
    return {**network, "rates": (1e-3, 3e-3, 1e-2)}


def step_of(config: Config) -> Callable[[], object]:
    """A function to be timed, which computes the loss on a batch of episodes and its gradient."""
    generator = torch.Generator().manual_seed(0)
    net, task = build(config, generator), task_of(config, "train")
    episode = task.sample(config.batch_size, generator)

    def step() -> None:
        squared_errors(answer(net, episode), episode).sum().backward()  # type: ignore[no-untyped-call]

    return step


tasks = [
    Task(
        "plasticity_rules",
        "images seen a few times",
        "rule-{}".format,
        changes_of,
        "held_out_error",
        maximize=False,
        curve="error",
        baselines=(*registry.names("plasticity_rules"), NON_PLASTIC),
        trivial=NON_PLASTIC,
        step=step_of,
    )
]


error, held_out_error = metric("error"), metric("held_out_error")
claim = claims_from(
    "abstract; author code, images/images.py; criteria ours",
    published="reconstructs novel images; non-plastic networks fail (no figure read)",
)


sizes = {"": "natural images", "-large": "natural images of 16 x 16 pixels"}
claims = [
    *(
        claim(f"plastic-completes-new-images{ending}",
            f"On {images} that training has not seen, a plastic network has a smaller error than a non-plastic one",
            held_out_error(f"connection{ending}") / held_out_error(f"{NON_PLASTIC}{ending}") <= 0.7,
            presets=("laptop",) if ending else ("laptop", "published"))
        for ending, images in sizes.items()
    ),
    claim("connection-beats-homogeneous-large",
        "On natural images of 16 x 16 pixels, a plasticity coefficient for each connection is better than a single one",
        error("connection-large") / error("homogeneous-large") <= 0.95, source="ours", published="",
        presets=("laptop",)),
    claim("homogeneous-beats-non-plastic-large",
        "On natural images of 16 x 16 pixels, even a single plasticity coefficient is better than none",
        error("homogeneous-large") / error(f"{NON_PLASTIC}-large") <= 0.75, source="ours", published="",
        presets=("laptop",)),
    claim("plastic-completes-images-of-cifar",
        "On unseen images of CIFAR-10, a plastic network with over two million parameters has a smaller error than a "
        "non-plastic one",
        held_out_error("connection") / held_out_error(NON_PLASTIC) <= 0.7, presets=("large",)),
    claim("non-plastic-fails-on-images-of-cifar",
        "On unseen images of CIFAR-10, a non-plastic network that was shown them has hardly a smaller error than a "
        "regression on the visible half that was not (ratio)",
        held_out_error(NON_PLASTIC) / held_out_error(NOT_SHOWN) >= 0.9, source="abstract; criterion ours",
        published="non-plastic recurrent networks fail to solve this task", presets=("large",),
        revised="none; the claim was added when the errors of the networks were known, and its rival was "
        "measured anew on more images"),
]  # fmt: skip
quantities = [
    Quantity("connection-over-homogeneous", "Error with a plasticity coefficient for each connection over that with a "
        "single one, on natural images",
        error("connection") / error("homogeneous")),
    Quantity("homogeneous-over-non-plastic", "Error with a single plasticity coefficient over that without plasticity, "
        "on natural images",
        error("homogeneous") / error(NON_PLASTIC)),
]  # fmt: skip


def figure(results: Results) -> go.Figure:
    """The error of each trial at the end of training and on held-out images, by arm."""
    trials = [trial for trial in results.trials if trial.arm != NOT_SHOWN]  # which has no training
    configs = {arm: config for arm, config in results.configs.items() if arm != NOT_SHOWN}
    results = replace(results, trials=trials, configs=configs)
    figure = go.Figure()
    keys = {"error": "end of training", "held_out_error": "held-out images"}
    for (key, name), color in zip(keys.items(), PALETTE, strict=False):
        for box in Points(key)(results).data:
            box.update(y=[box.name] * len(box.x), name=name, legendgroup=key, offsetgroup=key)
            figure.add_trace(box.update(marker_color=color, showlegend=box.y[0] == results.arms[0]))
    title = "Squared error of a hidden pixel, one point per seed"
    axes = {"xaxis": {"title": "mean squared error", "rangemode": "tozero"}, "yaxis_autorange": "reversed"}
    return figure.update_layout(title=title, boxmode="group", height=140 + 60 * len(results.arms), **axes)


experiment = Experiment(
    name="image-completion",
    about=__doc__,
    paper="Miconi, Clune & Stanley, Differentiable plasticity, ICML 2018 (arXiv 1804.02464)",
    studies=Study(trial, arms, gpu=True),
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="error",
    tasks=tasks,
    check_requirements=check_requirements,
    answer="""On crops of 8 x 8 pixels from an unseen part of the photographs the error of a plastic network is
    {plastic-completes-new-images:0.00} times that of a non-plastic one {plastic-completes-new-images}, on 16 x 16
    pixels {plastic-completes-new-images-large:0.00} times {plastic-completes-new-images-large}, each at its best rate;
    on 32 x 32 pixels of CIFAR-10, with two million parameters, the published rate and a quarter of the published
    updates (preset large), 0.31 times, where without plasticity a network that was shown the image has no smaller an
    error than a regression that was not {non-plastic-fails-on-images-of-cifar}. A single plasticity coefficient gives
    most of the gain, with {homogeneous-over-non-plastic:0.00} times the error without plasticity in training and
    {homogeneous-beats-non-plastic-large:0.00} times on the larger images {homogeneous-beats-non-plastic-large}; one for
    each connection has {connection-over-homogeneous:0.00} times the error of that, and 0.84 times on the larger images
    {connection-beats-homogeneous-large}. So if a recurrent network has to complete images that it has seen only a few
    times, make it plastic, and give each connection its own coefficient: images have structure that random patterns
    lack.""",
)
