"""Figures of a run: learning curves (seeds, their mean, their range as a band), and results as points by arm."""

from __future__ import annotations

import itertools
from functools import partial

import plotly.graph_objects as go
import polars as pl

from engram.lab.metrics import windows
from engram.lab.results import Results

# Okabe and Ito's colours, which the colour-blind can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
POINTS = 100


def learning_curves(results: Results, metric: str) -> go.Figure:
    """Draw one metric over the steps of training, arm by arm.

    Args:
        results: The results of a run.
        metric: Name of a metric that its trials logged.

    Returns:
        The figure. Long curves are drawn as the means of at most 100 windows.
    """
    figure = go.Figure()
    for arm, color in zip(results.arms, itertools.cycle(PALETTE), strict=False):
        rows = results.metrics.filter((pl.col("arm") == arm) & (pl.col("metric") == metric))
        if rows.is_empty():
            continue
        line = partial(figure.add_scatter, mode="lines", legendgroup=arm)
        curves = windows(rows, POINTS)
        for (seed,), curve in curves.group_by("seed", maintain_order=True):
            x, y = curve["step"].to_list(), curve["value"].to_list()
            style = {"color": color, "width": 0.7}
            line(x=x, y=y, line=style, opacity=0.45, name=f"{arm}, seed {seed}", showlegend=False)
        value = pl.col("value")
        band = curves.group_by("window", maintain_order=True).agg(
            pl.col("step").max(), mean=value.mean(), low=value.min(), high=value.max()
        )
        steps, mean, low, high = (band[column].to_list() for column in ("step", "mean", "low", "high"))
        area = {"fill": "toself", "fillcolor": color, "opacity": 0.12, "line": {"width": 0}}
        line(x=steps + steps[::-1], y=high + low[::-1], hoverinfo="skip", showlegend=False, **area)
        line(x=steps, y=mean, line={"color": color, "width": 2.5}, name=arm)
    figure.update_layout(
        template="plotly_white",
        title=f"{results.experiment}: {metric}",
        xaxis_title="step",
        yaxis_title=metric,
        hovermode="closest",
    )
    return figure


def points_by_arm(results: Results, key: str) -> go.Figure:
    """Draw one number of the results, arm by arm: a point for each seed, and a box around them.

    Args:
        results: The results of a run.
        key: Name of a number that its trials returned.

    Returns:
        The figure, to be given a title and axes.
    """
    figure = go.Figure()
    for arm, color in zip(results.arms, itertools.cycle(PALETTE), strict=False):
        values = [arms_of_seed[arm][key] for arms_of_seed in results.by_seed.values() if arm in arms_of_seed]
        marker = {"size": 9, "color": color}
        figure.add_trace(
            go.Box(y=values, name=arm, boxpoints="all", jitter=0.4, pointpos=0, marker=marker, line_width=1)
        )
    return figure
