"""The results of the last run, read from the note next to its trials."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NotRequired

import polars as pl
from typing_extensions import TypedDict

from engram import checks
from engram.lab.output.results import Results, TrialResult
from engram.lab.trial import config as configs
from engram.lab.trial.experiment import Experiment, find_experiment
from engram.lab.trial.folder import Origin, Status, TrialFolder
from engram.lab.trial.job import Job
from engram.lab.trial.metrics import SCHEMA
from engram.lab.trial.metrics import read as read_metrics
from engram.storage.files import CorruptFileError, keep_aside, read_sealed, runs_folder, write_sealed

NOTE = "last-run.json"
_DIGEST = re.compile(r"[0-9a-f]{12}(\.\d+)?")  # the end of a folder's name
JOINED = " and "  # between the values of an environment that differ
COLUMNS = {"arm": pl.String, "seed": pl.Int64, **SCHEMA}


class Entry(TypedDict):
    """One trial of a run."""

    arm: str
    seed: int
    folder: str


class Note(TypedDict):
    """The settings and trials of a run."""

    experiment: str
    revision: int
    preset: str
    changed: dict[str, Any]
    arms: dict[str, dict[str, Any]]
    seeds: int
    looks: NotRequired[list[int]]
    trials: list[Entry]
    reused: NotRequired[dict[str, int]]
    ended: NotRequired[str]


class OldRunError(CorruptFileError):
    """The experiment has changed since its last run, whose note is ``path``."""

    def __init__(self, path: Path, why: str) -> None:
        ValueError.__init__(self, f"the experiment has changed since its last run ({path}), so run it again: {why}")
        self.path = path


def note_of(
    experiment: Experiment,
    preset: str,
    seeds: int,
    jobs: Sequence[Job],
    *,
    changed: Mapping[str, Any] | None = None,
    looks: Sequence[int] = (),
    reused: Mapping[str, int] | None = None,
    ended: str = "",
) -> Note:
    """The settings and trials of a run.

    Args:
        experiment: The experiment.
        preset: Name of the preset.
        seeds: Number of seeds.
        jobs: All trials.
        changed: The settings that differ from the preset.
        looks: The numbers of seeds at which claims are judged.
        reused: How many trials were taken although something has changed since, by what has.
        ended: How the run has ended, for ``engram list``, which loads no experiment.
    """
    note: Note = {
        "experiment": experiment.name,
        "revision": experiment.revision,
        "preset": preset,
        "changed": dict(changed or {}),
        "arms": {job.trial.arm: configs.to_dict(job.trial.config) for job in jobs},
        "seeds": seeds,
        "looks": list(looks),
        "trials": [{"arm": job.trial.arm, "seed": job.trial.seed, "folder": job.folder.path.name} for job in jobs],
        "reused": dict(reused or {}),
    }
    if ended:
        note["ended"] = ended
    return note


def write_note(root: Path, note: Note) -> None:
    """Write down a run in its experiment's folder, for ``load``, ``engram list`` and ``engram report``."""
    if (root / NOTE).is_dir():
        keep_aside(root / NOTE)
    write_sealed(root / NOTE, note)


def load(experiment: str | Experiment, runs: str | Path | None = None, *, metrics: bool = True) -> Results:
    """The last run of an experiment, read from its folder.

    Args:
        experiment: The experiment, or its name in the registry.
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``).
        metrics: Read the metrics too, which takes most of the time.

    Raises:
        ValueError: The folder has no run of it.
        CorruptFileError: The note of the last run cannot be read or was altered; an ``OldRunError`` if the experiment
            has changed since.
    """
    experiment = find_experiment(experiment)
    root = runs_folder(runs) / experiment.name
    try:
        note = read_sealed(root / NOTE, Note)
        _check(experiment, note, root / NOTE)
    except FileNotFoundError:
        raise ValueError(f"{experiment.name} was not run in {root.parent} yet") from None
    except CorruptFileError:
        raise
    except ValueError as error:
        raise CorruptFileError(root / NOTE, str(error)) from None
    return read_back(experiment, root, note, metrics=metrics)


def read_back(
    experiment: Experiment, root: Path, note: Note, last: Mapping[str, Status] | None = None, *, metrics: bool = True
) -> Results:
    """The results of a run, collected from the folders of its trials.

    A finished trial whose files are corrupt counts as failed; the next run repeats it.

    Args:
        experiment: The experiment.
        root: Its folder.
        note: The settings and trials of the run.
        last: The last status of each trial that may have been unable to write it, by the name of its folder.
        metrics: Read the metrics too.
    """
    read_trials = [_read_trial(entry, root, note, (last or {}).get(entry["folder"])) for entry in note["trials"]]
    tables, failed = _metrics([Path(trial.folder) for trial, origin in read_trials if origin is not None and metrics])
    trials = [
        replace(trial, state="failed", result={}, message=failed[trial.folder]) if trial.folder in failed else trial
        for trial, _ in read_trials
    ]
    rows = [
        tables[trial.folder].select(pl.lit(trial.arm).alias("arm"), pl.lit(trial.seed, pl.Int64).alias("seed"), *SCHEMA)
        for trial in trials
        if trial.folder in tables
    ]
    environment = merge_environments(
        [origin for trial, origin in read_trials if origin is not None and trial.folder not in failed]
    )
    all_rows = pl.concat([pl.DataFrame(schema=COLUMNS), *rows])
    return results_from(experiment, {**note, "environment": environment}, trials, all_rows)


def _metrics(folders: Sequence[Path]) -> tuple[dict[str, pl.DataFrame], dict[str, str]]:
    """The metrics of finished trials, and why those of others cannot be read, by folder."""
    failed: dict[str, str] = {}
    while True:
        readable = [folder for folder in folders if str(folder) not in failed]
        try:
            tables = read_metrics(*(TrialFolder(folder).metrics_path for folder in readable))
        except CorruptFileError as error:
            failed[str(error.path.parent)] = str(error)
        else:
            return dict(zip(map(str, readable), tables, strict=True)), failed


def results_from(
    experiment: Experiment, stored: Mapping[str, Any], trials: Sequence[TrialResult], metrics: pl.DataFrame
) -> Results:
    """The results of an experiment.

    Args:
        experiment: The experiment.
        stored: The settings of the run, as a ``Note`` has them, and its environment.
        trials: Its trials.
        metrics: Their metrics.
    """
    return Results(
        experiment=experiment.name,
        claimed=experiment.claims,
        measured=experiment.quantities,
        headline=experiment.headline,
        preset=stored["preset"],
        changed=stored["changed"],
        configs=configs_of(experiment, stored),
        seeds=stored["seeds"],
        trials=trials,
        metrics=metrics,
        environment=stored["environment"],
        looks=stored.get("looks", ()),
        reused=stored.get("reused", {}),
        is_published=bool(experiment.presets[stored["preset"]].published),
        planned=experiment.presets[stored["preset"]].planned,
    )


def configs_of(experiment: Experiment, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The config of each arm of a run; raises ValueError if the experiment has changed since."""
    checks.choice("preset", stored["preset"], experiment.presets)
    return {arm: configs.from_dict(experiment.study_of(arm).settings, fields) for arm, fields in stored["arms"].items()}


def _check(experiment: Experiment, note: Note, path: Path) -> None:
    """Raise ValueError if a note does not fit the current experiment, or an entry does not fit its folder's name."""
    if note["experiment"] != experiment.name:
        raise ValueError(f"it is of {note['experiment']}")
    if note["revision"] != experiment.revision:
        raise OldRunError(path, f"its revision was {note['revision']}, and is now {experiment.revision}")
    arms = experiment.arms(note["preset"], note["changed"])
    for arm, config in configs_of(experiment, note).items():
        if arm not in arms or config != arms[arm].config:
            current = arms[arm].config if arm in arms else "left out"
            raise OldRunError(path, f"arm {arm} was {config}, and is now {current}")
    for entry in note["trials"]:
        arm, seed, folder = entry["arm"], entry["seed"], entry["folder"]
        is_own = folder.startswith(f"{arm}-{seed}-") and _DIGEST.fullmatch(folder.removeprefix(f"{arm}-{seed}-"))
        if arm not in note["arms"] or not is_own:
            raise ValueError(f"{folder!r} is not a folder of arm {arm}, seed {seed}")


def _read_trial(entry: Entry, root: Path, note: Note, last: Status | None) -> tuple[TrialResult, Origin | None]:
    """A trial and, if it is finished, its origin."""
    folder = TrialFolder(root / entry["folder"])
    result_of = partial(TrialResult, entry["arm"], entry["seed"], folder=str(folder.path))
    try:
        stored_and_origin = folder.finished()
        if stored_and_origin is not None:
            stored, origin = stored_and_origin
            expected = {"experiment": note["experiment"], "config": note["arms"][entry["arm"]]}
            for name, value in expected.items():
                if origin["identity"].get(name) != value:
                    is_of = f"of {name} {origin['identity'].get(name)}, and the run's of {value}"
                    raise CorruptFileError(folder.path / "trial.json", is_of)
            trial = result_of("finished", stored["result"], stored["seconds"], choices=stored["choices"])
            return trial, origin
    except CorruptFileError as error:
        return result_of("failed", {}, message=str(error)), None
    status = last or folder.status()
    if status.state == "finished":
        return result_of("interrupted", {}, message="its result is gone: the next run repeats it"), None
    # If no process holds the lock, the one that worked here has died.
    died = status.state == "running" and not folder.is_locked()
    state = "interrupted" if died else status.state
    return result_of(state, {}, status.seconds, message=status.message), None


def merge_environments(environments: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Versions and hardware of all trials; where they differ, each value that occurs, joined by "and"."""
    occurring: dict[str, dict[str, Any]] = {"versions": {}, "hardware": {}}
    for group, of_group in occurring.items():
        for name in dict.fromkeys(name for environment in environments for name in environment[group]):
            values = [each[group].get(name) for each in environments]  # some of them are joined already
            different = dict.fromkeys(part for value in values for part in str(value).split(JOINED))
            of_group[name] = values[0] if len(set(values)) == len(different) == 1 else JOINED.join(different)
    return occurring


def join(results: Results, more: Results, seeds: int) -> Results:
    """Results with further trials, in the order of arms and seeds.

    Args:
        results: The results, with the settings of all arms.
        more: Trials of other seeds or arms.
        seeds: Number of seeds of all together.
    """
    order = {arm: place for place, arm in enumerate(results.configs)}
    all_trials = sorted([*results.trials, *more.trials], key=lambda trial: (order[trial.arm], trial.seed))
    metrics = pl.concat([results.metrics, more.metrics.select(results.metrics.columns)])
    environment = merge_environments([results.environment, more.environment])
    return replace(results, trials=all_trials, metrics=metrics, environment=environment, seeds=seeds)
