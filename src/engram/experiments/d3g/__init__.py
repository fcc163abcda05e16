"""Values of transitions with a network that proposes the next state (Edwards et al., 2020).

D3G proposes where to go, and an inverse model finds the action that leads there. Studied are whether proposals stay
where one can get to, what stays when the actuators change, and what a log of random states without actions teaches.
Networks and updates are those of the published code; of its figures none could be read, and its robots need a
simulator, so that tasks and criteria are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.experiments.d3g import pendulum, point
from engram.experiments.d3g.learning import Settings
from engram.experiments.d3g.pendulum import Pendulum
from engram.experiments.d3g.point import Observed, Transfer
from engram.lab import Arm, Experiment, Preset, Results, arms_of, claimed, value
from engram.lab.curves import add_line, colors
from engram.tasks.environments.point_world import STEP


@dataclass(frozen=True)
class Config:
    """The main arm of each study."""

    pendulum: Pendulum = Pendulum()
    """A pendulum to be swung up, with and without the cycle."""
    transfer: Transfer = Transfer()
    """A point whose actuators are turned."""
    observed: Observed = Observed()
    """A log of random states without actions."""


def arms(config: Config) -> dict[str, Arm]:
    """D3G, D3G without its cycle and TD3; transfer and from scratch; D3G from states alone and cloning."""
    swung = {
        "pendulum-d3g": config.pendulum,
        "pendulum-no-cycle": replace(config.pendulum, learner="no-cycle"),
        "pendulum-td3": replace(config.pendulum, learner="td3"),
    }
    pushed = {
        "transfer-d3g": config.transfer,
        "scratch-d3g": replace(config.transfer, source_episodes=0),
        "transfer-td3": replace(config.transfer, learner="td3"),
        "point-no-cycle": replace(config.transfer, learner="no-cycle", target_episodes=0),
    }
    logged = {"observed-d3g": config.observed, "observed-bco": replace(config.observed, learner="bco")}
    return {
        **arms_of(pendulum.trial, swung, pendulum.seconds),
        **arms_of(point.transfer, pushed, point.transfer_seconds),
        **arms_of(point.observed, logged, point.observed_seconds),
    }


published = partial(
    claimed, source="Edwards et al. (2020), abstract; task and criterion ours", published="stated (no figure readable)"
)
claims = [
    published(
        "d3g-swings-up",
        "D3G swings up a pendulum: its mean return is -300 or better",
        value("pendulum-d3g", "return") >= -300.0,
    ),
    published(
        "without-the-cycle-it-does-not",
        "Without its cycle D3G does not swing up a pendulum: its mean return is -800 or worse",
        value("pendulum-no-cycle", "return") <= -800.0,
    ),
    published(
        "the-cycle-keeps-proposals-reachable",
        "On a pendulum proposals reach 5 times as far without the cycle as with it, or more (largest number, ratio)",
        value("pendulum-no-cycle", "largest_step") / value("pendulum-d3g", "largest_step") >= 5.0,
    ),
    published(
        "no-worse-than-td3",
        "On a pendulum D3G gets a mean return at most 60 below that of TD3",
        value("pendulum-d3g", "return") - value("pendulum-td3", "return") >= -60.0,
    ),
    published(
        "values-survive-other-actuators",
        "800 steps after its actuators were turned by a right angle D3G, which keeps values and proposals, gets a mean "
        "return higher by 1 or more than from scratch",
        value("transfer-d3g", "return") - value("scratch-d3g", "return") >= 1.0,
    ),
    published(
        "random-states-teach",
        "From states of random walks and 480 own steps D3G gets a mean return of -6 or better in the point world",
        value("observed-d3g", "first_round") >= -6.0,
    ),
    published(
        "ahead-of-cloning",
        "From states of random walks D3G gets a mean return higher by 15 or more than behavioural cloning from them",
        value("observed-d3g", "last_round") - value("observed-bco", "last_round") >= 15.0,
    ),
    published(
        "cloning-is-as-good-as-its-demonstrator",
        "Behavioural cloning from states of random walks gets a mean return within 6 of that of random actions",
        (value("observed-bco", "last_round") - value("observed-bco", "random")).within(0.0, 6.0),
        source="ours",
        published="BCO as the baseline (no figure readable)",
    ),
]


def figure(results: Results) -> go.Figure:
    """Proposals in the point world against what can be reached, and returns after the actuators were turned."""
    titles = "proposals, as steps; dotted: in reach", "return after the actuators were turned"
    plot = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.12)
    first = next(iter(results.by_seed.values()))
    names = {"point-no-cycle": "no cycle", "transfer-d3g": "with the cycle"}
    for arm, color in colors(names).items():
        x, y = np.array(first[arm]["proposals"]).T
        marker: dict[str, Any] = {"color": color, "size": 5}
        plot.add_scatter(x=x, y=y, mode="markers", name=names[arm], marker=marker, row=1, col=1)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * STEP
    edge = {"color": "black", "dash": "dot"}
    plot.add_scatter(x=corners[:, 0], y=corners[:, 1], mode="lines", line=edge, showlegend=False, row=1, col=1)
    for arm, color in colors(["transfer-d3g", "scratch-d3g", "transfer-td3"]).items():
        add_line(plot, results, arm, "return", place=(1, 2), name=arm, line_color=color)
    plot.update_yaxes(scaleanchor="x", row=1, col=1)
    return plot.update_xaxes(title="steps", row=1, col=2)


TINY = Settings(width=4, batch_size=4)
SMOKE = Config(
    Pendulum(settings=TINY, episodes=2, random_steps=350, look_every=1, evaluations=2),
    Transfer("d3g", TINY, 2, 50, 3, 50, 1, 2, evaluations=2),
    Observed("observed", TINY, 2, 20, 2, 2, 10, 10, evaluations=2),
)
WIDE = Settings(width=256, learning_rate=3e-4, batch_size=256)
PAPER = Config(
    Pendulum(settings=WIDE, episodes=5000, random_steps=10_000, look_every=25),
    Transfer(settings=WIDE),
    Observed(settings=WIDE, updates=1_000_000),
)
experiment = Experiment(
    name="d3g",
    summary="A policy over states swings up a pendulum, survives other actuators, and learns from states alone",
    paper="Edwards et al., Estimating Q(s,s') with Deep Deterministic Dynamics Gradients, ICML 2020 (arXiv 2002.09505)",
    presets={
        "smoke": Preset(SMOKE, seeds=1),
        "laptop": Preset(Config(), seeds=10),
        "paper": Preset(PAPER, seeds=10),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="return",
)
