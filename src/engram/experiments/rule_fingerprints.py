"""Which rule trained this network? Told by dynamics, by geometry and by difficulty.

Networks of one form learn one task by different rules, each until it answers as many held-out images right as all the
others. Of each network there is what its hidden units did with the same probe images on the way (dynamical similarity
analysis), what they do in the end (shape), and how many bits it would still take to generalise from that (inductive
bias complexity). The rule is then guessed from the nearest other networks under each distance. The control is
heavy-ball descent at six values of momentum and one effective rate: six names for what is nearly one rule. The
experiment, its settings and its criteria are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import plotly.graph_objects as go
import torch
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int
from plotly.subplots import make_subplots
from sklearn.decomposition import PCA
from sklearn.manifold import ClassicalMDS
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from engram import analysis
from engram.lab import Arm, Experiment, Preset, Results, Run, arms_of, claimed, value
from engram.lab.curves import add_map
from engram.nn.initial import uniform
from engram.rules import (
    AlignZero,
    Backprop,
    FeedbackAlignment,
    KolenPollack,
    LearningRule,
    NodePerturbation,
    PredictiveCoding,
    train_step,
)
from engram.tasks.dynamics.learning_rule_traces import digits

MEASURES = {
    "dynamics": "dynamical similarity of how it learned",
    "procrustes": "Procrustes angle",
    "cka": "centred kernel alignment",
    "rsa": "representational similarity",
    "difficulty": "difficulty of its probes",
}
BATCH = 32
ASKED = 360  # images that say when a network has learned, and as many others of the test
COMPONENTS, DELAYS, RANK = 8, 10, 10
difficulty = partial(analysis.classification_difficulty, error=0.01, resolution="exact", drop_conflicts=True)


# Learning rates of each rule, at which it takes from some 100 to some 3,000 steps.
RULES: dict[str, tuple[LearningRule[Any], tuple[float, float, float]]] = {
    "backprop": (Backprop(), (0.02, 0.04, 0.08)),
    "feedback alignment": (FeedbackAlignment(), (0.02, 0.04, 0.08)),
    "Kolen-Pollack": (KolenPollack(), (0.02, 0.04, 0.08)),
    "node perturbation": (NodePerturbation(), (0.005, 0.0075, 0.01)),
    "predictive coding": (PredictiveCoding("strict"), (0.02, 0.04, 0.08)),
    "align-zero": (AlignZero(), (0.02, 0.04, 0.08)),
}
TWINS = {f"momentum {momentum}": momentum for momentum in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)}


@dataclass(frozen=True)
class Config:
    """What one trial is made of."""

    rules: Literal["differ", "twins"] = "differ"
    """Whether the six groups of networks are of six rules, or of near twins of gradient descent: the control."""
    networks: Annotated[int, Ge(3)] = 6
    """Networks of each rule, at three learning rates in turn."""
    hidden: Annotated[int, Ge(2)] = 512
    """Hidden units."""
    probes: Annotated[int, Ge(20), Le(500)] = 200
    """Images that every network is shown while it learns."""
    goal: Annotated[float, Gt(0), Le(1)] = 0.94
    """Share of right answers to held-out images at which a network has learned."""
    steps: Annotated[int, Ge(60)] = 6000
    """Most steps of the optimiser."""
    looks: Annotated[int, Ge(30)] = 60
    """Times at which the probes are looked at, evenly over the steps that a network took."""


def arms(config: Config) -> dict[str, Arm]:
    """The networks of six rules, and those of six values of momentum."""
    found = {"rules": replace(config, rules="differ"), "near twins": replace(config, rules="twins")}
    return arms_of(trial, found, seconds)


def build(hidden: int, generator: torch.Generator) -> nn.Sequential:
    """Make a network with one hidden layer, of the distribution that torch draws from; all rules have the same."""
    first, last = (uniform(nn.Linear, *sizes, generator=generator) for sizes in ((64, hidden), (hidden, 10)))
    return nn.Sequential(first, nn.ReLU(), last)


def taught(name: str, number: int, network: nn.Module) -> tuple[LearningRule[Any], torch.optim.SGD]:
    """Return the rule of a group and the optimiser of its ``number``-th network."""
    rule, rates = RULES.get(name, RULES["backprop"])
    momentum = TWINS.get(name, 0.0)
    # Heavy-ball descent moves by rate / (1 - momentum) in the long run: that is the same for all.
    return rule, torch.optim.SGD(network.parameters(), lr=rates[number % 3] * (1 - momentum), momentum=momentum)


class Path:
    """Activity at the probes, at steps spread evenly over as many as there turn out to be: at most twice ``looks``."""

    def __init__(self, looks: int) -> None:
        self.looks, self.every, self.taken = looks, 1, list[Tensor]()

    def add(self, step: int, look: Callable[[], Tensor]) -> None:
        """Take a look at this step if it is due; of twice as many as are wanted, every other is dropped."""
        if step % self.every == 0:
            self.taken.append(look())
        if len(self.taken) == 2 * self.looks:
            del self.taken[1::2]
            self.every *= 2

    def evenly(self) -> Float[Tensor, "looks probes units"]:
        """Return ``looks`` of them."""
        return torch.stack([self.taken[i] for i in np.linspace(0, len(self.taken) - 1, self.looks).round().astype(int)])


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train networks by their rules, and guess the rules from the distances between the networks."""
    images, classes = digits()
    order = run.rng.permutation(len(images))
    first, second, last = config.probes + ASKED * np.arange(3)
    parts = [slice(0, first), slice(first, second), slice(second, last)]
    (probes, labels), held_out, tested = ((images[order[part]], classes[order[part]]) for part in parts)
    x, y = images[order[parts[-1].stop :]], classes[order[parts[-1].stop :]]
    groups = tuple(RULES if config.rules == "differ" else TWINS)
    names = np.repeat(groups, config.networks)
    paths = np.zeros((len(names), config.looks, COMPONENTS))
    shapes = np.zeros((len(names), config.probes, config.hidden))
    reached, accuracy, took = np.zeros((3, len(names)))
    kept = {"paths": paths, "shapes": shapes, "reached": reached, "accuracy": accuracy, "took": took}
    for number in run.steps(len(names), **kept):
        network, path = build(config.hidden, run.generator), Path(config.looks)
        rule, optimizer = taught(str(names[number]), number, network)
        state = rule.init(network, run.generator)
        for step in range(config.steps):
            path.add(step, partial(look, network, probes))
            reached[number] = share(network, *held_out)
            if reached[number] >= config.goal:
                break
            batch = torch.randint(len(x), (BATCH,), generator=run.generator)
            state = train_step(rule, network, optimizer, (x[batch], y[batch]), state).state
        took[number], accuracy[number] = step, share(network, *tested)
        looks = path.evenly().double().numpy()
        paths[number] = PCA(COMPONENTS, random_state=0).fit_transform(looks.reshape(config.looks, -1))
        shapes[number] = looks[-1]
        run.log(number + 1, accuracy=accuracy[number], steps=step)
    bits = np.array([difficulty(shape, labels.numpy()).difficulty.log10_bits for shape in shapes])
    distances = distances_of(paths, shapes, bits)
    distances["accuracy"] = np.abs(accuracy[:, None] - accuracy)
    distances["steps"] = np.abs(np.log(took[:, None] / took))
    means = {name: accuracy[names == name].mean() for name in groups}
    result: dict[str, Any] = {"names": names.tolist(), "learned": float((reached >= config.goal).mean())}
    result["spread"] = max(means.values()) - min(means.values())
    result["rules"] = {
        name: {"accuracy": means[name], "steps": np.median(took[names == name]), "bits": bits[names == name].mean()}
        for name in groups
    }
    nearest, on_a_map = KNeighborsClassifier(3, metric="precomputed"), ClassicalMDS(metric="precomputed")
    for name, found in distances.items():
        guessed = cross_val_score(nearest, found, names, cv=LeaveOneOut())
        result[f"{name}_guessed"] = float(guessed.mean())
        result[f"{name}_map"] = on_a_map.fit_transform(found).round(4).tolist()
    result["best_guessed"] = max(result[f"{name}_guessed"] for name in MEASURES)
    return result


@torch.no_grad()
def look(network: nn.Sequential, probes: Float[Tensor, "probes pixels"]) -> Float[Tensor, "probes units"]:
    """Return what the hidden units do."""
    activity: Tensor = network[:2](probes)
    return activity


@torch.no_grad()
def share(network: nn.Module, x: Float[Tensor, "images pixels"], y: Int[Tensor, "images"]) -> float:
    """Return the share of images whose digit the network says."""
    return float((network(x).argmax(1) == y).float().mean())


def distances_of(paths: np.ndarray, shapes: np.ndarray, bits: np.ndarray) -> dict[str, np.ndarray]:
    """Return the distances between networks under each measure, and the mean of all, each in units of its own mean."""
    operators = np.stack(
        [np.asarray(analysis.HankelDMD(DELAYS, rank=RANK).fit([path / path.std()]).operator_) for path in paths]
    )
    # Of the same inner products between probes in as many dimensions as there are probes, which is all that two of the
    # measures ask for.
    inner = [np.asarray(np.linalg.qr((shape - shape.mean(0)).T, mode="r")).T for shape in shapes]
    distances = {
        "dynamics": analysis.operator_distances(operators),
        "procrustes": analysis.pairwise(inner, analysis.procrustes_angle),
        "cka": analysis.pairwise(inner, lambda one, other: 1 - analysis.linear_cka(one, other)),
        "rsa": analysis.pairwise(shapes, lambda one, other: 1 - analysis.rsa(one, other)),
        "difficulty": np.abs(bits[:, None] - bits),
    }
    return distances | {"together": np.mean([found / found.mean() for found in distances.values()], axis=0)}


ours = partial(claimed, source="ours", published="no figure")
claims = [
    ours(
        "all-learn",
        "Networks of every rule reach the goal on held-out digits (share of the networks)",
        value("rules", "learned") >= 1.0,
    ),
    ours(
        "all-reach-the-same",
        "On images of the test, rules are within 0.02 of each other (largest less smallest mean accuracy)",
        value("rules", "spread") <= 0.02,
    ),
    *(
        ours(
            f"{name}-tells",
            f"The rule of a network is that of its nearest by {what} (share of right guesses, chance 0.17)",
            value("rules", f"{name}_guessed") >= 0.4,
        )
        for name, what in MEASURES.items()
    ),
    ours(
        "together-they-tell-more",
        "All distances together guess at least as well as the best of them (difference)",
        value("rules", "together_guessed") - value("rules", "best_guessed") >= 0.0,
    ),
    *(
        ours(
            name,
            f"{what} guesses more rules than {trivial} does (difference)",
            value("rules", f"{measure}_guessed") - value("rules", f"{baseline}_guessed") >= 0.1,
            source="ours: the trivial baseline",
        )
        for name, what, measure, trivial, baseline in [
            (
                "dynamics-beat-accuracy",
                "The distance of dynamics",
                "dynamics",
                "the accuracy that a network reached",
                "accuracy",
            ),
            (
                "dynamics-beat-steps",
                "The distance of dynamics",
                "dynamics",
                "the number of steps that a network took",
                "steps",
            ),
            (
                "geometry-beats-steps",
                "Centred kernel alignment",
                "cka",
                "the number of steps that a network took",
                "steps",
            ),
        ]
    ),
    ours(
        "near-twins-are-not-told",
        "Networks of gradient descent at six values of momentum are not told apart (best of all distances)",
        value("near twins", "best_guessed") <= 0.3,
        source="ours: the control",
    ),
]


def figure(results: Results) -> go.Figure:
    """Networks as points, one map for each distance: classical scaling of the first seed's."""
    rows = -(-len(MEASURES) // 2)
    plot = make_subplots(rows, 2, subplot_titles=tuple(MEASURES), vertical_spacing=0.1)
    first = next((of_seed["rules"] for of_seed in results.by_seed.values() if "rules" in of_seed), None)
    if first is None:
        return plot
    for place, measure in enumerate(MEASURES):
        add_map(plot, np.array(first[f"{measure}_map"]), first["names"], row=1 + place // 2, column=1 + place % 2)
    title = "Which rule trained this network? Each point is one; near points are alike"
    return plot.update_layout(height=280 * rows, title=title)


def seconds(config: Config) -> float:
    """Time of a trial on one core."""
    networks = len(RULES) * config.networks
    return 1 + networks * min(1.6, 2e-3 * config.steps) * (config.rules == "differ" or 0.4) + 0.01 * networks**2


experiment = Experiment(
    name="rule-fingerprints",
    summary="Which rule trained a network is told by its dynamics while learning, its geometry, and its difficulty",
    paper="No paper; dynamical similarity of Ostrow et al. 2023, difficulty of Boopathy et al. 2023",
    presets={
        "smoke": Preset(Config(networks=3, hidden=16, probes=50, goal=0.3, steps=60, looks=30), seeds=1),
        "laptop": Preset(Config(), seeds=10),
        "paper": Preset(Config(networks=12), seeds=20),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
