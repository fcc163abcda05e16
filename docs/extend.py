"""Extend the records of experiments with open claims by their next looks, without repeating the earlier looks.

``python docs/extend.py NAME... [--at-most MINUTES]`` first repeats one trial of every arm that an open claim reads. If
all these trials give the numbers of the record, the code still computes the same, and the seeds of the next look are
run and added. On another kind of processor the last digits can differ, and training amplifies the difference. A trial
that differs is therefore run a third time, with the code of the commit that wrote the record. If this gives today's
numbers, only the machine differs: the record is extended and names both machines. Otherwise
``engram run NAME --until-decided`` makes a new record.

A record of a fixed number of seeds is first judged again by the looks of its preset. This is what ``--until-decided``
would do with the same seeds, and it can make a claim open that the fixed number had decided. In the same way, a record
whose looks are the first ones of its preset is judged again by all looks of the preset: what the look that used to be
the last one decided must then hold at the stricter level of an interim look. The error over all looks of one plan is 5
%. A longer plan that is made because a claim was open after a shorter one adds to it: ``docs/concepts.md`` says how
much.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from older_code import older_code
from results import PRESET, as_text, record_path, recorded
from rich.console import Console

import engram
from engram.lab import Experiment, Results
from engram.lab.job import prepare
from engram.lab.laboratory import folder_for, perform_left, stoppable
from engram.lab.records import from_record, merged_environments, read_back, write_note
from engram.lab.trial import trials
from engram.storage.files import runs_folder, write_atomic


def performed(
    experiment: Experiment, results: Results, arms: Sequence[str], seeds: range, *, jobs: int, runs: Path
) -> Results:
    """The results of some arms and seeds of a record with today's code."""
    console = Console(stderr=True)
    root = folder_for(experiment, runs)
    compared = experiment.arms(results.preset)
    with stoppable(root, console) as stop:
        todo = trials(experiment, compared, seeds=len(seeds), first=seeds.start, arms=arms)
        all_jobs = [prepare(trial, root, stop, keep_state=False) for trial in todo]
        note = write_note(
            root, experiment=experiment.name, preset=results.preset, changed={}, seeds=seeds.stop, jobs=all_jobs
        )
        unfinished = [job for job in all_jobs if not job.finished]
        console.print(
            f"{experiment.name}: {len(all_jobs)} trials, {len(all_jobs) - len(unfinished)} done", highlight=False
        )
        last = perform_left(unfinished, console, jobs, lambda job: [])
        return read_back(experiment, root, note, last)


def is_equal(value: Any, other: Any, digits: float = 1e-5) -> bool:
    """Whether two results are equal; numbers are compared up to the digits of a record, and up to rounding near 0."""
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(is_equal(item, other[name], digits) for name, item in value.items())
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(is_equal(*pair, digits) for pair in zip(value, other, strict=True))
    if isinstance(value, float) and isinstance(other, float | int):
        return math.isclose(value, other, rel_tol=digits, abs_tol=1e-12) or (math.isnan(value) and math.isnan(other))
    return repr(value) == repr(other)


def differences(experiment: Experiment, results: Results, again: Results) -> dict[str, list[str]]:
    """The names of the numbers that differ between a record and repeated trials, by arm.

    Seconds and microseconds, which some trials measure, are not compared, nor are numbers that the record lacks.
    """
    before = {(trial.arm, trial.seed): trial.result for trial in results.trials}
    other = {
        trial.arm: [
            name
            for name in before[trial.arm, trial.seed]
            if "seconds" not in name and not is_equal(before[trial.arm, trial.seed].get(name), trial.result.get(name))
        ]
        for trial in from_record(experiment, again.record()).trials
    }
    return {arm: names for arm, names in other.items() if names}


def of_the_record(name: str, arms: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The results of seed 0 of some arms on this machine, with the code of the commit that wrote the record."""
    with older_code(record_path(name)) as (folder, environment):
        command = [str(Path(sys.executable).with_name("engram")), "run", name, "--arms", ",".join(arms), "--seeds", "1"]
        options = ["--jobs", "1", "--runs", str(folder / "runs")]
        subprocess.run([*command, *options], env=environment, stdout=subprocess.DEVNULL, check=False)
        results: dict[str, Mapping[str, Any]] = {}
        for path in folder.glob("runs/*/*/result.json"):  # in folders named ARM-SEED-DIGEST, also by older code
            arm = path.parent.name.rsplit("-", 2)[0]
            values = json.loads(path.read_text())["result"]
            results[arm] = {key: math.nan if value is None else value for key, value in values.items()}
        return results


def joined(results: Results, more: Results, seeds: int) -> Results:
    """A record with the trials of further seeds of some arms, in the order of arms and seeds."""
    order = {arm: place for place, arm in enumerate(results.configs)}
    all_trials = sorted([*results.trials, *more.trials], key=lambda trial: (order[trial.arm], trial.seed))
    metrics = pl.concat([results.metrics, more.metrics.select(results.metrics.columns)])
    environment = merged_environments([results.environment, more.environment])
    return replace(results, trials=all_trials, metrics=metrics, environment=environment, seeds=seeds)


def check_code(
    experiment: Experiment,
    results: Results,
    again: Results,
    recompute: Callable[[str, Sequence[str]], Mapping[str, Mapping[str, Any]]],
) -> None:
    """Raise ValueError if today's code computes other numbers than the code of a record."""
    other = differences(experiment, results, again)
    if not other:
        return
    by_the_record = recompute(results.experiment, list(other))
    today = {trial.arm: trial.result for trial in again.trials}
    by_the_code = [
        f"{arm}: {name}"
        for arm, names in other.items()
        for name in names
        if not is_equal(today[arm].get(name), by_the_record.get(arm, {}).get(name), 0.0)
    ]
    if by_the_code:
        raise ValueError(
            f"{results.experiment}: the record was made by other code; different numbers: {'; '.join(by_the_code[:8])}"
        )
    print(f"{results.experiment}: another machine gives other last digits in {', '.join(other)}; the code is the same")


def looks_of(results: Results, experiment: Experiment) -> Sequence[int]:
    """The looks of a record, or those of its preset if these go on where those of the record end."""
    of_preset = experiment.presets[results.preset].looks
    return of_preset if list(of_preset[: len(results.looks)]) == list(results.looks) else results.looks


def extended(
    experiment: Experiment,
    results: Results,
    *,
    jobs: int = 1,
    seconds: float = float("inf"),
    runs: Path | None = None,
    recompute: Callable[[str, Sequence[str]], Mapping[str, Mapping[str, Any]]] = of_the_record,
) -> Results:
    """A record, extended by the remaining looks of its open claims; one without looks gets those of its preset.

    Args:
        experiment: The experiment.
        results: Its record.
        jobs: Number of trials that run at once.
        seconds: No look starts after this time.
        runs: Folder of the trials (default: ``extended`` in the folder of ``engram run``).
        recompute: Function of the name of an experiment and some arms; returns the results of seed 0 of these arms with
            the code of the experiment's record.

    Raises:
        ValueError: A repeated trial gave other numbers than the code of the record, or a trial did not finish.
    """
    begun = time.monotonic()
    where: dict[str, Any] = {"jobs": jobs, "runs": runs_folder(None) / "extended" if runs is None else runs}
    is_checked = False
    results = replace(results, looks=looks_of(results, experiment))
    for look in results.looks:
        arms = list(dict.fromkeys(arm for judged in results.claims() if judged.is_open for arm in judged.claim.arms))
        missing: dict[range, list[str]] = {}  # the arms by the seeds that the record lacks up to this look
        for arm in arms:
            if (stored := len(results.values(arm))) < look:
                missing.setdefault(range(stored, look), []).append(arm)
        if not missing:
            continue
        if time.monotonic() - begun > seconds:
            break
        if not is_checked:
            again = performed(experiment, results, arms, range(1), **where)
            check_finished(again)
            check_code(experiment, results, again, recompute)
            is_checked = True
        for seeds_of_look, arms_of_look in missing.items():
            more = performed(experiment, results, arms_of_look, seeds_of_look, **where)
            check_finished(more)
            results = joined(results, more, max(results.seeds, look))
    return results


def check_finished(results: Results) -> None:
    """Raise ValueError if a trial was stopped or failed."""
    if unfinished := [f"{trial.arm}, {trial.seed}" for trial in results.trials if trial.state != "finished"]:
        raise ValueError(f"{results.experiment}: not finished: {'; '.join(unfinished[:8])}")


def main() -> None:
    """Extend the named records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--at-most", type=float, default=float("inf"), help="minutes after which no look starts")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    for name in options.names:
        before = recorded(name)[PRESET]
        experiment = engram.registry.get("experiments", name)
        after = extended(experiment, before, jobs=options.jobs, seconds=options.at_most * 60)
        if len(after.trials) > len(before.trials):
            write_atomic(record_path(name), as_text(after.record()).encode())
        still_open = sum(judged.is_open for judged in after.claims())
        print(f"{name}: {before.seeds} to {after.seeds} seeds, {still_open} claims are open")


if __name__ == "__main__":
    main()
