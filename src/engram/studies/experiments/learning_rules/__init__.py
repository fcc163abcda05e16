"""Accuracy, cosine to the gradient and cost of learning rules with and without backpropagation.

Every applicable registered learning rule trains a narrow network and a wide one, where random features suffice, on
images of digits. Some rules also train a thin and a deep network, where random features do not suffice, and a recurrent
network that reads the same images row by row. Learning rates are chosen for each rule and seed on validation images;
all seeds have the same test images, so intervals do not cover their choice.
Equilibrium propagation trains the network that it was published for, with clipped units; other networks do not settle.
The experiment, its tasks and its criteria are ours; the review that it follows has no experiments.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
import torch
from plotly.subplots import make_subplots

from engram import references, registry
from engram.lab import (
    Experiment,
    Measure,
    Points,
    Preset,
    Quantity,
    Results,
    Study,
    Task,
    claims_from,
    metric,
)
from engram.lab.output.figures import colors
from engram.lab.trial.metrics import over_seeds
from engram.studies.experiments.learning_rules import features, training
from engram.studies.experiments.learning_rules.features import RANDOM
from engram.studies.experiments.learning_rules.networks import Network, bits_of_digits, build
from engram.studies.experiments.learning_rules.training import READOUT_ONLY, rule_of

RATES: dict[str, tuple[float, ...]] = {
    "last-layer": (0.3, 1.0, 3.0), "align-zero": (0.0003, 0.001, 0.003),
    "node-perturbation": (0.001, 0.003, 0.01), "weight-perturbation": (0.0001, 0.0003, 0.001),
}  # fmt: skip
RATES_OF_BLACK_BOXES = (0.0003, 0.001, 0.003)
RATES_OF_SUMS = (0.003, 0.01, 0.03)  # for losses summed over time
ENERGY = ("ep", "ep-one-sided")  # unclipped units settle after hundreds of steps, if at all
ORACLES = ("rtrl",)  # equal to backpropagation through time, but slow
CONTROLS = ("backprop", "last-layer")
NAMES = {
    "kolen-pollack": "Kolen-Pollack's rule", "usf": "Sign symmetry", "pc-strict": "Strict predictive coding",
    "dtp": "Difference target propagation", "dfa": "Direct feedback alignment", "fa": "Feedback alignment",
    "local-error": "Local error",
}  # fmt: skip


@references.cached
def fits(name: str, network: Network) -> bool:
    """Whether a rule can train a network."""
    if name == "weight-mirror" and network in ("convolutional", "recurrent", "adding"):
        return False  # here it is the mirror of layers with their activations, not of each map by itself
    try:
        rule_of(name).init(build(network, torch.Generator()), torch.Generator())
    except TypeError:
        return False
    return network == "clipped" or name not in ENERGY


def changes_of(rule: str, network: Network) -> dict[str, Any] | None:
    """The settings of the arm of a rule on a network; None if the rule cannot train it."""
    # In time, training the last layer alone is training the readout alone, which is an arm already.
    if not fits(rule, network) or (rule == "last-layer" and network in ("recurrent", "adding")):
        return None
    usual = RATES_OF_SUMS if network == "adding" else training.RATES
    usual = RATES_OF_BLACK_BOXES if rule_of(rule).properties.black_box else usual
    return {"rule": rule, "network": network, "rates": RATES.get(rule, usual)}


def arms_on(network: Network, suffix: str, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The arms of the rules that can train a network.

    Args:
        network: The network.
        suffix: Ending of the arms' names.
        names: Names of rules.
    """
    return {f"{name}{suffix}": changes for name in names if (changes := changes_of(name, network)) is not None}


def rules() -> list[str]:
    """The registered rules except the oracles."""
    return [name for name in registry.names("learning_rules") if name not in ORACLES]


def feedforward_arms() -> dict[str, dict[str, Any]]:
    """The arms of all applicable rules on the narrow and wide networks, and of some on other networks."""
    table: dict[str, dict[str, Any]] = {}
    for name in rules():
        table |= arms_on("narrow", "", [name]) | arms_on("wide", "-wide", [name])
        if name in (*NAMES, *CONTROLS):
            table |= arms_on("thin", "-thin", [name]) | arms_on("deep", "-deep", [name])
        if name in ENERGY:
            table |= arms_on("clipped", "-clipped", [name])
    return table


def recurrent_arms() -> dict[str, dict[str, Any]]:
    """The arms of all applicable rules on the recurrent network, and of training only its readout."""
    readout = {"readout-in-time": {"rule": READOUT_ONLY, "network": "recurrent"}}
    return arms_on("recurrent", "-in-time", rules()) | readout


def figure(results: Results) -> go.Figure:
    """The accuracy of each rule on each network, as means over seeds."""
    plot = go.Figure()
    for network, color in colors(("narrow", "wide", "thin", "deep", "clipped")).items():
        arms = [arm for arm in results.arms if getattr(results.configs[arm], "network", "") == network]
        means = [np.mean(results.values(arm, "accuracy")) for arm in arms]
        marks = {"mode": "markers", "marker": {"size": 9, "color": color}}
        plot.add_scatter(x=means, y=[results.configs[arm].rule for arm in arms], name=network, **marks)
    names = {"autorange": "reversed", "automargin": True}
    title = "Accuracy of each rule by network, means over seeds"
    return plot.update_layout(title=title, height=620, xaxis_title="accuracy", yaxis=names)


def cosines(results: Results) -> go.Figure:
    """Cosines to the gradient over epochs in both hidden layers of the narrow network, with a row for each rule."""
    arms = [arm for arm in results.arms if getattr(results.configs[arm], "network", "") == "narrow"]
    plot = make_subplots(1, 2, shared_yaxes=True, subplot_titles=("hidden layer 1", "hidden layer 2"))
    for layer in (1, 2):
        logged = results.metrics.filter(pl.col("metric") == f"cosine_{layer}")
        by_arm = logged.partition_by("arm", as_dict=True)
        curves = {arm: over_seeds(by_arm[(arm,)])["mean"].to_list() for arm in arms if (arm,) in by_arm}
        scale = {"zmin": 0, "zmax": 1, "colorscale": "Viridis", "showscale": layer == 2}
        plot.add_heatmap(z=[*curves.values()], y=[*curves], row=1, col=layer, **scale)
    plot.update_xaxes(title="epoch").update_yaxes(autorange="reversed", automargin=True)
    return plot.update_layout(title="Cosine to the gradient in the narrow network, means over seeds", height=520)


def accuracy_in_time(results: Results) -> go.Figure:
    """The accuracy of the recurrent networks."""
    arms = [arm for arm in results.arms if arm.endswith("-in-time")]
    return Points("accuracy", "Accuracy of recurrent networks, one point per seed", "accuracy", arms=arms)(results)


studies = {
    "networks": Study(training.trial, feedforward_arms, figure=cosines),
    "in-time": Study(training.trial, recurrent_arms, figure=accuracy_in_time),
    "features": Study(features.trial, {"sanger-features": {}, "random-features": {"rule": RANDOM}}),
}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={study: {"epochs": 1} for study in studies},
        arms=[
            *("backprop", "backprop-wide", "fa", "fa-wide", "node-perturbation", "node-perturbation-wide"),
            *("backprop-in-time", "eprop-in-time", "readout-in-time", "sanger-features", "random-features"),
        ],
    ),
    "laptop": Preset(seeds=8, changes={"in-time": {"epochs": 15}}),
    "large": Preset(
        seeds=10, changes={"networks": {"epochs": 50}, "in-time": {"epochs": 40}, "features": {"epochs": 50}}
    ),
}


accuracy = metric("accuracy")
claim = claims_from("ours; the rules are as published, task and criterion are not")


def lead(arm: str, other: str) -> Measure:
    """The difference in accuracy between two arms."""
    return accuracy(arm) - accuracy(other)


claims = [
    *(
        claim(f"fa-learns-{network}-layers",
            f"Feedback alignment trains a {network} network to a higher accuracy than training only its last layer",
            lead(f"fa-{network}", f"last-layer-{network}") >= 0.10)
        for network in ("thin", "deep")
    ),
    *(
        claim(f"{rule}-near-backprop", f"{NAMES[rule]} comes close to the accuracy of backpropagation in a narrow "
            "network, or exceeds it",
            lead(rule, "backprop") >= -0.03)
        for rule in ("fa", "usf", "kolen-pollack")
    ),
    claim("random-features-suffice-when-wide",
        "Training only the last layer does better in a wide network than in a narrow one",
        lead("last-layer-wide", "last-layer") >= 0.05),
    claim("nodes-before-weights", "Node perturbation does better than weight perturbation in a narrow network",
        lead("node-perturbation", "weight-perturbation") >= 0.05),
    claim("weight-perturbation-worse-when-wide",
        "Weight perturbation does worse in a wide network than in a narrow one",
        lead("weight-perturbation-wide", "weight-perturbation") <= -0.02),
    claim("equilibrium-propagation-learns", "Equilibrium propagation nudged both ways reaches a high accuracy",
        accuracy("ep-clipped") >= 0.94),
    claim("eprop-near-backprop-through-time", "Backpropagation through time does little better than e-prop, if at all",
        lead("backprop-in-time", "eprop-in-time") <= 0.10),
    claim("eprop-learns-recurrent-weights",
        "Training a recurrent network by e-prop with random feedback is better than training only its readout",
        lead("eprop-random-in-time", "readout-in-time") >= 0.04),
]  # fmt: skip
quantities = [
    *(
        Quantity(f"{rule}-below-backprop", "Accuracy of backpropagation less that of "
            f"{NAMES[rule].lower()} in a narrow network",
            lead("backprop", rule))
        for rule in ("dfa", "dtp", "pc-strict", "local-error")
    ),
    *(
        Quantity(f"least-cosine-of-{rule}", f"{NAMES[rule]}: cosine to the gradient at the end, in the hidden layer in "
            "which it is smaller",
            metric("least_cosine")(rule))
        for rule in ("kolen-pollack", "usf", "fa", "dfa")
    ),
    Quantity("components-over-random-features", "Accuracy of a readout of 16 principal components found by Sanger's "
        "rule less that of one of 16 random features",
        lead("sanger-features", "random-features")),
]  # fmt: skip


def arm_of(rule: str, suffix: str) -> str:
    """The name of a rule's arm; that of training only the readout is ``readout`` and the suffix."""
    return f"{rule.removesuffix('-only')}{suffix}"


def task(name: str, network: Network, suffix: str, measure: str = "", **options: Any) -> Task:
    """The task of training a network.

    Args:
        name: What rules have to do, in words.
        network: The network.
        suffix: Ending of the arms' names.
        measure: Key of the result by which rules are ranked (default: ``measure_of`` the network).
        options: Further attributes of the task.
    """
    return Task(
        "learning_rules",
        name,
        partial(arm_of, suffix=suffix),
        partial(changes_of, network=network),
        measure or training.measure_of(network),
        goal=None if measure else "backprop",
        curve=training.measure_of(network),
        operator="dynamics" if network in training.TRACED else "",
        baselines=tuple(rules()),
        study="in-time" if network in ("recurrent", "adding") else "networks",
        costs={
            "KiB beyond a forward pass": "extra_kib",
            "forward passes a step": "forward_equivalents",
            "least cosine to the gradient": "least_cosine",
        }
        | ({"accuracy": "accuracy"} if measure else {}),
        step=training.step_of,
        **options,
    )


guessing: dict[str, Any] = {"chance": 0.1, "trivial": "last-layer", "bits": bits_of_digits}
of_radii: dict[str, Any] = {"margin": 0.005, "chance": 0.0, "trivial": "last-layer"}
tasks = [
    task("digits, narrow network", "narrow", "", **guessing),
    task("digits, wide network", "wide", "-wide", **guessing),
    task("digits, deep network", "deep", "-deep", **guessing),
    task("digits, convolutional network", "convolutional", "-convolutional", **guessing),
    task("digits row by row", "recurrent", "-in-time", chance=0.1, trivial=READOUT_ONLY, bits=bits_of_digits),
    task("certified radius on digits", "rectified", "-rectified", "radius", **of_radii),
    task("sum of late bits", "adding", "-adding", chance=0.0, trivial=READOUT_ONLY),
    task("student of a network", "student", "-student", chance=0.0, trivial="last-layer"),
]


experiment = Experiment(
    name="learning-rules",
    about=__doc__,
    paper="After Schmidgall et al., Brain-inspired learning in artificial neural networks: a review, 2023 "
    "(arXiv 2305.11252), which has no experiments",
    studies=studies,
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="accuracy",
    tasks=tasks,
    answer="""At learning rates chosen by validation, nearly every rule comes within 3 % of backpropagation in a narrow
    network: feedback alignment {fa-near-backprop}, sign symmetry {usf-near-backprop} and Kolen-Pollack's rule
    {kolen-pollack-near-backprop}; direct feedback alignment is {dfa-below-backprop:0.0 %} behind, difference target
    propagation {dtp-below-backprop:0.0 %}, and strict predictive coding {pc-strict-below-backprop:0.0 %}. In a wide
    network this says little, since random features suffice {random-features-suffice-when-wide}; in a thin network,
    where training only the last layer reaches 67 %, feedback alignment reaches 95 % {fa-learns-thin-layers}, and in a
    deep one 91 % compared with 76 % {fa-learns-deep-layers}. Weight perturbation reaches 74 % and node perturbation 94
    % {nodes-before-weights}; width does not harm the former {weight-perturbation-worse-when-wide}; equilibrium
    propagation reaches {equilibrium-propagation-learns:0 %} with clipped units {equilibrium-propagation-learns}. In
    recurrent networks e-prop stays 5 % behind backpropagation through time {eprop-near-backprop-through-time}, and it
    is too close to decide whether training recurrent weights with it gains the required 4 %
    {eprop-learns-recurrent-weights}. So if the backward pass must not use the forward weights, begin with
    Kolen-Pollack's rule, or with sign symmetry if it may use their signs, and test it on thin or deep networks, where
    rules differ.""",
)
