"""Records of comparisons: the arms of registered candidates that the record of their experiment does not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from engram.lab.engine.laboratory import run
from engram.lab.output.read_runs import join
from engram.lab.output.record_files import record_folders, record_path, recorded_arms, write_record
from engram.lab.output.results import Results
from engram.lab.trial.experiment import COMPARE, Experiment
from engram.run_options import RunOptions
from engram.storage.files import runs_folder
from engram.studies.standings.arms import SEEDS, Arms

PRESET = "laptop"


def record_comparisons(
    experiment: Experiment, *, jobs: int | None = None, seconds: float | None = None, runs: Path | None = None
) -> tuple[Path | None, list[str]]:
    """Write the record of the comparisons on the tasks of an experiment, after running what it lacks.

    It holds five seeds of the arm of every registered candidate, at laptop size, unless the experiment's own record of
    this size has them with the same settings. Arms that it holds with today's settings are not run again; others that
    it holds go.

    Args:
        experiment: The experiment.
        jobs: Number of trials at once (default: as many as fit on the cores).
        seconds: The trials are stopped after this time; the same call goes on with them.
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``); comparisons use its subfolder ``compare``.

    Returns:
        The JSON file of the record, None if it need not hold anything; and the arms that were run for it.

    Raises:
        TypeError, ValueError: An argument is not as described, the experiment has no task, a trial did not finish, or
            there is no folder for records.
        CorruptFileError: A file of a record is missing, truncated or altered.
    """
    RunOptions(jobs=jobs, at_most=seconds, runs=runs)  # what is wrong is refused before anything is made
    if not experiment.tasks:
        raise ValueError(f"experiment = {experiment.name!r}: expected one with tasks on which methods are compared")
    extended, names = with_candidates(experiment)
    own = _whole_arms(recorded_arms(extended, PRESET, PRESET))
    wanted = [name for name in names if name not in own]
    path = record_path(experiment, COMPARE)
    if not wanted:
        for file in () if path is None else (path, path.with_suffix(".parquet")):
            file.unlink()
        return None, []
    path = path or record_path(experiment, PRESET)
    folders = record_folders(experiment) if path is None else [path.parent]
    if (folder := next((folder for folder in folders if folder.is_dir()), None)) is None:
        raise ValueError(f"{experiment.name}: no folder `results` above its module, so make one for its record")
    stored = recorded_arms(extended, PRESET, COMPARE)
    kept = _whole_arms(stored)
    lacking = [name for name in wanted if name not in kept]
    results = None if stored is None else _of_arms(stored, [name for name in wanted if name in kept])
    if lacking:
        more = run(
            extended,
            preset=PRESET,
            seeds=SEEDS,
            arms=lacking,
            jobs=jobs,
            runs=runs_folder(runs) / COMPARE,
            at_most=seconds,
            device="cpu",
            keep_state=False,
        )
        configs = {name: extended.arms(PRESET)[name].config for name in wanted}
        results = more if results is None else join(replace(results, configs=configs), more, SEEDS)
    assert results is not None  # what is wanted is lacking or kept
    return write_record(extended, results, folder, COMPARE), lacking


def with_candidates(experiment: Experiment) -> tuple[Experiment, list[str]]:
    """An experiment with an arm for each registered candidate on each of its tasks, and the names of these arms.

    Args:
        experiment: The experiment; its claims and its tasks are left out.
    """
    extended, names = experiment, dict[str, None]()
    for task in experiment.tasks:
        arms = Arms.of(extended, task, [], None, PRESET)
        extended = arms.experiment
        names |= dict.fromkeys(arms.names.values())
    return extended, list(names)


def _whole_arms(results: Results | None) -> set[str]:
    """The arms with at least the seeds that comparisons have."""
    counts = Counter(trial.arm for trial in results.trials) if results is not None else Counter[str]()
    return {arm for arm, count in counts.items() if count >= SEEDS}


def _of_arms(results: Results, arms: Sequence[str]) -> Results:
    trials = [trial for trial in results.trials if trial.arm in arms]
    metrics = results.metrics.filter(pl.col("arm").is_in(list(arms)))
    return replace(results, trials=trials, metrics=metrics, configs={arm: results.configs[arm] for arm in arms})
