"""Extend the records of experiments with open claims by their next looks, without running the first ones again.

``python docs/extend.py NAME... [--at-most MINUTES]`` first repeats one trial of every arm that an open claim reads. If
all of them give the numbers of the record, this code and this machine compute what those of the record did, and the
seeds of the next look are run and added. If one differs, ``engram run NAME --until-decided`` makes a new record.
Another kind of processor can give other last digits, which training enlarges, so that not only edits show here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from results import PRESET, as_text, record_path, recorded
from rich.console import Console

import engram
from engram.lab import Experiment, Results
from engram.lab.job import prepare
from engram.lab.laboratory import folder_for, perform_left, stoppable
from engram.lab.records import from_record, read_back, write_note
from engram.lab.trial import trials
from engram.storage.files import runs_folder, write_atomic


def performed(
    experiment: Experiment, results: Results, arms: Sequence[str], seeds: range, *, jobs: int, runs: Path
) -> Results:
    """Some arms and seeds of a record, run with today's code."""
    console = Console(stderr=True)
    root = folder_for(experiment, runs)
    compared = experiment.arms(results.preset)
    with stoppable(root, console) as stop:
        todo = trials(experiment, compared, seeds=len(seeds), first=seeds.start, arms=arms)
        all_jobs = [prepare(trial, root, stop, keep_state=False) for trial in todo]
        note = write_note(
            root, experiment=experiment.name, preset=results.preset, changed={}, seeds=seeds.stop, jobs=all_jobs
        )
        left = [job for job in all_jobs if not job.finished]
        console.print(f"{experiment.name}: {len(all_jobs)} trials, {len(all_jobs) - len(left)} done", highlight=False)
        last = perform_left(left, console, jobs, lambda job: [])
        return read_back(experiment, root, note, last)


def differences(experiment: Experiment, results: Results, again: Results) -> list[str]:
    """The numbers of trials that were run again that differ from those of a record, as ``arm, seed: name``.

    Seconds and microseconds, which some trials measure, are not compared.
    """
    before = {(trial.arm, trial.seed): trial.result for trial in results.trials}
    return [
        f"{trial.arm}, {trial.seed}: {name}"
        for trial in from_record(experiment, again.record()).trials
        for name in {**trial.result, **before[trial.arm, trial.seed]}
        if "seconds" not in name and repr(trial.result.get(name)) != repr(before[trial.arm, trial.seed].get(name))
    ]


def joined(results: Results, more: Results, seeds: int) -> Results:
    """A record with the trials of further seeds of some arms, in the order of arms and seeds."""
    order = {arm: place for place, arm in enumerate(results.configs)}
    all_trials = sorted([*results.trials, *more.trials], key=lambda trial: (order[trial.arm], trial.seed))
    metrics = pl.concat([results.metrics, more.metrics.select(results.metrics.columns)])
    return replace(results, trials=all_trials, metrics=metrics, seeds=seeds)


def extended(
    experiment: Experiment, results: Results, *, jobs: int = 1, seconds: float = float("inf"), runs: Path | None = None
) -> Results:
    """A record with the looks that its open claims still have.

    Args:
        experiment: The experiment.
        results: Its record.
        jobs: How many trials at once.
        seconds: No look is begun after this time.
        runs: Folder of the trials (default: as of ``engram run``, in ``extended``).

    Raises:
        ValueError: A trial that was run again gave other numbers, or did not finish.
    """
    begun = time.monotonic()
    where: dict[str, Any] = {"jobs": jobs, "runs": runs_folder(None) / "extended" if runs is None else runs}
    is_checked = False
    for look in [look for look in results.looks if look > results.seeds]:
        arms = list(dict.fromkeys(arm for judged in results.claims() if judged.is_open for arm in judged.claim.arms))
        if not arms or time.monotonic() - begun > seconds:
            break
        if not is_checked:
            again = performed(experiment, results, arms, range(results.seeds - 1, results.seeds), **where)
            if other := differences(experiment, results, again):
                raise ValueError(
                    f"{results.experiment}: the record is of other code or another kind of processor, since there "
                    f"differ {'; '.join(other[:8])}"
                )
            is_checked = True
        more = performed(experiment, results, arms, range(results.seeds, look), **where)
        if unfinished := [f"{trial.arm}, {trial.seed}" for trial in more.trials if trial.state != "finished"]:
            raise ValueError(f"{results.experiment}: not finished: {'; '.join(unfinished[:8])}")
        results = joined(results, more, look)
    return results


def main() -> None:
    """Extend the records that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--at-most", type=float, default=float("inf"), help="minutes after which no look is begun")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    for name in options.names:
        before = recorded(name)[PRESET]
        experiment = engram.registry.get("experiments", name)
        after = extended(experiment, before, jobs=options.jobs, seconds=options.at_most * 60)
        if after.seeds > before.seeds:
            write_atomic(record_path(name), as_text(after.record()).encode())
        still_open = sum(judged.is_open for judged in after.claims())
        print(f"{name}: {before.seeds} to {after.seeds} seeds, {still_open} claims are open")


if __name__ == "__main__":
    main()
