"""Results of registered parts that ship with engram, used if the code that made them is unchanged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NotRequired, cast

import polars as pl
from typing_extensions import TypedDict

from engram.lab import config as configs
from engram.lab.experiment import Arm
from engram.lab.folder import TrialFolder
from engram.lab.manifest import Manifest, Present
from engram.lab.metrics import windows
from engram.lab.results import Results
from engram.storage.files import write_json

CURVE_POINTS = 20
TABLE = Path(__file__).parents[1] / "experiments" / "standings.json"


class RecordedArm(TypedDict):
    """The results of an arm: the measure by seed, mean costs, a mean curve over steps, and operators by seed."""

    config: str
    values: list[float]
    costs: dict[str, float]
    curve: tuple[Sequence[float], Sequence[float]]
    operators: NotRequired[list[Sequence[float]]]


class Recorded(TypedDict):
    """The record of an experiment: the machine, the code, and the results of its arms."""

    preset: str
    machine: str
    manifest: Manifest
    arms: dict[str, RecordedArm]


def read(experiment: str, preset: str, present: Present) -> tuple[dict[str, RecordedArm], str]:
    """The recorded arms of an experiment by name, and a sentence on their origin, or the reason why there are none.

    Args:
        experiment: Its name.
        preset: The size asked for.
        present: The current code.
    """
    record = all_records().get(experiment)
    if record is None or record["preset"] != preset:
        return {}, "no record"
    if differs := present.differs(record["manifest"]):
        return {}, f"the record was made by other code: {differs}"
    return record["arms"], record["machine"]


def digest(arm: Arm) -> str:
    """A digest of the settings of an arm."""
    return hashlib.sha256(json.dumps(configs.to_dict(arm.config), sort_keys=True).encode()).hexdigest()[:16]


def ship(results: Results, arms: Mapping[str, RecordedArm]) -> None:
    """Write the results of arms to the file that ships with engram, replacing older ones.

    Args:
        results: The run, read from its folders.
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
    files: dict[str, str] = {}
    part_digests: dict[str, str] = {}
    for trial in results.trials:
        if trial.arm in arms and (stored := TrialFolder(Path(trial.folder)).result()) is not None:
            # Other files have other paths on other machines. The code has the checksums of data sets.
            files |= {name: sha for name, sha in stored["manifest"]["files"].items() if name[0] not in "/$"}
            part_digests |= stored["manifest"]["parts"]
    manifest: Manifest = {"files": files, "parts": part_digests, "packages": {}}
    stored_arms: dict[str, RecordedArm] = {}
    if record is not None and not Present().differs(record["manifest"]):  # else other code made the other results
        stored_arms, stored_manifest = record["arms"], record["manifest"]
        manifest |= {
            "files": {**stored_manifest["files"], **files},
            "parts": {**stored_manifest["parts"], **part_digests},
        }
    versions, hardware = results.environment["versions"], results.environment["hardware"]
    machine = f"torch {versions['torch']}, {hardware['processor']}"
    new: Recorded = {
        "preset": results.preset,
        "machine": machine,
        "manifest": manifest,
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
    means = windows(rows, CURVE_POINTS).group_by("step").agg(pl.col("value").mean()).sort("step")
    return means["step"].cast(float).to_list(), [float(f"{value:.5g}") for value in means["value"]]


@cache
def all_records() -> dict[str, Recorded]:
    """All shipped records, by experiment."""
    return cast(dict[str, Recorded], json.loads(TABLE.read_text(encoding="utf-8"))) if TABLE.is_file() else {}
