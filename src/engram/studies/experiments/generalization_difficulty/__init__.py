"""The inductive bias needed to generalise rises from digits to MNIST to CIFAR-10 (after Boopathy et al., 2023).

The experiment recomputes the published table of tasks from the published quantities, measures these quantities on data
again, with digits in addition, and studies the effects of noise and partial observation. Applied to learners, the
measure says no more than their test errors, from which it is computed. Only the abstract and blog post of the paper
could be read; "published" refers to the formula in the authors' script, applied to its inputs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go

from engram.analysis import BENCHMARKS
from engram.lab import Experiment, Preset, Results, Study, settings
from engram.lab.output.figures import PALETTE
from engram.studies.experiments.generalization_difficulty import (
    architectures,
    data_sets,
    dimensions,
    direct,
    published,
    regression,
)
from engram.studies.experiments.generalization_difficulty.claims import claims, quantities
from engram.studies.experiments.generalization_difficulty.data_sets import DATA, ERROR, DataSet
from engram.studies.experiments.generalization_difficulty.published import PUBLISHED


@settings
class Fixed:
    """The config of a study without settings."""


studies = {
    "published": Study(published.trial, {"published": {}}, Fixed),
    "shapes": Study(dimensions.shapes, {"shapes": {}}, Fixed),
    "data": Study(data_sets.trial, {name: {"name": name} for name in DATA}, memory=data_sets.memory),
    "cartpole": Study(dimensions.cartpole, {"cartpole": {}}),
    "regression": Study(regression.trial, {"regression": {}}),
    "direct": Study(direct.trial, {"direct": {}}, Fixed),
    "architectures": Study(architectures.trial, {"architectures": {}}),
}
presets = {
    "smoke": Preset(
        seeds=2,
        changes={
            "data": {"queries": 100, "pairs": 3000},
            "cartpole.steps": 2000,
            "regression.draws": 3,
            "architectures.epochs": 1,
        },
        arms=["published", "digits", "cartpole", "regression", "architectures"],  # quick, and without files to download
    ),
    "laptop": Preset(seeds=15),
    "large": Preset(
        seeds=10, changes={"data": {"whole": True, "queries": 10_000, "pairs": 4_000_000}, "cartpole.steps": 200_000}
    ),
}


def figure(results: Results) -> go.Figure:
    """The inputs and bits of each task: published, computed, and measured here."""

    def mean(arm: str, key: str) -> float:
        values = results.values(arm, key)
        return float(np.mean(values)) if values else math.nan

    rows: list[tuple[Any, ...]] = [
        (name, task.n, task.m, task.radius, task.resolution, task.error) for name, task in BENCHMARKS.items()
    ]
    bits = [mean("published", f"log10_bits_{name}") for name in BENCHMARKS]
    for arm in DATA:
        if arm in results.arms:
            n, m, radius, margin = (mean(arm, key) for key in ("n", "m", "radius", "margin"))
            rows.append((f"{arm}, here", n, m, radius, margin, ERROR))
            bits.append(mean(arm, "log10_bits"))
    names = [row[0] for row in rows]
    hover_text = "n = %{customdata[0]:.4g}, m = %{customdata[1]:.4g}, radius %{customdata[2]:.4g}, resolution "
    hover_text += "%{customdata[3]:.4g}, error %{customdata[4]:.4g}: 10^%{x:.4g} bits"
    plot = go.Figure()
    hover = {"customdata": [row[1:] for row in rows], "hovertemplate": hover_text}
    plot.add_bar(y=names, x=bits, orientation="h", name="computed, or measured", marker_color=PALETTE[0], **hover)
    published = {"y": list(PUBLISHED), "x": list(PUBLISHED.values()), "mode": "markers", "name": "published"}
    plot.add_scatter(**published, marker={"symbol": "line-ns-open", "size": 16, "color": PALETTE[1], "line_width": 3})
    title = "log10 of the bits of inductive bias needed"
    return plot.update_layout(title=title, height=160 + 24 * len(names), yaxis_autorange="reversed")


experiment = Experiment(
    name="generalization-difficulty",
    about=__doc__,
    paper="Boopathy et al., Model-agnostic Measure of Generalization Difficulty, ICML 2023 (arXiv 2305.01034)",
    studies=studies,
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="",
    check_requirements=lambda config: data_sets.images_of(config) if isinstance(config, DataSet) else None,
    answer="""The formula gives the published bits of MNIST, SVHN, CIFAR-10 and ImageNet from the published dimensions
    {table}. Measured anew, CIFAR-10 has the published dimension within 5 % {dimension-of-cifar10}, MNIST
    {dimension-of-mnist:0.0} instead of 14 {dimension-of-mnist} and Omniglot {dimension-of-omniglot:0.0} instead of 29
    {dimension-of-omniglot}, and the bits rise by {least-rise-of-bits:0.0} decades or more from digits to MNIST to
    CIFAR-10, in the published order: by {mnist-before-cifar10:0} decades from MNIST to CIFAR-10 {mnist-before-cifar10},
    also if this has no colour and MNIST's size {mnist-before-as-many-grey-images}, and by {cifar10-before-omniglot:0}
    on to one-shot Omniglot {cifar10-before-omniglot}; for shapes of known dimension, the error is about 5 % for cubes
    {known-cube} and less for spheres {known-sphere}. Noisy observations cost bits {noise-is-hard}, and so do noise
    inputs, {bits-of-noise-inputs:0} or more. But the formula counts free dimensions until there are twice as many
    samples as are needed to determine the function {formula-knows-when}. On digits two convolutions bring 7 % more bits
    than a hidden layer {cnn-brings-more}, and this 2.9 % more than none, so near the 3 % of the smallest published step
    that 40 seeds do not decide it {mlp-brings-more}; but the bits of learners say only what their test errors say, so
    use the measure to compare tasks, not learners.""",
)
