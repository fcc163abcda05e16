"""Runs as pages: what an experiment claims and what came of it, for the report, one HTML file, and for the gallery."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from engram.lab import config as configs
from engram.lab.choice import table
from engram.lab.claim import OWNERS, JudgedClaim, Verdict
from engram.lab.experiment import SAID, Experiment
from engram.lab.figures import figures_of
from engram.lab.inference import errors_at
from engram.lab.monitor import duration
from engram.lab.results import Results
from engram.storage.files import write_atomic
from engram.version import __version__

MARGIN = 0.12  # what is left free at both ends of a claim's line, in parts of what is drawn on it
DECADES = 1.5  # from which span on a claim's line is logarithmic


def write_report(runs: Sequence[tuple[Experiment, Results]], path: Path) -> Path:
    """Write the report of some runs to an HTML file; return its path. A failed write leaves an older one as before."""
    page = _template().page(
        sections=[section(experiment, results) for experiment, results in runs],
        css=style(),
        plotlyjs=get_plotlyjs(),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        address=lambda section: f"#{section['experiment'].name}",
    )
    write_atomic(path, page.strip().encode())
    return path


def style() -> str:
    """The style sheet that ``as_html`` and ``contents`` need."""
    return files("engram.lab").joinpath("report.css").read_text()


def as_html(section: dict[str, Any]) -> str:
    """A section as HTML, for a page that has ``style`` and plotly's script."""
    return str(_template().run(section))


def contents(sections: Sequence[dict[str, Any]], address: Callable[[dict[str, Any]], str]) -> str:
    """The verdicts of several sections as a table in HTML, with links to where ``address`` says they are."""
    return str(_template().contents(sections, address))


def plot(figure: go.Figure) -> str:
    """A figure as HTML that fits into 500 pixels, with its title, which would not, as a caption.

    The page needs plotly's script, and ``style`` with the figure in an element of class ``run``.
    """
    caption = escape(figure.layout.title.text or "")
    height = figure.layout.height or 440
    figure.update_layout(
        title=None,
        font_family="system-ui, sans-serif",
        height=height,
        margin={"l": 50, "r": 15, "t": 40, "b": 45},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0},
    )
    figure.update_annotations(font_size=12)
    options = {"displaylogo": False, "responsive": True, "displayModeBar": "hover"}
    html = figure.to_html(full_html=False, include_plotlyjs=False, config=options, auto_play=False)
    return f"<figure><figcaption>{caption}</figcaption>{html}</figure>"


def section(experiment: Experiment, results: Results) -> dict[str, Any]:
    """What is shown of one run."""
    claims = results.claims()
    arms = experiment.arms(results.preset, results.changed)
    seconds = sum(arm.seconds for arm in arms.values())
    tables = {name: configs.leaves(config) for name, config in results.configs.items()}
    figures = figures_of(experiment, results)
    own = figures.pop("figure", None)
    curves: dict[str, list[str]] = {}
    for figure in figures.values():
        curves.setdefault(figure.layout.yaxis.title.text, []).append(plot(figure))
    absent = [name for name in arms if name not in results.arms]
    lacks = [f"without {', '.join(absent)}"] * bool(absent) + ["its figure cannot be drawn"] * (own is None)
    counts = Counter(judged.verdict for judged in claims)
    options = "" if results.preset == "laptop" else f" --preset {results.preset}"
    options += " --until-decided" if results.looks else ""
    return {
        "results": results,
        "experiment": experiment,
        "answer": _answer(experiment),
        "missing": ", ".join(lacks),
        "figure": "" if own is None else plot(own),
        "verdicts": {verdict: counts[verdict] for verdict in get_args(Verdict) if counts[verdict]},
        "claims": [
            {
                "judged": judged,
                "axis": _axis(judged),
                "criterion": str(judged.claim.criterion).replace("<=", "≤").replace(">=", "≥"),
                "owner": OWNERS[judged.claim.threshold],
                "caveats": results.caveats(judged.claim),
            }
            for judged in claims
        ],
        "expected": None if math.isnan(seconds) or results.looks else seconds * results.seeds,
        "last_confidence": f"{1 - errors_at(len(results.looks))[-1]:.1%}" if results.looks else "",
        "command": f"engram run {experiment.name}{options}",
        "curves": curves,
        "choices": table(results.choices),
        "fields": list(dict.fromkeys(field for values in tables.values() for field in values)),
        "configs": tables,
        "finished": sum(trial.state == "finished" for trial in results.trials),
    }


@cache
def _template() -> Any:
    environment = jinja2.Environment(loader=jinja2.PackageLoader("engram.lab", "."), autoescape=True)
    environment.filters |= {"duration": duration, "number": _number}
    return environment.get_template("report.html").module


def _answer(experiment: Experiment) -> str:
    """An experiment's answer as HTML, in which each verdict leads to its claim."""
    link = r'<a class="said" href="#claim-\1" title="\1">(\2)</a>'
    return SAID.sub(link, escape(" ".join(experiment.answer.split()), quote=False))


def _axis(judged: JudgedClaim) -> dict[str, Any] | None:
    """Where on a line, in percent, a claim's values lie; None without finite ones."""
    criterion, ours = judged.claim.criterion, (judged.ours, judged.low, judged.high)
    if not all(map(math.isfinite, ours)):
        return None
    ends = [end for end in (criterion.low, criterion.high) if math.isfinite(end)]
    try:
        published = [float(judged.claim.published)]
    except ValueError:  # published in words
        published = []
    shown = [*ours, *ends, *published]
    log = min(shown) > 0 and math.log10(max(shown) / min(shown)) > DECADES
    scaled = [math.log(value) if log else value for value in shown]
    span = (max(scaled) - min(scaled)) or abs(scaled[0]) or 1.0
    start, width = min(scaled) - MARGIN * span, (1 + 2 * MARGIN) * span

    def place(value: float) -> float:
        if math.isinf(value):
            return 0.0 if value < 0 else 100.0
        return round(100 * ((math.log(value) if log else value) - start) / width, 2)

    return {
        "ours": place(judged.ours),
        "interval": (place(judged.low), round(place(judged.high) - place(judged.low), 2)),
        "criterion": (place(criterion.low), round(place(criterion.high) - place(criterion.low), 2)),
        "ends": [(place(end), end) for end in dict.fromkeys(ends)],
        "published": place(published[0]) if published else None,
        "log": log,
    }


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
