"""The arms of all candidates on one task: how they are made and run, and what their results are."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

from engram import checks, registry
from engram.lab.engine.laboratory import run
from engram.lab.engine.times import timed
from engram.lab.output.record_files import recorded_arms
from engram.lab.output.results import Results, TrialResult
from engram.lab.trial.choice import at_ends
from engram.lab.trial.experiment import COMPARE, Arm, Changes, Experiment, Study, Task
from engram.lab.trial.metrics import over_seeds, windows
from engram.lab.trial.trial import trials
from engram.storage.files import runs_folder
from engram.studies.standings.candidate import Candidate, name_at
from engram.studies.standings.scores import Entry
from engram.studies.standings.timing import seconds_per_step

SLOW = 10.0  # a candidate may take at most this many times as long as the others
STARTING = 60.0  # further seconds allowed for imports and compilation
ROUNDS = 5  # rounds of timing
SEEDS = 5  # unless another number is asked for, and of what is recorded
CURVE_POINTS = 20
UNFIT = "does not fit"


@dataclass(frozen=True)
class Arms:
    """The arms of all candidates on one task.

    Attributes:
        task: The task.
        experiment: Its experiment, with an arm for each candidate.
        names: The name of each candidate's arm, by the name of the candidate.
        own: The names of the candidates that were asked about.
        refused: For each candidate that has no arm, an entry with the reason.
        compared: The arms as they are run, by name.
    """

    task: Task
    experiment: Experiment
    names: Mapping[str, str]
    own: tuple[str, ...]
    refused: Mapping[str, Entry]
    compared: Mapping[str, Arm]

    @classmethod
    def of(
        cls, experiment: Experiment, task: Task, own: Sequence[Candidate], against: Sequence[str] | None, preset: str
    ) -> Arms:
        """Make the arms of some candidates and of those that they are compared with, at one size.

        Args:
            experiment: The experiment.
            task: A task of it.
            own: The candidates that were asked about.
            against: Registered names or places of the candidates to compare with (default: the task's baselines).
            preset: The size.
        """
        baselines = list(task.baselines or registry.names(task.kind)) if against is None else list(against)
        places = {candidate.name: candidate.place for candidate in own}
        for place in [*baselines, *filter(None, [task.trivial])]:
            places.setdefault(name_at(place), place)
        own_names = tuple(candidate.name for candidate in own)
        arms: dict[str, Changes] = dict(experiment.by_name[task.study].table)
        names: dict[str, str] = {}
        refused: dict[str, Entry] = {}
        for name, place in places.items():
            try:
                changes = task.changes(place)
            except Exception as error:
                if name not in own_names:
                    raise
                refused[name] = Entry(note=f"{type(error).__name__}: {error}")  # an error in the user's code
                continue
            if changes is None:
                if name in own_names or against is not None:
                    refused[name] = Entry(note=UNFIT)
                continue
            arm = task.arm(name)
            names[name] = arm if arms.get(arm, changes) == changes else f"own-{arm}"  # the experiment has another one
            arms[names[name]] = changes
        extended = _with_arms(experiment, task.study, arms, preset)
        return cls(task, extended, names, own_names, refused, extended.arms(preset))

    @property
    def against(self) -> list[str]:
        """The candidates that were not asked about."""
        return [candidate for candidate in self.names if candidate not in self.own]

    def recorded(self, preset: str, count: int) -> dict[str, Entry]:
        """The results of the candidates that were not asked about, as far as the experiment's records have them.

        Args:
            preset: The size.
            count: Number of seeds: the first of those in the records, which may have more of an arm.
        """
        entries: dict[str, Entry] = {}
        for name in (preset, COMPARE):
            results = recorded_arms(self.experiment, preset, name)
            if results is None:
                continue
            first_seeds = replace(results, trials=[trial for trial in results.trials if trial.seed < count])
            stored = Counter(trial.arm for trial in first_seeds.trials)
            for candidate in self.against:
                if candidate not in entries and stored[self.names[candidate]] == count:
                    entries[candidate] = replace(self.entry(first_seeds, candidate), is_recorded=True)
        return entries

    def run(
        self, against: Sequence[str], count: int, shipped: Mapping[str, Entry], options: Mapping[str, Any]
    ) -> dict[str, Entry]:
        """Run the candidates asked about, and those without recorded results among the others; return all results.

        Args:
            against: The other candidates to compare with.
            count: Number of seeds.
            shipped: The recorded results of the others, of as many seeds.
            options: Further arguments of ``run``.
        """
        entries = {name: shipped[name] for name in against if name in shipped}
        unknown = [name for name in against if name not in entries]
        if unknown:
            entries |= self._run(unknown, count, None, options)
        for candidate in self.own:
            if candidate in self.names:
                entries |= self._run([candidate], count, self._limit(candidate, count, options.get("runs")), options)
        return entries

    def _limit(self, candidate: str, count: int, runs: str | Path | None) -> float | None:
        """The seconds that a candidate may take: ten times as long as another one.

        If it is unknown how long the others take, the time per step decides, since all candidates take the same number
        of steps: one whose steps take over ten times as long is stopped soon.
        """
        others = {name: self.compared[name] for name in map(self.names.__getitem__, self.against)}
        todo = trials(self.experiment, others, seeds=1) if others else []
        root = runs_folder(runs) / self.experiment.name
        if known_seconds := [trial.time.seconds for trial in timed(self.experiment, todo, root) if trial.time.is_known]:
            return STARTING + SLOW * count * median(known_seconds)
        try:
            step_seconds = self._step_seconds([candidate, *self.against], rounds=1)
        except Exception:  # an error in the user's code, which its trials report
            return None
        own_seconds = step_seconds.pop(candidate, 0.0)
        return STARTING if step_seconds and own_seconds > SLOW * median(step_seconds.values()) else None

    def _run(
        self, candidates: Sequence[str], count: int, at_most: float | None, options: Mapping[str, Any]
    ) -> dict[str, Entry]:
        began = time.monotonic()
        arms = [self.names[candidate] for candidate in candidates]
        results = run(self.experiment, seeds=count, arms=arms, at_most=at_most, **options)
        took = time.monotonic() - began
        if any(trial.state == "interrupted" for trial in results.trials) and (at_most is None or took < at_most):
            raise KeyboardInterrupt
        return {candidate: self.entry(results, candidate, took) for candidate in candidates}

    def entry(self, results: Results, candidate: str, took: float = 0.0) -> Entry:
        """The results of a candidate.

        Args:
            results: The run.
            candidate: The name of the candidate.
            took: Seconds that the run took, for the note on a candidate that was stopped.
        """
        task, arm = self.task, self.names[candidate]
        trials = [trial for trial in results.trials if trial.arm == arm]
        values = {trial.seed: float(trial.result[task.measure]) for trial in trials if trial.state == "finished"}
        costs = {
            title: sum(numbers) / len(numbers)
            for title, key in task.costs.items()
            if (numbers := [trial.result[key] for trial in trials if key in trial.result])
        }
        note = next(filter(None, (_note(trial, took) for trial in trials)), "")
        if not note and not all(map(math.isfinite, values.values())):
            note = "is not finite"
        caveats = tuple(at_ends({arm: results.choices[arm]}).get(arm, ()))
        curve = curve_of(results, arm, task.curve or task.measure)
        operators = {trial.seed: trial.result[key] for trial in trials if (key := task.operator) in trial.result}
        return Entry(values, costs, curve, note, caveats, operators=operators)

    def time_steps(self, row: Mapping[str, Entry]) -> dict[str, Entry]:
        """Entries with the time per step."""
        working = [candidate for candidate in row if candidate in self.names and not row[candidate].note]
        seconds = self._step_seconds(working, ROUNDS)
        return {
            candidate: replace(entry, step_seconds=seconds[candidate]) if candidate in seconds else entry
            for candidate, entry in row.items()
        }

    def _step_seconds(self, candidates: Sequence[str], rounds: int) -> dict[str, float]:
        """The time per step of some candidates; empty for a task that defines no step."""
        if (step_of := self.task.step) is None:
            return {}
        steps = {candidate: step_of(self.compared[self.names[candidate]].config) for candidate in candidates}
        return seconds_per_step(steps, rounds)


def curve_of(results: Results, arm: str, metric: str) -> tuple[list[float], list[float]]:
    """A learning curve: at most 20 steps, and the means of a metric over seeds at these steps.

    Args:
        results: The run.
        arm: The arm.
        metric: Name of the logged metric; the curve is empty if it was not logged.
    """
    seeds = [trial.seed for trial in results.trials if trial.arm == arm]
    rows = results.metrics.filter(pl.col("arm") == arm, pl.col("metric") == metric, pl.col("seed").is_in(seeds))
    if rows.is_empty():
        return [], []
    means = over_seeds(windows(rows, CURVE_POINTS), CURVE_POINTS)
    return means["step"].cast(float).to_list(), [float(f"{value:.5g}") for value in means["mean"]]


def _with_arms(experiment: Experiment, study: str, arms: Mapping[str, Changes], preset: str) -> Experiment:
    """An experiment in which a study has these arms at one size; it has no claims and no tasks."""
    changed = replace(experiment.by_name[study], arms=arms)
    studies = changed if isinstance(experiment.studies, Study) else {**experiment.studies, study: changed}
    checks.choice("preset", preset, experiment.presets)
    # Every experiment has two of the presets; all arms of each preset are checked.
    kept = experiment.presets.keys() & {"smoke", "laptop", preset}
    presets = {name: replace(each, arms=None) for name, each in experiment.presets.items() if name in kept}
    return replace(experiment, studies=studies, presets=presets, claims=(), tasks=(), answer="")


def _note(trial: TrialResult, took: float) -> str:
    if trial.state == "failed":
        return f"raised {trial.message.strip().splitlines()[0]}" if trial.message else "failed"
    if trial.state != "finished":
        return f"stopped after {took:.0f} s; takes over ten times as long as the others"
    return ""
