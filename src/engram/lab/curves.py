"""Figures of a run: learning curves (seeds, their mean, their range as a band), and results as points by arm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import polars as pl
from jaxtyping import Float
from plotly.colors import sample_colorscale

from engram.lab.experiment import Experiment
from engram.lab.metrics import windows
from engram.lab.results import Results

# Okabe and Ito's colours, which the colour-blind can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
POINTS = 100


def colors(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each name, no two alike: of ``PALETTE`` as far as it goes, else from all over a rainbow."""
    different = list(dict.fromkeys(names))
    shown = PALETTE if len(different) <= len(PALETTE) else sample_colorscale("Turbo", len(different))
    return dict(zip(different, shown, strict=False))


def figures_of(experiment: Experiment, results: Results) -> dict[str, go.Figure]:
    """Return all figures of a run: the experiment's own, ``figure``, and the curves of each metric, ``curves-loss``.

    Curves of more arms than can be told apart are ``curves-loss``, ``curves-loss-2`` and so on. There are none where
    nothing is learned, and no own figure where the run lacks what it shows.
    """
    figures = {}
    whole = set(experiment.arms(results.config)) == {trial.arm for trial in results.trials if trial.state == "finished"}
    recorded = not any(trial.folder for trial in results.trials)  # perhaps before the figure was changed
    lacking = (LookupError, StopIteration, TypeError, ValueError)
    with suppress(*(() if whole and not recorded else lacking)):
        figures["figure"] = experiment.figure(results).update_layout(template="plotly_white")
    curves = results.metrics.group_by("metric", "arm", maintain_order=True).agg(pl.col("step").n_unique())
    logged = [(metric, arm) for metric, arm, steps in curves.rows() if steps > 1] if results.headline else []
    for metric in sorted(dict(logged), key=lambda metric: metric != results.headline):
        arms = [arm for arm in results.arms if (metric, arm) in logged]
        for start in range(0, len(arms), len(PALETTE)):
            name = f"curves-{metric}" + (f"-{1 + start // len(PALETTE)}" if start else "")
            figures[name] = learning_curves(results, metric, arms[start : start + len(PALETTE)])
    return figures


def learning_curves(results: Results, metric: str, arms: Sequence[str] | None = None) -> go.Figure:
    """Draw one metric over the steps of training, arm by arm; long curves as the means of at most 100 windows."""
    figure = go.Figure()
    for arm, color in colors(results.arms if arms is None else arms).items():
        rows = results.metrics.filter((pl.col("arm") == arm) & (pl.col("metric") == metric))
        if rows.is_empty():
            continue
        line = partial(figure.add_scatter, mode="lines", legendgroup=arm)
        curves = windows(rows, POINTS)
        # One trace with gaps has the curves of all seeds: one for each would make a page of many seeds slow.
        gaps = curves.select(pl.col("seed").unique(), step=None, value=None)
        seeds = pl.concat([curves.drop("window"), gaps], how="vertical_relaxed").sort("seed", maintain_order=True)
        x, y = seeds["step"].to_list(), seeds["value"].to_list()
        style = {"line": {"color": color, "width": 0.7}, "opacity": 0.45}
        hover = f"{arm}, seed %{{customdata}}: (%{{x}}, %{{y}})<extra></extra>"
        line(x=x, y=y, customdata=seeds["seed"].to_list(), hovertemplate=hover, name=arm, showlegend=False, **style)
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
    for arm, color in colors(results.arms).items():
        values = [arms_of_seed[arm][key] for arms_of_seed in results.by_seed.values() if arm in arms_of_seed]
        points = {"boxpoints": "all", "jitter": 0.4, "pointpos": 0, "marker": {"size": 9, "color": color}}
        figure.add_box(x=values, name=arm, orientation="h", line_width=1, **points)
    if chance is not None:
        figure.add_vline(x=chance, line_dash="dot", annotation_text="chance")
    names = {"autorange": "reversed", "automargin": True}
    figure.update_layout(height=130 + 34 * len(results.arms), showlegend=False, title=title, yaxis=names)
    return figure.update_xaxes(title=axis, rangemode="tozero")


def add_map(
    figure: go.Figure, points: Float[np.ndarray, "points 2"], labels: Sequence[str], *, row: int, column: int = 1
) -> None:
    """Add a map of labelled points of the plane, a colour for each label, to a subplot, counted from 1."""
    of_label = np.array(labels)
    known = {trace.name for trace in figure.data}
    for label, color in colors(labels).items():
        x, y = points[of_label == label].T
        marker = {"size": 9, "color": color}
        style = {"mode": "markers", "marker": marker, "name": label, "legendgroup": label}
        figure.add_scatter(x=x, y=y, row=row, col=column, showlegend=label not in known, **style)
