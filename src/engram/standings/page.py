"""A comparison as one HTML page."""

from __future__ import annotations

import math
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from engram.lab.report import plot, style
from engram.standings.figures import figures_of
from engram.standings.scores import Entry, Scores
from engram.version import __version__

TITLES = {
    "learning_rules": "Learning rules",
    "continual_methods": "Continual methods",
    "optimizers": "Optimisers",
    "plasticity_rules": "Plasticity rules",
}


def page(scores: Scores) -> str:
    """The page: what it is in sentences, a table of tasks by methods, and the figures; it opens without network."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("engram.standings", "."), autoescape=True)
    figures = {name: plot(figure) for name, figure in figures_of(scores).items()}
    template = environment.get_template("page.html")
    return template.render(
        standing=scores,
        title=", ".join(scores.own) or TITLES[scores.kind],
        kind=TITLES[scores.kind].lower(),
        rows=[_row(scores, method) for method in scores.by_rank],
        figures=figures,
        css=style(),
        plotlyjs=get_plotlyjs(),
        version=__version__,
    )


def _row(scores: Scores, method: str) -> dict[str, Any]:
    """A method's line of the table: cells with the mean, and how dark its place among the others makes them."""
    cells = []
    for task in scores.tasks:
        entry, rank = scores.entries[task.name].get(method, Entry()), scores.rank(task.name, method)
        number = len(scores.scores[task.name])
        shade = 0.0 if math.isnan(rank) else (number - rank) / max(1, number - 1)
        text = f"{entry.mean:.3g}" if entry.values else "\N{EN DASH}"
        title = entry.note or (f"rank {rank:g} of {number}, {len(entry.values)} seeds" if entry.values else "not run")
        cells.append({"text": text, "title": title, "shade": round(0.55 * shade, 2), "note": entry.note})
    mean = scores.ranks.mean.get(method)
    return {
        "method": method,
        "own": method in scores.own,
        "cells": cells,
        "mean": "" if mean is None else f"{mean:.1f}",
    }
