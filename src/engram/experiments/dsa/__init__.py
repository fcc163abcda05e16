"""Do systems follow the same dynamics? Dynamical similarity analysis beside geometry (Ostrow et al., 2023).

Each study makes systems of which it is known which are alike, fits an operator to each, and asks how well distances
find it out: those between operators (DSA), between their eigenvalues, and between shapes (Procrustes, CKA). The
settings of the published case studies could not be read but for two notebooks; the others are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from sklearn.manifold import ClassicalMDS

from engram.experiments.dsa.comparison import Fit, Study, trial
from engram.experiments.dsa.networks import FlipFlop, Rules
from engram.experiments.dsa.simulated import Embeddings, Ring, SameGeometry, Topology
from engram.lab import Arm, Claim, Experiment, Preset, Results, arms_of, at_least, at_most, value
from engram.lab.curves import add_map

PAPER = (
    "Ostrow, Eisen, Kozachkov & Fiete, Beyond Geometry: Comparing the Temporal Structure of Computation in Neural "
    "Circuits with Dynamical Similarity Analysis, NeurIPS 2023 (arXiv 2306.10168)"
)


@dataclass(frozen=True)
class Config:
    """The studies."""

    same_geometry: SameGeometry = SameGeometry()
    embeddings: Embeddings = Embeddings()
    ring: Ring = Ring()
    topology: Topology = Topology()
    rules: Rules = Rules()
    flip_flop: FlipFlop = FlipFlop()
    everything: bool = True
    """All arms; otherwise without the trained flip-flop networks, which take long."""


def arms(config: Config) -> dict[str, Arm]:
    """The case studies, and what is left of the first without delays, without trials and without noise."""
    same = config.same_geometry
    found: dict[str, Study] = {
        "same-geometry": same,
        "no-delays": replace(same, fit=Fit(n_delays=1, rank=2)),
        "averages": replace(same, data="averages"),
        # Smooth data have few directions.
        "noiseless": replace(same, noise=0.0, trials=2, fit=replace(same.fit, rank=4)),
        "embeddings": config.embeddings,
        "shared-embeddings": replace(config.embeddings, shared=True),
        "ring": config.ring,
        "topology": config.topology,
        "rules": config.rules,
    }
    if config.everything:
        found["flip-flop"] = config.flip_flop
    return arms_of(trial, found, lambda study: study.seconds())


claim = partial(Claim, source="abstract; criterion ours", published="geometric methods fall short (no figure)")
ours = partial(Claim, source="ours", published="no figure")
notebook = partial(Claim, source="figure 4, notebook; criterion ours")
VIEWS = {"embeddings": "trajectories of their own", "shared-embeddings": "the same trajectories"}
claims = [
    claim(
        id="dsa-tells-dynamics",
        statement="Where mean trajectories are the same, DSA clusters a saddle, a line and a point attractor "
        "(silhouette)",
        source="tutorial of figure 3; criterion ours",
        published="blocks in a heat map (no figure)",
        metric=value("same-geometry", "dsa_silhouette"),
        holds=at_least(0.6),
    ),
    *(
        claim(
            id=f"{name}-does-not",
            statement=f"{which} (silhouette)",
            metric=value("same-geometry", f"{name}_silhouette"),
            holds=at_most(0.1),
        )
        for name, which in {"procrustes": "and Procrustes does not", "cka": "nor does linear CKA"}.items()
    ),
    ours(
        id="nearest-neighbour",
        statement="The nearest other system by DSA is of the same kind",
        metric=value("same-geometry", "dsa_accuracy"),
        holds=at_least(1.0),
    ),
    ours(
        id="nearest-shape",
        statement="By Procrustes it often is not (share that is)",
        metric=value("same-geometry", "procrustes_accuracy"),
        holds=at_most(0.6),
    ),
    ours(
        id="only-noise-tells",
        statement="Without noise DSA does not tell them apart either (silhouette)",
        published="dynamics are seen by the noise of single trials (no figure)",
        metric=value("noiseless", "dsa_silhouette"),
        holds=at_most(0.1),
    ),
    ours(
        id="averages-do-not-tell",
        statement="Nor does it on the averages of the trials (silhouette)",
        published="as above",
        metric=value("averages", "dsa_silhouette"),
        holds=at_most(0.1),
    ),
    *(
        claim(
            id=arm,
            statement=f"Through random nonlinear embeddings, of {which}, other systems are at least twice as far by "
            "DSA as the same one",
            published="sees conjugate networks as alike (no figure)",
            metric=value(arm, "dsa_ratio"),
            holds=at_least(2.0),
        )
        for arm, which in VIEWS.items()
    ),
    *(
        claim(
            id=f"{arm}-geometry",
            statement=f"and by Procrustes, of {which}, the ratio is smaller (quotient of the ratios)",
            metric=value(arm, "procrustes_ratio") / value(arm, "dsa_ratio"),
            holds=at_most(1.0),
        )
        for arm, which in VIEWS.items()
    ),
    notebook(
        id="deformation",
        statement="A ring attractor seen through ever steeper sigmoids stays the same by DSA (largest distance over "
        "that by Procrustes, both in units of an unrelated ring)",
        published="DSA flat and near 0, Procrustes grows (no figure)",
        metric=value("ring", "dsa_most") / value("ring", "procrustes_most"),
        holds=at_most(0.3),
    ),
    notebook(
        id="closing",
        statement="Where a line is closed to a ring, DSA makes its largest step (that step over the largest before)",
        published="DSA jumps where the ring closes (no figure)",
        metric=value("topology", "dsa_last_jump"),
        holds=at_least(1.0),
    ),
    claim(
        id="learning-rules",
        statement="From statistics of training, the nearest networks by DSA tell by which of four rules one learns",
        published="separates learning rules without supervision (no figure)",
        metric=value("rules", "dsa_accuracy"),
        holds=at_least(0.6),
    ),
    claim(
        id="learning-rules-geometry",
        statement="and better than by Procrustes (difference of the accuracies)",
        metric=value("rules", "dsa_accuracy") - value("rules", "procrustes_accuracy"),
        holds=at_least(0.1),
    ),
]


def figure(results: Results) -> go.Figure:
    """The distances between the systems of the same geometry, first seed, and their map."""
    result = next(iter(results.by_seed.values()))["same-geometry"]
    distances, labels = np.array(result["distances"]), result["labels"]
    plot = make_subplots(1, 2, subplot_titles=("DSA distance (radians)", "its map (MDS)"), horizontal_spacing=0.2)
    names = [f"{label} {number}" for number, label in enumerate(labels)]
    plot.add_trace(go.Heatmap(z=distances, x=names, y=names, colorscale="Viridis", colorbar={"x": 0.42}), 1, 1)
    add_map(plot, ClassicalMDS(metric="precomputed").fit_transform(distances), labels, column=2)
    return plot.update_layout(title="Three kinds of dynamics with the same mean trajectories")


experiment = Experiment(
    name="dsa",
    summary="Operators fitted to activity tell dynamics apart where its geometry does not",
    paper=PAPER,
    presets={
        "smoke": Preset(
            Config(
                same_geometry=SameGeometry(models=2, trials=4, steps=200, fit=Fit(n_delays=2, rank=4)),
                embeddings=Embeddings(views=2, trials=2, steps=50, fit=Fit(n_delays=2, rank=4)),
                ring=Ring(neurons=10, steps=50, fit=Fit(n_delays=1, rank=10)),
                topology=Topology(neurons=10, steps=100, fit=Fit(n_delays=1, rank=8)),
                rules=Rules(networks=1, observations=20, fit=Fit(n_delays=2, rank=4)),
                flip_flop=FlipFlop(trials=4, steps=50, updates=5),
                everything=False,
            ),
            seeds=2,
        ),
        "laptop": Preset(Config(everything=False), seeds=5),
        "paper": Preset(Config(same_geometry=SameGeometry(models=100)), seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="prediction",
)
