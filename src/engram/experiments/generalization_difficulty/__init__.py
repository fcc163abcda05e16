"""How many bits must a learner bring along to generalise? (Boopathy, Liu, Hwang, Ge, Mohammedsaleh and Fiete, 2023).

The published table of tasks from the published quantities, the quantities measured anew on data, what noise and partial
observation do to them, and whether the measure tells anything of learners. Only abstract and blog post of the paper
could be read; what is called published is the authors' script, its formula applied to its inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from engram.analysis import BENCHMARKS
from engram.experiments.generalization_difficulty import (
    architectures,
    data_sets,
    dimensions,
    direct,
    published,
    regression,
)
from engram.experiments.generalization_difficulty.architectures import Architectures
from engram.experiments.generalization_difficulty.claims import claims
from engram.experiments.generalization_difficulty.data_sets import DATA, ERROR, DataSet, Sizes
from engram.experiments.generalization_difficulty.dimensions import CartPole
from engram.experiments.generalization_difficulty.published import PUBLISHED
from engram.experiments.generalization_difficulty.regression import Regression
from engram.lab import Arm, Experiment, Preset, Results, arms_of
from engram.lab.curves import PALETTE

QUICK = ("published", "digits", "cartpole", "regression", "architectures")


@dataclass(frozen=True)
class Fixed:
    """The config of a study in which nothing is to be set."""


@dataclass(frozen=True)
class Config:
    """The studies whose size can be set, and which arms there are."""

    data: Sizes = Sizes()
    cartpole: CartPole = CartPole()
    regression: Regression = Regression()
    architectures: Architectures = Architectures()
    everything: bool = True
    """All arms, not only those that are quick and need no files."""


def arms(config: Config) -> dict[str, Arm]:
    """The published table, then what is measured."""
    found = {
        "published": Arm(published.trial, Fixed(), 1.0),
        "shapes": Arm(dimensions.shapes, Fixed(), 4.0),
        **arms_of(data_sets.trial, {name: DataSet(**vars(config.data), name=name) for name in DATA}, data_sets.seconds),
        "cartpole": Arm(dimensions.cartpole, config.cartpole, 1 + 5e-5 * config.cartpole.steps),
        "regression": Arm(regression.trial, config.regression, 1.0),
        "direct": Arm(direct.trial, Fixed(), 1.0),
        "architectures": Arm(architectures.trial, config.architectures, 1 + 0.2 * config.architectures.epochs),
    }
    return found if config.everything else {name: found[name] for name in QUICK}


def figure(results: Results) -> go.Figure:
    """The tasks with their inputs and bits: as published, computed, and measured here."""
    rows: list[tuple[Any, ...]] = [
        (name, task.n, task.m, task.radius, task.resolution, task.error) for name, task in BENCHMARKS.items()
    ]
    bits = [_mean(results, "published", f"log10_bits_{name}") for name in BENCHMARKS]
    for arm in DATA:
        if arm in results.arms:
            n, m, radius, margin = (_mean(results, arm, key) for key in ("n", "m", "radius", "margin"))
            rows.append((f"{arm}, here", n, m, radius, margin, ERROR))
            bits.append(_mean(results, arm, "log10_bits"))
    names = [row[0] for row in rows]
    what = "n = %{customdata[0]:.4g}, m = %{customdata[1]:.4g}, radius %{customdata[2]:.4g}, resolution "
    what += "%{customdata[3]:.4g}, error %{customdata[4]:.4g}: 10^%{x:.4g} bits"
    plot = go.Figure()
    of_task = {"customdata": [row[1:] for row in rows], "hovertemplate": what}
    plot.add_bar(y=names, x=bits, orientation="h", name="computed, or measured", marker_color=PALETTE[0], **of_task)
    published = {"y": list(PUBLISHED), "x": list(PUBLISHED.values()), "mode": "markers", "name": "published"}
    plot.add_scatter(**published, marker={"symbol": "line-ns-open", "size": 16, "color": PALETTE[1], "line_width": 3})
    plot.update_yaxes(autorange="reversed")
    plot.update_layout(
        title="log10 of the bits that a learner must bring along",
        height=160 + 24 * len(names),
    )
    return plot


def _mean(results: Results, arm: str, key: str) -> float:
    values = [of_seed[arm][key] for of_seed in results.by_seed.values() if arm in of_seed]
    return float(np.mean(values)) if values else math.nan


SMOKE = Config(
    Sizes(queries=100, pairs=3000), CartPole(steps=2000), Regression(draws=3), Architectures(epochs=1), everything=False
)
WHOLE = Sizes(whole=True, queries=10_000, pairs=4_000_000)
PAPER = Config(data=WHOLE, cartpole=CartPole(steps=200_000))
experiment = Experiment(
    name="generalization-difficulty",
    summary="How many bits a learner must bring along to generalise: published tasks, and tasks measured here",
    paper="Boopathy et al., Model-agnostic Measure of Generalization Difficulty, ICML 2023 (arXiv 2305.01034)",
    presets={"smoke": Preset(SMOKE, seeds=2), "laptop": Preset(Config(), seeds=15), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="",
    ready=lambda config: data_sets.images_of(config) if isinstance(config, DataSet) else None,
)
