"""How long a trial takes: from finished trials of the same settings, else from a record, else unknown.

All times are seconds of the processor, summed over the threads of a trial: what it takes on one idle core, however busy
the machine was when the time was taken.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from typing_extensions import TypedDict

from engram.lab.output.read_runs import JOINED
from engram.lab.output.record_files import ArmRecord, record_path
from engram.lab.trial import config as configs
from engram.lab.trial.experiment import COMPARE, Experiment
from engram.lab.trial.folder import TrialFolder, name_of
from engram.lab.trial.machine import hardware
from engram.lab.trial.trial import UNKNOWN, Time, Trial, trials
from engram.storage.files import CorruptFileError, read_json

SEEDS = 12  # those whose finished trials are looked for
ENOUGH = 4  # number of finished trials whose mean is taken


class _Timed(TypedDict):
    """What is read of a record."""

    revision: int
    environment: dict[str, dict[str, Any]]
    arms: dict[str, ArmRecord]


def known(experiment: Experiment, trial: Trial, root: Path) -> Time:
    """The mean time of this machine's finished trials of the same settings, else that of a record, else unknown.

    Args:
        experiment: Its experiment.
        trial: The trial; its seed does not matter.
        root: The folder that the experiment is run in.
    """
    of_machine = of_runs(trial, root)
    return of_machine if of_machine.is_known else of_record(experiment, trial)


def timed(experiment: Experiment, todo: Iterable[Trial], root: Path) -> Iterator[Trial]:
    """Trials with the times that are known of their arms.

    Args:
        experiment: Their experiment.
        todo: The trials.
        root: The folder that the experiment is run in.
    """
    known_times: dict[str, Time] = {}
    for trial in todo:
        key = name_of({**trial.identity(), "seed": 0})
        if key not in known_times:
            known_times[key] = known(experiment, trial, root)
        yield replace(trial, time=known_times[key])


def of_preset(experiment: Experiment, preset: str, root: Path, device: str) -> dict[str, Trial]:
    """The first trial of each arm of a preset, with its known time.

    Args:
        experiment: The experiment.
        preset: Name of its preset.
        root: The folder that the experiment is run in.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``, as for ``trials``.

    Raises:
        ValueError: The preset is unknown.
    """
    todo = trials(experiment, experiment.arms(preset), seeds=1, device=device)
    return {trial.arm: trial for trial in timed(experiment, todo, root)}


def of_runs(trial: Trial, root: Path) -> Time:
    """The mean time of finished trials of the same settings that ran on this kind of machine."""
    identity, seconds = trial.identity(), list[float]()
    for seed in range(SEEDS):
        folder = TrialFolder(root / name_of({**identity, "seed": seed}))
        with suppress(CorruptFileError, OSError):
            if len(seconds) < ENOUGH and (finished := folder.finished()) is not None:
                stored, origin = finished
                seconds += [stored["seconds"]] * (origin["hardware"].get("processor") == hardware()["processor"])
    return Time(mean(seconds), "from this machine's own runs") if seconds else UNKNOWN


def of_record(experiment: Experiment, trial: Trial) -> Time:
    """The mean time of the trials of the same settings in the records that ship with an experiment."""
    for name in (*experiment.presets, COMPARE):
        path = record_path(experiment, name)
        record = None if path is None else _read(path, path.stat().st_mtime_ns)
        if record is None or record["revision"] != experiment.revision or trial.arm not in record["arms"]:
            continue
        stored = record["arms"][trial.arm]
        with suppress(ValueError):  # a setting is unknown today, or out of range
            if configs.from_dict(type(trial.config), stored["config"]) == trial.config and stored["seconds"]:
                processors = str(record["environment"]["hardware"].get("processor"))
                is_here = trial.device == "cpu" and hardware()["processor"] in processors.split(JOINED)
                machine = "this kind of machine" if is_here else f"another machine ({processors})"
                return Time(mean(stored["seconds"]), f"from its record on {machine}")
    return UNKNOWN


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> _Timed | None:
    """A record; None if it is corrupt, which ``recorded`` reports. ``changed`` is when its file was."""
    with suppress(CorruptFileError, FileNotFoundError):
        return read_json(path, _Timed)
    return None
