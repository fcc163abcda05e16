"""How long a trial takes: from finished trials of the same settings, from a record, or measured by a few of its steps.

All times are seconds of the processor, summed over the threads of a trial: what it takes on one idle core, however busy
the machine was when the time was taken.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

from typing_extensions import TypedDict

from engram.lab.output.last_run import JOINED
from engram.lab.output.record_files import ArmRecord, record_path
from engram.lab.trial import config as configs
from engram.lab.trial.experiment import COMPARE, Experiment
from engram.lab.trial.folder import TrialFolder, name_of
from engram.lab.trial.machine import COMPUTING, hardware, versions
from engram.lab.trial.trial import UNKNOWN, Time, Trial, trials
from engram.storage.files import CorruptFileError, read_json, write_json, writing
from engram.storage.locks import held

FILE = "times.json"
SEEDS = 12  # those whose finished trials are looked for
ENOUGH = 4  # number of finished trials whose mean is taken


class Kept(TypedDict):
    """A measured time, as it is kept."""

    seconds: float
    how: str
    is_least: bool


class _Timed(TypedDict):
    """What is read of a record."""

    revision: int
    environment: dict[str, dict[str, Any]]
    arms: dict[str, ArmRecord]


def known(experiment: Experiment, trial: Trial, root: Path) -> Time:
    """The time that a trial takes, as far as it is known without measuring.

    Finished trials of this machine count before the record of this kind of machine, this before a measurement, then the
    record of another kind of machine, and last a measurement that gives only a lower bound.

    Args:
        experiment: Its experiment.
        trial: The trial; its seed does not matter.
        root: The folder that the experiment is run in.
    """
    if (of_machine := of_runs(trial, root)).is_known:
        return of_machine
    recorded, measured = of_record(experiment, trial), of_measurement(trial, root)
    if recorded.is_known and (recorded.is_here or measured.is_least or not measured.is_known):
        return recorded
    return measured


def timed(experiment: Experiment, todo: Iterable[Trial], root: Path) -> Iterator[Trial]:
    """Trials with the times that are known of their arms.

    Args:
        experiment: Their experiment.
        todo: The trials.
        root: The folder that the experiment is run in.
    """
    known_times: dict[str, Time] = {}
    for trial in todo:
        key = key_of(trial)
        if key not in known_times:
            known_times[key] = known(experiment, trial, root)
        yield replace(trial, time=known_times[key])


def of_preset(
    experiment: Experiment, preset: str, root: Path, arms: Sequence[str] | None = None, device: str = "cpu"
) -> dict[str, Trial]:
    """The first trial of each arm of a preset, with its known time.

    Args:
        experiment: The experiment.
        preset: Name of its preset.
        root: The folder that the experiment is run in.
        arms: Only these arms (default: all).
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``, as for ``trials``.

    Raises:
        ValueError: The preset or an arm is unknown.
    """
    todo = trials(experiment, experiment.arms(preset), seeds=1, arms=arms, device=device)
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
                return Time(mean(stored["seconds"]), f"from its record on {machine}", False, is_here)
    return UNKNOWN


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> _Timed | None:
    """A record; None if it is corrupt, which ``recorded`` reports. ``changed`` is when its file was."""
    with suppress(CorruptFileError, FileNotFoundError):
        return read_json(path, _Timed)
    return None


def of_measurement(trial: Trial, root: Path) -> Time:
    """The time that was measured here for these settings."""
    kept = _kept(root).get(key_of(trial))
    return UNKNOWN if kept is None else Time(kept["seconds"], kept["how"], kept["is_least"])


def keep(trial: Trial, time: Time, root: Path) -> None:
    """Keep a measured time in the folder that the experiment is run in.

    Args:
        trial: The trial that was measured.
        time: Its time.
        root: The folder.

    Raises:
        CannotWriteError: The folder cannot be written.
    """
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        with held(root / f".{FILE}.lock"):
            entry: Kept = {"seconds": time.seconds, "how": time.how, "is_least": time.is_least}
            write_json(root / FILE, {**_kept(root), key_of(trial): entry})


def _kept(root: Path) -> dict[str, Kept]:
    """The measured times that are kept; none if the file is corrupt: they are measured again."""
    with suppress(FileNotFoundError, CorruptFileError):
        return read_json(root / FILE, dict[str, Kept])
    return {}


def key_of(trial: Trial) -> str:
    """The name of an arm's time: the arm, and a digest of its settings and of the machine and versions that compute."""
    machine = [hardware()["processor"], hardware()["accelerator"] if trial.device == "cuda" else ""]
    computing = [versions().get(package) for package in COMPUTING]
    determining = [{**trial.identity(), "seed": None}, machine, computing]
    return f"{trial.arm}-{hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()[:12]}"
