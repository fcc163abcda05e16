"""Learning hundreds of classes one after another, an image at a time, by meta-learning how (Beaulieu et al., 2020).

Networks are meta-learned on some characters: after twenty steps on one of them they are to know it and all others. Then
all but their last layer is frozen, and that learns a stream of other characters, each image once. Beside ANML, whose
features are gated by a second network, stand the same without the gate, OML, pretraining on shuffled images, and no
learning before; and for each the same images in random order, which cannot be forgotten by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import plotly.graph_objects as go
import torch
from annotated_types import Ge, Gt, Le, MinLen
from jaxtyping import Float
from plotly.subplots import make_subplots
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.nn import functional

from engram.continual.anml import (
    GatedNet,
    SequentialMetaLearner,
    anml_net,
    evaluate_lengths,
    oml_net,
    sanml_net,
    zap_,
)
from engram.experiments.anml.claims import claims
from engram.lab import Arm, Experiment, Preset, Results, Run, arms_of
from engram.lab.curves import colors
from engram.tasks import ClassStreams, synthetic_glyphs
from engram.tasks.data import load

SIDE = 28
SHOTS = 15  # images of a class that are learned, of 20
ACTIVE = 0.01  # above which a unit counts as active
NEIGHBOURS = 5
SHOWN = {"anml": "ANML", "sanml": "without gate", "oml": "OML", "pretrained": "pretrained", "scratch": "from scratch"}


@dataclass(frozen=True)
class Config:
    """What one trial is made of."""

    network: Literal["anml", "sanml", "oml"] = "anml"
    """ANML's network, the same without its gate, or OML's, with a linear head, which alone moves in the inner loop."""
    learning: Literal["meta", "iid", "iid-zapped", "none"] = "meta"
    """Meta-learning; classification of as many images in random order, with or without drawing the last layer anew
    after each pass; or none, and all layers learn the stream."""
    order: Annotated[int, Ge(1), Le(2)] = 2
    """Of the outer gradient; 1 is what the released program has."""
    characters: Literal["glyphs", "omniglot", "omniglot-small"] = "omniglot-small"
    """Omniglot's small background sets, all of it with its own split, or synthetic ones that need no download."""
    classes: Annotated[int, Ge(2)] = 242
    """Synthetic characters."""
    withheld: Annotated[int, Ge(1)] = 100
    """Characters of the streams, where the data has no split of its own."""
    channels: Annotated[int, Ge(1)] = 64
    """Channels of each convolution."""
    gate_channels: Annotated[int, Ge(1)] = 32
    """Channels of each convolution of the gate."""
    outputs: Annotated[int, Ge(2)] = 200
    """Outputs of the network; at least as many as classes."""
    steps: Annotated[int, Ge(1)] = 400
    """Steps of meta-learning."""
    trajectory: Annotated[int, Ge(1), Le(20)] = 20
    """Images of a class in a step of meta-learning."""
    remember: Annotated[int, Ge(1)] = 64
    """Images to be remembered in it."""
    inner_lr: Annotated[float, Gt(0), Le(1)] = 0.03
    """Learning rate of the inner loop."""
    outer_lr: Annotated[float, Gt(0), Le(1)] = 3e-3
    """Learning rate of Adam, outside it, and of pretraining."""
    oml_channels: Annotated[int, Ge(1)] = 32
    """Channels of OML's convolutions, of which it has twice as many, on larger maps."""
    oml_outer_lr: Annotated[float, Gt(0), Le(1)] = 1e-3
    """The same for OML."""
    lengths: Annotated[tuple[int, ...], MinLen(1)] = (20, 50, 100)
    """Numbers of classes in a stream."""
    judged: Annotated[int, Ge(1)] = 50
    """The length that claims are about, but those about the longest."""
    lrs: Annotated[tuple[float, ...], MinLen(1)] = (3e-4, 1e-3, 3e-3)
    """Learning rates of the stream, of which the best on what is learned is taken."""
    selections: Annotated[int, Ge(1)] = 1
    """Streams by which it is chosen."""
    streams: Annotated[int, Ge(1)] = 3
    """Streams of each length."""

    def __post_init__(self) -> None:
        if self.judged not in self.lengths:
            raise ValueError(f"judged = {self.judged}: expected one of lengths = {self.lengths}")


def arms(config: Config) -> dict[str, Arm]:
    """ANML by either order; without its gate; OML; pretraining, with fresh last layers or not; and no learning before.

    Pretrained and from scratch is the network without a gate. Each arm has the learning rates that suit it.
    """
    plain = replace(config, network="sanml")
    found = {
        "anml": config,
        "anml-order-1": replace(config, order=1),
        "sanml": plain,
        "oml": replace(config, network="oml", channels=config.oml_channels, outer_lr=config.oml_outer_lr),
        "pretrained": replace(plain, learning="iid"),
        "pretrained-zapped": replace(plain, learning="iid-zapped"),
        "scratch": replace(plain, learning="none", lengths=(config.judged,)),
    }
    return arms_of(trial, found, seconds)


def characters(config: Config, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return images of the characters to meta-learn from and of those of the streams, 1 where there is paper."""
    if config.characters == "omniglot":
        parts = (load("omniglot", split=split, size=SIDE).images for split in ("background", "evaluation"))
        known, new = (torch.from_numpy(images).float() / 255 for images in parts)
        return known, new
    if config.characters == "glyphs":
        images = 1 - synthetic_glyphs(config.classes, 20, generator, SIDE)
    else:
        images = torch.from_numpy(load("omniglot-small", size=SIDE).images).float() / 255
    images = images[torch.randperm(len(images), generator=generator)]
    return images[: -config.withheld], images[-config.withheld :]


def build(config: Config, generator: torch.Generator) -> GatedNet:
    """Return the network of a trial."""
    made: dict[str, Any] = {"num_outputs": config.outputs, "generator": generator}
    if config.network == "oml":
        return oml_net(channels=config.channels, hidden=None, **made)
    if config.network == "sanml":
        return sanml_net(body_channels=config.channels, **made)
    return anml_net(body_channels=config.channels, gate_channels=config.gate_channels, **made)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train one network and let it learn streams; its results are shares of right answers at their end."""
    known, new = (images.to(run.device) for images in characters(config, run.generator))
    net = build(config, run.generator).to(run.device)
    result = {f"{name}_untrained": number for name, number in gating(net, new).items()}
    if config.learning == "meta":
        meta_learn(net, known, config, run)
    elif config.learning != "none":
        classify(net, known, config, run)
    pool = new.unsqueeze(2)
    train = ("body", "head") if config.learning == "none" else ("head",)
    for shuffled in (False, True):
        found = evaluate_lengths(
            net,
            pool,
            config.lengths,
            generator=run.generator,
            lrs=config.lrs,
            shots=SHOTS,
            selections=config.selections,
            runs=config.streams,
            shuffled=shuffled,
            train=train,
        )
        for of_length in found:
            key = f"{'oracle_' if shuffled else ''}{of_length.classes}"
            result[f"held_out_{key}"] = mean(of_length.held_out)
            result[f"seen_{key}"] = mean(of_length.seen)
            result[f"lr_{key}"] = of_length.lr
            if of_length.classes == config.judged:
                prefix = "oracle_" if shuffled else ""
                result[f"{prefix}held_out"], result[f"{prefix}seen"] = mean(of_length.held_out), mean(of_length.seen)
        if not shuffled:
            tenth = max(1, found[-1].classes // 10)
            result["first"] = found[-1].by_class[:, :tenth].mean().item()
            result["last"] = found[-1].by_class[:, -tenth:].mean().item()
    result["drop"] = 1 - result["held_out"] / max(result["oracle_held_out"], 1e-9)
    return result | gating(net, new)


def meta_learn(net: GatedNet, known: Float[Tensor, "classes drawings 28 28"], config: Config, run: Run) -> None:
    """Meta-learn: a class an image at a time, while others are to be remembered."""
    streams = ClassStreams(known, config.trajectory, config.remember)
    optimizer = torch.optim.Adam(net.parameters(), lr=config.outer_lr)
    fast = ("head",) if config.network == "oml" else ("body", "head")
    learner = SequentialMetaLearner(
        net, run.generator, fast=fast, inner_lr=config.inner_lr, order=config.order, optimizer=optimizer
    )
    for step in run.steps(config.steps, net=net, optimizer=optimizer):
        found = learner.step(*streams.sample(run.generator))
        log(run, step, config, loss=found.loss, accuracy=found.remembered, captured=found.captured)


def classify(net: GatedNet, known: Float[Tensor, "classes drawings 28 28"], config: Config, run: Run) -> None:
    """Learn to classify as many images, in random order."""
    optimizer = torch.optim.Adam(net.parameters(), lr=config.outer_lr)
    batch, (classes, drawings) = config.trajectory + config.remember, known.shape[:2]
    every = max(1, classes * drawings // batch)
    for step in run.steps(config.steps, net=net, optimizer=optimizer):
        if config.learning == "iid-zapped" and step % every == 0:
            zap_(net.readout, None, run.generator)
        drawn = torch.randint(classes * drawings, (batch,), generator=run.generator).to(known.device)
        logits, labels = net(known.flatten(0, 1)[drawn].unsqueeze(1)), drawn // drawings
        loss = functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        log(run, step, config, loss=loss, accuracy=(logits.argmax(1) == labels).float().mean())


def log(run: Run, step: int, config: Config, **metrics: float | Tensor) -> None:
    """Log a hundred means."""
    run.log(step + 1, every=max(1, config.steps // 100), **metrics)


def mean(numbers: tuple[float, ...]) -> float:
    """Return their mean."""
    return sum(numbers) / len(numbers)


@torch.no_grad()
def gating(net: GatedNet, new: Float[Tensor, "classes drawings 28 28"]) -> dict[str, float]:
    """Return the share of active features before and after the gate, and what its neighbours tell of a gate's class."""
    if net.gate is None:
        return {}
    flat = new.flatten(0, 1).unsqueeze(1)
    found = [net.features(some) for some in torch.split(flat, 256)]
    pre, gate, post = (
        torch.cat([part[of] for part in found]).reshape(*new.shape[:2], -1).cpu()  # type: ignore[misc]
        for of in range(3)
    )
    labels = torch.arange(len(new)).repeat_interleave(SHOTS).numpy()
    neighbours = KNeighborsClassifier(NEIGHBOURS).fit(gate[:, :SHOTS].flatten(0, 1).numpy(), labels)
    rest = gate[:, SHOTS:]
    right = (
        neighbours.predict(rest.flatten(0, 1).numpy()).reshape(len(new), -1) == torch.arange(len(new)).numpy()[:, None]
    )
    active = {"before": pre, "after": post}
    shares = {f"active_{name}": (part[:, SHOTS:] > ACTIVE).float().mean().item() for name, part in active.items()}
    return {**shares, "gate_neighbours": float(right.mean())}


GATE = {
    "active_before": "features active before the gate",
    "active_after": "after the gate",
    "gate_neighbours": "neighbours by gate, of one class",
}


def figure(results: Results) -> go.Figure:
    """Right answers about new classes over the length of the stream, and the gate of ANML before and after learning."""
    titles = "right answers, images held out; dotted: in random order", "the gate of ANML, for new classes"
    plot = make_subplots(2, 1, subplot_titles=titles, row_heights=[0.64, 0.36], vertical_spacing=0.17)
    for arm, color in colors(results.arms).items():
        trials = [of_seed[arm] for of_seed in results.by_seed.values() if arm in of_seed]
        for order, dash in (("", "solid"), ("oracle_", "dot")) if trials else ():
            lengths = [n for n in results.config.lengths if f"held_out_{order}{n}" in trials[0]]
            shares = [mean(tuple(trial[f"held_out_{order}{n}"] for trial in trials)) for n in lengths]
            style = {"line": {"color": color, "dash": dash}, "legendgroup": arm, "showlegend": not order}
            plot.add_scatter(x=lengths, y=shares, name=SHOWN.get(arm, arm), mode="lines+markers", **style, row=1, col=1)
    gates = [of_seed["anml"] for of_seed in results.by_seed.values() if "anml" in of_seed]
    for when, color in colors({"_untrained": "", "": ""}).items() if gates else ():
        shares = [mean(tuple(gate[f"{key}{when}"] for gate in gates)) for key in GATE]
        name = "untrained gate" if when else "meta-learned gate"
        plot.add_bar(x=list(GATE.values()), y=shares, name=name, marker_color=color, row=2, col=1)
    plot.update_xaxes(title="classes of the stream", row=1, col=1).update_yaxes(title="share", rangemode="tozero")
    return plot.update_layout(height=760, title="What is left of a stream of classes at its end")


def seconds(config: Config) -> float:
    """Time of a trial on one core: the steps of learning, and those of the streams."""
    width = (config.channels / 64) ** 2
    step = {"anml": 0.065 * width + 0.05, "sanml": 0.055 * width + 0.045, "oml": 0.17 * width + 0.01}[config.network]
    step = {"meta": step if config.order == 2 else 0.6 * step, "none": 0.0}.get(config.learning, 0.035 * width)
    streams = 2 * (config.streams + (config.selections * len(config.lrs) if len(config.lrs) > 1 else 0))
    head = 2e-4 + 1e-9 * 9 * config.channels * config.outputs
    of_stream = 1e-3 + 1.8e-3 * width if config.learning == "none" else head
    return 3 + config.steps * step + streams * SHOTS * sum(config.lengths) * of_stream


def ready(config: Config) -> None:
    """Read the characters, so that a run without them does not begin."""
    if config.characters != "glyphs":
        load(config.characters, size=SIDE)


LAPTOP = Config()
SMOKE = Config(
    characters="glyphs", classes=12, withheld=5, channels=3, gate_channels=2, outputs=12, steps=4, trajectory=4,
    remember=6, lengths=(3, 5), judged=3, lrs=(1e-3,), streams=1, oml_channels=3,
)  # fmt: skip
PAPER = Config(
    characters="omniglot",
    channels=256,
    gate_channels=112,
    outputs=1000,
    steps=20_000,
    inner_lr=0.1,
    outer_lr=1e-3,
    oml_channels=256,
    lengths=(10, 50, 75, 100, 150, 200, 300, 400, 500, 600),
    judged=600,
    lrs=(1e-3, 6e-4, 4e-4, 3.5e-4, 3e-4, 2.5e-4, 2e-4, 1.5e-4, 1e-4, 9e-5, 8e-5, 6e-5, 3e-5, 1e-5),
    selections=10,
    streams=10,
)
experiment = Experiment(
    name="anml",
    summary="Networks meta-learned to learn class after class, an image at a time, and to forget little of it",
    paper="Beaulieu et al., Learning to continually learn, ECAI 2020 (arXiv 2002.09571)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(LAPTOP, seeds=4), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
    ready=ready,
)
