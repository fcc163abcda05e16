"""Compares a method with all registered methods of its kind, on the tasks and in the loops of the experiments."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from engram import checks, references, registry
from engram.lab.choice import at_ends
from engram.lab.experiment import Arm, Contest, Experiment, Preset, Study
from engram.lab.inference import CONFIDENCE, errors_at
from engram.lab.laboratory import run
from engram.lab.results import Results, TrialResult
from engram.standings import recorded
from engram.standings.kinds import KINDS, Event, check_contract, events
from engram.standings.part import Part, find_part, title_of
from engram.standings.scores import Entry, Scores, Task
from engram.standings.standing import Standing
from engram.storage.files import runs_folder
from engram.tasks.data import DataError

SLOW = 10.0  # a method may take at most this many times as long as the others
STARTING = 60.0  # further seconds allowed for imports and compilation
ROUNDS, SHORTEST = 5, 0.02  # rounds of timing, and the least time of each in seconds


def compare(
    part: Any,
    *others: Any,
    kind: str = "",
    against: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    seeds: int = 5,
    until_decided: bool = False,
    fresh: bool = False,
    preset: str = "laptop",
    jobs: int | None = None,
    runs: str | Path | None = None,
    progress: bool = True,
) -> Standing:
    """Compare a method with the registered ones of its kind, on all tasks of that kind.

    The same loops as in the experiments train every method, at rates chosen by validation, on the same seeds. Results
    of registered methods come from the records that ship with engram. Finished trials are reused, interrupted ones
    resume. The time per step is always measured here. If a method raises an error, is not finite, or takes ten times as
    long as the others on a task, its entry says so, and the others continue.

    Args:
        part: A method: a registered name, ``"file.py:Name"``, ``"module:Name"``, or a class, function or named object
            of a module; or a kind, such as ``"learning-rules"``, to rank its registered parts.
        *others: Further methods of the same kind.
        kind: The kind (default: from the class).
        against: Compare only with these (default: all registered ones of the experiments).
        tasks: Only tasks whose name contains one of these, or whose experiment has such a name (default: all).
        seeds: Number of seeds.
        until_decided: Evaluate after 5, 10, 20 and 40 seeds instead, until it is decided for every other method
            whether yours is better, worse or equally good; the error probabilities of all looks add up to 5 %.
        fresh: Run the registered methods here too, instead of using their records.
        preset: ``"laptop"``, ``"smoke"`` or ``"paper"``, as for the experiments.
        jobs: Number of trials at once (default: as many as fit on the cores).
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``); comparisons use its subfolder ``compare``.
        progress: Show the progress on the standard error stream.

    Returns:
        The standing: a frame, sentences, figures, a report.

    Raises:
        TypeError, ValueError: An argument is not as described, or a method reads its test data.

    Examples:
        >>> standing = compare("last-layer", against=["backprop"], tasks=["narrow"], preset="smoke", progress=False)
        >>> standing.frame["method"].to_list()
        ['backprop', 'last-layer']
    """
    console = Console(stderr=True, quiet=not progress)
    checks.size("seeds", seeds)
    kind, of_kind = kind.replace("-", "_"), part.replace("-", "_") if isinstance(part, str) else ""
    entrants = [] if of_kind in KINDS else [find_part(method, kind) for method in (part, *others)]
    if not entrants and (others or until_decided):
        argument = f"others = {others}" if others else "until_decided = True"
        raise ValueError(f"{argument}: expected a method as part, and not the kind {part!r}")
    kinds = {entrant.kind for entrant in entrants} or {of_kind}
    if len(kinds) > 1:
        raise ValueError(f"part = {part!r}: expected methods of one kind, and not of {' and '.join(sorted(kinds))}")
    (kind,) = kinds
    chosen = _chosen(events(kind), tasks)
    baselines = {name for event in chosen for name in (*event.contest.baselines, event.contest.trivial)}
    baselines |= {*registry.names(kind)}
    for name in against or ():
        if name not in baselines and not references.is_reference(name):
            hint = registry.suggestion(name, sorted(baselines))
            raise ValueError(f"against = {name!r}: expected a registered name ({hint}) or a place, as 'module:Name'")
    titles, notes = tuple(entrant.title for entrant in entrants), []
    _refuse_namesakes([entrant.reference for entrant in entrants], against or (), baselines)
    for entrant in entrants:
        if references.is_reference(entrant.reference) and (broken := check_contract(kind, entrant.make)):
            notes.append(broken)
            console.print(f"[yellow]{escape(broken)}[/]", highlight=False, soft_wrap=True)
    options = {"preset": preset, "jobs": jobs, "runs": runs_folder(runs) / "compare", "progress": False}
    entries: dict[str, dict[str, Entry]] = {}
    described: list[Task] = []
    for event in chosen:
        try:
            event.contest.check_requirements()
        except DataError as error:
            notes.append(f"{event.contest.task} is left out: {error}")
            console.print(f"[yellow]{escape(notes[-1])}[/]", highlight=False, soft_wrap=True)
            continue
        comparison = Comparison.of(event, entrants, against, preset)
        looks = list(event.experiment.presets[preset].looks) if until_decided else [seeds]
        shipped = {} if fresh else comparison.recorded(preset, console)
        rivals = comparison.others
        row: dict[str, Entry] = dict(comparison.refused)
        for look, count in enumerate(looks):
            task = described_as(event, 1 - errors_at(len(looks))[look] if until_decided else CONFIDENCE)
            row |= comparison.performed(rivals, count, shipped, options)
            standing = Standing(kind, titles, (task,), {task.name: row})
            rivals = [name for name in rivals if any(_is_open(standing, title, name) for title in titles)]
            if not rivals:
                break
        entries[task.name] = comparison.timed(row)
        described.append(task)
        console.print(_line(Standing(kind, titles, (task,), entries)), highlight=False, soft_wrap=True)
    if not described:
        raise ValueError(f"tasks = {tasks!r}: the data of these tasks are missing: {'; '.join(notes)}")
    about = {entrant.title: text for entrant in entrants if (text := entrant.about)}
    return Standing(kind, titles, tuple(described), entries, tuple(notes), about)


def record(
    kind: str,
    seeds: int = 5,
    *,
    tasks: Sequence[str] | None = None,
    missing: bool = False,
    jobs: int | None = None,
    runs: str | Path | None = None,
) -> None:
    """Run all registered parts of a kind, and add their results to the file that ships with engram.

    Each task is added as soon as it is complete, and replaces its older results, so tasks can be recorded one after
    another. Results of other tasks stay if they are of the experiment's current revision.

    Args:
        kind: One of ``KINDS``.
        seeds: Number of seeds.
        tasks: Only tasks whose name contains one of these, or whose experiment has such a name (default: all).
        missing: Run only the parts without shipped results.
        jobs: Number of trials at once (default: as many as fit on the cores).
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``).
    """
    options: dict[str, Any] = {"preset": "laptop", "jobs": jobs, "runs": runs_folder(runs) / "compare"}
    checks.size("seeds", seeds)
    for event in _chosen(events(kind), tasks):
        comparison = Comparison.of(event, [], None, "laptop")
        methods = [method for method in comparison.others if not (missing and method in shipped_row(event))]
        if not methods:
            continue
        arms = [comparison.arms[method] for method in methods]
        results = run(comparison.experiment, seeds=seeds, arms=arms, **options)
        row = {method: comparison.entry(results, comparison.arms[method], 0.0) for method in methods}
        recorded.ship(results, event.experiment.revision, comparison.to_ship(row))


def standing_of_records(kind: str) -> Standing:
    """The standing of a kind's registered parts from the results that ship with engram, without running anything.

    Args:
        kind: One of ``KINDS``.

    Raises:
        ValueError: The kind is unknown, or has no shipped results.
    """
    entries: dict[str, dict[str, Entry]] = {}
    tasks = []
    for event in events(kind):
        if row := shipped_row(event):
            entries[event.contest.task] = row
            tasks.append(described_as(event, CONFIDENCE))
    if not tasks:
        raise ValueError(f"kind = {kind!r}: engram ships no results of this kind")
    return Standing(kind, (), tuple(tasks), entries)


def shipped_row(event: Event) -> dict[str, Entry]:
    """The results of registered parts on a task that ship with engram, by part.

    Args:
        event: The task.
    """
    record = recorded.all_records().get(event.experiment.name)
    return Comparison.of(event, [], None, "laptop").recorded_entries(record["arms"]) if record else {}


def _chosen(events: Sequence[Event], tasks: Sequence[str] | None) -> list[Event]:
    """The requested tasks; raises ValueError if a request fits none."""
    if tasks is None:
        return list(events)
    if not tasks:
        raise ValueError("tasks = []: expected at least one")
    chosen = [event for event in events if any(_is_asked(event, pattern) for pattern in tasks)]
    for pattern in tasks:
        if not any(_is_asked(event, pattern) for event in events):
            names = "; ".join(f"{event.contest.task} (of {event.experiment.name})" for event in events)
            raise ValueError(f"tasks = {pattern!r}: expected part of one of {names}")
    return chosen


def _is_asked(event: Event, pattern: str) -> bool:
    return pattern in event.contest.task or pattern == event.experiment.name


def described_as(event: Event, confidence: float) -> Task:
    """Describe a task for a standing."""
    contest = event.contest
    shared = "measure", "maximize", "margin", "chance", "trivial", "curve", "goal", "equal_seconds"
    common = {name: getattr(contest, name) for name in shared}
    bits = None if contest.bits is None else contest.bits()
    return Task(contest.task, event.experiment.name, bits=bits, confidence=confidence, **common)


def _is_open(standing: Scores, method: str, other: str) -> bool:
    task = standing.tasks[0].name
    entries = standing.entries[task]
    if not {method, other} <= set(entries) or entries[method].note or entries[other].note:
        return False  # more seeds would not help a method that failed or does not fit
    return standing.relation(task, method, other) == "open"


def add_arm(table: dict[str, Any], contest: Contest, reference: str) -> str:
    """Add a part's arm to a table of arms.

    Args:
        table: The arms by name, to which it is added.
        contest: The contest that the part enters.
        reference: Its registered name, or its place.

    Returns:
        The name of its arm, made from its title; empty if it does not fit.
    """
    for name, settings in contest.arm(reference).items():
        titled = name.replace(reference, title_of(reference))
        arm = titled if table.get(titled, settings) == settings else f"own-{titled}"
        table[arm] = settings
        return arm
    return ""


@dataclass(frozen=True)
class Comparison:
    """One task, with the arms of all methods.

    Attributes:
        event: The task.
        experiment: Its experiment, with an arm for each method.
        arms: The arms of the methods, by the methods' titles.
        own: The titles of the methods that were asked about.
        refused: For each method that has no arm, an entry with the reason.
        compared: The arms as they are run, by name.
    """

    event: Event
    experiment: Experiment
    arms: Mapping[str, str]
    own: tuple[str, ...]
    refused: Mapping[str, Entry]
    compared: Mapping[str, Arm]

    @classmethod
    def of(cls, event: Event, entrants: Sequence[Part], against: Sequence[str] | None, preset: str) -> Comparison:
        """Make the comparison of some methods with others, at one size.

        Args:
            event: The task.
            entrants: The methods that were asked about.
            against: The methods to compare with (default: the task's baselines).
            preset: The size.
        """
        experiment, contest = event
        study = experiment.by_name[contest.study]
        table: dict[str, Any] = dict(study.table)
        arms: dict[str, str] = {}
        refused: dict[str, Entry] = {}
        for method in entrants:
            try:
                if arm := add_arm(table, contest, method.reference):
                    arms[method.title] = arm
                else:
                    refused[method.title] = Entry(note="does not fit")
            except Exception as error:  # an error in the user's method
                refused[method.title] = Entry(note=f"{type(error).__name__}: {error}")
        others = list(contest.baselines or registry.names(contest.kind)) if against is None else list(against)
        for name in [*others, *filter(None, [contest.trivial])]:
            if title_of(name) in arms:
                continue
            if arm := add_arm(table, contest, name):
                arms[title_of(name)] = arm
            elif against is not None:
                refused[title_of(name)] = Entry(note="does not fit")
        studies: Any = replace(study, arms=table)
        if contest.study or not isinstance(experiment.studies, Study):
            studies = {**experiment.by_name, contest.study: studies}
        presets: dict[str, Preset] = {name: replace(size, arms=None) for name, size in experiment.presets.items()}
        extended = replace(experiment, studies=studies, presets=presets, claims=(), contests=(), answer="")
        return cls(event, extended, arms, tuple(part.title for part in entrants), refused, extended.arms(preset))

    @property
    def others(self) -> list[str]:
        """The methods that were not asked about."""
        return [method for method in self.arms if method not in self.own]

    def recorded(self, preset: str, console: Console) -> dict[str, Entry]:
        """The shipped results of the other methods, if they are of the experiment's current revision.

        Args:
            preset: The size.
            console: Where to say how many methods have no such results.
        """
        arms, reason = recorded.read(self.experiment, preset)
        entries = self.recorded_entries(arms)
        num = len(self.others) - len(entries)
        if num:
            message = (
                f"{self.event.contest.task}: {num} of {len(self.others)} other methods are run here ({escape(reason)})"
            )
            console.print(f"[dim]{message}[/]", highlight=False, soft_wrap=True)
        return entries

    def to_ship(self, row: Mapping[str, Entry]) -> dict[str, recorded.RecordedArm]:
        """The results of the other methods to ship, as far as there are any."""
        return {
            self.arms[method]: {
                "config": recorded.digest(self.compared[self.arms[method]]),
                "values": [float(f"{value:.6g}") for value in row[method].values.values()],
                "costs": {title: float(f"{cost:.4g}") for title, cost in row[method].costs.items()},
                "curve": row[method].curve,
                **({"operators": list(row[method].operators.values())} if row[method].operators else {}),
            }
            for method in self.others
            if method in row and not row[method].note
        }

    def recorded_entries(self, arms: Mapping[str, recorded.RecordedArm]) -> dict[str, Entry]:
        """The recorded results of the other methods with the same settings as here."""
        entries = {}
        for method in self.others:
            stored = arms.get(self.arms[method])
            if stored is None or stored["config"] != recorded.digest(self.compared[self.arms[method]]):
                continue
            values = dict(enumerate(stored["values"]))
            operators = dict(enumerate(stored.get("operators", [])))
            entries[method] = Entry(values, stored["costs"], stored["curve"], is_recorded=True, operators=operators)
        return entries

    def performed(
        self, rivals: Sequence[str], count: int, shipped: Mapping[str, Entry], options: Mapping[str, Any]
    ) -> dict[str, Entry]:
        """Run the methods asked about, and those of their rivals without known results; return all results.

        Args:
            rivals: The other methods to compare with.
            count: Number of seeds.
            shipped: The shipped results of rivals.
            options: Further arguments of ``run``.
        """
        entries = {
            name: replace(shipped[name], values={seed: shipped[name].values[seed] for seed in range(count)})
            for name in rivals
            if name in shipped and len(shipped[name].values) >= count
        }
        unknown = [name for name in rivals if name not in entries]
        if unknown:
            entries |= self._run(unknown, count, None, options)
        for method in self.own:
            if method in self.arms:
                entries |= self._run([method], count, self._limit(method, count), options)
        return entries

    def _limit(self, method: str, count: int) -> float | None:
        """The seconds that a method may take: ten times as long as another one.

        If no record says how long the others take, the time per step decides, since all methods take the same number of
        steps: a method whose steps take over ten times as long is stopped soon.
        """
        seconds = [self.compared[self.arms[name]].seconds for name in self.others]
        if known_seconds := [time for time in seconds if not math.isnan(time)]:
            return STARTING + SLOW * count * median(known_seconds)
        try:
            step_seconds = self._step_seconds([method, *self.others], rounds=1)
        except Exception:  # an error in the user's method, which its trials report
            return None
        own_seconds = step_seconds.pop(method, 0.0)
        return STARTING if step_seconds and own_seconds > SLOW * median(step_seconds.values()) else None

    def _run(
        self, methods: Sequence[str], count: int, at_most: float | None, options: Mapping[str, Any]
    ) -> dict[str, Entry]:
        began = time.monotonic()
        arms = [self.arms[method] for method in methods]
        results = run(self.experiment, seeds=count, arms=arms, at_most=at_most, **options)
        took = time.monotonic() - began
        if any(trial.state == "interrupted" for trial in results.trials) and (at_most is None or took < at_most):
            raise KeyboardInterrupt
        return {method: self.entry(results, self.arms[method], took) for method in methods}

    def entry(self, results: Results, arm: str, took: float) -> Entry:
        """The results of an arm.

        Args:
            results: The run.
            arm: The arm.
            took: Seconds that the run took, for the note on a method that was stopped.
        """
        contest = self.event.contest
        trials = [trial for trial in results.trials if trial.arm == arm]
        values = {trial.seed: float(trial.result[contest.measure]) for trial in trials if trial.state == "finished"}
        costs = {
            title: sum(numbers) / len(numbers)
            for title, key in contest.costs.items()
            if (numbers := [trial.result[key] for trial in trials if key in trial.result])
        }
        note = next(filter(None, (_note(trial, took) for trial in trials)), "")
        if not note and not all(map(math.isfinite, values.values())):
            note = "is not finite"
        caveats = tuple(at_ends({arm: results.choices[arm]}).get(arm, ()))
        curve = recorded.curve(results, arm, contest.curve or contest.measure)
        operators = {trial.seed: trial.result[key] for trial in trials if (key := contest.operator) in trial.result}
        return Entry(values, costs, curve, note, caveats, operators=operators)

    def timed(self, row: Mapping[str, Entry]) -> dict[str, Entry]:
        """Entries with the time per step, measured in turns, so that other load affects all of them alike."""
        seconds = self._step_seconds([method for method in row if method in self.arms and not row[method].note], ROUNDS)
        return {
            method: replace(entry, step_seconds=seconds[method]) if method in seconds else entry
            for method, entry in row.items()
        }

    def _step_seconds(self, methods: Sequence[str], rounds: int) -> dict[str, float]:
        """The time per step of some methods, measured in turns; empty for a task that defines no step."""
        if (step_of := self.event.contest.step) is None:
            return {}
        steps = {method: step_of(self.compared[self.arms[method]].config) for method in methods}
        seconds: dict[str, list[float]] = {method: [] for method in steps}
        with _one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the trials have given these warnings
            for step in steps.values():
                step()  # the first step may compile
            for _ in range(rounds):
                for method, step in steps.items():
                    seconds[method].append(_seconds(step))
        return {method: median(times) for method, times in seconds.items()}


def _refuse_namesakes(entrants: Sequence[str], against: Sequence[str], baselines: Collection[str]) -> None:
    """Raise ValueError if two different methods have the same title, under which only one of them would be shown."""
    places: dict[str, str] = {}
    for argument, names in (("part", entrants), ("against", against), ("", sorted(baselines))):
        for name in names:
            place = references.place_of(name) if references.is_reference(name) else name
            if places.setdefault(title_of(name), place) != place or (argument == "part" and names.count(name) > 1):
                culprit = entrants[0] if not argument else name
                message = f"another method is called {title_of(name)!r} too; rename one"
                raise ValueError(f"{argument or 'part'} = {culprit!r}: {message}")


def _note(trial: TrialResult, took: float) -> str:
    if trial.state == "failed":
        return f"raised {trial.message.strip().splitlines()[0]}" if trial.message else "failed"
    if trial.state != "finished":
        return f"stopped after {took:.0f} s; takes over ten times as long as the others"
    return ""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread, as trials do."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _seconds(step: Callable[[], object]) -> float:
    """The time per step, over enough steps to be measurable."""
    number, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < SHORTEST or not number:
        step()
        number += 1
    return took / number


def _line(scores: Scores) -> str:
    """The results of the last task, as a line with rich's markup."""
    task = scores.tasks[-1]
    row = scores.entries[task.name]
    phrases = []
    for method in scores.own or scores.leaders:
        entry = row.get(method, Entry())
        if entry.note:
            phrases.append(f"{method} {escape(entry.note)}")
            continue
        best = min(scores.scores[task.name], key=partial(scores.rank, task.name))
        best_in_words = "" if best == method else f"; the best is {best}, {row[best].mean:.3g}"
        rank = scores.rank(task.name, method)
        phrases.append(f"{method} {entry.mean:.3g}, rank {rank:g} of {len(scores.scores[task.name])}{best_in_words}")
    return f"[bold]{task.name}[/] ({task.measure_in_words}): " + "; ".join(phrases)
