"""Learning rules side by side: accuracy, angle to the gradient, time and memory, of one network on one task.

Every registered learning rule that fits trains a narrow and a wide network on images of digits, since in a wide one
even random features will do; and a recurrent network on the same images row by row. Learning rates are chosen for each
rule and seed on images of the training set that it is not trained on. The experiment, its tasks and its criteria are
ours; the review that it follows has no experiments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain
from typing import Annotated, Any

import numpy as np
import plotly.graph_objects as go
import torch
from annotated_types import Ge
from plotly.subplots import make_subplots

from engram import registry
from engram.experiments.learning_rules import features, training
from engram.experiments.learning_rules.features import RANDOM, Features
from engram.experiments.learning_rules.networks import Network, build
from engram.experiments.learning_rules.training import RATES, READOUT_ONLY, Training, rule_of
from engram.lab import Arm, Experiment, Measure, Preset, Results, arms_of, claimed, value
from engram.lab.curves import add_line, colors

RATES_OF_BLACK_BOXES = (0.1, 0.03, 0.01, 0.003, 0.001)
ENERGY = ("ep", "ep-one-sided")
ORACLES = ("rtrl",)  # the same as backpropagation through time, and slow


@dataclass(frozen=True)
class Config:
    """Which rules are compared, and for how long."""

    rules: str = "all"
    """Names of registered learning rules and synaptic rules, commas between; all: those that fit, and Sanger's."""
    epochs: Annotated[int, Ge(1)] = 20
    """Passes over the training set."""
    epochs_in_time: Annotated[int, Ge(1)] = 15
    """The same for the recurrent network."""

    def __post_init__(self) -> None:
        known = {"all", *registry.names("learning_rules"), *registry.names("synaptic_rules")}
        for name in self.rules.split(","):
            if name not in known:
                raise ValueError(f"rules = {self.rules!r}: expected registered rules, and there is no {name!r}")


def arms(config: Config) -> dict[str, Arm]:
    """Each rule on the networks that it fits, by its name and the network's, and what they are held against."""
    learning = registry.names("learning_rules")
    every = [*(name for name in learning if name not in ORACLES), "sanger"]
    asked = [every if name == "all" else [name] for name in config.rules.split(",")]
    found: dict[str, Training] = {}
    unsupervised: dict[str, Features] = {}
    for name in dict.fromkeys(chain.from_iterable(asked)):
        if name not in learning:
            base = Features(name, epochs=config.epochs)
            unsupervised |= {f"{name}-features": base, "random-features": replace(base, rule=RANDOM)}
            continue
        trained = Training(name, rates=rates_of(name), epochs=config.epochs)
        if fits(name, "narrow"):
            found |= {name: trained, f"{name}-wide": replace(trained, network="wide")}
        if name in ENERGY:
            found[f"{name}-clipped"] = replace(trained, network="clipped")
        if fits(name, "recurrent"):
            in_time = replace(trained, network="recurrent", epochs=config.epochs_in_time)
            floor = replace(in_time, rule=READOUT_ONLY, rates=RATES)
            found |= {f"{name}-in-time": in_time, "readout-in-time": floor}
    return {
        **arms_of(training.trial, found, training.seconds),
        **arms_of(features.trial, unsupervised, features.seconds),
    }


@cache
def fits(name: str, network: Network) -> bool:
    """Return whether a rule can train a network."""
    try:
        rule_of(name).init(build(network, torch.Generator()), torch.Generator())
    except TypeError:
        return False
    return True


def rates_of(name: str) -> tuple[float, ...]:
    """Return the learning rates that a rule chooses from."""
    return RATES_OF_BLACK_BOXES if rule_of(name).properties.black_box else RATES


ours = partial(claimed, source="ours; the rules are as published, task and criterion are not", published="no figure")
NAMES = {
    "kolen-pollack": "Kolen-Pollack's rule", "usf": "Sign symmetry", "pc-strict": "Strict predictive coding",
    "dtp": "Difference target propagation", "dfa": "Direct feedback alignment", "fa": "Feedback alignment",
    "local-error": "Local error",
}  # fmt: skip


def lead(one: str, other: str) -> Measure:
    """Return how much more often one arm is right than another."""
    return value(one, "accuracy") - value(other, "accuracy")


claims = [
    ours(
        "fixed-predictions-are-backprop",
        "Predictive coding with fixed predictions gives the gradient (largest difference of any weight's)",
        value("pc-fixed", "gap") <= 1e-6,
        sameness="identity",
    ),
    *(
        ours(
            f"{rule}-learns-hidden-layers",
            f"{name} makes a narrow network right more often than training its last layer alone does, by 0.1 or more",
            lead(rule, "last-layer") >= 0.10,
        )
        for rule, name in NAMES.items()
    ),
    *(
        ours(
            f"{rule}-near-backprop",
            f"{name} comes within 0.03 of backpropagation's accuracy in a narrow network",
            lead(rule, "backprop") >= -0.03,
        )
        for rule, name in NAMES.items()
    ),
    ours(
        "random-features-suffice-when-wide",
        "Training the last layer alone does better in a wide network than in a narrow one, by 0.05 or more",
        lead("last-layer-wide", "last-layer") >= 0.05,
    ),
    *(
        ours(
            f"{rule}-aligned",
            f"{NAMES[rule]} ends at a cosine to the gradient of {least} or more in both hidden layers",
            value(rule, "least_cosine") >= least,
        )
        for rule, least in {"kolen-pollack": 0.9, "usf": 0.8, "fa": 0.4, "dfa": 0.4}.items()
    ),
    *(
        ours(
            f"{rule}-aligns",
            f"{NAMES[rule]} ends nearer to the gradient than after the first epoch, in both hidden layers",
            value(rule, "least_rise_of_cosine") >= 0.0,
        )
        for rule in ("fa", "dfa")
    ),
    ours(
        "node-perturbation-learns",
        "Node perturbation is right 0.9 of the time in a narrow network",
        value("node-perturbation", "accuracy") >= 0.90,
    ),
    ours(
        "nodes-before-weights",
        "Node perturbation does better than weight perturbation in a narrow network, by 0.05 or more",
        lead("node-perturbation", "weight-perturbation") >= 0.05,
    ),
    ours(
        "weight-perturbation-worse-when-wide",
        "Weight perturbation does no better in a wide network than in a narrow one",
        lead("weight-perturbation-wide", "weight-perturbation") <= 0.0,
    ),
    ours(
        "equilibrium-propagation-learns",
        "Equilibrium propagation nudged both ways is right 0.94 of the time",
        value("ep-clipped", "accuracy") >= 0.94,
    ),
    ours(
        "two-nudges-before-one",
        "Equilibrium propagation nudged both ways does at least as well as nudged one way",
        lead("ep-clipped", "ep-one-sided-clipped") >= 0.0,
    ),
    ours(
        "backprop-through-time-before-eprop",
        "Backpropagation through time does at least as well as e-prop",
        lead("backprop-in-time", "eprop-in-time") >= 0.0,
    ),
    ours(
        "eprop-near-backprop-through-time",
        "Backpropagation through time does better than e-prop by 0.1 at most",
        lead("backprop-in-time", "eprop-in-time") <= 0.10,
    ),
    ours(
        "symmetric-before-random-feedback",
        "Learning in time by e-prop is at least as good with symmetric feedback as with random",
        lead("eprop-in-time", "eprop-random-in-time") >= 0.0,
    ),
    ours(
        "eprop-learns-recurrent-weights",
        "Training a recurrent network by e-prop with random feedback beats training its readout alone, by 0.04 or more",
        lead("eprop-random-in-time", "readout-in-time") >= 0.04,
    ),
    ours(
        "components-before-random-features",
        "A readout of 16 principal components, found by Sanger's rule, beats one of 16 random features by 0.05 or more",
        lead("sanger-features", "random-features") >= 0.05,
    ),
]


def figure(results: Results) -> go.Figure:
    """Cosines over epochs of both hidden layers of the narrow network, accuracy by network, and all in a table."""
    titles = ("cosine to the gradient, hidden layer 1", "hidden layer 2", "accuracy: narrow, wide, and other networks")
    panel, row, gap = 280, 24, 160
    heights = [panel, panel, row * (len(results.arms) + 4)]
    inside = sum(heights) + 2 * gap
    plot = make_subplots(
        rows=3,
        cols=2,
        subplot_titles=titles,
        specs=[[{}, {}], [{"colspan": 2}, None], [{"colspan": 2, "type": "table"}, None]],
        row_heights=heights,
        vertical_spacing=gap / inside,
    )
    narrow = [arm for arm in results.arms if not arm.endswith(("-wide", "-in-time", "-features", "-clipped"))]
    others = [arm for arm in results.arms if arm not in narrow and arm.removesuffix("-wide") not in narrow]
    shades = colors([*narrow, *others])
    for arm in narrow:
        for layer in (1, 2):
            style: dict[str, Any] = {"name": arm, "legendgroup": arm, "showlegend": layer == 1}
            add_line(plot, results, arm, f"cosine_{layer}", place=(1, layer), line_color=shades[arm], **style)
    shown = {"narrow": [(arm, arm) for arm in narrow], "wide": [(arm, f"{arm}-wide") for arm in narrow]}
    shown["others"] = [(arm, arm) for arm in others]
    for (kind, pairs), symbol in zip(shown.items(), ("circle", "square-open", "diamond"), strict=True):
        points = [
            (name, of_seed[arm]["accuracy"], shades[name])
            for name, arm in pairs
            for of_seed in results.by_seed.values()
            if arm in of_seed
        ]
        if points:
            names, right, colours = zip(*points, strict=True)
            marker = {"color": colours, "symbol": symbol, "size": 8}
            plot.add_scatter(x=names, y=right, mode="markers", marker=marker, name=kind, row=2, col=1)
    columns = table(results.arms, results.by_seed)
    cells = {"values": list(columns.values()), "align": ["left", *["right"] * (len(columns) - 1)], "height": row}
    plot.add_trace(
        go.Table(columnwidth=[2, 1.5, *[1] * (len(columns) - 2)], header={"values": list(columns)}, cells=cells),
        row=3,
        col=1,
    )
    plot.update_xaxes(title="epoch", row=1)
    plot.update_yaxes(range=[-0.4, 1.02], row=1)
    return plot.update_layout(height=inside + 180, title="Learning rules beside one another")


def table(arms: Sequence[str], by_seed: Mapping[int, Any]) -> dict[str, list[str]]:
    """Return what came of each arm, by column: means over seeds, of the accuracy with its standard deviation too."""
    columns = {
        "cosine 1": ("cosine_1", "{:.2f}"),
        "cosine 2": ("cosine_2", "{:.2f}"),
        "seconds": ("seconds", "{:.2f}"),
        "extra KiB": ("extra_kib", "{:.0f}"),
        "forward passes": ("forward_equivalents", "{:.1f}"),
    }
    found: dict[str, list[str]] = {"rule and network": [], "accuracy": [], **{column: [] for column in columns}}
    for arm in arms:
        seeds = [of_seed[arm] for of_seed in by_seed.values() if arm in of_seed]
        if not seeds:
            continue
        right = np.array([seed["accuracy"] for seed in seeds])
        spread = f" ± {right.std(ddof=1):.3f}" if len(right) > 1 else ""
        found["rule and network"].append(arm)
        found["accuracy"].append(f"{right.mean():.3f}{spread}")
        for column, (key, form) in columns.items():
            values = [seed[key] for seed in seeds if key in seed]
            found[column].append(form.format(np.mean(values)) if values else "")
    return found


experiment = Experiment(
    name="learning-rules",
    summary="Rules that train without backpropagation, or beside it: how right, how near to the gradient, at what cost",
    paper="After Schmidgall et al., Brain-inspired learning in artificial neural networks: a review, 2023 "
    "(arXiv 2305.11252), which has no experiments",
    presets={
        "smoke": Preset(Config("backprop,fa,node-perturbation,eprop,sanger", epochs=1, epochs_in_time=1), seeds=1),
        "laptop": Preset(Config(), seeds=8),
        "paper": Preset(Config(epochs=50, epochs_in_time=40), seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
