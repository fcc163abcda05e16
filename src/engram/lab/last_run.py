"""Results read back: of the last run, from the note beside its trials, or of a run that is kept as a record."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from typing_extensions import TypedDict

from engram import checks, registry
from engram.lab import config as configs
from engram.lab.experiment import Experiment
from engram.lab.folder import Identity, Status, TrialFolder
from engram.lab.metrics import SCHEMA
from engram.lab.results import Results, TrialResult
from engram.lab.worker import Job
from engram.storage.files import CorruptFileError, read_json, write_json

NOTE = "last-run.json"
COLUMNS = {"arm": pl.String, "seed": pl.Int64, **SCHEMA}


class Entry(TypedDict):
    """One trial of a run."""

    arm: str
    seed: int
    folder: str


class Note(TypedDict):
    """What a run consists of."""

    preset: str
    changed: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    seeds: int
    trials: list[Entry]


def runs_folder(runs: str | Path | None = None) -> Path:
    """Return the folder of all runs: the argument, else ``ENGRAM_RUNS``, else ``runs`` here."""
    if runs is not None and not isinstance(runs, str | os.PathLike):
        raise TypeError(f"runs = {runs!r}: expected the path of a folder")
    return Path(runs or os.environ.get("ENGRAM_RUNS") or "runs").absolute()


def resolve(experiment: str | Experiment) -> Experiment:
    """Return an experiment by its name in the registry, or as it is.

    Raises:
        ValueError, TypeError: Nothing has this name, or something that is no experiment.
    """
    if isinstance(experiment, Experiment):
        return experiment
    found = registry.get("experiments", experiment)
    if not isinstance(found, Experiment):
        raise TypeError(f"experiment {experiment!r} is registered as a {type(found).__name__}, not an Experiment")
    return found


def write_note(root: Path, *, preset: str, changed: Mapping[str, Any], seeds: int, jobs: Sequence[Job]) -> Note:
    """Note what a run consists of, for ``load``, ``engram list`` and ``engram report``; return the note."""
    note: Note = {
        "preset": preset,
        "changed": dict(changed),
        "arms": {job.trial.arm: configs.to_dict(job.trial.config) for job in jobs},
        "seeds": seeds,
        "trials": [{"arm": job.trial.arm, "seed": job.trial.seed, "folder": job.folder.name} for job in jobs],
    }
    write_json(root / NOTE, note)
    return note


def load(experiment: str | Experiment, runs: str | Path | None = None) -> Results:
    """Read the last run of an experiment, or of its name in the registry, with what its trials kept, from its folder.

    Args:
        experiment: As of ``run``.
        runs: As of ``run``.

    Raises:
        ValueError: It was never run there.
        CorruptFileError: The note of the last run cannot be read, or is of an experiment that has changed.
    """
    experiment = resolve(experiment)
    root = runs_folder(runs) / experiment.name
    try:
        note = read_json(root / NOTE, Note)
        _configs(experiment, note)
    except FileNotFoundError:
        raise ValueError(f"{experiment.name} was not run in {root.parent} yet") from None
    except CorruptFileError:
        raise
    except ValueError as error:
        raise CorruptFileError(root / NOTE, str(error)) from None
    return read_back(experiment, root, note)


def read_back(experiment: Experiment, root: Path, note: Note, last: Mapping[str, Status] | None = None) -> Results:
    """Collect the results of a run from its note in the experiment's folder.

    ``last`` has the last status of trials, by trial folder, which some could not write down. A finished trial whose
    files are corrupt counts as failed; the next run does it again.
    """
    found = [_read_trial(entry, root, (last or {}).get(entry["folder"])) for entry in note["trials"]]
    frames = [
        metrics.select(pl.lit(trial.arm).alias("arm"), pl.lit(trial.seed, pl.Int64).alias("seed"), *SCHEMA)
        for trial, metrics, _ in found
        if metrics is not None
    ]
    metrics = pl.concat([pl.DataFrame(schema=COLUMNS), *frames])
    environment = _environment([identity for _, _, identity in found if identity is not None])
    return _results(experiment, {**note, "environment": environment}, [trial for trial, _, _ in found], metrics)


def from_record(experiment: Experiment, record: Mapping[str, Any]) -> Results:
    """Read back what ``Results.record`` returned; the claims are judged anew from its trials."""
    trials = [
        TrialResult(**{**trial, "result": {name: _or_nan(value) for name, value in trial["result"].items()}})
        for trial in record["trials"]
    ]
    rows = [
        (curve["arm"], curve["seed"], step, curve["metric"], _or_nan(value))
        for curve in record["curves"]
        for step, value in zip(curve["step"], curve["value"], strict=True)
    ]
    return _results(experiment, record, trials, pl.DataFrame(rows, schema=COLUMNS, orient="row"))


def _results(
    experiment: Experiment, stored: Mapping[str, Any], trials: Sequence[TrialResult], metrics: pl.DataFrame
) -> Results:
    return Results(
        experiment=experiment.name,
        claimed=experiment.claims,
        headline=experiment.headline,
        preset=stored["preset"],
        changed=stored["changed"],
        configs=_configs(experiment, stored),
        seeds=stored["seeds"],
        trials=trials,
        metrics=metrics,
        environment=stored["environment"],
    )


def _or_nan(value: Any) -> Any:
    """Return a number of a record, in which JSON has no other sign than null for one that is not finite."""
    return math.nan if value is None else value


def _configs(experiment: Experiment, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The config of each arm of a run; raises ValueError where the experiment has changed since."""
    checks.choice("preset", stored["preset"], experiment.presets)
    return {arm: configs.from_dict(experiment.study_of(arm).settings, own) for arm, own in stored["arms"].items()}


def _read_trial(
    entry: Entry, root: Path, last: Status | None
) -> tuple[TrialResult, pl.DataFrame | None, Identity | None]:
    """Return a trial and, of a finished one, its metrics and what it is."""
    folder = TrialFolder(root / entry["folder"])
    made = partial(TrialResult, entry["arm"], entry["seed"], folder=str(folder.path))
    try:
        stored = folder.result()
        if stored is not None:
            trial = made("finished", stored["result"], stored["seconds"])
            return trial, folder.metrics(), folder.identity()
    except CorruptFileError as error:
        return made("failed", {}, message=str(error)), None, None
    status = last or folder.status()
    if status.state == "finished":
        return made("interrupted", {}, message="its result is gone: the next run does it again"), None, None
    # Where nobody is at work, whoever was has died.
    died = status.state == "running" and not folder.is_locked()
    state = "interrupted" if died else status.state
    return made(state, {}, status.seconds, message=status.message), None, None


def _environment(identities: Sequence[Identity]) -> dict[str, dict[str, Any]]:
    """Return versions and hardware of all trials; where they differ, all that occur."""
    found: dict[str, dict[str, Any]] = {}
    for group in ("versions", "hardware"):
        names = dict.fromkeys(name for identity in identities for name in identity[group])
        values = {name: list(dict.fromkeys(identity[group].get(name) for identity in identities)) for name in names}
        found[group] = {name: v[0] if len(v) == 1 else " and ".join(map(str, v)) for name, v in values.items()}
    return found
