"""Late returns by policy and size of the memory, and errors on the stream."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.experiments.episodic_control.policies import POLICIES
from engram.lab import Results
from engram.lab.curves import PALETTE, add_line

SIZES = (100, 250, 1000)  # rows for each action on CartPole


def figure(results: Results) -> go.Figure:
    """Late return by size and policy, with its range; the error on the stream over time; all other late returns."""
    titles = ("CartPole: late return by memory", "Stream: error over time", "Late return elsewhere")
    plot = make_subplots(rows=3, cols=1, subplot_titles=titles, vertical_spacing=0.1)
    colors = dict(zip(POLICIES, PALETTE, strict=True))

    def late(arm: str) -> list[float]:
        return [of_seed[arm]["late_return"] for of_seed in results.by_seed.values() if arm in of_seed]

    for policy, color in colors.items():
        sizes = [size for size in SIZES if late(f"cartpole-{size}-{policy}")]
        if sizes:
            values = [late(f"cartpole-{size}-{policy}") for size in sizes]
            means = [float(np.mean(of_size)) for of_size in values]
            spread = {
                "symmetric": False,
                "array": [max(of_size) - mean for of_size, mean in zip(values, means, strict=True)],
                "arrayminus": [mean - min(of_size) for of_size, mean in zip(values, means, strict=True)],
            }
            points = go.Scatter(x=sizes, y=means, error_y=spread, mode="lines+markers", line_color=color, name=policy)
            plot.add_trace(points, row=1, col=1)
        for metric, dash in (("error_1", "solid"), ("error_8", "dot")):
            style = {"color": color, "dash": dash}
            name = f"{policy}, batches of {metric[-1]}"
            add_line(plot, results, f"stream-{policy}", metric, place=(2, 1), name=name, line=style)
    for arm in results.arms:
        elsewhere = not any(arm == f"cartpole-{size}-{policy}" for size in SIZES for policy in POLICIES)
        if elsewhere and not arm.startswith(("stream", "look-up", "acrobot")):
            plot.add_trace(go.Box(y=late(arm), name=arm, boxpoints="all", showlegend=False), row=3, col=1)
    plot.update_xaxes(title="rows for each action", type="log", row=1, col=1)
    plot.update_xaxes(title="points seen", row=2, col=1)
    plot.update_yaxes(title="mean squared distance", type="log", row=2, col=1)
    plot.update_layout(height=1200)
    return plot
