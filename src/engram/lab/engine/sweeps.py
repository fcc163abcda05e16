"""Runs an experiment at many settings, with separate seeds, and compares its arms in one table."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import polars as pl
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from engram import checks, references
from engram.lab.engine.console import progress_console
from engram.lab.engine.laboratory import perform_jobs, say_own_values
from engram.lab.engine.plan import device_of, say_expected, unfinished, workers_for
from engram.lab.engine.stop import end, stop_file, stoppable
from engram.lab.engine.times import timed
from engram.lab.output.export import file_name
from engram.lab.output.figures import PALETTE
from engram.lab.trial import config as configs
from engram.lab.trial.experiment import Arm, Experiment, find_experiment
from engram.lab.trial.folder import Status
from engram.lab.trial.job import Job, prepare
from engram.lab.trial.provenance import digests
from engram.lab.trial.trial import Trial, trials
from engram.run_options import RunOptions
from engram.storage.files import runs_folder, write_atomic, writing

PILOT = 1000
"""The first seed of a sweep. Runs that judge claims use seeds from 0, so that settings are not tuned on those."""
DECADE = 10


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, drawn log-uniformly if both are positive and a factor of ten or more apart."""

    low: float
    high: float

    def __post_init__(self) -> None:
        checks.number("low", self.low)
        checks.number("high", self.high, above=self.low)

    def rvs(self, random_state: np.random.RandomState) -> float:
        """Draw a number, as scikit-learn's samplers do; an integer if both ends are.

        Args:
            random_state: Source of randomness.
        """
        of_integers = isinstance(self.low, int) and isinstance(self.high, int)
        if self.low > 0 and self.high >= DECADE * self.low:
            sample = math.exp(random_state.uniform(math.log(self.low), math.log(self.high)))
        elif of_integers:
            sample = random_state.randint(int(self.low), int(self.high) + 1)
        else:
            sample = random_state.uniform(self.low, self.high)
        if of_integers:
            return round(sample)
        return float(min(max(float(f"{sample:.4g}"), self.low), self.high))  # rounding may lead beyond an end


def sweep(
    experiment: str | Experiment,
    *,
    samples: int | None = None,
    metric: str | None = None,
    preset: str = "laptop",
    seeds: int = 1,
    first_seed: int = PILOT,
    arms: Sequence[str] | None = None,
    jobs: int | None = None,
    runs: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    **values: Any,
) -> pl.DataFrame:
    """Run an experiment at many settings of its config; finished trials are reused, interrupted ones resume.

    The table and a figure are also written to ``sweep-FIELDS`` in the experiment's folder of runs.

    Args:
        experiment: The experiment, or its name in the registry.
        samples: Number of settings to draw at random, always the same ones, instead of a grid of all combinations.
        metric: The result that the figure shows (default: the experiment's headline, or the first).
        preset: The preset, as in ``run``, for the other fields.
        seeds: Number of seeds.
        first_seed: The first of them.
        arms: Only these arms (default: all).
        jobs: Number of trials at once (default: as many as fit on the cores, if workers are worth starting).
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``).
        device: As for ``run``.
        progress: Show the progress on the standard error stream.
        **values: For each field to change, a list or array of values, one value or, with ``samples``, a ``Range``; for
            the field of a study or an arm, ``**{"ring.neurons": [50, 100]}``.

    Returns:
        A polars frame with a row for each setting, arm and seed: the fields, arm, seed, state, and the numbers of the
        trial's result, null unless it is finished.

    Raises:
        KeyboardInterrupt: As in ``run``; its ``results`` are the table.
        TypeError, ValueError: An argument is not as described, or a setting is out of range.
        CannotWriteError: The folder of runs cannot be written.

    Examples:
        >>> options = {"preset": "smoke", "arms": ["plastic"], "jobs": 1, "progress": False}
        >>> table = sweep("pattern-completion", **{"plastic.learning_rate": [1e-3, 3e-3]}, **options)
        >>> table["plastic.learning_rate"].to_list(), table["seed"].to_list()
        ([0.001, 0.003], [1000, 1000])
    """
    references.refuse_while_loading("engram.lab.sweep")
    experiment = find_experiment(experiment)
    console = progress_console(shown=progress)
    options = RunOptions(preset=preset, seeds=seeds, arms=arms, jobs=jobs, runs=runs, device=device, keep_state=False)
    checks.choice("preset", preset, experiment.presets)
    settings = settings_of(values, samples)
    which: dict[str, Any] = {"seeds": seeds, "first": checks.size("first_seed", first_seed, 0), "arms": arms}
    todo: list[tuple[dict[str, Any], Trial]] = [
        (setting, trial)
        for setting in settings
        for trial in trials(experiment, _arms(experiment, preset, setting, arms), device=device_of(device), **which)
    ]
    first = settings[0]
    say_own_values(experiment, experiment.arms(preset, first), first, arms, console)
    root = runs_folder(runs) / experiment.name
    stop, loaded = stop_file(root), digests()
    all_trials = timed(experiment, (trial for _, trial in todo), root)
    all_jobs = [prepare(trial, root, stop, options, loaded=loaded) for trial in all_trials]
    # Arms that do not depend on a field have the same trials at several settings.
    distinct = list({job.folder.path: job for job in all_jobs}.values())
    remaining = unfinished(experiment, distinct)
    workers = workers_for(experiment, options, remaining)
    title = f"{experiment.name}, preset {preset}, {len(settings)} setting{'s' * (len(settings) > 1)}"
    console.print(say_expected(title, distinct, workers), highlight=False, soft_wrap=True)
    names_by_folder: dict[Path, str] = {}
    for job, name in zip(all_jobs, _names(todo), strict=True):
        names_by_folder.setdefault(job.folder.path, name)
    names = [names_by_folder[job.folder.path] for job in remaining]
    with stoppable(stop, console):
        statuses = perform_jobs(remaining, console, workers, lambda job: [], names=names)
    rows = [
        {**_cells(setting), **_row(job, statuses, set(values))}
        for (setting, _), job in zip(todo, all_jobs, strict=True)
    ]
    table = pl.DataFrame(rows, infer_schema_length=None)
    _write(experiment, table, list(values), metric, folder_of(experiment, runs, list(values)))
    end(stop, table)
    return table


def _cells(setting: Mapping[str, Any]) -> dict[str, Any]:
    """The values of settings as a table has them: what is no number, word or list of these in words of JSON."""
    return {
        name: json.dumps(value)
        if isinstance(value, Mapping) or (isinstance(value, list) and any(isinstance(v, list | dict) for v in value))
        else value
        for name, value in setting.items()
    }


def _arms(
    experiment: Experiment, preset: str, setting: Mapping[str, Any], arms: Sequence[str] | None
) -> dict[str, Arm]:
    """The arms at a setting; raises ValueError if none that is to run depends on one of its fields."""
    experiment.changed(preset, setting, arms)
    return experiment.arms(preset, setting)


def _names(todo: Sequence[tuple[Mapping[str, Any], Trial]]) -> list[str]:
    """Names of trials, made of the fields that vary among them."""
    rows = [{**setting, "arm": trial.arm, "seed": trial.seed} for setting, trial in todo]
    varies = [name for name in rows[0] if len({repr(row[name]) for row in rows}) > 1] or ["arm", "seed"]
    return [", ".join(str(row[name]) if name == "arm" else f"{name} {row[name]}" for name in varies) for row in rows]


def settings_of(values: Mapping[str, Any], samples: int | None) -> list[dict[str, Any]]:
    """The settings of a sweep: all combinations, or a number of distinct ones drawn at random."""
    if not values:
        raise ValueError("no field to change: expected at least one with its values")
    lists = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
    options: dict[str, Any] = {
        name: value if isinstance(value, list | tuple | Range) else [value] for name, value in lists.items()
    }
    for name, value in options.items():
        if not isinstance(value, Range):  # 0.1 and 0.10 are one setting
            options[name] = list({repr(item): item for item in map(configs.plain, value)}.values())
        if samples is None and isinstance(value, Range):
            raise ValueError(f"{name} = {value.low:g}:{value.high:g}: a range needs samples, the number to draw")
        if not isinstance(value, Range) and not value:
            raise ValueError(f"{name} = {value!r}: expected at least one value")
    if samples is None:
        return [dict(zip(options, combination, strict=True)) for combination in itertools.product(*options.values())]
    from sklearn.model_selection import ParameterSampler

    # Without a range no setting is drawn twice, so their number is limited.
    all_settings = math.prod(math.inf if isinstance(value, Range) else len(value) for value in options.values())
    sampled_settings = ParameterSampler(options, min(checks.size("samples", samples), all_settings), random_state=0)
    return list({repr(setting): setting for setting in sampled_settings}.values())


def folder_of(experiment: Experiment, runs: str | Path | None, names: Iterable[str]) -> Path:
    """The folder for the table and figure of a sweep over some fields, of whose names a long one has a digest.

    Args:
        experiment: The experiment.
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``).
        names: Names of the fields.
    """
    return runs_folder(runs) / experiment.name / file_name(f"sweep-{'-'.join(names)}")


def compare_arms(experiment: Experiment, table: pl.DataFrame, names: Sequence[str], metric: str | None) -> pl.DataFrame:
    """A metric for each setting and arm of a sweep; with several seeds, its mean, range and number of seeds.

    Args:
        experiment: The experiment.
        table: The table that ``sweep`` returned.
        names: Names of the fields that were changed.
        metric: Name of the metric (default: the experiment's headline, or the first).
    """
    metric_name = _metric(experiment, table, names, metric)
    group_columns = [*names, "arm"]
    if metric_name is None:
        return table.group_by(group_columns, maintain_order=True).agg(seeds=(pl.col("state") == "finished").sum())
    column = pl.col(metric_name)
    if table["seed"].n_unique() == 1:
        return table.select(*group_columns, column)
    return table.group_by(group_columns, maintain_order=True).agg(
        column.count().alias("seeds"),
        column.min().alias("lowest"),
        column.max().alias("highest"),
        column.mean().alias(f"mean {metric_name}"),
    )


def _metric(experiment: Experiment, table: pl.DataFrame, names: Sequence[str], metric: str | None) -> str | None:
    """The metric to compare: the requested one, the headline or the first; None if no trial is done."""
    metrics = table.columns[len(names) + 3 :]
    if metric is not None and metrics:
        return checks.choice("metric", metric, metrics)
    return experiment.headline if experiment.headline in metrics else metrics[0] if metrics else None


def _row(job: Job, last: Mapping[str, Status], fields: set[str]) -> dict[str, Any]:
    name = job.folder.path.name
    stored = job.folder.result()
    # A process that was killed may have written the result but not the state.
    state = "finished" if stored is not None else (last[name] if name in last else job.folder.status()).state
    numbers = {
        name: value for name, value in (stored or {"result": {}})["result"].items() if isinstance(value, int | float)
    }
    result_values = {
        f"result.{name}" if name in {*fields, "arm", "seed", "state"} else name: float(v) for name, v in numbers.items()
    }
    return {"arm": job.trial.arm, "seed": job.trial.seed, "state": state, **result_values}


def _write(experiment: Experiment, table: pl.DataFrame, names: Sequence[str], metric: str | None, folder: Path) -> None:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    nested = [name for name, dtype in table.schema.items() if dtype.is_nested()]
    plain = table.with_columns(pl.col(name).map_elements(_as_json, pl.String) for name in nested)
    write_atomic(folder / "table.csv", plain.write_csv().encode())
    metric_name = _metric(experiment, table, names, metric)
    if metric_name is not None:
        page = _figure(experiment, table, names, metric_name).to_html(include_plotlyjs="directory")
        write_atomic(folder / "figure.html", page.encode())
        write_atomic(folder / "plotly.min.js", get_plotlyjs().encode())


def _coordinates(values: Sequence[Any], all_values: Sequence[Any]) -> list[Any]:
    """Where the values of a setting are drawn: numbers where they are, and all in words unless all are numbers."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in all_values):
        return list(values)
    return [str(value) for value in values]


def _as_json(values: pl.Series) -> str:
    return json.dumps(values.to_list())


def _figure(experiment: Experiment, table: pl.DataFrame, names: Sequence[str], metric: str) -> go.Figure:
    """Draw a metric against each field, one point per trial, with the means of trials that have the same value."""
    figure = make_subplots(cols=len(names), shared_yaxes=True)
    finished_rows = table.drop_nulls(metric)
    for (arm, color), (column, name) in itertools.product(
        zip(finished_rows["arm"].unique(maintain_order=True), itertools.cycle(PALETTE)), enumerate(names, 1)
    ):
        rows = finished_rows.filter(pl.col("arm") == arm)
        x = _coordinates(rows[name].to_list(), finished_rows[name].to_list())
        style = {"marker_color": color, "legendgroup": arm, "name": arm}
        figure.add_scatter(
            x=x, y=rows[metric].to_list(), mode="markers", opacity=0.5, showlegend=False, **style, row=1, col=column
        )
        means = rows.group_by(name, maintain_order=True).agg(pl.col(metric).mean()).sort(name, nulls_last=False)
        line = {"x": _coordinates(means[name].to_list(), finished_rows[name].to_list()), "y": means[metric].to_list()}
        figure.add_scatter(**line, mode="lines+markers", showlegend=column == 1, **style, row=1, col=column)
        numbers = all(isinstance(value, int | float) and value > 0 for value in x)
        log = numbers and max(x) >= DECADE * min(x)
        figure.update_xaxes(title=name, type="log" if log else None, row=1, col=column)
    figure.update_yaxes(title=metric, col=1)
    return figure.update_layout(template="plotly_white", title=f"{experiment.name}: {metric} by {', '.join(names)}")
