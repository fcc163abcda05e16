"""Learned bidirectional update rules: learning rules of 23 numbers, found by evolution or gradients (Sandler et al.).

Neurons have several states and synapses several channels; a few small matrices and numbers, the genome, say how they
are updated, with labels coming in as a state of the output, and neither loss nor gradient. Backpropagation is one
genome. The question is whether others learn faster than gradient descent, on tasks and networks they were not found on,
and for how many steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.experiments.blur import images, planar
from engram.experiments.blur.claims import claims
from engram.lab import Arm, Experiment, Preset, Results, arms_of
from engram.lab.curves import colors
from engram.tasks import data


@dataclass(frozen=True)
class Config:
    """The studies."""

    planar: planar.Config
    """On functions of the plane."""
    images: images.Config
    """On images."""


def arms(config: Config) -> dict[str, Arm]:
    """On functions: evolution, gradients, normalisation on one way or none, and four states; on images: two depths."""
    plain = replace(config.planar, baselines=False)
    found = {
        "evolved": config.planar,
        "descended": replace(plain, search="gradient"),
        "normed-forward": replace(plain, norm="forward"),
        "normed-backward": replace(plain, norm="backward"),
        "not-normed": replace(plain, norm="none"),
        "four-states": replace(plain, n_states=4),
    }
    on_images = {"images": config.images, "deep-images": replace(config.images, depth="two")}
    return arms_of(planar.trial, found, planar.seconds) | arms_of(images.trial, on_images, images.seconds)


def figure(results: Results) -> go.Figure:
    """Right answers over the steps of a life: evolved genomes beside descent at its best rate, by data."""
    on_functions = {"evolved genome": "unseen", "SGD": "best_sgd", "momentum": "best_momentum"}
    shown = {
        "unseen functions": ("evolved", on_functions | {"normalised": "best_normalised", "Adam": "best_adam"}),
        "digits": ("images", {"evolved genome": "digits", "SGD or momentum": "digits_sgd"}),
        "MNIST, 10 x 10": ("images", {"evolved genome": "small", "SGD or momentum": "small_sgd"}),
        "MNIST, 28 x 28": ("images", {"evolved genome": "large", "SGD or momentum": "large_sgd"}),
    }
    plot = make_subplots(2, 2, subplot_titles=list(shown), vertical_spacing=0.14)
    lines = colors(name for _, keys in shown.values() for name in keys)
    named: set[str] = set()
    for place, (arm, keys) in enumerate(shown.values()):
        trials = [of_seed[arm] for of_seed in results.by_seed.values() if arm in of_seed]
        for name, key in keys.items() if trials else ():
            mean = np.mean([trial[key] for trial in trials], axis=0)
            style = {"line": {"color": lines[name]}, "legendgroup": name, "showlegend": name not in named}
            where = {"row": 1 + place // 2, "col": 1 + place % 2}
            plot.add_scatter(x=trials[0]["times"], y=mean, name=name, mode="lines+markers", **style, **where)
            named.add(name)
    plot.update_xaxes(type="log", title="steps").update_yaxes(title="right answers")
    return plot.update_layout(
        height=800, title="A learned rule against gradient descent, at the best rate for each number of steps"
    )


def ready(config: planar.Config | images.Config) -> None:
    """Raise what to do where the images of an arm are missing."""
    if isinstance(config, images.Config) and config.images == "mnist":
        data.load("mnist", split="test")


PLANAR = planar.Config()
SMALL = planar.Config(
    generations=2, size=4, restarts=1, meta_steps=2, steps=2, batch=16, hidden=3, rates=1, lives=1, test_batch=16
)
START = planar.Config(generations=100, baselines=False)
SMOKE = Config(SMALL, images.Config(SMALL, images="digits", generations=2, size=4, steps=2, rates=1, lives=1))
LAPTOP = Config(PLANAR, images.Config(START))
PAPER = Config(
    planar.Config(generations=400, size=80, restarts=8, batch=128, meta_steps=10_000, rate=5e-4),
    images.Config(replace(START, generations=400), generations=400, size=80, steps=15),
)
experiment = Experiment(
    name="blur",
    summary="Learning rules of 23 numbers, evolved, learn faster than gradient descent at first; it catches up",
    paper="Sandler et al., Meta-learning bidirectional update rules, ICML 2021 (arXiv 2104.04657)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(LAPTOP, seeds=3), "paper": Preset(PAPER, seeds=3)},
    arms=arms,
    claims=claims,
    figure=figure,
    ready=ready,
)
