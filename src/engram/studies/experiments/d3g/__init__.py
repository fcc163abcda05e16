"""A policy over states swings up a pendulum, and learns from states alone (Edwards et al., 2020).

D3G proposes the next state, and an inverse model finds the action that leads there. The experiment asks whether
proposals remain reachable, what is retained when the actuators change, and what can be learned from a log of random
states without actions. Losses and updates are those of the published code; networks are smaller at laptop size (64
units, learning rate 1e-3, batches of 64). None of the paper's figures could be read, and its robots need a simulator,
so tasks and criteria are ours; redundant actions, and logs of policies that are better than random, are not tested.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.lab import Experiment, Preset, Quantity, Results, Study, claims_from, metric
from engram.lab.output.figures import add_line, colors
from engram.studies.experiments.d3g import pendulum, point
from engram.tasks.environments.point_world import STEP

pendulum_arms = {f"pendulum-{learner}": {"learner": learner} for learner in ("d3g", "no-cycle", "td3")}
transfer_arms: dict[str, dict[str, Any]] = {
    "transfer-d3g": {},
    "scratch-d3g": {"source_episodes": 0},
    "transfer-td3": {"learner": "td3"},
    "point-no-cycle": {"learner": "no-cycle", "target_episodes": 0},
}
observed_arms = {"observed-d3g": {"learner": "observed"}, "observed-bco": {"learner": "bco"}}
tiny = {"width": 4, "batch_size": 4, "evaluations": 2}
wide = {"width": 256, "learning_rate": 3e-4, "batch_size": 256}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={
            "pendulum": {**tiny, "episodes": 2, "random_steps": 350, "look_every": 1},
            "transfer": {**tiny, "source_episodes": 2, "target_episodes": 3}
            | {"source_random_steps": 50, "target_random_steps": 50, "look_every": 1, "judged_after": 2},
            "observed": {**tiny, "walks": 2, "updates": 20, "rounds": 2, "episodes": 2}
            | {"inverse_updates": 10, "cloning_updates": 10},
        },
    ),
    "laptop": Preset(seeds=10),
    "large": Preset(
        seeds=10,
        changes={
            "pendulum": {**wide, "episodes": 5000, "random_steps": 10_000, "look_every": 25},
            "transfer": wide,
            "observed": {**wide, "updates": 1_000_000},
        },
    ),
}

returns, source_return, largest_step, last_round = map(
    metric, ("return", "source_return", "largest_step", "last_round")
)
SOURCE = "Edwards et al. (2020), abstract; task and criterion ours"
transfer = claims_from(SOURCE, published="values transfer to redundant or other actions (no figure)")
paper = claims_from(SOURCE, published="learns from states of random policies (no figure)")
ours = claims_from("ours")
claims = [
    ours("d3g-swings-up", "D3G swings up a pendulum (mean return)", returns("pendulum-d3g") >= -300.0),
    ours("without-the-cycle-it-does-not", "Without its cycle D3G does not swing up a pendulum (mean return)",
        returns("pendulum-no-cycle") <= -800.0),
    ours("the-point-world-needs-no-cycle", "In the point world the mean return of D3G is no lower without its cycle",
        source_return("point-no-cycle") - source_return("transfer-d3g") >= -0.2),
    ours("no-worse-than-td3", "On a pendulum the mean return of D3G is not much below that of TD3",
        returns("pendulum-d3g") - returns("pendulum-td3") >= -60.0),
    transfer("values-survive-other-actuators",
        "800 steps after its actuators were rotated, D3G, which keeps its values, has a higher return than from "
        "scratch",
        returns("transfer-d3g") - returns("scratch-d3g") >= 1.0),
    ours("kept-values-as-good-as-learning-on",
        "800 steps after the actuators were rotated, D3G, which keeps its values, has no lower return than TD3, which "
        "continues learning",
        returns("transfer-d3g") - returns("transfer-td3") >= -0.2),
    paper("random-states-teach",
        "From states of random walks and 480 steps of its own, D3G learns to reach the middle of the point world (mean "
        "return)",
        metric("first_round")("observed-d3g") >= -6.0),
    paper("ahead-of-cloning",
        "From states of random walks D3G reaches a higher mean return than behavioural cloning",
        last_round("observed-d3g") - last_round("observed-bco") >= 15.0),
]  # fmt: skip
quantities = [
    Quantity(
        "proposals-without-cycle",
        "Farthest proposal on a pendulum without the cycle over that with it (largest coordinate, median)",
        (largest_step("pendulum-no-cycle") / largest_step("pendulum-d3g")).median(),
    ),
    Quantity(
        "cloning-over-random",
        "Mean return of behavioural cloning from states of random walks minus that of random actions",
        last_round("observed-bco") - metric("random")("observed-bco"),
    ),
]


def figure(results: Results) -> go.Figure:
    """Proposals in the point world with the reachable region, and returns after the actuators were rotated."""
    titles = "proposals, as steps; dotted: reachable", "return after the actuators were rotated"
    plot = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.12)
    names = {"point-no-cycle": "no cycle", "transfer-d3g": "with the cycle"}
    for arm, color in colors(names).items():
        x, y = np.array(results.shown(arm)["proposals"]).T
        marker: dict[str, Any] = {"color": color, "size": 5}
        plot.add_scatter(x=x, y=y, mode="markers", name=names[arm], marker=marker, row=1, col=1)
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]) * STEP
    edge = {"color": "black", "dash": "dot"}
    plot.add_scatter(x=corners[:, 0], y=corners[:, 1], mode="lines", line=edge, showlegend=False, row=1, col=1)
    for arm, color in colors(["transfer-d3g", "scratch-d3g", "transfer-td3"]).items():
        add_line(plot, results, arm, "return", place=(1, 2), name=arm, line_color=color)
    plot.update_yaxes(scaleanchor="x", row=1, col=1)
    return plot.update_xaxes(title="steps", row=1, col=2)


experiment = Experiment(
    name="d3g",
    about=__doc__,
    paper="Edwards et al., Estimating Q(s,s') with Deep Deterministic Dynamics Gradients, ICML 2020 (arXiv 2002.09505)",
    studies={
        "pendulum": Study(pendulum.trial, pendulum_arms, gpu=True),
        "transfer": Study(point.transfer, transfer_arms, gpu=True),
        "observed": Study(point.learn_from_log, observed_arms, gpu=True),
    },
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="return",
    answer="""D3G swings up a pendulum {d3g-swings-up} as well as TD3 does, with a mean return of -162
    {no-worse-than-td3}. On the pendulum it needs its cycle: without it the return is -1447
    {without-the-cycle-it-does-not}, and proposals reach {proposals-without-cycle:0} times as far, whereas in the point
    world it does as well without {the-point-world-needs-no-cycle}. From states of random walks and 480 steps of its own
    it learns to reach the middle of the point world {random-states-teach}, with a return of -3, where behavioural
    cloning gets -30 {ahead-of-cloning}, {cloning-over-random:0} more than random actions. After a change of actuators
    D3G with its old values does better than from scratch, -4.0 against -6.9 {values-survive-other-actuators}, but TD3
    that simply learns on does better still, with -3.2 {kept-values-as-good-as-learning-on}. So D3G is useful for logs
    of states without actions, if they cover the space as random walks do; if actions are known, TD3 does as well.""",
)
