"""Records of experiments: their runs, judged at fixed looks, and the tables and pictures that are generated from them.

For who maintains the records of a package: ``engram record NAME`` is the command.
"""

from __future__ import annotations

from pathlib import Path

from engram.lab.engine.laboratory import run
from engram.lab.output.record_files import (
    Record,
    as_record,
    as_text,
    from_record,
    is_extendable,
    read_curves,
    record_folders,
    record_path,
    with_arms_of_today,
    write_record,
)
from engram.lab.output.results import Results
from engram.lab.trial.experiment import Experiment
from engram.run_options import RunOptions
from engram.storage.files import read_json, write_atomic
from engram.studies.recording.add_trials import extend_record

__all__ = ["extended", "record"]


def record(
    experiment: Experiment,
    preset: str = "laptop",
    *,
    jobs: int | None = None,
    seconds: float | None = None,
    runs: Path | None = None,
) -> tuple[Path, Results]:
    """Run what the record of an experiment lacks, and write it.

    A record gets the arms that it lacks, and the seeds of the next looks of its open claims. An experiment without a
    record, or one whose revision or settings have changed since its record, is run whole.

    Args:
        experiment: The experiment.
        preset: Name of the preset.
        jobs: Number of trials at once (default: as many as fit on the cores).
        seconds: No look starts after this time; in a whole run the trials are stopped then.
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``).

    Returns:
        The JSON file of the record, and its results.

    Raises:
        ValueError: A repeated trial gave other numbers than the record, a trial did not finish, or there is no folder
            for records.
        CorruptFileError: A file of the existing record is missing, truncated or altered.
    """
    RunOptions(preset=preset, jobs=jobs, at_most=seconds, runs=runs)  # what is wrong is refused before anything is made
    folder = folder_for_record(experiment, preset)
    path = record_path(experiment, preset)
    stored = None if path is None else read_json(path, Record)
    if path is None or stored is None or not is_extendable(experiment, stored):
        results = run(
            experiment,
            preset=preset,
            until_decided=True,
            jobs=jobs,
            runs=runs,
            at_most=seconds,
            device="cpu",
            keep_state=False,
        )
        return write_record(experiment, results, folder), results
    before = from_record(experiment, with_arms_of_today(experiment, stored), read_curves(path, stored))
    after = extend_record(experiment, before, jobs=jobs, seconds=seconds, runs=runs)
    if len(after.trials) > len(before.trials) or len(stored["arms"]) > len(before.configs):
        return write_record(experiment, after, folder), after
    as_it_is: Record = {**as_record(experiment, before)[0], "curves": stored["curves"]}
    if as_it_is != stored:  # it has arms that are gone
        write_atomic(path, as_text(as_it_is).encode())
    return path, before


def folder_for_record(experiment: Experiment, preset: str) -> Path:
    """The folder of an experiment's record: where it lies, else the nearest ``results`` above the experiment's module.

    Raises:
        ValueError: There is none.
    """
    path = record_path(experiment, preset)
    folders = record_folders(experiment) if path is None else [path.parent]
    if (folder := next((folder for folder in folders if folder.is_dir()), None)) is None:
        raise ValueError(f"{experiment.name}: no folder `results` above its module, so make one for its record")
    return folder
