"""A comparison as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from engram.lab.output.report import plot, script, style
from engram.lab.trial.experiment import Task
from engram.studies.standings.figures import figures_of
from engram.studies.standings.kinds import in_words
from engram.studies.standings.scores import Entry, Scores
from engram.version import __version__

STYLE = """
.run > .scroll { overflow-x: auto }
table.standing td, table.standing th { text-align: right }
table.standing td:first-child, table.standing th:first-child { text-align: left }
table.standing tr.own td:first-child { font-weight: 700; color: #D55E00 }
table.standing th { overflow-wrap: normal }
table.standing thead th:last-child, table.standing td:last-child { padding-left: 1em }
.remark { white-space: pre-line }
table.overview td, table.overview th { text-align: left; overflow-wrap: normal }
table.overview td.number, table.overview th.number { text-align: right }
@media (max-width: 40em) {
  .run table.standing { font-size: 8px }
  .run table.standing :is(th, td) { padding: 2px; min-width: 2em }
  .run table.standing :is(th, td):first-child { min-width: 6em; position: sticky; left: 0; background: Canvas }
  .run table.standing :is(thead th, td):last-child { padding-left: 8px }
  .run table.standing thead th + th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left }
  .run > .scroll table.standing td:not(.soft, :first-child) { white-space: nowrap }
  .run table.overview { font-size: 12px }
  .run table.overview :is(th, td) { padding: 4px }
  .run table.overview :is(th, td):nth-child(n + 5) { display: none }
}
"""


def page(scores: Scores) -> str:
    """A page that opens offline."""
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=", ".join(scores.own) or in_words(scores.kind),
            body=body(scores),
            css=style() + STYLE,
            plotlyjs=get_plotlyjs(),
            js=script(),
            version=__version__,
        )
    )


def body(scores: Scores) -> str:
    """The body of a page that has the styles and plotly's script: the table and the figures."""
    return (
        _environment()
        .get_template("body.html")
        .render(
            standing=scores,
            kind=in_words(scores.kind).lower(),
            rows=[_row(scores, candidate) for candidate in scores.by_rank],
            details={task.name: _details(scores, task) for task in scores.tasks},
            figures={name: plot(figure) for name, figure in figures_of(scores).items()},
        )
    )


def overview(standings: Mapping[str, tuple[Scores, str]]) -> str:
    """A table of all kinds: the candidate with the best mean rank, and how many others may be as good.

    Args:
        standings: The standing of each kind, with the address of its page.
    """
    rows = [{"kind": in_words(kind), "link": link, **_leader(scores)} for kind, (scores, link) in standings.items()]
    return _environment().get_template("overview.html").render(rows=rows)


def _leader(scores: Scores) -> dict[str, Any]:
    order = scores.ranks
    best, *others = order.mean
    n_tied = sum(order.mean[other] - order.mean[best] < order.critical for other in others)
    return {
        "name": best,
        "rank": f"{order.mean[best]:.1f}",
        "tied": "all others" if n_tied == len(others) else f"{n_tied} of {len(others)} others",
        "candidates": len(scores.candidates),
        "tasks": len(scores.tasks),
    }


def _environment() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.PackageLoader("engram.studies.standings", "."), autoescape=True)


def _details(scores: Scores, task: Task) -> list[list[str]]:
    """A table of the results and costs of all candidates on a task: a line of titles, then one for each candidate."""
    entries = scores.entries[task.name]
    costs = list(dict.fromkeys(title for entry in entries.values() for title in entry.costs))
    goal = task.goal if task.goal and scores.goal_of(task.name) == task.goal else "the best"
    titles = ["ms per step", f"steps to 90 % of {goal}'s", f"{task.curve_in_words} at equal seconds"]
    lines = [["", task.measure_in_words, "seeds", *titles, *costs, "most similar by its dynamics of learning"]]
    for candidate in scores.by_rank:
        if (entry := entries.get(candidate)) is not None:
            numbers = [1000 * entry.step_seconds, scores.steps_to(task.name, candidate)]
            numbers.append(scores.at_equal_seconds(task.name, candidate))
            numbers += [entry.costs.get(title, math.nan) for title in costs]
            values = [scores.cell(task.name, candidate), str(len(entry.values))]
            shown = [_shown(number) for number in numbers]
            shown[1] = "never" if math.isinf(numbers[1]) else shown[1]
            lines.append([candidate, *values, *shown, scores.nearest[task.name].get(candidate, "")])
    return _without_empty_columns(lines)


def _shown(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.3g}"


def _without_empty_columns(lines: list[list[str]]) -> list[list[str]]:
    filled = [any(line[column] for line in lines[1:]) for column in range(len(lines[0]))]
    return [[cell for cell, is_filled in zip(line, filled, strict=True) if is_filled] for line in lines]


def _row(scores: Scores, candidate: str) -> dict[str, Any]:
    """A candidate's line of the table: a cell for each task, with the mean and a shade that depends on the rank."""
    cells = []
    for task in scores.tasks:
        entry, rank = scores.entries[task.name].get(candidate, Entry()), scores.rank(task.name, candidate)
        number = len(scores.scores[task.name])
        shade = 0.0 if math.isnan(rank) else (number - rank) / max(1, number - 1)
        text = f"{entry.mean:.3g}" if entry.values else "\N{EN DASH}"
        title = entry.note or (f"rank {rank:g} of {number}, {len(entry.values)} seeds" if entry.values else "not run")
        cells.append({"text": text, "title": title, "shade": round(0.55 * shade, 2), "note": entry.note})
    mean = scores.ranks.mean.get(candidate)
    return {
        "candidate": candidate,
        "own": candidate in scores.own,
        "trivial": any(task.trivial == candidate for task in scores.tasks),
        "cells": cells,
        "mean": "" if mean is None else f"{mean:.1f}",
    }
