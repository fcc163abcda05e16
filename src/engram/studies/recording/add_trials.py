"""Extends the record of an experiment by new arms and by the next looks of its open claims, without repeating the rest.

Arms that the record lacks are run with the seeds of the first look. One trial of every arm that an open claim reads, or
that a claim compares with a new arm, is repeated first. If it gives the numbers of the record, the seeds of the next
look are run and added. On another kind of processor or with other versions the last digits may differ.

A record of a fixed number of seeds is first judged again by the looks of its preset. This is what ``--until-decided``
would do with the same seeds, and it can make a claim open that the fixed number had decided. In the same way, a record
whose looks are the first ones of its preset is judged again by all looks of the preset: what the look that used to be
the last one decided must then hold at the stricter level of an interim look. The error over all looks of one plan is 5
%. A longer plan that is made because a claim was open after a shorter one adds to it: ``docs/concepts.md`` says how
much.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engram.lab.engine.console import progress_console
from engram.lab.engine.laboratory import perform_jobs
from engram.lab.engine.stop import end, stop_file, stoppable
from engram.lab.output.read_runs import join, note_of, read_back, write_note
from engram.lab.output.record_files import as_record, from_record, rounded
from engram.lab.output.results import SHOWN, Results
from engram.lab.trial.experiment import Experiment
from engram.lab.trial.job import prepare
from engram.lab.trial.machine import COMPUTING, cores
from engram.lab.trial.trial import trials
from engram.run_options import RunOptions
from engram.storage.files import runs_folder

TOLERANCE = 1e-5  # relative, of numbers that were computed elsewhere
KIND = ("system", "processor", "kernels", "blas", "accelerator")  # of hardware: where the same code gives the same bits


def extend_record(
    experiment: Experiment,
    results: Results,
    *,
    jobs: int | None = None,
    seconds: float | None = None,
    runs: Path | None = None,
) -> Results:
    """A record, extended by arms that it lacks and by the remaining looks of its open claims.

    A record without looks gets those of its preset.

    Args:
        experiment: The experiment.
        results: Its record.
        jobs: Number of trials that run at once (default: as many as fit on the cores).
        seconds: No look starts after this time.
        runs: Folder of all runs; the trials lie in ``extended`` there, apart from those of ``engram run``.

    Raises:
        ValueError: A repeated trial gave other numbers than the record, or a trial did not finish.
    """
    begun = time.monotonic()
    workers = max(1, cores() // experiment.threads) if jobs is None else jobs
    where: dict[str, Any] = {"workers": workers, "runs": runs_folder(runs) / "extended"}
    is_checked = False
    results = replace(results, looks=looks_of(results, experiment))
    results = run_missing_arms(experiment, results, **where)
    for look in results.looks:
        arms = list(
            dict.fromkeys(
                arm for judged in results.claims() if judged.is_open or judged.lacks for arm in judged.claim.arms
            )
        )
        missing: dict[range, list[str]] = {}  # the arms by the seeds that the record lacks up to this look
        for arm in arms:
            if (stored := len(results.values(arm))) < look:
                missing.setdefault(range(stored, look), []).append(arm)
        if not missing:
            continue
        if seconds is not None and time.monotonic() - begun > seconds:
            break
        if not is_checked:
            check_numbers(experiment, results, run_trials(experiment, results, arms, range(1), **where))
            is_checked = True
        for seeds_of_look, arms_of_look in missing.items():
            more = run_trials(experiment, results, arms_of_look, seeds_of_look, **where)
            results = join(results, more, max(results.seeds, look))
    return results


def run_missing_arms(experiment: Experiment, results: Results, *, workers: int, runs: Path) -> Results:
    """A record with the arms of its preset that it lacks, which are run with the seeds of the first look."""
    configs = {arm: preset_arm.config for arm, preset_arm in experiment.arms(results.preset).items()}
    lacking = [arm for arm in configs if arm not in results.arms]
    if not lacking:
        return results
    results = replace(results, configs=configs)
    where: dict[str, Any] = {"workers": workers, "runs": runs}
    compared = dict.fromkeys(arm for claim in experiment.claims if set(claim.arms) & set(lacking) for arm in claim.arms)
    if earlier := [arm for arm in compared if arm in results.arms]:
        check_numbers(experiment, results, run_trials(experiment, results, earlier, range(1), **where))
    seeds = results.looks[0] if results.looks else results.seeds
    more = run_trials(experiment, results, lacking, range(seeds), **where)
    return from_record(experiment, *as_record(experiment, join(results, more, max(results.seeds, seeds))))


def looks_of(results: Results, experiment: Experiment) -> Sequence[int]:
    """The looks of a record, or those of its preset if these go on where those of the record end."""
    of_preset = experiment.presets[results.preset].looks
    return of_preset if list(of_preset[: len(results.looks)]) == list(results.looks) else results.looks


def run_trials(
    experiment: Experiment, results: Results, arms: Sequence[str], seeds: range, *, workers: int, runs: Path
) -> Results:
    """The results of some arms and seeds at the preset of a record; ValueError if a trial does not finish."""
    console = progress_console()
    root = runs / experiment.name
    stop = stop_file(root)
    todo = trials(experiment, experiment.arms(results.preset), seeds=len(seeds), first=seeds.start, arms=arms)
    all_jobs = [prepare(trial, root, stop, RunOptions(keep_state=False)) for trial in todo]
    note = note_of(experiment, results.preset, seeds.stop, all_jobs)
    unfinished = [job for job in all_jobs if not job.finished]
    with stoppable(stop, console):
        write_note(root, note)
        console.print(
            f"{experiment.name}: {len(all_jobs)} trials, {len(all_jobs) - len(unfinished)} done", highlight=False
        )
        again = read_back(experiment, root, note, perform_jobs(unfinished, console, workers, lambda job: []))
    end(stop, again)
    if states := [f"{trial.arm}, {trial.seed}" for trial in again.trials if trial.state != "finished"]:
        raise ValueError(f"{experiment.name}: not finished: {'; '.join(states[:8])}")
    return again


def check_numbers(experiment: Experiment, results: Results, again: Results) -> None:
    """Raise ValueError if repeated trials give other numbers than a record."""
    if different := differences(experiment, results, again):
        names = [f"{arm}, seed {seed}: {name}" for (arm, seed), names in different.items() for name in names]
        raise ValueError(
            f"{experiment.name} gives other numbers than its record of preset {results.preset}: "
            f"{'; '.join(names[:8])}. If a change of the code has changed them, raise its revision (now "
            f"{experiment.revision}) and record it anew: engram record {experiment.name}"
        )


def differences(experiment: Experiment, results: Results, again: Results) -> dict[tuple[str, int], list[str]]:
    """The names of the results and curves that differ between a record and repeated trials, by arm and seed.

    On the record's kind of processor and with its versions, numbers must be equal bit by bit, as far as the record has
    their digits. Elsewhere they may differ by 1e-5; or, since training amplifies what rounding changes, by as much as
    the other seeds of the arm differ. What a trial shows is not compared there: it is rounded for a picture, and only
    one seed of the record has it. Seconds and microseconds, which some trials measure, are never compared, nor are
    numbers that the record lacks.

    Args:
        experiment: The experiment.
        results: Its record.
        again: The same trials, or some of them, run again.
    """
    repeated = numbers(from_record(experiment, *as_record(experiment, again)))
    stored = numbers(results)
    is_same = is_same_machine(results.environment, again.environment)
    differ: dict[tuple[str, int], list[str]] = {}
    for (arm, seed), of_trial in repeated.items():
        others = [values for (other, of), values in stored.items() if other == arm and of != seed]
        for name, value in stored[arm, seed].items():
            now = of_trial.get(name)
            is_compared = "seconds" not in name and (is_same or name != SHOWN)
            if not is_compared or is_equal(value, now, 0.0 if is_same else TOLERANCE):
                continue
            if is_same or not is_among(now, [values[name] for values in others if name in values]):
                differ.setdefault((arm, seed), []).append(name)
    return differ


def is_among(value: Any, of_seeds: Sequence[Any]) -> bool:
    """Whether a result is no farther from those of other seeds than these are from each other.

    Args:
        value: The result: a number, a text, or lists and mappings of these.
        of_seeds: Those of the seeds.
    """
    if len(of_seeds) < 2:
        return False
    if isinstance(value, dict) and all(isinstance(other, dict) for other in of_seeds):
        names = value.keys() & set.intersection(*(set(other) for other in of_seeds))
        return all(is_among(value[name], [other[name] for other in of_seeds]) for name in names)
    if isinstance(value, list) and all(isinstance(other, list) for other in of_seeds):
        lengths = {len(other) for other in of_seeds}
        if len(lengths) > 1:  # it depends on chance how long they are
            return True
        columns = zip(value, *of_seeds, strict=True) if {len(value)} == lengths else ()
        return {len(value)} == lengths and all(is_among(item, others) for item, *others in columns)
    if isinstance(value, int | float) and all(isinstance(other, int | float) for other in of_seeds):
        finite = [other for other in of_seeds if math.isfinite(other)]
        if len(finite) < len(of_seeds) or not math.isfinite(value):
            return len(finite) < len(of_seeds)
        low, high = min(finite), max(finite)
        return bool(low - (high - low) <= value <= high + (high - low))
    return len({repr(other) for other in of_seeds}) > 1


def numbers(results: Results) -> dict[tuple[str, int], dict[str, Any]]:
    """The results and the learning curves of each trial, by arm and seed, as a record has them."""
    by_trial = {(trial.arm, trial.seed): dict(trial.result) for trial in results.trials}
    for (arm, seed, metric), rows in results.metrics.group_by("arm", "seed", "metric", maintain_order=True):
        by_trial[str(arm), int(str(seed))][f"curve of {metric}"] = rows["value"].to_list()
    return by_trial


def is_same_machine(environment: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two environments have the same kind of processor and the same versions of what computes."""
    versions, hardware = environment["versions"], environment["hardware"]
    return all(versions.get(name) == other["versions"].get(name) for name in COMPUTING if name != "engram") and all(
        hardware.get(name) == other["hardware"].get(name) for name in KIND
    )


def is_equal(value: Any, other: Any, digits: float) -> bool:
    """Whether two results are equal; numbers may differ by a relative error, and by rounding near 0.

    Args:
        value: A result: a number, a text, or lists and mappings of these.
        other: The other one.
        digits: The relative error; 0: both are equal, or the first is the second rounded to the digits of a record.
    """
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(is_equal(item, other[name], digits) for name, item in value.items())
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(is_equal(*pair, digits) for pair in zip(value, other, strict=True))
    if isinstance(value, float) and isinstance(other, float | int):
        if digits == 0.0:
            return value in (other, rounded(float(other))) or (math.isnan(value) and math.isnan(other))
        return math.isclose(value, other, rel_tol=digits, abs_tol=1e-12) or (math.isnan(value) and math.isnan(other))
    return repr(value) == repr(other)
