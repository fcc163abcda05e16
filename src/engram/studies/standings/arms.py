"""The arms of all candidates on one task: how they are made and run, and what their results are."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape

from engram import checks, registry
from engram.lab.engine.laboratory import run
from engram.lab.engine.times import timed
from engram.lab.output.results import Results, TrialResult
from engram.lab.trial.choice import at_ends
from engram.lab.trial.experiment import Arm, Changes, Experiment, Study, Task
from engram.lab.trial.trial import trials
from engram.storage.files import runs_folder
from engram.studies.standings import recorded
from engram.studies.standings.candidate import Candidate, name_at
from engram.studies.standings.scores import Entry
from engram.studies.standings.timing import seconds_per_step

SLOW = 10.0  # a candidate may take at most this many times as long as the others
STARTING = 60.0  # further seconds allowed for imports and compilation
ROUNDS = 5  # rounds of timing
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

    def recorded(self, preset: str, console: Console) -> dict[str, Entry]:
        """The shipped results of the candidates that were not asked about, if they are of the experiment's revision.

        Args:
            preset: The size.
            console: Where to say how many candidates have no such results.
        """
        arms, reason = recorded.read(self.experiment, preset)
        entries = self.recorded_entries(arms)
        num = len(self.against) - len(entries)
        if num:
            why = "they are not in the record" if arms else reason
            message = f"{self.task.name}: {num} of {len(self.against)} registered methods are run here ({why})"
            console.print(f"[dim]{escape(message)}[/]", highlight=False, soft_wrap=True)
        return entries

    def to_ship(self, row: Mapping[str, Entry]) -> dict[str, recorded.RecordedArm]:
        """The results to ship of the candidates that were not asked about, as far as there are any."""
        return {
            self.names[candidate]: {
                "config": recorded.digest(self.compared[self.names[candidate]]),
                "values": [float(f"{value:.6g}") for value in row[candidate].values.values()],
                "costs": {title: float(f"{cost:.4g}") for title, cost in row[candidate].costs.items()},
                "curve": row[candidate].curve,
                **({"data": recorded.checksum(self.task.data)} if self.task.data else {}),
                **({"operators": list(row[candidate].operators.values())} if row[candidate].operators else {}),
            }
            for candidate in self.against
            if candidate in row and not row[candidate].note
        }

    def recorded_entries(self, arms: Mapping[str, recorded.RecordedArm]) -> dict[str, Entry]:
        """The recorded results of the candidates that were not asked about, if settings and data are the same here."""
        entries = {}
        for candidate in self.against:
            stored = arms.get(self.names[candidate])
            if stored is None or stored["config"] != recorded.digest(self.compared[self.names[candidate]]):
                continue
            if stored.get("data", "") != recorded.checksum(self.task.data):
                continue  # re-encoded images, say, are no others
            values = dict(enumerate(stored["values"]))
            operators = dict(enumerate(stored.get("operators", [])))
            entries[candidate] = Entry(values, stored["costs"], stored["curve"], is_recorded=True, operators=operators)
        return entries

    def performed(
        self, against: Sequence[str], count: int, shipped: Mapping[str, Entry], options: Mapping[str, Any]
    ) -> dict[str, Entry]:
        """Run the candidates asked about, and those without shipped results among the others; return all results.

        Args:
            against: The other candidates to compare with.
            count: Number of seeds.
            shipped: The shipped results of the others.
            options: Further arguments of ``run``.
        """
        entries = {
            name: replace(shipped[name], values={seed: shipped[name].values[seed] for seed in range(count)})
            for name in against
            if name in shipped and len(shipped[name].values) >= count
        }
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
        curve = recorded.curve(results, arm, task.curve or task.measure)
        operators = {trial.seed: trial.result[key] for trial in trials if (key := task.operator) in trial.result}
        return Entry(values, costs, curve, note, caveats, operators=operators)

    def timed(self, row: Mapping[str, Entry]) -> dict[str, Entry]:
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
