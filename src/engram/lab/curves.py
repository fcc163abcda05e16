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

from engram.lab.experiment import Experiment
from engram.lab.metrics import windows
from engram.lab.results import Results

# Okabe and Ito's colours, which the colour-blind can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
POINTS = 100


def figures_of(experiment: Experiment, results: Results) -> dict[str, go.Figure]:
    """Return all figures of a run: the experiment's own, ``figure``, and the curves of each metric, ``curves-loss``."""
    metrics = results.metrics["metric"].unique(maintain_order=True).to_list()
    metrics.sort(key=lambda metric: metric != results.headline)
    own = {"figure": experiment.figure(results).update_layout(template="plotly_white")} if results.by_seed else {}
    return own | {f"curves-{metric}": learning_curves(results, metric) for metric in metrics}


def learning_curves(results: Results, metric: str) -> go.Figure:
    """Draw one metric over the steps of training, arm by arm; long curves as the means of at most 100 windows."""
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
    title = f"{results.experiment}: {metric}"
    axes = {"xaxis_title": "step", "yaxis_title": metric}
    return figure.update_layout(template="plotly_white", title=title, hovermode="closest", **axes)


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

    ``place`` is row and column of the subplot, counted from 1, and ``style`` further arguments of ``go.Scatter``.
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
    """Draw a number of the results, by its key, arm by arm: points of seeds, a box around them, a line at chance."""
    figure = go.Figure()
    for arm, color in zip(results.arms, itertools.cycle(PALETTE), strict=False):
        values = [arms_of_seed[arm][key] for arms_of_seed in results.by_seed.values() if arm in arms_of_seed]
        marker = {"size": 9, "color": color}
        figure.add_box(y=values, name=arm, boxpoints="all", jitter=0.4, pointpos=0, marker=marker, line_width=1)
    if chance is not None:
        figure.add_hline(y=chance, line_dash="dot", annotation_text="chance")
    return figure.update_layout(title=title, yaxis={"title": axis, "rangemode": "tozero"}, showlegend=False)


def add_map(
    figure: go.Figure, points: Float[np.ndarray, "points 2"], labels: Sequence[str], *, column: int, legend: bool = True
) -> None:
    """Add a map of labelled points of the plane, a colour for each label, to a column, counted from 1, of subplots."""
    of_label = np.array(labels)
    for label, color in zip(dict.fromkeys(labels), PALETTE, strict=False):
        x, y = points[of_label == label].T
        marker = {"size": 9, "color": color}
        style = {"mode": "markers", "marker": marker, "name": label, "legendgroup": label, "showlegend": legend}
        figure.add_scatter(x=x, y=y, row=1, col=column, **style)
