"""The results of a comparison: values over seeds by task and candidate, and statistics of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl

from engram import checks
from engram.lab.claims.inference import CONFIDENCE, Estimate, estimate
from engram.lab.trial.experiment import Task
from engram.numeric.rounding import difference, levelled
from engram.storage.files import finite_or_none
from engram.studies.standings.ranks import Ranks, ranks

SOON = 0.9  # share of the way from guessing to the goal
SEEDS_OF_DYNAMICS, RESTARTS = 3, 12
Relation = Literal["better", "as good", "worse", "open"]
RELATIONS: Mapping[Relation, str] = {"better": "better", "as good": "as good", "worse": "worse", "open": "undecided"}


@dataclass(frozen=True)
class Entry:
    """The results of one candidate on one task.

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
    """The results of candidates on the tasks of their kind, and statistics of them.

    Attributes:
        kind: Their kind.
        own: The candidates that were asked about; empty if a kind was.
        tasks: The tasks.
        entries: For the name of each task, the results of each candidate.
        confidence: For the name of a task, the probability that intervals cover the truth (default: 0.95).
        broken: The first promise of their contract that candidates break, each in one line.
        left_out: The tasks whose data are missing, with the reason and what to do.
        about: A description of each candidate that was asked about, in one sentence, if its file has one.
    """

    kind: str
    own: tuple[str, ...]
    tasks: tuple[Task, ...]
    entries: Mapping[str, Mapping[str, Entry]]
    confidence: Mapping[str, float] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def candidates(self) -> list[str]:
        """All candidates, those that were asked about first."""
        return list(dict.fromkeys([*self.own, *(candidate for row in self.entries.values() for candidate in row)]))

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """For each task, the finite means of the candidates, signed so that larger is better."""
        signs = {task.name: 1 if task.maximize else -1 for task in self.tasks}
        return {
            task: {candidate: sign * self.entries[task][candidate].mean for candidate in self._finite(task)}
            for task, sign in signs.items()
        }

    @cached_property
    def ranks(self) -> Ranks:
        """Mean ranks over the tasks done by the candidates asked about, or over all tasks.

        A candidate that has no result at all takes the ranks from no other.
        """
        working = {candidate for candidate in self.own if any(candidate in row for row in self.scores.values())}
        shared = {task: row for task, row in self.scores.items() if (working or set(self.own)) <= set(row)}
        return ranks(shared)

    def rank(self, task: str, candidate: str) -> float:
        """The rank of a candidate on a task (1 is best, ties up to rounding share a rank); NaN without a result."""
        row = self.scores[task]
        if candidate not in row:
            return math.nan
        levels: dict[str, float] = dict(zip(row, levelled([*row.values()]).tolist(), strict=True))
        better = sum(score > levels[candidate] for score in levels.values())
        return better + (sum(score == levels[candidate] for score in levels.values()) + 1) / 2

    def difference(self, task: str, candidate: str, other: str) -> Estimate:
        """By how much a candidate is better than another, paired by seed; NaN if they share fewer than two seeds.

        Args:
            task: The name of a task.
            candidate: The name of a candidate.
            other: The name of the candidate that it is compared with.
        """
        spec = self._task(task)
        values, other_values = (self.entries[task][name].values for name in (candidate, other))
        sign = 1 if spec.maximize else -1
        differences = [sign * difference(values[seed], other_values[seed]) for seed in values if seed in other_values]
        if len(differences) < 2:
            return Estimate(math.nan, math.nan, math.nan, math.nan)
        return estimate(differences, confidence=self.confidence.get(task, CONFIDENCE))

    def relation(self, task: str, candidate: str, other: str) -> Relation:
        """Whether a candidate is better or worse than another, as good within the margin, or whether this is undecided.

        Args:
            task: The name of a task.
            candidate: The name of a candidate.
            other: The name of the candidate that it is compared with.
        """
        _, low, high, _ = self.difference(task, candidate, other)
        margin = self._task(task).margin
        above, below = difference(high, margin), difference(low, -margin)
        if low > 0 and not above < 0:
            return "better"
        if high < 0 and not below > 0:
            return "worse"
        return "as good" if below >= 0 and above <= 0 else "open"

    def steps_to(self, task: str, candidate: str, share: float = SOON) -> float:
        """The step at which a learning curve has gone a share of the way from guessing to the mean of ``goal_of``.

        The way starts at the mean of the trivial candidate if it is unknown what guessing reaches. The curve is
        interpolated linearly between its points.

        Args:
            task: The name of a task.
            candidate: The name of a candidate.
            share: The share of the way.

        Returns:
            The step; infinity if the curve never gets there, NaN without a curve, a start or a goal.
        """
        spec, (steps, values) = self._task(task), self.entries[task][candidate].curve
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
        """The candidate whose mean the learning curves of a task should approach; empty if there is none."""
        goal, row = self._task(task).goal, self.scores[task]
        if goal is None or not row:
            return ""
        return goal if goal in row else max(row, key=row.__getitem__)

    def at_equal_seconds(self, task: str, candidate: str) -> float:
        """The value of a learning curve after the time that the fastest candidate takes; NaN without curve or timing.

        Args:
            task: The name of a task.
            candidate: The name of a candidate.
        """
        row = self.entries[task]
        seconds = {
            name: entry.step_seconds * entry.curve[0][-1]
            for name, entry in row.items()
            if entry.curve[0] and math.isfinite(entry.step_seconds)
        }
        if candidate not in seconds or not self._task(task).equal_seconds:
            return math.nan
        return float(np.interp(min(seconds.values()) / row[candidate].step_seconds, *row[candidate].curve))

    @cached_property
    def nearest(self) -> dict[str, dict[str, str]]:
        """For each task, and each candidate that was asked about, the other candidate with the most similar dynamics.

        If a kind was asked about, for all its candidates; those whose dynamics of learning are unknown are left out.
        """
        return {task.name: _nearest(self.entries[task.name], self.own) for task in self.tasks}

    @property
    def frame(self) -> pl.DataFrame:
        """All results as a table: a row for each task and candidate, a column for each cost."""
        rows = []
        for task in self.tasks:
            row = self.entries[task.name]
            for candidate in sorted(row, key=lambda candidate: self._order(task.name, candidate)):
                entry = row[candidate]
                values, confidence = list(entry.values.values()), self.confidence.get(task.name, CONFIDENCE)
                has_interval = len(values) > 1 and all(map(math.isfinite, values))
                _, low, high, _ = estimate(values, confidence=confidence) if has_interval else (math.nan,) * 4
                rows.append(
                    {
                        "task": task.name,
                        "candidate": candidate,
                        "own": candidate in self.own,
                        "rank": self.rank(task.name, candidate),
                        "measure": task.measure,
                        "mean": entry.mean,
                        "low": low,
                        "high": high,
                        "seeds": len(values),
                        "step_milliseconds": 1000 * entry.step_seconds,
                        "steps_to_90": self.steps_to(task.name, candidate),
                        "at_equal_seconds": self.at_equal_seconds(task.name, candidate),
                        "nearest": self.nearest[task.name].get(candidate, ""),
                        "recorded": entry.is_recorded,
                        "note": entry.note,
                        **entry.costs,
                    }
                )
        return pl.DataFrame(rows, infer_schema_length=None)

    @property
    def remarks(self) -> list[str]:
        """The promises that candidates break, and the tasks that were left out, with what to do."""
        broken = [f"Contract: {promise}" for promise in self.broken]
        left_out = [f"Left out for lack of data: {task}. {reason}" for task, reason in self.left_out.items()]
        then = "Once the files are in place, the same command adds these tasks and reuses all finished trials."
        return [*broken, *left_out, *([then] if left_out else [])]

    @property
    def lines(self) -> list[str]:
        """Which mean ranks differ, and for each task how the candidates asked about do beside the trivial one.

        If a kind was asked about, how its leader does.
        """
        return [*self.ranks.lines, *filter(None, map(self._beside_trivial, self.tasks))]

    def _beside_trivial(self, task: Task) -> str:
        row, beside = self.entries[task.name], list[str]()
        for candidate in self.own or self.leaders:
            if candidate in row and row[candidate].note:
                beside.append(f"{candidate} has no result ({row[candidate].note})")
            elif {candidate, task.trivial} <= set(self.scores[task.name]) and candidate != task.trivial:
                relation = RELATIONS[self.relation(task.name, candidate, task.trivial)]
                own, trivial = row[candidate], row[task.trivial]
                seeds = len(own.values.keys() & trivial.values.keys())
                beside.append(
                    f"{candidate} {own.mean:.3g}, {task.trivial} {trivial.mean:.3g} ({relation}, n = {seeds})"
                )
        return f"{task.name}: {'; '.join(beside)}." if beside else ""

    @property
    def leaders(self) -> tuple[str, ...]:
        """The candidate with the best mean rank, if a kind was asked about."""
        return tuple(self.ranks.mean)[:1]

    def _order(self, task: str, candidate: str) -> float:
        rank = self.rank(task, candidate)
        return math.inf if math.isnan(rank) else rank

    def _finite(self, task: str) -> list[str]:
        return [
            candidate for candidate, entry in self.entries[task].items() if math.isfinite(entry.mean) and not entry.note
        ]

    def _task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    def text(self, form: Literal["csv", "markdown", "latex"] = "markdown") -> str:
        """The means by candidate and task as a table for a paper, the best mean rank first; ``cell`` has the marks.

        The title of a column says what is measured, and an arrow whether more or less of it is better.

        Args:
            form: ``"csv"`` for the full ``frame``; ``"markdown"`` or ``"latex"`` for the means.

        Raises:
            ValueError: The form is unknown.
        """
        checks.choice("form", form, ("csv", "markdown", "latex"))
        if form == "csv":
            return self.frame.write_csv()
        arrows = (r"$\uparrow$", r"$\downarrow$") if form == "latex" else ("\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}")
        titles = [f"{task.name} ({task.measure_in_words} {arrows[not task.maximize]})" for task in self.tasks]
        header = ["", *titles, "mean rank"]
        lines = []
        for candidate in self.by_rank:
            cells = [self.cell(task.name, candidate) for task in self.tasks]
            mean = self.ranks.mean.get(candidate, math.nan)
            lines.append([candidate, *cells, "" if math.isnan(mean) else f"{mean:.1f}"])
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
        """All candidates, the best mean rank first; those that lack a task come last."""
        last = len(self.candidates) + 1
        return sorted(self.candidates, key=lambda candidate: self.ranks.mean.get(candidate, last))

    def cell(self, task: str, candidate: str) -> str:
        """The table cell of a candidate on a task: its mean; a dash without a mean; empty without an entry.

        A star marks what has no rank: a mean of the seeds that are left, or a value that is not finite.
        """
        entry = self.entries[task].get(candidate, Entry())
        if not entry.values:
            return "\N{EN DASH}" * bool(entry.note)
        return f"{entry.mean:.3g}" + "*" * bool(entry.note)

    def to_json(self) -> dict[str, Any]:
        """The results as JSON values; None for numbers that are not finite."""
        about = {"kind": self.kind, "own": list(self.own), "broken": list(self.broken), "left_out": dict(self.left_out)}
        return finite_or_none({**about, "results": self.frame.to_dicts()})  # type: ignore[no-any-return]


def _nearest(row: Mapping[str, Entry], own: Sequence[str]) -> dict[str, str]:
    from engram.analysis import operator_distances

    known = {candidate: entry.operators for candidate, entry in row.items() if entry.operators}
    asked = [candidate for candidate in own or known if candidate in known]
    seeds = [seed for seed in range(SEEDS_OF_DYNAMICS) if all(seed in operators for operators in known.values())]
    if not asked or len(known) < 2 or not seeds:
        return {}
    total = np.zeros((len(asked), len(known)))
    for seed in seeds:
        size = math.isqrt(len(known[asked[0]][seed]))
        row_operators, column_operators = (
            np.array([known[candidate][seed] for candidate in candidates]).reshape(-1, size, size)
            for candidates in (asked, known)
        )
        total += operator_distances(row_operators, column_operators, restarts=RESTARTS)
    names = list(known)
    for index, candidate in enumerate(asked):
        total[index, names.index(candidate)] = math.inf
    return {candidate: names[int(total[index].argmin())] for index, candidate in enumerate(asked)}
