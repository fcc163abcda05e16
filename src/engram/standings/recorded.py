"""Results of registered parts that ship with engram, used where the code that made them is the code that is here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
from typing_extensions import TypedDict

from engram.lab import config as configs
from engram.lab.experiment import Arm, Contest
from engram.lab.folder import TrialFolder
from engram.lab.manifest import Manifest, Present
from engram.lab.metrics import windows
from engram.lab.results import Results

CURVE_POINTS = 20


class RecordedArm(TypedDict):
    """What the trials of an arm returned: ``results`` by key, over seeds; ``curve``: steps, and means over seeds."""

    config: str
    seconds: float
    results: dict[str, list[float]]
    curve: tuple[list[float], list[float]]


class Recorded(TypedDict):
    """What was recorded of an experiment: where, by which code, and what came of its arms."""

    preset: str
    machine: str
    manifest: Manifest
    arms: dict[str, RecordedArm]


def read(experiment: str, preset: str, present: Present) -> tuple[dict[str, RecordedArm], str]:
    """The recorded arms of an experiment by name, and in words whose they are, or why there are none.

    Args:
        experiment: Its name.
        preset: The size asked for.
        present: The code as it is.
    """
    record = all_records().get(experiment)
    if record is None or record["preset"] != preset:
        return {}, "no record"
    if differs := present.differs(record["manifest"]):
        return {}, f"the record is of other code: {differs}"
    return record["arms"], record["machine"]


def digest(arm: Arm) -> str:
    """What tells the settings of an arm from others."""
    return hashlib.sha256(json.dumps(configs.to_dict(arm.config), sort_keys=True).encode()).hexdigest()[:16]


def collect(results: Results, arms: Mapping[str, Arm], contests: Sequence[Contest]) -> Recorded:
    """What is to ship of a run: of the arms that contests compare, what they are compared by.

    Args:
        results: A whole run, read from its folders.
        arms: The arms of the experiment at its size.
        contests: The contests of the experiment.
    """
    files: dict[str, str] = {}
    parts: dict[str, str] = {}
    of_arms: dict[str, RecordedArm] = {}
    for arm in results.arms:
        trials = [trial for trial in results.trials if trial.arm == arm and trial.state == "finished"]
        keys = {key for contest in contests for key in (contest.measure, *contest.costs.values())}
        keys &= set(trials[0].result) if trials else set()
        if not keys:
            continue
        for trial in trials:
            stored = TrialFolder(Path(trial.folder)).result()
            assert stored is not None
            files |= stored["manifest"]["files"]
            parts |= stored["manifest"]["parts"]
        of_arms[arm] = {
            "config": digest(arms[arm]),
            "seconds": round(float(np.mean([trial.seconds for trial in trials])), 2),
            "results": {key: [float(f"{trial.result[key]:.6g}") for trial in trials] for key in sorted(keys)},
            "curve": curve(results, arm, next(c.measure for c in contests if c.measure in keys)),
        }
    versions, hardware = results.environment["versions"], results.environment["hardware"]
    machine = f"torch {versions['torch']}, {hardware['processor']}"
    manifest: Manifest = {"files": files, "parts": parts, "packages": {}}
    return {"preset": results.preset, "machine": machine, "manifest": manifest, "arms": of_arms}


def curve(results: Results, arm: str, metric: str) -> tuple[list[float], list[float]]:
    """The steps at which an arm logged a metric, and its means over seeds there; at most 20 of them."""
    rows = results.metrics.filter((results.metrics["arm"] == arm) & (results.metrics["metric"] == metric))
    if rows.is_empty():
        return [], []
    means = windows(rows, CURVE_POINTS).group_by("step").agg(value=_mean()).sort("step")
    return means["step"].cast(float).to_list(), [float(f"{value:.5g}") for value in means["value"]]


def _mean() -> Any:
    import polars as pl

    return pl.col("value").mean()


@cache
def all_records() -> dict[str, Recorded]:
    """All that ships, by experiment."""
    table = resources.files("engram.experiments").joinpath("standings.json")
    return cast(dict[str, Recorded], json.loads(table.read_text(encoding="utf-8"))) if table.is_file() else {}
