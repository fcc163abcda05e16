"""A plastic softmax layer against forgetting, and what of its gain is its initial scale (Thangarasa et al., 2020).

Digits are learned two at a time, or all of them under one permutation of the pixels after another; then all tasks are
tested. Full text and settings of the paper could not be read: layer, its initial values, loss, the settings of split
MNIST and the table of results are those that the first author published of the 2019 version; the rest is ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import plotly.graph_objects as go
from annotated_types import Ge, Gt, Le
from plotly.subplots import make_subplots

from engram.analysis import AccuracyMatrix
from engram.experiments.dhp_softmax.claims import claims
from engram.experiments.dhp_softmax.training import PENALTIES, Training, exactness, loaded, seconds, trial
from engram.lab import Arm, Experiment, Preset, Results, arms_of, narrow


@dataclass(frozen=True)
class Config(Training):
    """The training on split digits, and what is different on permuted ones and between penalties."""

    permuted_units: Annotated[int, Ge(1)] = 100
    """Units of a hidden layer, where pixels are permuted."""
    permuted_rate: Annotated[float, Gt(0)] = 0.05
    """The learning rate there."""
    permuted_epochs: Annotated[int, Ge(1)] = 5
    """Passes over the images there."""
    permuted_images: Annotated[int, Ge(100), Le(60_000)] = 4000
    """Images of a task there."""
    split_strengths: tuple[float, float, float] = (100.0, 1.0, 0.1)
    """Strengths of online EWC, SI and MAS on split digits."""
    permuted_strengths: tuple[float, float, float] = (10.0, 3.0, 0.03)
    """The same on permuted ones."""


def arms(config: Config) -> dict[str, Arm]:
    """Four heads, and controls of the plastic one; each penalty with both heads; both kinds of tasks."""
    base = narrow(config, Training)
    other = replace(
        base,
        tasks="permuted",
        units=config.permuted_units,
        learning_rate=config.permuted_rate,
        epochs=config.permuted_epochs,
        train_images=config.permuted_images,
    )
    dhp = replace(base, head="dhp")
    found = {
        "split-plain": replace(base, init="fan_in"),
        "split-linear": base,
        "split-dhp": dhp,
        "split-dhp-fan-in": replace(dhp, init="fan_in"),
        "split-dhp-alpha-0": replace(dhp, alpha_scale=0.0),
        "split-dhp-eta-0.001": replace(dhp, eta=0.001),
        "split-dhp-eta-0.1": replace(dhp, eta=0.1),
        "split-dhp-fast-alpha": replace(dhp, alpha_rate=10.0),
        "permuted-plain": replace(other, init="fan_in"),
        "permuted-linear": other,
        "permuted-dhp": replace(other, head="dhp"),
        "imbalanced-plain": replace(other, tasks="imbalanced", init="fan_in"),
        "imbalanced-linear": replace(other, tasks="imbalanced"),
        "imbalanced-dhp": replace(other, tasks="imbalanced", head="dhp"),
    }
    for tasks, strengths in ((base, config.split_strengths), (other, config.permuted_strengths)):
        for penalty, strength in zip(PENALTIES, strengths, strict=True):
            held = replace(tasks, penalty=penalty, strength=strength)
            found |= {f"{tasks.tasks}-{head}-{penalty}": replace(held, head=head) for head in ("linear", "dhp")}
    exact = Arm(exactness, replace(base, strength=config.split_strengths[0]), seconds(base))
    return {**arms_of(trial, found, seconds), "exactness": exact}


def ready(config: Training) -> None:
    """Raise what to do where the images are missing."""
    loaded(config.images)


def figure(results: Results) -> go.Figure:
    """Accuracy on each task after each task, the mean over seeds: without a penalty, with each, and with each head."""
    shown = [arm for arm in results.arms if "alpha" not in arm and "eta" not in arm and arm != "exactness"]
    shown = [arm for arm in shown if not arm.startswith("imbalanced")]
    matrices = {
        arm: np.mean([found[arm]["matrix"] for found in results.by_seed.values() if arm in found], axis=0)
        for arm in shown
        if any(arm in found for found in results.by_seed.values())
    }
    columns = 4
    rows = max(1, -(-len(matrices) // columns))
    titles = [
        f"{arm}<br>{AccuracyMatrix(np.where(matrix < 0, np.nan, matrix)).average_accuracy():.3f}"
        for arm, matrix in matrices.items()
    ]
    plot = make_subplots(rows, columns, subplot_titles=titles)
    for place, matrix in enumerate(matrices.values()):
        seen = np.where(matrix < 0, np.nan, matrix)
        tasks = [str(number + 1) for number in range(len(seen))]
        where = {"row": 1 + place // columns, "col": 1 + place % columns}
        plot.add_heatmap(z=seen, x=tasks, y=tasks, zmin=0.5, zmax=1, coloraxis="coloraxis", **where)
    plot.update_yaxes(autorange="reversed", type="category").update_xaxes(type="category")
    plot.update_annotations(font_size=11)
    plot.update_layout(coloraxis={"colorscale": "Viridis", "cmin": 0.5, "cmax": 1}, height=60 + 230 * rows)
    return plot.update_layout(title="Accuracy on each task (column) after each task (row), and its mean after the last")


SMOKE = Config(
    images="digits",
    units=8,
    permuted_units=8,
    epochs=1,
    permuted_epochs=1,
    permutations=2,
    train_images=200,
    permuted_images=200,
    test_images=100,
    measured=20,
)
PAPER = Config(images="mnist-whole", train_images=60_000, permuted_images=60_000, test_images=10_000, measured=1024)
experiment = Experiment(
    name="dhp-softmax",
    summary="A softmax layer with running class prototypes forgets less; mostly it is its larger initial weights",
    paper="Thangarasa, Miconi & Taylor, Enabling continual learning with differentiable Hebbian plasticity, IJCNN 2020 "
    "(arXiv 2006.16558)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=10), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
    ready=ready,
)
