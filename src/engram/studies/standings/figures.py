"""Figures of a comparison: mean ranks with their critical difference, results against cost, learning curves."""

from __future__ import annotations

import math

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.studies.standings.scores import Scores

OWN, OTHER = "#D55E00", "#8a96a3"
COLUMNS = 2


def figures_of(scores: Scores) -> dict[str, go.Figure]:
    """All figures, by name; the candidates asked about have one colour throughout."""
    figures = {"ranks": ranks(scores), "costs": costs(scores), "curves": curves(scores)}
    return {name: figure.update_layout(template="plotly_white") for name, figure in figures.items() if figure.data}


def ranks(scores: Scores) -> go.Figure:
    """A critical-difference diagram: mean ranks, with bars that join candidates that do not differ significantly."""
    figure, order = go.Figure(), scores.ranks
    if len(order.mean) < 2:
        return figure
    names, means = list(order.mean), list(order.mean.values())
    marked, groups = [_color(scores, name) for name in names], order.groups
    for index, mean in enumerate(means):
        stem = {"color": OTHER, "width": 1, "dash": "dot"}
        figure.add_scatter(x=[mean, mean], y=[-len(groups) - 1, index], mode="lines", line=stem, hoverinfo="skip")
    for level, group in enumerate(groups, 1):
        ends = [order.mean[group[0]], order.mean[group[-1]]]
        bar = {"color": "black", "width": 5}
        figure.add_scatter(x=ends, y=[-level, -level], mode="lines", line=bar, name=", ".join(group))
    figure.add_scatter(
        x=means,
        y=list(range(len(names))),
        customdata=names,
        mode="markers",
        marker={"size": 11, "color": marked},
        hovertemplate="%{customdata}: %{x:.2f}<extra></extra>",
    )
    title = f"Mean ranks over {len(order.tasks)} tasks; a bar joins methods that differ by less than the critical "
    title += f"difference, {order.critical:.2g}"
    ticks = {"tickvals": list(range(len(names))), "ticktext": names, "autorange": "reversed", "automargin": True}
    axes = {"xaxis_title": "mean rank (1 is the best)", "yaxis": ticks}
    height = 110 + 24 * len(names) + 14 * len(groups)
    return figure.update_layout(title=title, height=height, showlegend=False, **axes)


def costs(scores: Scores) -> go.Figure:
    """The measure against the time per step, task by task; a line joins the candidates that no other beats in both."""
    tasks = [
        task
        for task in scores.tasks
        if any(math.isfinite(entry.step_seconds) for entry in scores.entries[task.name].values())
    ]
    if not tasks:
        return go.Figure()
    figure = make_subplots(-(-len(tasks) // COLUMNS), COLUMNS, subplot_titles=[task.name for task in tasks])
    for number, task in enumerate(tasks):
        row = scores.entries[task.name]
        points = {
            name: (1000 * row[name].step_seconds, row[name].mean, score)
            for name, score in scores.scores[task.name].items()
            if math.isfinite(row[name].step_seconds)
        }
        cell = {"row": 1 + number // COLUMNS, "col": 1 + number % COLUMNS}
        front = [
            name
            for name, (time, _, score) in points.items()
            if not any(other_time < time and other_score >= score for other_time, _, other_score in points.values())
        ]
        front.sort(key=lambda name: points[name][0])
        line = {"color": OTHER, "width": 1, "dash": "dot"}
        x, y = [points[name][0] for name in front], [points[name][1] for name in front]
        figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", **cell)
        figure.add_scatter(
            x=[time for time, _, _ in points.values()],
            y=[mean for _, mean, _ in points.values()],
            text=[name if name in scores.own or name in front else "" for name in points],
            customdata=list(points),
            mode="markers+text",
            textposition="top center",
            marker={"size": 9, "color": [_color(scores, name) for name in points]},
            hovertemplate="%{customdata}: %{y:.3g}, %{x:.3g} ms<extra></extra>",
            **cell,
        )
    figure.update_xaxes(title="milliseconds per step", type="log")
    height = 320 * -(-len(tasks) // COLUMNS)
    return figure.update_layout(title="Result against cost", height=height, showlegend=False)


def curves(scores: Scores) -> go.Figure:
    """Learning curves, task by task: the candidates asked about, the best other candidate, and the trivial one."""
    tasks = [task for task in scores.tasks if any(entry.curve[0] for entry in scores.entries[task.name].values())]
    if not tasks:
        return go.Figure()
    titles = [f"{task.name} ({task.curve_in_words})" for task in tasks]
    figure = make_subplots(-(-len(tasks) // COLUMNS), COLUMNS, subplot_titles=titles)
    for number, task in enumerate(tasks):
        row, means = scores.entries[task.name], scores.scores[task.name]
        best = max((name for name in means if name not in scores.own), key=means.__getitem__, default="")
        for name, entry in row.items():
            steps, values = entry.curve
            if not steps:
                continue
            marked = name in (*scores.own, best, task.trivial)
            figure.add_scatter(
                x=list(steps),
                y=list(values),
                mode="lines+text" if marked else "lines",
                text=[*[""] * (len(steps) - 1), name] if marked else None,
                textposition="bottom left",
                line={"color": _color(scores, name), "width": 3 if name in scores.own else 1},
                opacity=1.0 if marked else 0.35,
                name=name,
                row=1 + number // COLUMNS,
                col=1 + number % COLUMNS,
            )
    height = 320 * -(-len(tasks) // COLUMNS)
    return figure.update_layout(title="Learning curves, means over seeds", height=height, showlegend=False)


def _color(scores: Scores, name: str) -> str:
    return OWN if name in (scores.own or scores.leaders) else OTHER
