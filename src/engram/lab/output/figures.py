"""Figures of a run: learning curves, and building blocks for an experiment's own figures.

A figure is called with the results of a run and draws them: ``Points("error", "Error at the end")(results)``. If no
kind fits, use a function of the results.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import polars as pl
from jaxtyping import Float
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from engram import checks
from engram.errors import message_of
from engram.lab.output.results import Results
from engram.lab.trial.experiment import Experiment
from engram.lab.trial.metrics import over_seeds, windows
from engram.numeric.rounding import difference

# Okabe and Ito's colours, which colour-blind readers can distinguish.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
POINTS = 100
Figure = Callable[[Results], go.Figure]


def colors(names: Iterable[str]) -> dict[str, str]:
    """A distinct colour for each name: from ``PALETTE`` if it has enough, else spread over the rainbow."""
    different = list(dict.fromkeys(names))
    palette = PALETTE if len(different) <= len(PALETTE) else sample_colorscale("Turbo", len(different))
    return dict(zip(different, palette, strict=False))


def line_style(number: int) -> dict[str, str]:
    """The style of a line, distinct for up to 32 lines: when all colours are used, they repeat with dashed lines."""
    dashes = ("solid", "dash", "dot", "dashdot")
    return {"color": PALETTE[number % len(PALETTE)], "dash": dashes[number // len(PALETTE) % len(dashes)]}


def figures_of(
    experiment: Experiment, results: Results, *, curves: bool = True, broken: dict[str, str] | None = None
) -> dict[str, go.Figure]:
    """All figures of a run, by name: the experiment's own, those of its studies, and the curves of each metric.

    The names are ``figure``, ``figure-recovery`` and ``curves-loss``; if there are too many arms for one figure, the
    curves are split over ``curves-loss``, ``curves-loss~2`` and so on, by study. There are no curves if nothing is
    learned, and a figure is left out if the run lacks what it shows: no axes are drawn without a finished trial.

    Args:
        experiment: The experiment.
        results: The results of a run.
        curves: Whether to draw the curves, which take most of the time.
        broken: Receives the errors of figures that cannot be drawn, by name (default: the first is raised).

    Raises:
        ValueError: A figure cannot be drawn although the run is complete.
    """
    figures = {}
    finished_arms = {trial.arm for trial in results.trials if trial.state == "finished"}
    if not finished_arms:
        return {}
    is_complete = set(results.configs) == finished_arms
    recorded = not any(trial.folder for trial in results.trials)  # perhaps before the figures were changed
    drawers = {"figure": experiment.figure}
    drawers |= {
        f"figure-{name}": study.figure
        for name, study in experiment.by_name.items()
        if study.figure and finished_arms & set(study.table)
    }
    for name, figure in drawers.items():
        try:
            figures[name] = figure(results).update_layout(template="plotly_white")
        except Exception as error:  # of a function that is not ours
            if broken is not None:
                broken[name] = message_of(error)
            elif is_complete and not recorded:
                problem = f"the {name} of {experiment.name} cannot be drawn from its results: {message_of(error)}"
                raise ValueError(problem) from error
    if not curves or not results.headline:
        return figures
    steps_of = results.metrics.group_by("metric", "arm", maintain_order=True).agg(pl.col("step").n_unique())
    logged = [(metric, arm) for metric, arm, steps in steps_of.rows() if steps > 1]
    for metric in sorted(dict(logged), key=lambda metric: metric != results.headline):
        arms = [arm for arm in results.arms if (metric, arm) in logged]
        studies = [[arm for arm in arms if arm in study.table] for study in experiment.by_name.values()]
        # arms that only an older version of the experiment had
        studies.append([arm for arm in arms if not any(arm in study_arms for study_arms in studies)])
        size = len(PALETTE)
        groups = [
            study_arms[start : start + size] for study_arms in studies for start in range(0, len(study_arms), size)
        ]
        for number, figure_arms in enumerate(groups, start=1):
            name = f"curves-{metric}" + (f"~{number}" if number > 1 else "")
            figures[name] = learning_curves(results, metric, figure_arms)
    return figures


def learning_curves(results: Results, metric: str, arms: Sequence[str] | None = None) -> go.Figure:
    """One metric over the steps of training, arm by arm; long curves as the means of at most 100 windows.

    Args:
        results: The results.
        metric: Its name.
        arms: The arms to show (default: all).
    """
    traces: list[dict[str, Any]] = []  # of which plotly makes one figure in half the time that adding each takes
    for arm, color in colors(results.arms if arms is None else arms).items():
        rows = results.metrics.filter((pl.col("arm") == arm) & (pl.col("metric") == metric))
        if rows.is_empty():
            continue
        line: Callable[..., dict[str, Any]] = partial(dict, type="scatter", mode="lines", legendgroup=arm)
        curves = windows(rows, POINTS)
        # One trace, with gaps, has the curves of all seeds: a trace for each seed would make a page slow.
        gaps = curves.select(pl.col("seed").unique(), step=None, value=None)
        seeds = pl.concat([curves.drop("window"), gaps], how="vertical_relaxed").sort("seed", maintain_order=True)
        x, y = seeds["step"].to_list(), seeds["value"].to_list()
        style: dict[str, Any] = {"line": {"color": color, "width": 0.7}, "opacity": 0.45}
        hover = f"{arm}, seed %{{customdata}}: (%{{x}}, %{{y}})<extra></extra>"
        style |= {"customdata": seeds["seed"].to_list(), "hovertemplate": hover}
        band = over_seeds(curves, POINTS)
        steps, mean, low, high = (band[column].to_list() for column in ("step", "mean", "low", "high"))
        of_mean = f"{arm}, mean of %{{customdata}} seeds: (%{{x}}, %{{y}})<extra></extra>"
        mean_style: dict[str, Any] = {"line": {"color": color, "width": 2.5}, "hovertemplate": of_mean}
        mean_style["customdata"] = band["seeds"].to_list()
        area = {"fill": "toself", "fillcolor": color, "opacity": 0.12, "line": {"width": 0}}
        traces += [
            line(x=x, y=y, name=arm, showlegend=False, **style),
            line(x=steps + steps[::-1], y=high + low[::-1], hoverinfo="skip", showlegend=False, **area),
            line(x=steps, y=mean, name=arm, **mean_style),
        ]
    title = f"{results.experiment}: {metric}"
    axes = {"xaxis_title": "step", "yaxis_title": metric}
    return go.Figure(traces, {"template": "plotly_white", "title": title, "hovermode": "closest", **axes})


@dataclass(frozen=True)
class Points:
    """A number of the results for each arm: one point per seed, and a box around them.

    Attributes:
        key: Its key.
        title: Title of the figure.
        axis: Title of the axis.
        chance: Where a line marks chance (default: none).
        arms: The arms to show (default: all).
        range: Ends of the axis (default: from 0 to the largest value).
    """

    key: str
    title: str = ""
    axis: str = ""
    chance: float | None = None
    arms: Sequence[str] | None = None
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _refuse_text(self.arms)

    def __call__(self, results: Results) -> go.Figure:
        """Draw it."""
        figure = go.Figure()
        arms = [arm for arm in results.arms if self.arms is None or arm in self.arms]
        shades = (
            colors(arms) if len(arms) <= len(PALETTE) else dict.fromkeys(arms, PALETTE[0])
        )  # the names stand beside the boxes
        for arm, color in shades.items():
            points = {"boxpoints": "all", "jitter": 0.4, "pointpos": 0, "marker": {"size": 9, "color": color}}
            figure.add_box(x=results.values(arm, self.key), name=arm, orientation="h", line_width=1, **points)
        if self.chance is not None:
            figure.add_vline(x=self.chance, line_dash="dot", annotation_text="chance")
        names = {"autorange": "reversed", "automargin": True}
        figure.update_layout(height=130 + 34 * len(arms), showlegend=False, title=self.title, yaxis=names)
        return figure.update_xaxes(title=self.axis, rangemode="tozero", range=self.range)


@dataclass(frozen=True)
class Lines:
    """A logged metric over the steps, averaged over seeds.

    Attributes:
        metric: Its name.
        title: Title of the figure.
        x_axis: Title of the axis of steps.
        y_axis: Title of the axis of values.
        arms: The arms to show (default: all); or a mapping from each arm to the name under which it is shown.
        average: How the seeds are averaged.
        log: Whether the axis of values is logarithmic.
    """

    metric: str
    title: str = ""
    x_axis: str = "step"
    y_axis: str = ""
    arms: Sequence[str] | Mapping[str, str] | None = None
    average: Literal["mean", "median"] = "mean"
    log: bool = False

    def __post_init__(self) -> None:
        _refuse_text(self.arms)
        checks.choice("average", self.average, ("mean", "median"))

    def __call__(self, results: Results) -> go.Figure:
        """Draw them."""
        figure = go.Figure()
        arms = results.arms if self.arms is None else [arm for arm in self.arms if arm in results.arms]
        arm_names = self.arms if isinstance(self.arms, Mapping) else {}
        for number, arm in enumerate(arms):
            style = line_style(number)
            add_line(figure, results, arm, self.metric, average=self.average, name=arm_names.get(arm, arm), line=style)
        figure.update_layout(title=self.title, xaxis_title=self.x_axis, yaxis_title=self.y_axis)
        return figure.update_yaxes(type="log", exponentformat="power") if self.log else figure


@dataclass(frozen=True)
class Profiles:
    """Lists of numbers that trials return, averaged over seeds and drawn as lines.

    Attributes:
        lines: For the name of each line, its arm and the key of its list.
        x: The positions of the numbers on the horizontal axis; or the key of such a list in the same result. Where they
            differ between seeds, profiles are interpolated linearly at all positions that lie within those of every
            seed; they must then be ascending numbers.
        title: Title of the figure.
        x_axis: Title of the horizontal axis.
        y_axis: Title of the vertical axis.
        log: The logarithmic axes, as in ``"x"`` or ``"xy"``.
    """

    lines: Mapping[str, tuple[str, str]]
    x: Sequence[Any] | str
    title: str = ""
    x_axis: str = ""
    y_axis: str = ""
    log: str = ""

    def __post_init__(self) -> None:
        checks.choice("log", self.log, ("", "x", "y", "xy", "yx"))

    def __call__(self, results: Results) -> go.Figure:
        """Draw them."""
        figure = go.Figure()
        for number, (name, (arm, key)) in enumerate(self.lines.items()):
            if lists := results.values(arm, key):
                x = results.values(arm, self.x) if isinstance(self.x, str) else [self.x] * len(lists)
                shared, mean = mean_profile(x, lists, name)
                figure.add_scatter(x=shared, y=mean, name=name, mode="lines+markers", line=line_style(number))
        for axis in self.log:
            figure.update_layout({f"{axis}axis_type": "log"})
        return figure.update_layout(title=self.title, xaxis_title=self.x_axis, yaxis_title=self.y_axis)


def mean_profile(
    x: Sequence[Sequence[Any]], y: Sequence[Sequence[float]], name: str
) -> tuple[Sequence[Any], Float[np.ndarray, " positions"]]:
    """The positions of several profiles, and their mean; profiles at different positions are interpolated.

    Args:
        x: The positions of each profile.
        y: The numbers of each profile.
        name: The name of the line, for errors.

    Raises:
        ValueError: The positions differ and are not ascending numbers, or have no common range.

    Examples:
        >>> mean_profile([[0, 1, 2], [0, 2]], [[0.0, 1.0, 2.0], [0.0, 4.0]], "x and 2 x")
        ([0.0, 1.0, 2.0], array([0. , 1.5, 3. ]))
    """
    if all(len(each) == len(x[0]) and all(map(_is_same, each, x[0])) for each in x):
        return x[0], np.mean(y, axis=0)
    low, high = -math.inf, math.inf
    for seed, (positions, numbers) in enumerate(zip(x, y, strict=True)):
        is_number = all(isinstance(position, float | int) for position in positions)
        if not is_number or len(positions) != len(numbers) or any(not a < b for a, b in itertools.pairwise(positions)):
            expected = f"expected {len(numbers)} ascending numbers, since positions differ between seeds"
            raise ValueError(f"{name}: the positions of profile {seed} are {checks.shown(positions)}: {expected}")
        low, high = max(low, min(positions, default=math.inf)), min(high, max(positions, default=-math.inf))
    if low > high:
        raise ValueError(f"{name}: the profiles have no positions in common: expected ranges that overlap")
    shared = sorted({float(position) for positions in x for position in positions if low <= position <= high})
    return shared, np.mean([np.interp(shared, *profile) for profile in zip(x, y, strict=True)], axis=0)


def _is_same(a: Any, b: Any) -> bool:
    """Whether two positions are equal, numbers up to rounding."""
    return a == b or (isinstance(a, float | int) and isinstance(b, float | int) and difference(a, b) == 0)


@dataclass(frozen=True)
class Heatmap:
    """A matrix that trials of an arm return, averaged over seeds.

    Attributes:
        arm: The arm.
        key: The key of the matrix.
        title: Title of the figure.
        x_axis: Title of the axis of columns.
        y_axis: Title of the axis of rows.
        range: The values at the ends of the colour scale (default: the smallest and the largest).
    """

    arm: str
    key: str
    title: str = ""
    x_axis: str = ""
    y_axis: str = ""
    range: tuple[float | None, float | None] = (None, None)

    def __call__(self, results: Results) -> go.Figure:
        """Draw it."""
        figure = go.Figure()
        if matrices := results.values(self.arm, self.key):
            low, high = self.range
            figure.add_heatmap(z=np.mean(matrices, axis=0), zmin=low, zmax=high, colorscale="Viridis")
        figure.update_yaxes(autorange="reversed", title=self.y_axis)
        return figure.update_layout(title=self.title, xaxis_title=self.x_axis)


@dataclass(frozen=True)
class Grid:
    """Several figures as panels of one, in rows.

    Where panels show the same methods on different tasks, as the arms ``maze-lstm`` and ``bandit-lstm``, they are named
    and coloured by the method, and the legend has each method once.

    Attributes:
        figures: The figures, row by row; the title of each stands above its panel.
        columns: Panels in a row.
        title: Title of the figure.
        height: Height in pixels (default: 380 for each row).
    """

    figures: Sequence[Figure]
    columns: int = 2
    title: str = ""
    height: int | None = None

    def __post_init__(self) -> None:
        checks.size("columns", self.columns)
        if not self.figures:
            raise ValueError("figures = []: expected at least one")

    def __call__(self, results: Results) -> go.Figure:
        """Draw them."""
        panels = [figure(results) for figure in self.figures]
        rows = -(-len(panels) // self.columns)
        specs: list[list[Any]] = [[{}] * self.columns for _ in range(rows)]
        specs[-1][1 + (len(panels) - 1) % self.columns :] = [None] * (rows * self.columns - len(panels))
        titles = [panel.layout.title.text or "" for panel in panels]
        grid = make_subplots(rows, self.columns, specs=specs, subplot_titles=titles, vertical_spacing=0.3 / rows)
        _name_by_method(panels)
        trace_of_name: dict[str, Any] = {}
        for number, panel in enumerate(panels):
            cell = {"row": 1 + number // self.columns, "col": 1 + number % self.columns}
            for trace in panel.data:
                if panel.layout.showlegend is False:
                    trace.update(showlegend=False)
                elif trace.name in trace_of_name:
                    trace.update(showlegend=False, legendgroup=trace.name)
                    if trace.type == trace_of_name[trace.name].type == "scatter":
                        trace.update(line={style: trace_of_name[trace.name].line[style] for style in ("color", "dash")})
                elif trace.name:
                    trace.update(legendgroup=trace.name)
                    trace_of_name[trace.name] = trace
                grid.add_trace(trace, **cell)
            for axis in ("xaxis", "yaxis"):
                axis_layout = panel.layout[axis].to_plotly_json()
                settings = {name: item for name, item in axis_layout.items() if name not in ("anchor", "domain")}
                getattr(grid, f"update_{axis[0]}axes")(settings, **cell)
            for shape in panel.layout.shapes:
                grid.add_shape(shape, **cell)
        return grid.update_layout(title=self.title, height=self.height or 380 * rows)


def _refuse_text(arms: object) -> None:
    """Raise TypeError if ``arms`` is one name, of which each part would be taken for a name."""
    if isinstance(arms, str):
        raise TypeError(f"arms = {arms!r}: expected a list of names")


def _name_by_method(panels: Sequence[go.Figure]) -> None:
    """Remove the task from the names in panels' legends if another panel shows the same method on another task."""
    task_methods = []
    for panel in panels:
        names = {trace.name for trace in panel.data if trace.name}
        words = zip(*(name.split("-")[:-1] for name in names), strict=False) if len(names) > 1 else []
        task = "".join(f"{word[0]}-" for word in takewhile(lambda word: len(set(word)) == 1, words))
        task_methods.append((task, {name.removeprefix(task) for name in names}))
    for panel, (task, methods) in zip(panels, task_methods, strict=True):
        if any(task and other and other != task and methods & other_methods for other, other_methods in task_methods):
            panel.for_each_trace(lambda trace, task=task: trace.update(name=trace.name.removeprefix(task)))


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
    """Add a line to a figure: a metric of an arm over the steps, averaged over seeds; no line if it was not logged.

    Args:
        figure: The figure.
        results: The results.
        arm: The arm.
        metric: Name of the metric.
        average: How the seeds are averaged.
        place: Row and column of the subplot, counted from 1 (default: the only one).
        **style: Further arguments of ``go.Scatter``.
    """
    rows = results.metrics.filter((pl.col("arm") == arm) & (pl.col("metric") == metric))
    if rows.is_empty():
        return
    curve = over_seeds(rows)
    hover = "%{fullData.name}, " + average + " of %{customdata} seeds: (%{x}, %{y})<extra></extra>"
    seeds = {"customdata": curve["seeds"].to_list(), "hovertemplate": hover}
    trace = go.Scatter(x=curve["step"].to_list(), y=curve[average].to_list(), mode="lines", **seeds, **style)
    figure.add_trace(trace, *(place or ()))


def add_map(
    figure: go.Figure, points: Float[np.ndarray, "points 2"], labels: Sequence[str], *, row: int, column: int = 1
) -> None:
    """Add labelled points of the plane to a subplot, with a colour for each label.

    Args:
        figure: The figure.
        points: The points.
        labels: Their labels.
        row: Row of the subplot, counted from 1.
        column: Its column.
    """
    label_array = np.array(labels)
    trace_names = {trace.name for trace in figure.data}
    for label, color in colors(labels).items():
        x, y = points[label_array == label].T
        marker = {"size": 9, "color": color}
        style = {"mode": "markers", "marker": marker, "name": label, "legendgroup": label}
        figure.add_scatter(x=x, y=y, row=row, col=column, showlegend=label not in trace_names, **style)
