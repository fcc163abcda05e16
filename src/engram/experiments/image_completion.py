"""Completion of natural images by a differentiably plastic network (Miconi, Clune and Stanley, 2018).

Each episode shows a few images, then half of one of them; the network must restore the other half. There is one unit
for each pixel, and a shown pixel is the activity of its unit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, get_args

import plotly.graph_objects as go
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from engram.lab import Arm, Claim, Experiment, Preset, Results, Run, arms_of, claimed, narrow, value
from engram.lab.curves import PALETTE, points_by_arm
from engram.plasticity import PlasticRNN
from engram.tasks import ClampedEpisode, ImageCompletion, natural_crops, standardise
from engram.tasks.data import load

CIFAR_TRAINING = 40_000  # the first four of CIFAR-10's five training batches; the fifth is held out
CIFAR_SIZE = 32
Network = Literal["connection", "homogeneous", "non-plastic"]


@dataclass(frozen=True)
class Training:
    """What one trial is made of."""

    network: Network = "connection"
    """Network with a plasticity coefficient for each connection, with a single one, or without plasticity."""
    images: Literal["photographs", "cifar10", "cifar10-jpeg"] = "photographs"
    """Crops of two photographs that need no download, CIFAR-10, or its copy with JPEG-encoded images."""
    size: Annotated[int, Ge(2), Le(64)] = 8
    """Side of the images, in pixels; 32 for CIFAR-10."""
    patterns: Annotated[int, Ge(1)] = 3
    """Images to be memorised in an episode."""
    cycles: Annotated[int, Ge(1)] = 2
    """How many times all images are shown."""
    presentation_steps: Annotated[int, Ge(1)] = 8
    """Steps for which an image is shown."""
    blank_steps: Annotated[int, Ge(0)] = 2
    """Steps without input after each image."""
    probe_steps: Annotated[int, Ge(1)] = 3
    """Steps for which half of an image is shown at the end."""
    updates: Annotated[int, Ge(8)] = 1500
    """Steps of the optimiser, each on a batch of new episodes."""
    batch_size: Annotated[int, Ge(1)] = 2
    """Episodes in a batch."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    """Learning rate of Adam."""
    test_episodes: Annotated[int, Ge(1)] = 500
    """Episodes with held-out images on which the trained network is judged."""

    def __post_init__(self) -> None:
        if self.images != "photographs" and self.size != CIFAR_SIZE:
            raise ValueError(f"size = {self.size}: expected {CIFAR_SIZE}, the size of images = {self.images!r}")
        if self.size % 2:
            raise ValueError(f"size = {self.size}: expected an even number")


@dataclass(frozen=True)
class Config(Training):
    """The training of all arms, some of which may have larger images."""

    larger: Annotated[int, Ge(0), Le(64)] = 16
    """Side of the photographs' crops of further arms; 0 for no such arms."""


def arms(config: Config) -> dict[str, Arm]:
    """A plasticity coefficient for each connection, a single one, and none, on images of one or of two sizes."""
    base = narrow(config, Training)
    found = {network: replace(base, network=network) for network in get_args(Network)}
    if config.larger:
        more = replace(base, images="photographs", size=config.larger)
        found |= {f"{network}-large": replace(more, network=network) for network in get_args(Network)}
    return arms_of(trial, found, seconds)


def ready(config: Training) -> None:
    """Read the images, so that a run without them does not begin."""
    if config.images != "photographs":
        load(config.images, split="train")


def task_of(config: Training, split: Literal["train", "test"]) -> ImageCompletion:
    """Make the task with the images to learn from, or with those that are held out."""
    if config.images == "photographs":
        images = natural_crops(config.size, split)
    else:
        part = slice(CIFAR_TRAINING) if split == "train" else slice(CIFAR_TRAINING, None)
        images = standardise(load(config.images, split="train").images[part])
    return ImageCompletion(
        images, config.patterns, config.cycles, config.presentation_steps, config.blank_steps, config.probe_steps
    )


def build(config: Training, generator: torch.Generator) -> PlasticRNN:
    """Build the network of a trial: one unit for each pixel, and a last one whose activity is always 1."""
    pixels, alpha = config.size**2, None if config.network == "non-plastic" else config.network
    net = PlasticRNN(pixels, pixels + 1, alpha=alpha, generator=generator)
    # Each pixel is the input of its unit; this is not learned.
    net.weight_ih.requires_grad_(False).copy_(torch.eye(pixels + 1, pixels))
    net.bias.requires_grad_(False).zero_()[-1] = 1.0
    return net


def answer(net: PlasticRNN, episode: ClampedEpisode) -> Tensor:
    """Return what the network makes of the pixels at the last step, (batch, pixels)."""
    always = episode.clamp.new_ones(*episode.clamp.shape[:2], 1)
    activity: Tensor = net(episode.inputs, clamp=torch.cat((episode.clamp, always), dim=2))[0]
    return activity[-1, :, :-1]


def squared_errors(answer: Tensor, episode: ClampedEpisode) -> Tensor:
    """Return the squared errors at the hidden pixels, (batch, hidden); the other pixels are given."""
    hidden = ~episode.clamp[-1]
    return (answer - episode.targets[-1])[hidden].square().view(len(answer), -1)


def trial(config: Training, run: Run) -> dict[str, Any]:
    """Train one network on fresh episodes; its result is the error over the last eighth of them, and on new images."""
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
    first, last = run.ends("error", parts=8)
    result = {"error": last, "first_error": first}
    with torch.no_grad():
        batch = 1 + 2_000_000 // net.hidden_size**2  # as many episodes at once as fit in little memory
        sizes = [min(batch, left) for left in range(config.test_episodes, 0, -batch)]
        new = [errors_in(held_out, size) for size in sizes]
    result["held_out_error"] = float(torch.cat(new).mean())
    if config.network != "non-plastic":
        result["eta"] = float(net.state_dict()["rule.eta"])
    return result


published = partial(claimed, source="author code, images/images.py; criterion ours")


def of_size(arms: str, crops: str, presets: tuple[str, ...]) -> list[Claim]:
    """Return the claims on images of a size, whose arms end like this."""
    connection, homogeneous, non_plastic = (f"{network}{arms}" for network in get_args(Network))
    of_these = partial(published, presets=presets)
    return [
        of_these(
            f"connection-beats-homogeneous{arms}",
            f"On natural images{crops}, a plasticity coefficient for each connection is better than a single one",
            value(connection, "error") / value(homogeneous, "error") <= 0.95,
            published="plasticity is structured by training (no figure)",
        ),
        of_these(
            f"homogeneous-beats-non-plastic{arms}",
            f"On natural images{crops}, even a single plasticity coefficient is better than none",
            value(homogeneous, "error") / value(non_plastic, "error") <= 0.75,
            published="non-plastic recurrent networks fail (no figure)",
        ),
        of_these(
            f"plastic-completes-new-images{arms}",
            f"A plastic network restores images{crops} that it has not been trained on better than a non-plastic one",
            value(connection, "held_out_error") / value(non_plastic, "held_out_error") <= 0.7,
            source="abstract: memorises and reconstructs novel natural images; criterion ours",
            published="reconstructs novel images; non-plastic networks fail (no figure)",
        ),
    ]


claims = [*of_size("", "", ("laptop", "paper")), *of_size("-large", " of 16 x 16 pixels", ("laptop",))]


def figure(results: Results) -> go.Figure:
    """Each trial's error in training and on held-out images, arm by arm."""
    plot = go.Figure()
    named = {"error": "end of training", "held_out_error": "held-out images"}
    for (key, name), color in zip(named.items(), PALETTE, strict=False):
        for box in points_by_arm(results, key).data:
            box.update(y=[box.name] * len(box.x), name=name, legendgroup=key, offsetgroup=key)
            plot.add_trace(box.update(marker_color=color, showlegend=box.y[0] == results.arms[0]))
    title = "Squared error of a hidden pixel, one point a seed"
    axes = {"xaxis": {"title": "mean squared error", "rangemode": "tozero"}, "yaxis_autorange": "reversed"}
    return plot.update_layout(title=title, boxmode="group", height=140 + 60 * len(results.arms), **axes)


def seconds(config: Training) -> float:
    """Time of a trial on one core: a cost for each operation, and one for each synapse that it touches."""
    steps = config.cycles * config.patterns * (config.presentation_steps + config.blank_steps) + config.probe_steps
    synapses = (config.size**2 + 1) ** 2
    costs = {"connection": (30e-6, 0.7e-9), "homogeneous": (20e-6, 0.55e-9), "non-plastic": (30e-6, 0.4e-9)}
    fixed, each = costs[config.network]
    training = config.updates * (800e-6 + steps * (fixed + each * config.batch_size * synapses))
    return 1 + training + config.test_episodes * steps * each * synapses


SMOKE = Config(size=4, presentation_steps=2, blank_steps=1, updates=16, test_episodes=4, larger=0)
PAPER = Config(
    images="cifar10",
    size=32,
    cycles=3,
    presentation_steps=20,
    updates=100_000,
    batch_size=1,
    learning_rate=1e-4,
    test_episodes=1000,
    larger=0,
)
experiment = Experiment(
    name="image-completion",
    summary="A plastic recurrent network memorises natural images shown a few times and restores their hidden halves",
    paper="Miconi, Clune & Stanley, Differentiable plasticity, ICML 2018 (arXiv 1804.02464)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=10), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="error",
    ready=ready,
)
