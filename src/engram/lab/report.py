"""The report: one HTML file with claims, curves, figure, configuration and environment, that opens without network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from engram.lab import config as configs
from engram.lab.claim import OWNERS
from engram.lab.curves import figures_of
from engram.lab.experiment import Experiment
from engram.lab.monitor import duration
from engram.lab.results import Results
from engram.storage.files import write_atomic
from engram.version import __version__


def write_report(runs: Sequence[tuple[Experiment, Results]], path: Path) -> Path:
    """Write the report of some runs to an HTML file; return its path. A failed write leaves an older one as before."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("engram.lab", "."), autoescape=True)
    environment.filters["duration"] = duration
    environment.filters["number"] = _number
    page = environment.get_template("report.html").render(
        owners=OWNERS,
        sections=[_section(experiment, results) for experiment, results in runs],
        plotlyjs=get_plotlyjs(),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_atomic(path, page.encode())
    return path


def _section(experiment: Experiment, results: Results) -> dict[str, Any]:
    """Return what the template shows of one run."""
    arms = {name: arm for name, arm in experiment.arms(results.config).items() if name in results.arms}
    tables = {name: configs.leaves(arm.config) for name, arm in arms.items()}
    figures = {name: _html(figure) for name, figure in figures_of(experiment, results).items()}
    own = figures.pop("figure", None)
    return {
        "results": results,
        "experiment": experiment,
        "claims": results.claims(),
        "curves": [(name.removeprefix("curves-"), html) for name, html in figures.items()],
        "figure": own,
        "fields": list(dict.fromkeys(field for values in tables.values() for field in values)),
        "configs": tables,
        "finished": sum(trial.state == "finished" for trial in results.trials),
    }


def _html(figure: go.Figure) -> str:
    figure.update_layout(font_family="system-ui, sans-serif", height=460)
    return str(
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True})
    )


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
