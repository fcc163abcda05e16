"""Results of registered parts that ship with engram, used if they are of the experiment's current revision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NotRequired, cast

from typing_extensions import TypedDict

from engram.lab.output.results import Results
from engram.lab.trial import config as configs
from engram.lab.trial.experiment import Arm, Experiment
from engram.lab.trial.metrics import over_seeds, windows
from engram.storage.files import write_json
from engram.tasks.data import SETS

CURVE_POINTS = 20
TABLE = Path(__file__).parents[1] / "experiments" / "standings.json"


class RecordedArm(TypedDict):
    """The results of an arm: the measure by seed, mean costs, a mean curve over steps, and operators by seed.

    ``data`` is the checksum of the files of the data set, if the task needs one.
    """

    config: str
    values: list[float]
    costs: dict[str, float]
    curve: tuple[Sequence[float], Sequence[float]]
    operators: NotRequired[list[Sequence[float]]]
    data: NotRequired[str]


class Recorded(TypedDict):
    """The record of an experiment: its revision, the machine, and the results of its arms."""

    preset: str
    revision: int
    machine: str
    arms: dict[str, RecordedArm]


def read(experiment: Experiment, preset: str) -> tuple[dict[str, RecordedArm], str]:
    """The recorded arms of an experiment by name, and a sentence on their origin, or the reason why there are none.

    Args:
        experiment: The experiment.
        preset: The size asked for.
    """
    record = all_records().get(experiment.name)
    if record is None or record["preset"] != preset:
        return {}, "no record"
    if record["revision"] != experiment.revision:
        return {}, f"the record is of revision {record['revision']}, and the experiment is at {experiment.revision}"
    return record["arms"], record["machine"]


def digest(arm: Arm) -> str:
    """A digest of the settings of an arm."""
    return hashlib.sha256(json.dumps(configs.to_dict(arm.config), sort_keys=True).encode()).hexdigest()[:16]


def checksum(data: str) -> str:
    """A digest of the checksums of a data set's files; empty without a data set."""
    sums = "".join(file.checksum for file in SETS[data].files) if data else ""
    return hashlib.sha256(sums.encode()).hexdigest()[:16] if data else ""


def ship(results: Results, revision: int, arms: Mapping[str, RecordedArm]) -> None:
    """Write the results of arms to the file that ships with engram, replacing older ones and those of other revisions.

    Args:
        results: The run.
        revision: The revision of its experiment.
        arms: The results, by arm.

    Raises:
        RuntimeError: A trial is not finished, so that results are missing; nothing was written.
    """
    for trial in results.trials:
        if trial.state not in ("finished", "failed"):
            raise RuntimeError(
                f"{results.experiment}: {trial.arm}, seed {trial.seed} is {trial.state}: run it to its end"
            )
    record = all_records().get(results.experiment)
    stored_arms = record["arms"] if record is not None and record["revision"] == revision else {}
    versions, hardware = results.environment["versions"], results.environment["hardware"]
    machine = f"engram {versions['engram']}, torch {versions['torch']}, {hardware['processor']}"
    new: Recorded = {
        "preset": results.preset,
        "revision": revision,
        "machine": machine,
        "arms": {**stored_arms, **arms},
    }
    write_json(TABLE, dict(sorted({**all_records(), results.experiment: new}.items())))
    all_records.cache_clear()


def curve(results: Results, arm: str, metric: str) -> tuple[list[float], list[float]]:
    """A learning curve: at most 20 steps, and the means of a metric over seeds at these steps.

    Args:
        results: The run.
        arm: The arm.
        metric: Name of the logged metric; the curve is empty if it was not logged.
    """
    rows = results.metrics.filter((results.metrics["arm"] == arm) & (results.metrics["metric"] == metric))
    if rows.is_empty():
        return [], []
    means = over_seeds(windows(rows, CURVE_POINTS), CURVE_POINTS)
    return means["step"].cast(float).to_list(), [float(f"{value:.5g}") for value in means["mean"]]


@cache
def all_records() -> dict[str, Recorded]:
    """All shipped records, by experiment."""
    return cast(dict[str, Recorded], json.loads(TABLE.read_text(encoding="utf-8"))) if TABLE.is_file() else {}
