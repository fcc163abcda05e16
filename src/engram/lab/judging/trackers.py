"""What trackers of experiments keep, as tables: MLflow, TensorBoard, Weights & Biases, trackio, engram's own runs."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from engram import extras
from engram.lab.output.read_runs import NOTE, Note
from engram.lab.trial.metrics import read as read_metrics
from engram.storage.files import CorruptFileError, read_json, read_sealed

RUN = "run"
LONG = {"step": pl.Int64, "metric": pl.String, "value": pl.Float64}
_CHART = re.compile(r"(?P<run>.+) - (?P<metric>[^ ]+?)(?P<range>__MIN|__MAX)?")


def engram_runs(folder: Path) -> pl.DataFrame | None:
    """Results and metrics of the last run of an experiment, from its folder; None if it is not one.

    The results of a trial stand at its last step, in the place of curves of the same name.
    """
    folders = [folder] if (folder / NOTE).is_file() else sorted(path.parent for path in folder.glob(f"*/{NOTE}"))
    if not folders:
        return None
    if len(folders) > 1:
        names = ", ".join(path.name for path in folders[:5])
        raise ValueError(f"{folder}: expected the folder of one experiment, and it has those of {names}")
    (root,) = folders
    note = read_sealed(root / NOTE, Note)
    frames = []
    for trial in note["trials"]:
        place = root / trial["folder"]
        if not (place / "result.json").is_file():
            continue
        result = read_json(place / "result.json", dict)["result"]
        (metrics,) = read_metrics(place / "metrics.csv") if (place / "metrics.csv").is_file() else (_long([]),)
        last = int(metrics["step"].max() or 0)  # type: ignore[arg-type]
        results = _long([(last, name, value) for name, value in _numbers(result)])
        both = pl.concat([metrics.join(results, on="metric", how="anti"), results])
        frames.append(both.with_columns(arm=pl.lit(trial["arm"]), seed=pl.lit(trial["seed"], dtype=pl.Int64)))
    if not frames:
        raise ValueError(f"{root}: expected finished trials, and it has none")
    return pl.concat(frames)


def mlflow_folder(folder: Path) -> pl.DataFrame | None:
    """Metrics and parameters of the runs in a folder of MLflow; None if it is not one."""
    runs = sorted(path.parent for path in folder.glob("**/meta.yaml") if (path.parent / "metrics").is_dir())
    databases = [path for path in (folder / "mlflow.db", folder.parent / "mlflow.db") if path.is_file()]
    if not runs:
        return database(databases[0]) if databases and folder.name in ("mlruns", databases[0].parent.name) else None
    frames = []
    for run in runs:
        rows = []
        for path in sorted(path for path in (run / "metrics").rglob("*") if path.is_file()):
            name = path.relative_to(run / "metrics").as_posix()
            for line in path.read_text().splitlines():
                try:
                    _, value, *step = line.split()
                    rows.append((int(step[0]) if step else 0, name, float(value)))
                except ValueError:
                    raise CorruptFileError(path, f"expected a time, a value and a step, not {line!r}") from None
        settings = {
            f.relative_to(run / "params").as_posix(): f.read_text() for f in (run / "params").rglob("*") if f.is_file()
        }
        title = run / "tags" / "mlflow.runName"
        settings[RUN] = title.read_text() if title.is_file() else run.name
        frames.append(_with_settings(_long(rows), settings))
    return pl.concat(frames, how="diagonal_relaxed")


def event_files(folder: Path) -> pl.DataFrame | None:
    """The scalars of TensorBoard's event files; the folder of each is its run. None if there are no such files.

    Raises:
        ModuleNotFoundError: The extra ``tensorboard`` is not installed.
    """
    runs = sorted({path.parent for path in folder.rglob("*tfevents*") if path.is_file()})
    if not runs:
        return None
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ModuleNotFoundError as error:
        raise extras.missing("tensorboard", "reading event files", error) from error
    frames = []
    for run in runs:
        events = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        rows = [(event.step, tag, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
        for tag in events.Tags()["tensors"]:
            for event in events.Tensors(tag):
                value = make_ndarray(event.tensor_proto)
                if value.size == 1 and value.dtype.kind in "iuf":
                    rows.append((event.step, tag, float(value.reshape(()))))
        name = run.relative_to(folder).as_posix()
        frames.append(_with_settings(_long(rows), {RUN: run.name if name == "." else name}))
    return pl.concat(frames, how="diagonal_relaxed")


def wandb_chart(frame: pl.DataFrame) -> pl.DataFrame:
    """The export of a chart of Weights & Biases, a column a run, as a table with a row a run and step.

    Any other table, such as the export of a table of runs, is returned as it is.
    """
    first, *others = frame.columns
    named = {name: found for name in others if (found := _CHART.fullmatch(name))}
    if first not in ("Step", "_step", "Relative Time (Process)", "Relative Time (Wall)", "Wall Time", "global_step"):
        return frame
    if not named or not any(found["range"] for found in named.values()):
        return frame
    parts = [
        frame.select(
            pl.lit(found["run"]).alias(RUN),
            pl.col(first).alias("step"),
            pl.lit(found["metric"]).alias("metric"),
            pl.col(name).cast(pl.Float64).alias("value"),
        ).drop_nulls("value")
        for name, found in named.items()
        if not found["range"]
    ]
    return pl.concat(parts, how="vertical_relaxed")


def database(path: Path) -> pl.DataFrame:
    """The runs in a database of trackio or of MLflow.

    Raises:
        ValueError: It is another database.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            columns = {
                table: [column[1] for column in connection.execute(f"PRAGMA table_info('{table}')")]
                for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            }
            if "run_name" in columns.get("metrics", ()):
                return _trackio(connection, columns)
            if "run_uuid" in columns.get("metrics", ()):
                return _mlflow(connection)
        except sqlite3.DatabaseError as error:
            raise CorruptFileError(path, str(error)) from None
    raise ValueError(
        f"{path}: expected a database of trackio or MLflow, and it has tables {', '.join(columns) or 'none'}"
    )


def _trackio(connection: sqlite3.Connection, columns: Mapping[str, list[str]]) -> pl.DataFrame:
    """A row of its table ``metrics`` has all that was logged at a step, as JSON."""
    key = "run_id" if "run_id" in columns["metrics"] else "run_name"
    rows: dict[str, list[tuple[int, str, float]]] = {}
    names: dict[str, str] = {}
    for run, name, step, logged in connection.execute(f"SELECT {key}, run_name, step, metrics FROM metrics"):
        names[run] = name
        rows.setdefault(run, []).extend((int(step), metric, value) for metric, value in _numbers(json.loads(logged)))
    settings: dict[str, dict[str, Any]] = {run: {} for run in rows}
    if "config" in columns.get("configs", ()):
        own = key if key in columns["configs"] else "run_name"
        for run, config in connection.execute(f"SELECT {own}, config FROM configs"):
            settings.setdefault(run, {}).update(
                {name: value for name, value in json.loads(config).items() if not name.startswith("_")}
            )
    frames = [_with_settings(_long(own), {**settings[run], RUN: names[run]}) for run, own in rows.items()]
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def _mlflow(connection: sqlite3.Connection) -> pl.DataFrame:
    frames = []
    for run, name in connection.execute("SELECT run_uuid, name FROM runs WHERE lifecycle_stage = 'active'").fetchall():
        query = "SELECT step, key, CASE WHEN is_nan THEN NULL ELSE value END FROM metrics WHERE run_uuid = ?"
        rows = [
            (step, key, float("nan") if value is None else value)
            for step, key, value in connection.execute(query, [run])
        ]
        settings = dict(connection.execute("SELECT key, value FROM params WHERE run_uuid = ?", [run]).fetchall())
        frames.append(_with_settings(_long(rows), {**settings, RUN: name or run}))
    return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()


def _long(rows: list[tuple[int, str, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=LONG, orient="row")


def _with_settings(frame: pl.DataFrame, settings: Mapping[str, Any]) -> pl.DataFrame:
    """A frame with the settings of its run as constant columns; numbers in texts are numbers."""
    free = {name if name not in LONG else f"config.{name}": value for name, value in settings.items()}
    simple = {name: _number_of(value) for name, value in free.items() if isinstance(value, str | int | float | bool)}
    return frame.with_columns(pl.lit(value).alias(name) for name, value in simple.items())


def _number_of(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _numbers(logged: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in nested results, by their paths."""
    for name, value in logged.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) or value in ("NaN", "Infinity", "-Infinity"):
            yield f"{prefix}{name}", float(value)
