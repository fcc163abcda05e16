"""The results of a comparison: values over seeds by task and method, and statistics of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl

from engram import checks
from engram.lab.inference import CONFIDENCE, Estimate, estimate
from engram.standings.ranks import Ranks, ranks

SOON = 0.9  # share of the way from guessing to the goal
SEEDS_OF_DYNAMICS, RESTARTS = 3, 12
Relation = Literal["better", "as good", "worse", "open"]


@dataclass(frozen=True)
class Task:
    """A task on which methods were compared.

    Attributes:
        name: The task in a few words.
        experiment: The experiment that it belongs to.
        measure: The measure by which methods are ranked.
        maximize: Whether larger is better.
        margin: The smallest difference that matters.
        chance: The value that guessing reaches; None if unknown.
        trivial: A trivial method; empty if there is none.
        bits: The base-2 logarithm of the bits of inductive bias needed to generalise; None if not measured.
        curve: The quantity that the learning curves show; empty for the measure.
        goal: The method whose measure the curves should approach; empty for the best one, None if they show something
            other than the measure.
        equal_seconds: Whether the curves are compared at equal seconds.
        confidence: The probability that intervals cover the truth.
    """

    name: str
    experiment: str
    measure: str
    maximize: bool = True
    margin: float = 0.01
    chance: float | None = None
    trivial: str = ""
    bits: float | None = None
    curve: str = ""
    goal: str | None = ""
    equal_seconds: bool = False
    confidence: float = CONFIDENCE

    @property
    def measure_in_words(self) -> str:
        """The measure, as a reader sees it."""
        return self.measure.replace("_", " ")

    @property
    def curve_in_words(self) -> str:
        """The quantity that the learning curves show, as a reader sees it."""
        return (self.curve or self.measure).replace("_", " ")


@dataclass(frozen=True)
class Entry:
    """The results of one method on one task.

    Attributes:
        values: The measure, by seed.
        costs: The costs, means over seeds, by title.
        curve: Steps, and the measure at these steps, averaged over seeds.
        note: Why values are missing; empty if none are.
        caveats: Choices at an end of the grid, beyond which a better value may lie.
        is_recorded: Whether the values ship with engram rather than being computed here.
        step_seconds: The median time of a training step here; NaN if it was not measured.
        operators: The dynamics of learning, by seed: the entries of a square matrix.
    """

    values: Mapping[int, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Sequence[float], Sequence[float]] = ((), ())
    note: str = ""
    caveats: tuple[str, ...] = ()
    is_recorded: bool = False
    step_seconds: float = math.nan
    operators: Mapping[int, Sequence[float]] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """The mean over seeds; NaN without values."""
        return float(np.mean(list(self.values.values()))) if self.values else math.nan


@dataclass(frozen=True)
class Scores:
    """The results of methods on the tasks of their kind, and statistics of them.

    Attributes:
        kind: Their kind.
        own: The methods that were asked about; empty if a kind was.
        tasks: The tasks.
        entries: For the name of each task, the results of each method.
        notes: Remarks on the whole comparison, such as broken promises of a contract.
        about: A description of each method that was asked about, in one sentence, if its file has one.
    """

    kind: str
    own: tuple[str, ...]
    tasks: tuple[Task, ...]
    entries: Mapping[str, Mapping[str, Entry]]
    notes: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """All methods, those that were asked about first."""
        return list(dict.fromkeys([*self.own, *(method for row in self.entries.values() for method in row)]))

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """For each task, the finite means of the methods, signed so that larger is better."""
        signs = {task.name: 1 if task.maximize else -1 for task in self.tasks}
        return {
            task: {method: sign * self.entries[task][method].mean for method in self._finite(task)}
            for task, sign in signs.items()
        }

    @cached_property
    def ranks(self) -> Ranks:
        """Mean ranks over the tasks done by the methods asked about, or over all tasks."""
        shared = {task: row for task, row in self.scores.items() if set(self.own) <= set(row)}
        return ranks(shared)

    def rank(self, task: str, method: str) -> float:
        """The rank of a method on a task (1 is best, ties share a rank); NaN without a result."""
        row = self.scores[task]
        if method not in row:
            return math.nan
        better = sum(score > row[method] for score in row.values())
        return better + (sum(score == row[method] for score in row.values()) + 1) / 2

    def difference(self, task: str, method: str, other: str) -> Estimate:
        """By how much a method is better than another, paired by seed; NaN if they share fewer than two seeds.

        Args:
            task: The name of a task.
            method: The name of a method.
            other: The name of the method that it is compared with.
        """
        spec = self._task(task)
        values, other_values = (self.entries[task][name].values for name in (method, other))
        sign = 1 if spec.maximize else -1
        differences = [sign * (values[seed] - other_values[seed]) for seed in values if seed in other_values]
        if len(differences) < 2:
            return Estimate(math.nan, math.nan, math.nan, math.nan)
        return estimate(differences, confidence=spec.confidence)

    def relation(self, task: str, method: str, other: str) -> Relation:
        """Whether a method is better or worse than another, as good within the margin, or whether this is undecided.

        Args:
            task: The name of a task.
            method: The name of a method.
            other: The name of the method that it is compared with.
        """
        _, low, high, _ = self.difference(task, method, other)
        margin = self._task(task).margin
        if low > 0 and not high < margin:
            return "better"
        if high < 0 and not low > -margin:
            return "worse"
        return "as good" if -margin <= low and high <= margin else "open"

    def steps_to(self, task: str, method: str, share: float = SOON) -> float:
        """The step at which a learning curve has gone a share of the way from guessing to the mean of ``goal_of``.

        The way starts at the mean of the trivial method if it is unknown what guessing reaches. The curve is
        interpolated linearly between its points.

        Args:
            task: The name of a task.
            method: The name of a method.
            share: The share of the way.

        Returns:
            The step; infinity if the curve never gets there, NaN without a curve, a start or a goal.
        """
        spec, (steps, values) = self._task(task), self.entries[task][method].curve
        row, sign, ideal = self.scores[task], 1 if spec.maximize else -1, self.goal_of(task)
        start = row.get(spec.trivial, math.nan) if spec.chance is None else sign * spec.chance
        if not steps or not ideal or math.isnan(start):
            return math.nan
        goal = start + share * (row[ideal] - start)
        reached = np.flatnonzero(sign * np.asarray(values) >= goal)
        if not len(reached):
            return math.inf
        first = int(reached[0])
        around = slice(max(0, first - 1), first + 1)
        return float(np.interp(goal, sign * np.asarray(values)[around], np.asarray(steps)[around]))

    def goal_of(self, task: str) -> str:
        """The method whose mean the learning curves of a task should approach; empty if there is none."""
        goal, row = self._task(task).goal, self.scores[task]
        if goal is None or not row:
            return ""
        return goal if goal in row else max(row, key=row.__getitem__)

    def at_equal_seconds(self, task: str, method: str) -> float:
        """The value of a learning curve after the time that the fastest method takes; NaN without curve or timing.

        Args:
            task: The name of a task.
            method: The name of a method.
        """
        row = self.entries[task]
        seconds = {
            name: entry.step_seconds * entry.curve[0][-1]
            for name, entry in row.items()
            if entry.curve[0] and math.isfinite(entry.step_seconds)
        }
        if method not in seconds or not self._task(task).equal_seconds:
            return math.nan
        return float(np.interp(min(seconds.values()) / row[method].step_seconds, *row[method].curve))

    @cached_property
    def nearest(self) -> dict[str, dict[str, str]]:
        """For each task, and each method that was asked about, the other method with the most similar dynamics.

        If a kind was asked about, for all its methods; methods whose dynamics of learning are unknown are left out.
        """
        return {task.name: _nearest(self.entries[task.name], self.own) for task in self.tasks}

    @property
    def frame(self) -> pl.DataFrame:
        """All results as a table: a row for each task and method, a column for each cost."""
        rows = []
        for task in self.tasks:
            row = self.entries[task.name]
            for method in sorted(row, key=lambda method: self._order(task.name, method)):
                entry = row[method]
                values = list(entry.values.values())
                has_interval = len(values) > 1 and all(map(math.isfinite, values))
                _, low, high, _ = estimate(values, confidence=task.confidence) if has_interval else (math.nan,) * 4
                rows.append(
                    {
                        "task": task.name,
                        "method": method,
                        "own": method in self.own,
                        "rank": self.rank(task.name, method),
                        "measure": task.measure,
                        "mean": entry.mean,
                        "low": low,
                        "high": high,
                        "seeds": len(values),
                        "step_milliseconds": 1000 * entry.step_seconds,
                        "steps_to_90": self.steps_to(task.name, method),
                        "at_equal_seconds": self.at_equal_seconds(task.name, method),
                        "nearest": self.nearest[task.name].get(method, ""),
                        "recorded": entry.is_recorded,
                        "note": entry.note,
                        **entry.costs,
                    }
                )
        return pl.DataFrame(rows, infer_schema_length=None)

    @property
    def sentences(self) -> list[str]:
        """A summary in sentences: the rank, the tasks on which it leads, and those on which it fails."""
        return [sentence for method in self.own or self.leaders for sentence in self._of(method)]

    @property
    def leaders(self) -> tuple[str, ...]:
        """The method with the best mean rank, if a kind was asked about."""
        return tuple(self.ranks.mean)[:1]

    def _of(self, method: str) -> list[str]:
        order, n_others = self.ranks, len(self.ranks.mean) - 1
        sentences = []
        if method in order.mean and n_others:
            position = sum(rank < order.mean[method] for rank in order.mean.values()) + 1
            tied = [name for name, rank in order.mean.items() if abs(rank - order.mean[method]) < order.critical]
            sentences.append(
                f"{method} is number {position} of {n_others + 1} with its mean rank of {order.mean[method]:.1f} over "
                f"{len(order.tasks)} tasks; mean ranks less than {order.critical:.1f} apart do not differ "
                f"significantly, so {len(tied) - 1} of the others may be as good."
            )
        best = {task.name: self._best(task.name, method) for task in self.tasks if method in self.scores[task.name]}
        rivals = [
            (task, self.rank(task, method), self.rank(task, rival_rank))
            for task, rival_rank in best.items()
            if rival_rank
        ]
        leads = [task for task, own_rank, rival_rank in rivals if own_rank < rival_rank]
        ties = [task for task, own_rank, rival_rank in rivals if own_rank == rival_rank]
        sentences.append(f"It leads on {_listed(leads)}." if leads else f"It leads on none of {len(best)} tasks.")
        if ties:
            sentences.append(f"It shares the first place on {_listed(ties)}.")
        fails, beaten = [], 0
        for task in self.tasks:
            row, trivial = self.entries[task.name], task.trivial
            if method in row and row[method].note:
                fails.append(f"{task.name} ({row[method].note})")
            elif {method, trivial} <= set(self.scores[task.name]) and method != trivial:
                relation = self.relation(task.name, method, trivial)
                beaten += relation == "better"
                if relation != "better":
                    fails.append(f"{task.name} ({_BESIDE[relation]} {trivial})")
        if fails:
            sentences.append(f"It fails on {_listed(fails)}.")
        elif beaten:
            where = "everywhere" if beaten == len(self.tasks) else f"on {beaten} of {len(self.tasks)} tasks"
            unknown = "" if beaten == len(self.tasks) else "; the other tasks have no result to compare"
            sentences.append(f"It is better than the trivial method {where}{unknown}.")
        return sentences

    @property
    def paragraph(self) -> str:
        """A summary of all results: the leaders by task, the ranks, and the tasks where none beats a trivial one."""
        leaders = {task: max(row, key=row.__getitem__) for task, row in self.scores.items() if row}
        led = {method: [task for task, best in leaders.items() if best == method] for method in leaders.values()}
        order = self.ranks
        lines = [
            f"{len(self.methods)} methods on {len(self.tasks)} tasks.",
            "The best means: " + "; ".join(f"{method} on {_listed(tasks)}" for method, tasks in led.items()) + ".",
        ]
        if math.isfinite(order.p):
            verdict = "differ" if order.p < 1 - CONFIDENCE else "do not differ significantly"
            lines.append(f"Mean ranks over {len(order.tasks)} tasks {verdict} (Friedman, p = {order.p:.2g}).")
        if order.groups and order.groups[0][0] in self.leaders:
            best, *tied = order.groups[0]
            lines.append(f"{best} has the best mean rank, but it does not differ significantly from {_listed(tied)}.")
        unbeaten = [
            f"{task.name} ({task.trivial})"
            for task in self.tasks
            if task.trivial in self.scores[task.name]
            and not any(
                self.relation(task.name, method, task.trivial) == "better"
                for method in self.scores[task.name]
                if method != task.trivial
            )
        ]
        if unbeaten:
            lines.append(f"No method is significantly better than the trivial method on {_listed(unbeaten)}.")
        return " ".join(lines)

    def _best(self, task: str, method: str) -> str:
        other_scores = {name: score for name, score in self.scores[task].items() if name != method}
        return max(other_scores, key=other_scores.__getitem__) if other_scores else ""

    def _order(self, task: str, method: str) -> float:
        rank = self.rank(task, method)
        return math.inf if math.isnan(rank) else rank

    def _finite(self, task: str) -> list[str]:
        return [method for method, entry in self.entries[task].items() if math.isfinite(entry.mean) and not entry.note]

    def _task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    def text(self, form: Literal["csv", "markdown", "latex"] = "markdown") -> str:
        """The means by method and task as a table for a paper, the best mean rank first.

        Args:
            form: ``"csv"`` for the full ``frame``; ``"markdown"`` or ``"latex"`` for the means.

        Raises:
            ValueError: The form is unknown.
        """
        checks.choice("form", form, ("csv", "markdown", "latex"))
        if form == "csv":
            return self.frame.write_csv()
        header = ["", *(task.name for task in self.tasks), "mean rank"]
        lines = []
        for method in self.by_rank:
            cells = [self.cell(task.name, method) for task in self.tasks]
            mean = self.ranks.mean.get(method, math.nan)
            lines.append([method, *cells, "" if math.isnan(mean) else f"{mean:.1f}"])
        if form == "latex":
            escaped = [[cell.replace("_", r"\_").replace("%", r"\%") for cell in line] for line in [header, *lines]]
            body = [" & ".join(line) + r" \\" for line in escaped]
            columns = "l" + "r" * (len(header) - 1)
            begin, end = rf"\begin{{tabular}}{{{columns}}}", r"\end{tabular}"
            return "\n".join([begin, r"\toprule", body[0], r"\midrule", *body[1:], r"\bottomrule", end]) + "\n"
        rows = [header, ["---"] * len(header), *lines]
        return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"

    @property
    def by_rank(self) -> list[str]:
        """All methods, the best mean rank first; those that lack a task come last."""
        last = len(self.methods) + 1
        return sorted(self.methods, key=lambda method: self.ranks.mean.get(method, last))

    def cell(self, task: str, method: str) -> str:
        """The table cell of a method on a task: its mean; a dash without a mean; empty without an entry."""
        entry = self.entries[task].get(method, Entry())
        return f"{entry.mean:.3g}" if entry.values else "\N{EN DASH}" * bool(entry.note)

    def to_json(self) -> dict[str, Any]:
        """The results as JSON values."""
        return {"kind": self.kind, "own": list(self.own), "notes": list(self.notes), "results": self.frame.to_dicts()}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.kind}, {len(self.methods)} methods, {len(self.tasks)} tasks)\n"
            + "\n".join(self.sentences)
        )


_BESIDE = {"as good": "as good as", "worse": "worse than", "open": "not significantly better than"}


def _nearest(row: Mapping[str, Entry], own: Sequence[str]) -> dict[str, str]:
    from engram.analysis import operator_distances

    operators_by_method = {method: entry.operators for method, entry in row.items() if entry.operators}
    row_methods = [method for method in own or operators_by_method if method in operators_by_method]
    seeds = [
        seed
        for seed in range(SEEDS_OF_DYNAMICS)
        if all(seed in operators for operators in operators_by_method.values())
    ]
    if not row_methods or len(operators_by_method) < 2 or not seeds:
        return {}
    total = np.zeros((len(row_methods), len(operators_by_method)))
    for seed in seeds:
        size = math.isqrt(len(operators_by_method[row_methods[0]][seed]))
        row_operators, column_operators = (
            np.array([operators_by_method[method][seed] for method in methods]).reshape(-1, size, size)
            for methods in (row_methods, operators_by_method)
        )
        total += operator_distances(row_operators, column_operators, restarts=RESTARTS)
    names = list(operators_by_method)
    for index, method in enumerate(row_methods):
        total[index, names.index(method)] = math.inf
    return {method: names[int(total[index].argmin())] for index, method in enumerate(row_methods)}


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
