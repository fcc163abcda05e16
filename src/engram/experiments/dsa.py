"""Do systems follow the same dynamics? Dynamical similarity analysis beside geometry (Ostrow et al., 2023).

Each arm makes systems of which it is known which are alike, fits an operator to each, and asks how well distances find
it out: those between operators (DSA), between their eigenvalues, and between shapes (Procrustes, CKA). The settings of
the published case studies could not be read but for two notebooks; the others are ours.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import plotly.graph_objects as go
import torch
from annotated_types import Ge, Gt, Le
from plotly.subplots import make_subplots
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.manifold import ClassicalMDS
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from engram.analysis import (
    HankelDMD,
    HiddenStates,
    linear_cka,
    operator_bounds,
    operator_distances,
    pairwise,
    procrustes_angle,
    silhouette,
    spectral_distance,
)
from engram.lab import Arm, Claim, Experiment, Preset, Results, Run, arms_of, at_least, at_most, value
from engram.lab.curves import PALETTE
from engram.tasks import FlipFlop, latent_dynamics, learning_rule_traces, observed, ring_rates, ring_weights
from engram.tasks import same_geometry as simulate_same_geometry
from engram.tasks.dynamics.learning_rule_traces import RULES
from engram.tasks.dynamics.observed_dynamics import KINDS as DYNAMICS
from engram.tasks.dynamics.observed_dynamics import VIEWS
from engram.tasks.dynamics.same_geometry import KINDS

PAPER = (
    "Ostrow, Eisen, Kozachkov & Fiete, Beyond Geometry: Comparing the Temporal Structure of Computation in Neural "
    "Circuits with Dynamical Similarity Analysis, NeurIPS 2023 (arXiv 2306.10168)"
)
Array = np.ndarray
COMPONENTS = 15  # principal components of the activity of a network
Study = Literal["same-geometry", "embeddings", "ring", "topology", "rules", "flip-flop"]


@dataclass(frozen=True)
class Config:
    """What one trial is made of; the last field says which arms there are."""

    study: Study = "same-geometry"
    """Which systems are compared."""
    data: Literal["trials", "averages"] = "trials"
    """Whether operators are fitted to single trials, or to the mean of each condition (same geometry)."""
    models: Annotated[int, Ge(2)] = 4
    """Systems of each kind, among those of the same geometry."""
    trials: Annotated[int, Ge(2)] = 100
    """Trials of a condition, of an embedded system, or of a network."""
    steps: Annotated[int, Ge(50)] = 10_000
    """Steps simulated; samples of an embedded system, observations of a learning network."""
    noise: Annotated[float, Ge(0)] = 0.05
    """Noise of the systems of the same geometry."""
    n_delays: Annotated[int, Ge(1)] = 20
    """Delays of the embedding."""
    rank: Annotated[int, Ge(1)] = 15
    """Rank of the operators."""
    views: Annotated[int, Ge(2)] = 5
    """Embeddings of each system."""
    shared: bool = False
    """Whether all embeddings of a system see the same trajectories, or each its own."""
    neurons: Annotated[int, Ge(10)] = 100
    """Neurons of a population of the ring."""
    networks: Annotated[int, Ge(1)] = 8
    """Networks of each learning rule and learning rate."""
    updates: Annotated[int, Ge(1)] = 1500
    """Training of the flip-flop networks."""
    learning_rate: Annotated[float, Gt(0), Le(1)] = 1e-3
    """Learning rate of Adam for these."""
    everything: bool = True
    """All arms; otherwise without the trained flip-flop networks, which take long."""


def arms(config: Config) -> dict[str, Arm]:
    """The case studies, and what is left of the first without delays, without trials and without noise."""
    # What shapes only some arms goes back to its default elsewhere, so that it is no part of a trial's identity.
    own: dict[str, Any] = {"views": config.views, "neurons": config.neurons, "networks": config.networks}
    training: dict[str, Any] = {"updates": config.updates, "learning_rate": config.learning_rate}
    base = replace(config, everything=True, **{name: getattr(Config, name) for name in (*own, *training)})
    ring = replace(base, neurons=config.neurons, n_delays=max(1, config.n_delays // 2), rank=16)
    every = COMPONENTS * ring.n_delays
    embeddings = replace(
        base,
        study="embeddings",
        views=config.views,
        trials=min(config.trials, 20),
        steps=max(50, config.steps // 25),
        n_delays=10,
    )
    short = replace(base, steps=max(50, config.steps // 50))
    found = {
        "same-geometry": base,
        "no-delays": replace(base, n_delays=1, rank=2),
        "averages": replace(base, data="averages"),
        "noiseless": replace(base, noise=0.0, trials=2, rank=4),  # smooth data have few directions
        "embeddings": embeddings,
        "shared-embeddings": replace(embeddings, shared=True),
        "ring": replace(ring, study="ring", rank=every, steps=max(50, config.steps // 5)),
        "topology": replace(ring, study="topology", steps=max(50, 4 * config.steps // 5)),
        "rules": replace(short, study="rules", networks=config.networks, n_delays=10, rank=10),
    }
    if config.everything:
        found["flip-flop"] = replace(
            short, study="flip-flop", models=3, trials=min(config.trials, 64), n_delays=5, rank=20, **training
        )
    return arms_of(trial, found, seconds)


class Systems(NamedTuple):
    """What is compared.

    Attributes:
        activity: What operators are fitted to, trials (time, features) of each system.
        shapes: What geometry sees, (samples, features) of each.
        labels: The class of each, or a number by which they are ordered; distances then are those to the first.
        ordered: Whether it is such a number.
    """

    activity: list[list[Array]]
    shapes: list[Array]
    labels: list[Any]
    ordered: bool = False


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Make systems, fit an operator to each, and compare them."""
    studies: dict[Study, Callable[[Config, Run], Systems]] = {
        "same-geometry": same_geometry,
        "embeddings": embeddings,
        "ring": ring,
        "topology": topology,
        "rules": rules,
        "flip-flop": flip_flop,
    }
    systems = studies[config.study](config, run)
    operators = np.empty((len(systems.activity), config.rank, config.rank))
    for step in run.steps(len(operators), operators=operators):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of an unstable fit: its radius is logged
            dmd = HankelDMD(config.n_delays, rank=config.rank).fit(systems.activity[step])
        operators[step] = dmd.operator_
        run.log(step + 1, prediction=dmd.score(systems.activity[step]), radius=dmd.spectral_radius_)
    return along(operators, systems) if systems.ordered else between(config, operators, systems)


def between(config: Config, operators: Array, systems: Systems) -> dict[str, Any]:
    """Return how well each distance finds the classes."""
    labels = np.array(systems.labels)
    found: dict[str, Array] = {
        "dsa": operator_distances(operators),
        "bound": operator_bounds(operators),
        "spectral": pairwise(operators, spectral_distance),
        "procrustes": pairwise(systems.shapes, procrustes_angle),
        "cka": pairwise(systems.shapes, lambda X, Y: 1 - linear_cka(X, Y)),
    }
    same = labels[:, None] == labels
    others = ~np.eye(len(labels), dtype=bool)
    nearest = KNeighborsClassifier(3 if config.study == "rules" else 1, metric="precomputed")
    result: dict[str, Any] = {"labels": systems.labels, "distances": found["dsa"].round(5).tolist()}
    for name, distances in found.items():
        result[f"{name}_silhouette"] = silhouette(distances, labels)
        result[f"{name}_accuracy"] = float(cross_val_score(nearest, distances, labels, cv=LeaveOneOut()).mean())
        result[f"{name}_ratio"] = float(distances[~same].mean() / max(distances[same & others].mean(), 1e-12))
    return result


def along(operators: Array, systems: Systems) -> dict[str, Any]:
    """Return distances to the first system; what has no number is unrelated, and their unit."""
    dsa = operator_distances(operators[:1], operators)[0]
    shape = np.array([procrustes_angle(systems.shapes[0], other) for other in systems.shapes])
    numbered = [i for i, label in enumerate(systems.labels) if label is not None]
    unit = [i for i, label in enumerate(systems.labels) if label is None]
    result: dict[str, Any] = {"labels": [systems.labels[i] for i in numbered]}
    for name, distances in (("dsa", dsa), ("procrustes", shape)):
        curve = distances[numbered] / (distances[unit].mean() if unit else 1.0)
        result[f"{name}_curve"] = curve.round(6).tolist()
        result[f"{name}_most"] = float(curve.max())
        result[f"{name}_correlation"] = float(spearmanr(result["labels"], curve).statistic)
        jumps = np.abs(np.diff(curve))
        result[f"{name}_last_jump"] = float(jumps[-1] / jumps[:-1].max())
    return result


def same_geometry(config: Config, run: Run) -> Systems:
    """A saddle, a line attractor and a point attractor whose trajectories have the same mean."""
    states = simulate_same_geometry(
        config.models, run.rng, trials=config.trials, steps=config.steps, noise=config.noise
    )
    kinds, models, trials = states.shape[:3]
    means = states.reshape(kinds, models, 2, trials // 2, *states.shape[3:]).mean(3)
    seen = means if config.data == "averages" else states
    pairs = [(k, m) for k in range(kinds) for m in range(models)]
    return Systems(
        [list(seen[pair]) for pair in pairs],
        [means[pair].reshape(-1, 2) for pair in pairs],
        [KINDS[k] for k, _ in pairs],
    )


def embeddings(config: Config, run: Run) -> Systems:
    """Three systems, each seen by several random populations, in the same trajectories or in its own."""
    activity = []
    for kind in DYNAMICS:
        for view in range(config.views):
            if view == 0 or not config.shared:
                latent = latent_dynamics(kind, run.rng, trials=config.trials, steps=config.steps)
            activity.append(observed(latent, VIEWS[view % len(VIEWS)], run.rng))
    return Systems(
        [list(x) for x in activity],
        [x.reshape(-1, x.shape[-1]) for x in activity],
        [kind for kind in DYNAMICS for _ in range(config.views)],
    )


def ring(config: Config, run: Run) -> Systems:
    """A driven ring attractor through ever steeper sigmoids, and another ring of another drive."""
    dropped = config.steps // 10
    widths = run.rng.uniform(0.55, 0.65, 2) * config.neurons
    weights = np.stack([ring_weights(config.neurons, width) for width in widths])
    rates = ring_rates(weights, np.tile([2.0, 1.0], (config.steps, 1)), run.rng)[:, dropped:]
    steepness = np.arange(0.1, 3.7, 0.5).round(1).tolist()
    shapes = [1 / (1 + np.exp(-beta * rates[0])) for beta in steepness]
    shapes.append(1 / (1 + np.exp(-steepness[0] * rates[1])))
    return Systems([[PCA(COMPONENTS).fit_transform(x)] for x in shapes], shapes, [*steepness, None], ordered=True)


def topology(config: Config, run: Run) -> Systems:
    """A line attractor that is closed to a ring, driven to and fro."""
    closure = np.linspace(0, 1, 11).round(1).tolist()
    width = run.rng.uniform(0.55, 0.65) * config.neurons
    weights = np.stack([ring_weights(config.neurons, width, alpha) for alpha in closure])
    drive, side, step = np.empty(config.steps), 1.0, 0
    while step < config.steps:
        length = int(run.rng.integers(100, 4001))
        drive[step : step + length] = side
        side, step = -side, step + length
    drive += run.rng.normal(0, 0.5, config.steps)
    rates = ring_rates(weights, np.tile(drive[:, None], len(closure)), run.rng)
    shapes = list(rates[:, config.steps // 40 :])
    return Systems([[PCA(COMPONENTS).fit_transform(x)] for x in shapes], shapes, closure, ordered=True)


def rules(config: Config, run: Run) -> Systems:
    """Networks that learn digits by four rules, as statistics of their weights and activity over training."""
    shapes, labels = [], []
    for rule in RULES:
        traces = learning_rule_traces(rule, 3 * config.networks, run.generator, observations=config.steps).double()
        spread = traces.std(1, keepdim=True)
        scores = (traces - traces.mean(1, keepdim=True)) / spread.where(spread > 0, torch.ones(()).double())
        shapes += list(scores.numpy())
        labels += [rule] * len(traces)
    return Systems([[x] for x in shapes], shapes, labels)


def flip_flop(config: Config, run: Run) -> Systems:
    """Recurrent networks of three kinds, trained to hold three bits; the classes are the kinds."""
    kinds: dict[str, Callable[[int], nn.Module]] = {
        "tanh": lambda units: nn.RNN(3, units),
        "relu": lambda units: nn.RNN(3, units, nonlinearity="relu"),
        "gru": lambda units: nn.GRU(3, units),
    }
    task, activity = FlipFlop(steps=config.steps), []
    probe = task.sample(config.trials, run.generator).inputs
    for make in kinds.values():
        for model in range(config.models):
            with torch.random.fork_rng():
                torch.manual_seed(int(run.rng.integers(2**62)))
                net, readout = make(64 if model % 2 else 128), nn.Linear(64 if model % 2 else 128, 3)
            optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=config.learning_rate)
            for _ in run.steps(config.updates, net=net, readout=readout, optimizer=optimizer):
                inputs, targets, _ = task.sample(64, run.generator)
                loss = (readout(net(inputs)[0]) - targets).square().mean()
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
            with HiddenStates(net) as states, torch.no_grad():
                net(probe)
            flat = PCA(COMPONENTS).fit_transform(np.concatenate(states.trials))
            activity.append(np.split(flat, config.trials))
    return Systems(
        activity, [np.concatenate(x) for x in activity], [kind for kind in kinds for _ in range(config.models)]
    )


OURS = "R{} of our protocol"
EMBEDDINGS = {"embeddings": "trajectories of their own", "shared-embeddings": "the same trajectories"}
claims = [
    Claim(
        id="dsa-tells-dynamics",
        statement="Where mean trajectories are the same, DSA clusters a saddle, a line and a point attractor "
        "(silhouette)",
        source="tutorial of figure 3; " + OURS.format(1),
        published="blocks in a heat map (no figure)",
        metric=value("same-geometry", "dsa_silhouette"),
        holds=at_least(0.6),
    ),
    Claim(
        id="procrustes-does-not",
        statement="and Procrustes does not (silhouette)",
        source="abstract; " + OURS.format(1),
        published="geometric methods fall short (no figure)",
        metric=value("same-geometry", "procrustes_silhouette"),
        holds=at_most(0.1),
    ),
    Claim(
        id="cka-does-not",
        statement="nor does linear CKA (silhouette)",
        source="abstract; " + OURS.format(1),
        published="geometric methods fall short (no figure)",
        metric=value("same-geometry", "cka_silhouette"),
        holds=at_most(0.1),
    ),
    Claim(
        id="nearest-neighbour",
        statement="The nearest other system by DSA is of the same kind",
        source=OURS.format(1),
        published="no figure",
        metric=value("same-geometry", "dsa_accuracy"),
        holds=at_least(1.0),
    ),
    Claim(
        id="nearest-shape",
        statement="By Procrustes it often is not (share that is)",
        source=OURS.format(1),
        published="no figure",
        metric=value("same-geometry", "procrustes_accuracy"),
        holds=at_most(0.6),
    ),
    Claim(
        id="only-noise-tells",
        statement="Without noise DSA does not tell them apart either (silhouette)",
        source=OURS.format(1),
        published="dynamics are seen by the noise of single trials (no figure)",
        metric=value("noiseless", "dsa_silhouette"),
        holds=at_most(0.1),
    ),
    Claim(
        id="averages-do-not-tell",
        statement="Nor does it on the averages of the trials (silhouette)",
        source=OURS.format(1),
        published="as above",
        metric=value("averages", "dsa_silhouette"),
        holds=at_most(0.1),
    ),
    *(
        Claim(
            id=arm,
            statement=f"Through random nonlinear embeddings, of {which}, other systems are at least twice as far by "
            "DSA as the same one",
            source="abstract; " + OURS.format(2),
            published="sees conjugate networks as alike (no figure)",
            metric=value(arm, "dsa_ratio"),
            holds=at_least(2.0),
        )
        for arm, which in EMBEDDINGS.items()
    ),
    *(
        Claim(
            id=f"{arm}-geometry",
            statement=f"and by Procrustes, of {which}, the ratio is smaller (quotient of the ratios)",
            source="abstract; " + OURS.format(2),
            published="geometric methods fall short (no figure)",
            metric=value(arm, "procrustes_ratio") / value(arm, "dsa_ratio"),
            holds=at_most(1.0),
        )
        for arm, which in EMBEDDINGS.items()
    ),
    Claim(
        id="deformation",
        statement="A ring attractor seen through ever steeper sigmoids stays the same by DSA (largest distance over "
        "that by Procrustes, both in units of an unrelated ring)",
        source="figure 4, notebook; " + OURS.format(3),
        published="DSA flat and near 0, Procrustes grows (no figure)",
        metric=value("ring", "dsa_most") / value("ring", "procrustes_most"),
        holds=at_most(0.3),
    ),
    Claim(
        id="closing",
        statement="Where a line is closed to a ring, DSA makes its largest step (that step over the largest before)",
        source="figure 4, notebook; " + OURS.format(3),
        published="DSA jumps where the ring closes (no figure)",
        metric=value("topology", "dsa_last_jump"),
        holds=at_least(1.0),
    ),
    Claim(
        id="learning-rules",
        statement="From statistics of training, the nearest networks by DSA tell by which of four rules one learns",
        source="abstract; " + OURS.format(4),
        published="separates learning rules without supervision (no figure)",
        metric=value("rules", "dsa_accuracy"),
        holds=at_least(0.6),
    ),
    Claim(
        id="learning-rules-geometry",
        statement="and better than by Procrustes (difference of the accuracies)",
        source="abstract; " + OURS.format(4),
        published="geometric methods fall short (no figure)",
        metric=value("rules", "dsa_accuracy") - value("rules", "procrustes_accuracy"),
        holds=at_least(0.1),
    ),
]


def figure(results: Results) -> go.Figure:
    """The distances between the systems of the same geometry, first seed, and their map."""
    result = next(iter(results.by_seed.values()))["same-geometry"]
    distances, labels = np.array(result["distances"]), np.array(result["labels"])
    plot = make_subplots(1, 2, subplot_titles=("DSA distance (radians)", "its map (MDS)"), horizontal_spacing=0.2)
    names = [f"{label} {number}" for number, label in enumerate(result["labels"])]
    plot.add_trace(go.Heatmap(z=distances, x=names, y=names, colorscale="Viridis", colorbar={"x": 0.42}), 1, 1)
    place = ClassicalMDS(metric="precomputed").fit_transform(distances)
    for kind, color in zip(dict.fromkeys(labels.tolist()), PALETTE, strict=False):
        x, y = place[labels == kind].T
        plot.add_trace(go.Scatter(x=x, y=y, mode="markers", name=kind, marker={"size": 11, "color": color}), 1, 2)
    plot.update_layout(title="Three kinds of dynamics with the same mean trajectories")
    return plot


def seconds(config: Config) -> float:
    """Time of a trial on one core: from counts of operations and the cost of a pair."""
    systems, making = {
        "same-geometry": (3 * config.models, config.steps * (2e-4 + 1e-6 * config.models * config.trials)),
        "embeddings": (3 * config.views, 3 * config.views * config.steps * 4e-4),
        "ring": (9, config.steps * 1e-7 * config.neurons**1.5),
        "topology": (11, config.steps * 3e-7 * config.neurons**1.5),
        "rules": (12 * config.networks, config.steps * 2e-2),
        "flip-flop": (9, 9 * config.updates * config.steps * 3e-4),
    }[config.study]
    pairs = systems * (1 if config.study in ("ring", "topology") else (systems - 1) / 2)
    return float(0.3 + making + pairs * (5e-4 * config.rank + 5e-5 * config.rank**2))


experiment = Experiment(
    name="dsa",
    summary="Operators fitted to activity tell dynamics apart where its geometry does not",
    paper=PAPER,
    presets={
        "smoke": Preset(
            Config(
                models=2,
                trials=4,
                steps=500,
                n_delays=4,
                rank=4,
                views=2,
                neurons=20,
                networks=1,
                updates=5,
                everything=False,
            ),
            seeds=2,
        ),
        "laptop": Preset(Config(everything=False), seeds=5),
        "paper": Preset(Config(models=100), seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="prediction",
)
