"""Compares candidates with all registered parts of their kind, on the tasks and in the loops of the experiments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from engram import references, registry
from engram.lab.claims.inference import CONFIDENCE, errors_at
from engram.lab.engine.console import progress_console
from engram.lab.trial.experiment import Experiment, Task
from engram.run_options import RunOptions
from engram.storage.files import runs_folder
from engram.studies.standings.arms import SEEDS, Arms
from engram.studies.standings.candidate import Candidate, find_candidate, name_at
from engram.studies.standings.kinds import KINDS, check_contract, kind_of, tasks_of
from engram.studies.standings.scores import Entry, Scores
from engram.studies.standings.standing import Standing
from engram.tasks.data import DataError


def compare(
    candidate: Any,
    *more: Any,
    kind: str = "",
    against: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    seeds: int = SEEDS,
    until_decided: bool = False,
    fresh: bool = False,
    preset: str = "laptop",
    jobs: int | None = None,
    runs: str | Path | None = None,
    progress: bool = True,
) -> Standing:
    """Compare candidates with the registered ones of their kind, on all tasks of that kind.

    Each candidate has an arm on each task: the same loops as in the experiments train all of them, at rates chosen by
    validation, on the same seeds. Results of registered candidates come from the records that ship with engram.
    Finished trials are reused, interrupted ones resume. The time per step is always measured here. If a candidate
    raises an error, is not finite, or takes ten times as long as the others on a task, its entry says so, and the
    others continue. A task whose data are missing is left out, and the standing says what to do.

    Args:
        candidate: A registered name, ``"file.py:Name"``, ``"module:Name"``, or a class, function or named object of a
            module; or a kind, such as ``"learning-rules"``, to rank its registered parts.
        *more: Further candidates of the same kind.
        kind: The kind (default: from the class).
        against: Compare only with these candidates (default: all registered ones of the experiments).
        tasks: Only tasks whose name contains one of these, or whose experiment has such a name (default: all).
        seeds: Number of seeds, unless ``until_decided`` is set.
        until_decided: Evaluate at the looks of each preset, mostly 5, 10, 20 and 40 seeds, until it is decided for
            every other candidate whether yours is better, worse or equally good; the error probabilities of all looks
            add up to 5 %.
        fresh: Run the registered candidates here too, instead of using their records.
        preset: ``"laptop"``, ``"smoke"``, or another one that all compared experiments have.
        jobs: Number of trials at once (default: as many as fit on the cores).
        runs: Folder of all runs (default: ``ENGRAM_RUNS``, else ``runs``); comparisons use its subfolder ``compare``.
        progress: Show the progress on the standard error stream.

    Returns:
        The standing: a frame, sentences, figures, a report.

    Raises:
        TypeError, ValueError: An argument is not as described, or a candidate imports its test data.

    Examples:
        >>> quick = {"preset": "smoke", "jobs": 1, "progress": False}
        >>> standing = compare("last-layer", against=["backprop"], tasks=["narrow"], **quick)
        >>> standing.frame["candidate"].to_list()
        ['backprop', 'last-layer']
    """
    references.refuse_while_loading("engram.compare")
    console = progress_console(shown=progress)
    RunOptions(preset=preset, seeds=seeds, jobs=jobs, runs=runs)  # what is wrong is refused before anything is made
    _check_names("against", against)
    _check_names("tasks", tasks)
    kind, own = _found(candidate, more, kind, until_decided)
    chosen = _chosen(tasks_of(kind), tasks)
    against = _found_against(kind, [each.place for each in own], against, [task for _, task in chosen])
    names = tuple(each.name for each in own)
    broken: list[str] = []
    left_out: dict[str, str] = {}
    for each in own:
        if references.is_reference(each.place) and (promise := check_contract(kind, each.make)):
            broken.append(promise)
            console.print(f"[yellow]{escape(promise)}[/]", highlight=False, soft_wrap=True)
    options = {"preset": preset, "jobs": jobs, "runs": runs_folder(runs) / "compare", "progress": False}
    entries: dict[str, dict[str, Entry]] = {}
    confidence: dict[str, float] = {}
    done: list[Task] = []
    for experiment, task in chosen:
        try:
            task.check_requirements()
        except DataError as error:
            left_out[task.name] = str(error)
            console.print(f"[yellow]{escape(_left_out(task.name, error))}[/]", highlight=False, soft_wrap=True)
            continue
        arms = Arms.of(experiment, task, own, against, preset)
        looks = list(experiment.presets[preset].looks) if until_decided else [seeds]
        if own and not {each.name for each in own} & arms.names.keys():  # nothing is trained where none of them fits
            entries[task.name] = {**arms.refused, **({} if fresh else arms.recorded(preset, looks[0]))}
            done.append(task)
            console.print(_line(Standing(kind, names, (task,), entries)), highlight=False, soft_wrap=True)
            continue
        still_open = arms.against
        row: dict[str, Entry] = dict(arms.refused)
        for look, count in enumerate(looks):
            confidence[task.name] = 1 - errors_at(len(looks))[look] if until_decided else CONFIDENCE
            shipped = {} if fresh else arms.recorded(preset, count)
            if not (fresh or look):
                _say_unrecorded(arms, shipped, console)
            row |= arms.run(still_open, count, shipped, options)
            standing = Standing(kind, names, (task,), {task.name: row}, confidence)
            still_open = [other for other in still_open if any(_is_open(standing, name, other) for name in names)]
            if not still_open:
                break
        entries[task.name] = arms.time_steps(row)
        done.append(task)
        console.print(_line(Standing(kind, names, (task,), entries)), highlight=False, soft_wrap=True)
    if not done:
        reasons = "\n".join(_left_out(name, reason) for name, reason in left_out.items())
        raise ValueError(f"tasks = {tasks!r}: the data of these tasks are missing: {reasons}")
    about = {each.name: text for each in own if (text := each.about)}
    return Standing(kind, names, tuple(done), entries, confidence, tuple(broken), left_out, about)


def standing_of_records(kind: str) -> Standing:
    """The standing of a kind's registered candidates from the records that ship with engram, without running anything.

    Args:
        kind: One of ``KINDS``.

    Raises:
        ValueError: The kind is unknown, or no record has results of it.
    """
    rows = [(task, row) for experiment, task in tasks_of(kind) if (row := shipped_row(experiment, task))]
    if not rows:
        raise ValueError(f"kind = {kind!r}: no record has results of this kind")
    return Standing(kind, (), tuple(task for task, _ in rows), {task.name: row for task, row in rows})


def shipped_row(experiment: Experiment, task: Task) -> dict[str, Entry]:
    """The results of registered candidates on a task in the records of its experiment, by candidate.

    There are none if the records are of another revision of the experiment.

    Args:
        experiment: The experiment.
        task: A task of it.
    """
    return Arms.of(experiment, task, [], None, "laptop").recorded("laptop", SEEDS)


def _found(candidate: Any, more: Sequence[Any], kind: str, until_decided: bool) -> tuple[str, list[Candidate]]:
    """The kind of a comparison, and the candidates that were asked about; none of them if a kind was."""
    asked_kind = candidate.replace("-", "_") if isinstance(candidate, str) else ""
    if asked_kind in KINDS:
        if more or until_decided:
            argument = f"more = {more}" if more else "until_decided = True"
            raise ValueError(f"{argument}: expected a method first, and not the kind {candidate!r}")
        return asked_kind, []
    own = [find_candidate(each, kind.replace("-", "_")) for each in (candidate, *more)]
    kinds = sorted({each.kind for each in own})
    if len(kinds) > 1:
        raise ValueError(f"candidate = {candidate!r}: expected methods of one kind, and not of {' and '.join(kinds)}")
    return kinds[0], own


def _check_names(argument: str, names: Sequence[str] | None) -> None:
    """Raise ValueError for a text in place of a list of names, and for an empty name, which is a part of any other."""
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names or ()):
        raise ValueError(f"{argument} = {names!r}: expected a list of names, none of them empty")


def _found_against(
    kind: str, own: Sequence[str], against: Sequence[str] | None, tasks: Sequence[Task]
) -> list[str] | None:
    """The names and places of the candidates to compare with.

    Raises:
        ValueError: A name is unknown, a place has no such candidate of this kind, or two candidates have the same name.
    """
    baselines = {*registry.names(kind)} | {name for task in tasks for name in (*task.baselines, task.trivial)}
    places = []
    for name in against or ():
        if references.is_reference(name):
            other = find_candidate(name, kind)
            with suppress(TypeError):  # of a function, whose kind nothing tells
                if (its_kind := kind_of(other.make)) != kind:
                    raise ValueError(f"against = {name!r}: expected a method of {kind}, and not of {its_kind}")
            places.append(other.place)
        elif name in baselines:
            places.append(name)
        else:
            hint = registry.suggestion(name, sorted(baselines))
            raise ValueError(f"against = {name!r}: expected a registered name ({hint}) or a place, as 'module:Name'")
    _refuse_namesakes(own, places, baselines)
    return None if against is None else places


def _chosen(pairs: Sequence[tuple[Experiment, Task]], patterns: Sequence[str] | None) -> list[tuple[Experiment, Task]]:
    """The requested tasks with their experiments; raises ValueError if a request fits none."""
    if patterns is None:
        return list(pairs)
    if not patterns:
        raise ValueError("tasks = []: expected at least one")
    for pattern in patterns:
        if not any(_is_asked(pair, pattern) for pair in pairs):
            names = "; ".join(f"{task.name} (of {experiment.name})" for experiment, task in pairs)
            raise ValueError(f"tasks = {pattern!r}: expected part of one of {names}")
    return [pair for pair in pairs if any(_is_asked(pair, pattern) for pattern in patterns)]


def _is_asked(pair: tuple[Experiment, Task], pattern: str) -> bool:
    experiment, task = pair
    return pattern in task.name or pattern == experiment.name


def _left_out(task: str, reason: object) -> str:
    return f"{task} is left out: {reason}"


def _is_open(standing: Scores, candidate: str, other: str) -> bool:
    task = standing.tasks[0].name
    entries = standing.entries[task]
    if not {candidate, other} <= set(entries) or entries[candidate].note or entries[other].note:
        return False  # more seeds would not help a candidate that failed or does not fit
    return standing.relation(task, candidate, other) == "open"


def _refuse_namesakes(own: Sequence[str], against: Sequence[str], baselines: Collection[str]) -> None:
    """Raise ValueError if two candidates have the same name, under which only one of them would be shown."""
    places: dict[str, str] = {}
    for argument, given in (("candidate", own), ("against", against), ("", sorted(baselines))):
        for place in given:
            full = references.place_of(place) if references.is_reference(place) else place
            is_twice = argument == "candidate" and given.count(place) > 1
            if places.setdefault(name_at(place), full) != full or is_twice:
                culprit = place if argument else own[0]
                message = f"another method is called {name_at(place)!r} too; rename one"
                raise ValueError(f"{argument or 'candidate'} = {culprit!r}: {message}")


def _say_unrecorded(arms: Arms, shipped: Mapping[str, Entry], console: Console) -> None:
    if num := len(arms.against) - len(shipped):
        message = f"{arms.task.name}: {num} of {len(arms.against)} registered methods are run here (not in the record)"
        console.print(f"[dim]{escape(message)}[/]", highlight=False, soft_wrap=True)


def _line(scores: Scores) -> str:
    """The results of the last task, as a line with rich's markup."""
    task = scores.tasks[-1]
    row = scores.entries[task.name]
    phrases = []
    for candidate in scores.own or scores.leaders:
        entry = row.get(candidate, Entry())
        if entry.note:
            phrases.append(f"{candidate} {escape(entry.note)}")
            continue
        best = min(scores.scores[task.name], key=partial(scores.rank, task.name))
        is_best = scores.rank(task.name, best) == scores.rank(task.name, candidate)  # perhaps beside others
        best_in_words = "" if is_best else f"; the best is {best}, {row[best].mean:.3g}"
        rank = f"rank {scores.rank(task.name, candidate):g} of {len(scores.scores[task.name])}"
        phrases.append(f"{candidate} {entry.mean:.3g}, {rank}{best_in_words}")
    return f"[bold]{task.name}[/] ({task.measure_in_words}): " + "; ".join(phrases)
