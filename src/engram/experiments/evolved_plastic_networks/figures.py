"""Learning curves over generations, and how target and stimuli are decoded from the activity."""

from __future__ import annotations

import itertools

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.experiments.evolved_plastic_networks.evolution import training_tasks, two_stimulus
from engram.lab import Results
from engram.lab.curves import PALETTE, add_line
from engram.tasks.two_stimulus import ladder

MATRICES = {
    "target_newborn_after_life": "target: life, no evolution",
    "target_evolved_before_life": "target: evolution, no life",
    "target_evolved_after_life": "target: evolution and life",
    "stimulus1_evolved_after_life": "stimulus 1: evolution and life",
}


def figure(results: Results) -> go.Figure:
    """Learning curves over generations with the rungs of the ladder, and decoding matrices."""
    plot = make_subplots(
        rows=2,
        cols=4,
        column_widths=[0.3, 0.2, 0.25, 0.25],
        specs=[[{"rowspan": 2, "colspan": 2}, None, {}, {}], [None, None, {}, {}]],
        subplot_titles=["share of right answers by generation", *MATRICES.values()],
        horizontal_spacing=0.06,
        vertical_spacing=0.16,
    )
    for (number, arm), (metric, what, dash) in itertools.product(
        enumerate(results.arms), (("accuracy", "", "solid"), ("withheld_accuracy", ", withheld task", "dot"))
    ):
        style = {"color": PALETTE[number % len(PALETTE)], "dash": dash}
        add_line(plot, results, arm, metric, place=(1, 1), name=arm + what, line=style)
    evolution = results.config.evolution
    for rung in ladder(two_stimulus(evolution, training_tasks(evolution.withheld)).tables):
        plot.add_hline(y=rung.accuracy, line_dash="dot", line_width=1, annotation_text=rung.knows, row=1, col=1)
    step = 2 * evolution.dt
    for place, key in enumerate(MATRICES):
        found = [seed["evolved"].get(f"{key}_matrix") for seed in results.by_seed.values() if "evolved" in seed]
        matrices = [matrix for matrix in found if matrix]
        if matrices:
            mean = np.mean(matrices, axis=0)
            heat = go.Heatmap(z=mean, x0=0, dx=step, y0=0, dy=step, zmin=0.5, zmax=1, showscale=place == 0)
            plot.add_trace(heat, row=1 + place // 2, col=3 + place % 2)
    plot.update_layout(
        title="Learning to learn: evolution of plastic networks, and decoding (train by test time, ms)",
        yaxis={"range": [0.4, 1.02]},
        xaxis={"title": "generation"},
        legend={"orientation": "h", "y": -0.2},
    )
    return plot
