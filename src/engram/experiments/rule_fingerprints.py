"""Which rule trained this network? Told by dynamics, by geometry and by difficulty.

Networks of one form learn one task by different rules. Of each network there is what its hidden units did with the same
probe images while it learned (dynamical similarity analysis), what they do in the end (shape), and how many bits it
would still take to generalise from that (inductive bias complexity). The rule is then guessed from the nearest other
networks under each distance. The experiment, its settings and its criteria are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import plotly.graph_objects as go
import torch
from annotated_types import Ge
from plotly.subplots import make_subplots
from sklearn.decomposition import PCA
from sklearn.manifold import ClassicalMDS
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from engram import analysis
from engram.lab import Arm, Experiment, Preset, Results, Run, arms_of, claimed, value
from engram.lab.curves import add_map
from engram.rules import Backprop, FeedbackAlignment, LearningRule, train_step
from engram.tasks.dynamics.learning_rule_traces import RATES, RULES, digits

MEASURES = {
    "dynamics": "dynamical similarity of how it learned",
    "procrustes": "Procrustes angle",
    "cka": "centred kernel alignment",
    "rsa": "representational similarity",
    "difficulty": "difficulty of its probes",
}
HIDDEN, BATCH, TESTED = 32, 32, 360
COMPONENTS, DELAYS, RANK = 8, 10, 10
LOOKS = 30  # that an operator takes at least
difficulty = partial(analysis.classification_difficulty, error=0.01, resolution="exact", drop_conflicts=True)


@dataclass(frozen=True)
class Config:
    """What one trial is made of."""

    rules: Literal["four", "one"] = "four"
    """Whether the four groups of networks are of four rules, or all of plain gradient descent: the control."""
    networks: Annotated[int, Ge(3)] = 6
    """Networks of each rule, at three learning rates in turn."""
    steps: Annotated[int, Ge(60)] = 1000
    """Steps of the optimiser."""
    every: Annotated[int, Ge(1)] = 5
    """Steps between two looks at the probes."""
    probes: Annotated[int, Ge(50)] = 200
    """Images that every network is shown."""

    def __post_init__(self) -> None:
        if self.steps // self.every < LOOKS:
            raise ValueError(f"every = {self.every}: expected {LOOKS} looks at least in steps = {self.steps}")


def arms(config: Config) -> dict[str, Arm]:
    """The networks of four rules, and networks of one rule under four names."""
    return arms_of(trial, {"rules": replace(config, rules="four"), "one rule": replace(config, rules="one")}, seconds)


def build(generator: torch.Generator) -> nn.Sequential:
    """Make a network with one hidden layer, of the distribution that torch draws from; all rules have the same."""
    layers = []
    for inputs, outputs in ((64, HIDDEN), (HIDDEN, 10)):
        layers.append(nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu"))
        for values in layers[-1].parameters():
            nn.init.uniform_(values, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])


def rule_of(rule: str) -> LearningRule[Any]:
    """Return what makes the gradients."""
    return FeedbackAlignment() if rule == "feedback-alignment" else Backprop()


def optimizer_of(rule: str, rate: float, network: nn.Module) -> torch.optim.Optimizer:
    """Return what changes the weights; feedback alignment is plain gradient descent on what comes back."""
    if rule == "adam":
        return torch.optim.Adam(network.parameters(), lr=rate)
    return torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9 if rule == "momentum" else 0.0)


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Train networks by their rules, and guess the rules from the distances between the networks."""
    images, classes = digits()
    order = run.rng.permutation(len(images))
    x, y = images[order], classes[order]
    probes, labels = x[: config.probes], y[: config.probes].numpy()
    trained, tested = slice(config.probes, -TESTED), slice(-TESTED, None)
    names = [rule for rule in RULES for _ in range(config.networks)]
    looks = config.steps // config.every
    paths = np.zeros((len(names), looks, config.probes, HIDDEN), dtype=np.float32)
    accuracy = np.zeros(len(names))
    for number in run.steps(len(names), paths=paths, accuracy=accuracy):
        rule = names[number] if config.rules == "four" else "sgd"
        network, learning = build(run.generator), rule_of(rule)
        state = learning.init(network, run.generator)
        optimizer = optimizer_of(rule, RATES[rule][number % 3], network)
        for step in range(config.steps):
            if step % config.every == 0 and step // config.every < looks:
                paths[number, step // config.every] = network[:2](probes).detach()
            batch = torch.randint(len(x[trained]), (BATCH,), generator=run.generator)
            state = train_step(learning, network, optimizer, (x[trained][batch], y[trained][batch]), state).state
        with torch.no_grad():
            accuracy[number] = float((network(x[tested]).argmax(1) == y[tested]).float().mean())
        run.log(number + 1, accuracy=accuracy[number])
    bits = np.array([difficulty(path[-1], labels).difficulty.log10_bits for path in paths])
    shapes = paths[:, -1].astype(float)
    distances = {
        "dynamics": analysis.operator_distances(np.stack([operator_of(path) for path in paths])),
        "procrustes": analysis.pairwise(shapes, analysis.procrustes_angle),
        "cka": analysis.pairwise(shapes, lambda one, other: 1 - analysis.linear_cka(one, other)),
        "rsa": analysis.pairwise(shapes, lambda one, other: 1 - analysis.rsa(one, other)),
        "difficulty": np.abs(bits[:, None] - bits),
    }
    distances["together"] = np.mean([found / found.mean() for found in distances.values()], axis=0)
    distances["reached"] = np.abs(accuracy[:, None] - accuracy)
    result: dict[str, Any] = {"names": names, "accuracy": float(accuracy.mean())}
    for rule in RULES:
        mine = np.array(names) == rule
        result[f"accuracy_{rule}"] = float(accuracy[mine].mean())
        result[f"bits_{rule}"] = float(bits[mine].mean())
    result["least_accuracy"] = min(result[f"accuracy_{rule}"] for rule in RULES)
    nearest, on_a_map = KNeighborsClassifier(3, metric="precomputed"), ClassicalMDS(metric="precomputed")
    for name, found in distances.items():
        guessed = cross_val_score(nearest, found, names, cv=LeaveOneOut())
        result[f"{name}_guessed"] = float(guessed.mean())
        result[f"{name}_map"] = on_a_map.fit_transform(found).round(4).tolist()
    result["best_guessed"] = max(result[f"{name}_guessed"] for name in MEASURES)
    return result


def operator_of(path: np.ndarray) -> np.ndarray:
    """Return the operator of how activity at the probes changes while a network learns."""
    flat = path.reshape(len(path), -1)
    reduced = PCA(COMPONENTS, random_state=0).fit_transform(flat)
    return np.asarray(analysis.HankelDMD(DELAYS, rank=RANK).fit([reduced / reduced.std()]).operator_)


ours = partial(claimed, source="ours", published="no figure")
claims = [
    ours(
        "all-learn",
        "Networks of every rule learn digits (accuracy of the worst rule)",
        value("rules", "least_accuracy") >= 0.85,
    ),
    *(
        ours(
            f"{name}-tells",
            f"The rule of a network is that of its nearest by {what} (share of right guesses, chance 0.25)",
            value("rules", f"{name}_guessed") >= 0.5,
        )
        for name, what in MEASURES.items()
    ),
    ours(
        "together-they-tell-more",
        "All distances together guess at least as well as the best of them (difference)",
        value("rules", "together_guessed") - value("rules", "best_guessed") >= 0.0,
    ),
    ours(
        "more-than-what-they-reached",
        "Dynamics guess more than the accuracies that the networks reached do (difference)",
        value("rules", "dynamics_guessed") - value("rules", "reached_guessed") >= 0.1,
        source="ours: the trivial baseline",
    ),
    ours(
        "one-rule-is-one",
        "Networks of one rule under four names are not told apart (best of all distances)",
        value("one rule", "best_guessed") <= 0.4,
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
    networks, looks = len(RULES) * config.networks, config.steps // config.every
    return 1 + networks * (1.5e-4 * config.steps + 4e-6 * looks * config.probes) + 0.006 * networks**2


experiment = Experiment(
    name="rule-fingerprints",
    summary="Which rule trained a network is told by its dynamics while learning, its geometry, and its difficulty",
    paper="No paper; dynamical similarity of Ostrow et al. 2023, difficulty of Boopathy et al. 2023",
    presets={
        "smoke": Preset(Config(networks=3, steps=60, every=2, probes=50), seeds=1),
        "laptop": Preset(Config(), seeds=40),
        "paper": Preset(Config(networks=12, steps=3000), seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
