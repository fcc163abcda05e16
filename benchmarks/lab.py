"""Overhead of the laboratory: milliseconds per trial that does nothing, for increasing numbers of trials.

``python benchmarks/lab.py`` runs up to 10,000 trials in this process, and on two workers, and takes some minutes; with
``--quick`` it runs up to 400.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

import engram
from engram.lab import Experiment, Preset, Run, Study, setting, settings

RECORD = Path(__file__).with_suffix(".json")
NUMBERS, QUICK = (100, 1000, 10_000), (100, 400)
MOST_MS, MOST_GROWTH, LISTED, MOST_LIST = 10.0, 1.25, 1000, 2.0


@settings
class Config:
    """A setting without effect."""

    units: int = setting(1, "units", ge=1)


def trial(config: Config, run: Run) -> dict[str, Any]:
    return {"units": config.units}


presets = {name: Preset(1) for name in ("smoke", "laptop")}
idle = Experiment("idle", "It.", "None", Study(trial, {"idle": {}}), presets, (), lambda results: go.Figure())


def milliseconds(number: int, jobs: int, runs: Path) -> dict[str, float]:
    """Return the milliseconds per trial: in total, of processor time, and in a second call, which finds it done."""
    options: dict[str, Any] = {"preset": "smoke", "jobs": jobs, "runs": runs, "progress": False, "device": "cpu"}
    engram.run(idle, seeds=2, **options)  # loads what is loaded once, here and in workers
    start, processor = time.perf_counter(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    engram.run(idle, seeds=number, **options)
    end = time.perf_counter()
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2]) - processor
    engram.run(idle, seeds=number, **options)
    each = 1e3 / number
    return {"ms": each * (end - start), "processor": each * used, "again": each * (time.perf_counter() - end)}


def listing(runs: Path, trials: int) -> float:
    """Return the seconds of ``engram list`` if an experiment of another package has this many trials."""
    package = runs / "package"
    (package / "idle-1.dist-info").mkdir(parents=True)
    (package / "idle-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: idle\nVersion: 1\n")
    (package / "idle-1.dist-info" / "entry_points.txt").write_text("[engram.experiments]\nidle = idle_lab:idle\n")
    (package / "idle_lab.py").write_text(Path(__file__).read_text())
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    program = [sys.executable, "-m", "engram"]
    options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options["env"] = os.environ | {"PYTHONPATH": path}
    if trials:
        command = [*program, "run", "idle", "--preset", "smoke", "--seeds", str(trials), "--jobs", "1"]
        subprocess.run([*command, "--runs", str(runs)], check=True, **options)
    start = time.perf_counter()
    subprocess.run([*program, "list", "--runs", str(runs)], check=True, **options)
    return time.perf_counter() - start


def section(record: dict[str, Any]) -> list[str]:
    """Return the section of the page."""
    rows = [
        f"| {row['number']} | {row['jobs']} | {row['ms']:.1f} | {row['processor']:.1f} | {row['again']:.1f} |"
        for row in record["trials"]
    ]
    single_job = [row["ms"] for row in record["trials"] if row["jobs"] == 1]
    targets = {
        f"at most {MOST_MS:g} ms per trial": max(row["ms"] for row in record["trials"]) <= MOST_MS,
        "the time per trial hardly depends on the number of trials": single_job[-1] <= MOST_GROWTH * single_job[0],
        f"`engram list` over {LISTED} trials within {MOST_LIST:g} s": record["listing"] <= MOST_LIST,
    }
    return [
        "## Laboratory",
        "",
        "The time of a trial that does nothing: in total, of the processor in the process that starts the run, and to",
        "find that the trial is already done. Every finished trial survives a power failure; writing it safely to the",
        "disk takes part of the time.",
        "",
        f"Load average before the run {record['load']:.1f}.",
        "",
        "| trials | at once | ms per trial | processor, ms | already done, ms |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"`engram list` takes {record['listing']:.1f} s with {LISTED} trials, {record['command']:.1f} s with none.",
        "",
        *[f"- {name}: {'met' if met else 'NOT MET'}" for name, met in targets.items()],
        "",
    ]


def main() -> None:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cases = [(number, jobs) for jobs in (1, 2) for number in (QUICK if "--quick" in sys.argv else NUMBERS)]
    with tempfile.TemporaryDirectory() as folder:
        trials = [
            {"number": number, "jobs": jobs, **milliseconds(number, jobs, Path(folder, f"{number}-{jobs}"))}
            for number, jobs in cases
        ]
        more = {"listing": listing(Path(folder, "listed"), LISTED), "command": listing(Path(folder, "none"), 0)}
    record: dict[str, Any] = {"load": load, "trials": trials, **more}
    print("\n".join(section(record)))
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
