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
from engram.experiments.dsa.order import Order
from engram.experiments.dsa.order import trial as order_trial
from engram.experiments.dsa.simulated import Embeddings, Ring, SameGeometry, Topology
from engram.lab import Arm, Experiment, Preset, Results, arms_of, claimed, most, value
from engram.lab.curves import add_map


@dataclass(frozen=True)
class Config:
    """The studies."""

    same_geometry: SameGeometry = SameGeometry()
    embeddings: Embeddings = Embeddings()
    ring: Ring = Ring()
    topology: Topology = Topology()
    rules: Rules = Rules()
    flip_flop: FlipFlop = FlipFlop()
    order: Order = Order()


def arms(config: Config) -> dict[str, Arm]:
    """The case studies, what is left of the first without delays and single trials, and the choice of a rank."""
    same = config.same_geometry
    found: dict[str, Study] = {
        "same-geometry": same,
        "no-delays": replace(same, fit=Fit(n_delays=1, rank=2)),
        "averages": replace(same, data="averages"),
        "embeddings": config.embeddings,
        "shared-embeddings": replace(config.embeddings, shared=True),
        "ring": config.ring,
        "topology": config.topology,
        "rules": config.rules,
        "flip-flop": config.flip_flop,
    }
    chosen = arms_of(order_trial, {"order": config.order}, Order.seconds)
    return arms_of(trial, found, lambda study: study.seconds()) | chosen


claim = partial(claimed, source="abstract; criterion ours", published="geometric methods fall short (no figure)")
ours = partial(claimed, source="ours", published="no figure")
notebook = partial(
    claimed,
    source="figure 4, notebook; criterion ours",
    published="DSA flat, Procrustes grows (not usable: a loop of the notebook gives all sigmoids one score)",
)
VIEWS = {"embeddings": "trajectories of their own", "shared-embeddings": "the same trajectories"}
claims = [
    claim(
        "dsa-tells-dynamics",
        "Where mean trajectories are the same, DSA clusters a saddle, a line and a point attractor (silhouette)",
        value("same-geometry", "dsa_silhouette") >= 0.6,
        source="tutorial of figure 3; criterion ours",
        published="blocks in a heat map (no figure)",
    ),
    claim(
        "geometry-does-not",
        "Where mean trajectories are the same, neither Procrustes nor linear CKA clusters a saddle, a line and a "
        "point attractor (the larger silhouette)",
        most(value("same-geometry", "procrustes_silhouette"), value("same-geometry", "cka_silhouette")) <= 0.1,
        sameness="identity",
    ),
    ours(
        "nearest-neighbour",
        "The nearest other system by DSA is of the same kind",
        value("same-geometry", "dsa_accuracy") >= 1.0,
    ),
    ours(
        "more-than-eigenvalues",
        "Operators tell kinds of dynamics apart no worse than their eigenvalues alone (difference of the silhouettes)",
        value("same-geometry", "dsa_silhouette") - value("same-geometry", "spectral_silhouette") >= 0.0,
    ),
    ours(
        "delays-help",
        "DSA with 20 delays tells kinds of dynamics apart no worse than without delays, though all of the state is "
        "seen (difference of the silhouettes)",
        value("same-geometry", "dsa_silhouette") - value("no-delays", "dsa_silhouette") >= 0.0,
    ),
    ours(
        "averages-do-not-tell",
        "On the averages of the trials DSA does not tell a saddle, a line and a point attractor apart (silhouette)",
        value("averages", "dsa_silhouette") <= 0.1,
        published="dynamics are seen by the noise of single trials (no figure)",
    ),
    *(
        claim(
            arm,
            f"Through random nonlinear embeddings, of {which}, other systems are at least twice as far by "
            "DSA as the same one",
            value(arm, "dsa_ratio") >= 2.0,
            published="sees conjugate networks as alike (no figure)",
        )
        for arm, which in VIEWS.items()
    ),
    *(
        claim(
            f"{arm}-geometry",
            f"Through random nonlinear embeddings, of {which}, other systems stand out less by Procrustes than by DSA "
            "(quotient of the ratios of their distance to that of the same system)",
            value(arm, "procrustes_ratio") / value(arm, "dsa_ratio") <= 1.0,
        )
        for arm, which in VIEWS.items()
    ),
    notebook(
        "deformation",
        "A ring attractor seen through ever steeper sigmoids stays the same by DSA (largest angle, over that by "
        "Procrustes)",
        value("ring", "dsa_most") / value("ring", "procrustes_most") <= 0.3,
    ),
    notebook(
        "deformation-in-units",
        "A ring attractor seen through ever steeper sigmoids stays the same by DSA, also where both angles are in "
        "units of those to an unrelated ring (quotient of the quotients)",
        (value("ring", "dsa_most") / value("ring", "dsa_unrelated"))
        / (value("ring", "procrustes_most") / value("ring", "procrustes_unrelated"))
        <= 0.3,
    ),
    notebook(
        "closing",
        "Where a line is closed to a ring, DSA makes its largest step (that step over the largest before)",
        value("topology", "dsa_last_jump") >= 1.0,
        published="DSA jumps where the ring closes (no figure)",
        untestable="sampled as in the notebook no step stands out, whatever the drive",
    ),
    claim(
        "learning-rules",
        "From statistics of training, the nearest networks by DSA tell by which of four rules one learns",
        value("rules", "dsa_accuracy") >= 0.6,
        published="separates learning rules without supervision (no figure)",
    ),
    *(
        claim(
            f"learning-rules-{name}",
            "From statistics of training, the nearest networks by DSA tell the learning rule better than the nearest "
            f"by {which} (difference of the accuracies)",
            value("rules", "dsa_accuracy") - value("rules", f"{name}_accuracy") >= 0.1,
        )
        for name, which in {"procrustes": "Procrustes", "cka": "linear CKA"}.items()
    ),
    ours(
        "learning-rules-forest",
        "A random forest that is taught the learning rules tells them no better from the same statistics of training "
        "than DSA does (difference of the accuracies)",
        value("rules", "dsa_accuracy") - value("rules", "forest_accuracy") >= 0.0,
    ),
    claim(
        "same-computation",
        "Trained networks of three kinds that hold three bits are less of a kind by DSA than by Procrustes "
        "(distances between the kinds over those within, quotient)",
        value("flip-flop", "dsa_ratio") / value("flip-flop", "procrustes_ratio") <= 1.0,
        published="sees conjugate networks as alike (no figure)",
    ),
    ours(
        "rank-by-prediction",
        "Of linear systems under noise half as large as what they do, the rank that best predicts held-out trials "
        "(AIC) is the order (share of the systems)",
        value("order", "aic_found") >= 0.9,
        published="advises to choose by AIC and MASE (no figure)",
    ),
    ours(
        "rank-by-singular-values",
        "Of linear systems under noise half as large as what they do, the hard threshold of singular values misses "
        "the order by one at most",
        value("order", "svht_near") >= 0.9,
        published="used by a successor (fastDSA; no figure)",
    ),
]


def figure(results: Results) -> go.Figure:
    """The distances between the systems of the same geometry, first seed, and their map."""
    result = next(iter(results.by_seed.values()))["same-geometry"]
    distances, labels = np.array(result["distances"]), result["labels"]
    plot = make_subplots(2, 1, subplot_titles=("DSA distance (radians)", "its map (MDS)"), vertical_spacing=0.15)
    names = [f"{label} {number}" for number, label in enumerate(labels)]
    bar = {"y": 0.8, "len": 0.45}
    plot.add_trace(go.Heatmap(z=distances, x=names, y=names, colorscale="Viridis", colorbar=bar), 1, 1)
    add_map(plot, ClassicalMDS(metric="precomputed").fit_transform(distances), labels, row=2)
    return plot.update_layout(height=800, title="Three kinds of dynamics with the same mean trajectories")


# Smaller networks, and shorter sequences that they learn in a minute.
LAPTOP = Config(flip_flop=FlipFlop(models=2, units=64, steps=50, batch=32, updates=800, learning_rate=5e-3))
SMOKE = Config(
    same_geometry=SameGeometry(models=2, trials=4, steps=200, fit=Fit(n_delays=2, rank=4)),
    embeddings=Embeddings(views=2, trials=2, steps=50, fit=Fit(n_delays=2, rank=4)),
    ring=Ring(neurons=10, steps=50, fit=Fit(n_delays=1, rank=10)),
    topology=Topology(neurons=10, steps=100, fit=Fit(n_delays=1, rank=8)),
    rules=Rules(networks=1, observations=20, fit=Fit(n_delays=2, rank=4)),
    flip_flop=FlipFlop(models=2, trials=4, steps=50, updates=2, fit=Fit(n_delays=2, rank=8)),
    order=Order(models=1, steps=50),
)
experiment = Experiment(
    name="dsa",
    summary="Operators fitted to activity tell dynamics apart where its geometry does not",
    paper="Ostrow, Eisen, Kozachkov & Fiete, Beyond Geometry: Comparing the Temporal Structure of Computation in "
    "Neural Circuits with Dynamical Similarity Analysis, NeurIPS 2023 (arXiv 2306.10168)",
    presets={
        "smoke": Preset(SMOKE, seeds=1),
        "laptop": Preset(LAPTOP, seeds=10),
        "paper": Preset(Config(same_geometry=SameGeometry(models=100)), seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="",
)
