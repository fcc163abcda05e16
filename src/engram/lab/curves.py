"""Figures of a run: learning curves (seeds, their mean, their range as a band), and results as points by arm."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import polars as pl
from jaxtyping import Float

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


def add_line(
    figure: go.Figure,
    results: Results,
    arm: str,
    metric: str,
    *,
    average: Literal["mean", "median"] = "mean",
    place: tuple[int, int] | None = None,
    **style: Any,
) -> None:
    """Add the average over seeds of what an arm logged to a figure, as a line over the steps, if it logged any.

    Args:
        figure: The figure.
        results: The results of a run.
        arm: Name of the arm.
        metric: Name of the metric.
        average: How seeds are averaged.
        place: Row and column of the subplot, counted from 1; None: the figure has none.
        **style: Further arguments of ``go.Scatter``.
    """
    rows = results.metrics.filter((pl.col("arm") == arm) & (pl.col("metric") == metric))
    if rows.is_empty():
        return
    curve = rows.group_by("step").agg(getattr(pl.col("value"), average)()).sort("step")
    trace = go.Scatter(x=curve["step"].to_list(), y=curve["value"].to_list(), mode="lines", **style)
    figure.add_trace(trace, *(place or ()))


def points_by_arm(
    results: Results, key: str, title: str = "", axis: str = "", *, chance: float | None = None
) -> go.Figure:
    """Draw one number of the results, arm by arm: a point for each seed, and a box around them.

    Args:
        results: The results of a run.
        key: Name of a number that its trials returned.
        title: Title of the figure.
        axis: Title of the vertical axis, which begins at 0.
        chance: Where a line is drawn for those who guess; by default none is.
    """
    figure = go.Figure()
    for arm, color in zip(results.arms, itertools.cycle(PALETTE), strict=False):
        values = [arms_of_seed[arm][key] for arms_of_seed in results.by_seed.values() if arm in arms_of_seed]
        marker = {"size": 9, "color": color}
        figure.add_trace(
            go.Box(y=values, name=arm, boxpoints="all", jitter=0.4, pointpos=0, marker=marker, line_width=1)
        )
    if chance is not None:
        figure.add_hline(y=chance, line_dash="dot", annotation_text="chance")
    return figure.update_layout(title=title, yaxis={"title": axis, "rangemode": "tozero"}, showlegend=False)


def add_map(
    figure: go.Figure, points: Float[np.ndarray, "points 2"], labels: Sequence[str], *, column: int, legend: bool = True
) -> None:
    """Add a map of labelled points of the plane to a row of subplots, a colour for each label.

    Args:
        figure: The figure, of one row.
        points: Where each point is.
        labels: The label of each.
        column: The subplot, counted from 1.
        legend: Whether the labels are added to the legend.
    """
    of_label = np.array(labels)
    for label, color in zip(dict.fromkeys(labels), PALETTE, strict=False):
        x, y = points[of_label == label].T
        marker = {"size": 9, "color": color}
        figure.add_trace(
            go.Scatter(x=x, y=y, mode="markers", marker=marker, name=label, legendgroup=label, showlegend=legend),
            1,
            column,
        )
