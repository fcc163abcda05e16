"""Exact dictionaries from a stream: NOODL against simpler neural rules and against a lasso (Rambhatla et al., 2019).

Every batch holds fresh samples, each a sum of a few atoms of a dictionary that nobody knows. What is asked for is the
dictionary itself, and which atoms a sample is made of. All arms of a seed see the same dictionary, start and samples
where their settings allow it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import plotly.graph_objects as go

from engram.experiments.noodl import patches, synthetic
from engram.experiments.noodl.claims import ALPHAS, NOISES, claims
from engram.experiments.noodl.learner import seconds
from engram.experiments.noodl.patches import PATCH
from engram.lab import Arm, Experiment, Preset, Results, arms_of
from engram.lab.curves import add_line, colors


@dataclass(frozen=True)
class Config:
    """The main arm of each study, from which the others are derived, and which arms there are."""

    synthetic: synthetic.Synthetic
    """Samples of a dictionary that nobody knows."""
    patches: patches.Patches
    """Patches of a photograph that comes with scikit-learn."""
    sweeps: bool = True
    """All arms, not only the few of a first look."""
    large: bool = False
    """Add the sizes of the published TensorFlow demonstration."""


def arms(config: Config) -> dict[str, Arm]:
    """NOODL and what it is compared with, then NOODL under harder and harder conditions."""
    found = synthetic_arms(config)
    images = {"patches-noodl": config.patches, "patches-random": replace(config.patches, learning=False)}
    for alpha in (0.05, 0.2) if config.sweeps else (0.2,):
        images[f"patches-lasso-{alpha}"] = replace(config.patches, method="lasso", lasso_alpha=alpha)
    return {
        **arms_of(synthetic.trial, found, lambda config: seconds(config, config.n_features)),
        **arms_of(patches.trial, images, lambda config: seconds(config, PATCH**2) if config.learning else 0.5),
    }


def synthetic_arms(config: Config) -> dict[str, synthetic.Synthetic]:
    """Return the configs of all arms on synthetic samples."""
    base = config.synthetic
    per_support = step_for(base.n_components, (base.n_nonzero + 1) / 2)
    found = {
        "noodl": base,
        "noodl-iht": replace(base, method="iht"),
        "noodl-unpruned": replace(base, method="iht-ls-unpruned"),
        "arora-biased": replace(base, method="arora-biased"),
        "arora-unbiased": replace(base, method="arora-unbiased"),
    }
    for alpha in ALPHAS if config.sweeps else ALPHAS[2:3]:
        found[f"lasso-{alpha}"] = replace(base, method="lasso", lasso_alpha=alpha)
    tracking = replace(base, drift=0.5, updates=base.updates * 5 // 3, dict_step=per_support)
    found["drift"] = tracking
    found["drift-lasso"] = replace(tracking, method="lasso", lasso_alpha=0.1)
    blind = replace(base, n_features=64, exact=True, start="samples", updates=base.updates * 5 // 3)
    for atoms, nonzero in ((64, 3), (96, 3), (96, 5)) if config.sweeps else ((64, 3),):
        step, code_step = step_for(atoms, nonzero), 0.0 if nonzero == 5 else base.code_step
        sized = replace(blind, n_components=atoms, n_nonzero=nonzero, dict_step=step, code_step=code_step)
        found[f"blind-{atoms}-{nonzero}"] = sized
        found[f"mended-{atoms}-{nonzero}"] = replace(sized, mend=True)
    if config.sweeps:
        for nonzero in (4, 16, 32):
            step, updates = step_for(base.n_components, (nonzero + 1) / 2), base.updates * 4 // 3
            found[f"nonzero-{nonzero}"] = replace(base, n_nonzero=nonzero, updates=updates, dict_step=step)
        for radius in (1, 4, 6, 10, 14):
            found[f"start-{radius}"] = replace(base, start_radius=float(radius), dict_step=per_support)
        for radius in (4, 10, 14):
            found[f"start-{radius}-nonzero-16"] = replace(found["nonzero-16"], start_radius=float(radius))
        for size in (250, 100, 50):
            found[f"batch-{size}"] = replace(base, batch_size=size, updates=base.updates * 2, dict_step=0.0)
        found["batch-100-fixed"] = replace(found["batch-100"], dict_step=per_support)
        for noise in NOISES:
            found[f"noise-{noise}"] = replace(base, noise=noise, updates=base.updates * 7 // 12)
    if config.large:
        found["large"] = replace(
            base, n_features=1000, n_components=1500, n_nonzero=100, batch_size=2000, updates=50, start_radius=1.0
        )
    return found


def step_for(atoms: int, mean_support: float | int) -> float:
    """Return the step of the dictionary that suits so many atoms, of which a sample has so many on average."""
    return 0.5 * atoms / mean_support


def figure(results: Results) -> go.Figure:
    """The error of the dictionary over the batches, where the truth and the start are the same for all methods."""
    plot = go.Figure()
    shown = [arm for arm in results.arms if arm.startswith(("noodl", "arora", "lasso"))]
    for arm, color in colors(shown).items():
        add_line(plot, results, arm, "dictionary_error", average="median", name=arm, line_color=color)
    plot.update_layout(
        title="Error of the dictionary, median over seeds",
        xaxis={"title": "batches of fresh samples"},
        yaxis={"title": "relative error", "type": "log", "exponentformat": "power"},
    )
    return plot


LAPTOP = Config(
    synthetic=synthetic.Synthetic(),
    patches=patches.Patches(
        n_components=128, batch_size=400, updates=200, coef_min=0.5, threshold=0.2, code_step=0.0, dict_step=2.2
    ),
)
SMOKE = Config(
    synthetic.Synthetic(n_features=16, n_components=20, n_nonzero=2, batch_size=50, updates=8, dict_step=6.0),
    replace(LAPTOP.patches, n_components=32, batch_size=20, updates=10, held_out=20),
    sweeps=False,
)
experiment = Experiment(
    name="noodl",
    summary="A dictionary and its sparse codes are learned from a stream, both exactly, by local updates",
    paper="Rambhatla, Li & Haupt, NOODL, ICLR 2019 (arXiv 1902.11261)",
    presets={
        "smoke": Preset(SMOKE, seeds=1),
        "laptop": Preset(LAPTOP, seeds=9),
        "paper": Preset(replace(LAPTOP, large=True), seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="dictionary_error",
)
