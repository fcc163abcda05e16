"""Runs as pages: an experiment's claims and results, for the report (one HTML file) and for the gallery."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from engram.lab.claims.claim import OWNERS, JudgedClaim, counted_claims, tally
from engram.lab.claims.inference import errors_at, exp_or_infinity
from engram.lab.claims.quantity import quantities_table
from engram.lab.output.figures import figures_of
from engram.lab.output.record_files import record_path, recorded_rows
from engram.lab.output.results import Results
from engram.lab.trial import config as configs
from engram.lab.trial.choice import table
from engram.lab.trial.experiment import Experiment
from engram.lab.trial.trial import duration
from engram.storage.files import write_atomic
from engram.verdicts import BAD, GOOD, with_verdicts
from engram.version import __version__

MARGIN = 0.12  # margin at both ends of a claim's axis, as a share of the range of its values
DECADES = 1.5  # a claim's axis is logarithmic if its values span more decades
LISTED = 3  # claims that are named in the sentence about a run, of each verdict
FEW = 6  # a longer list among a trial's results is shown by its length alone
FARTHEST = 30  # a claim this many half intervals from its criterion is drawn at the end of its row


def write_report(runs: Sequence[tuple[Experiment, Results]], path: Path) -> Path:
    """Write the report of some runs to an HTML file and return its path; a failed write changes nothing."""
    page = _template().page(
        sections=[section(experiment, results) for experiment, results in runs],
        css=style(),
        plotlyjs=get_plotlyjs(),
        js=script(),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    write_atomic(path, page.strip().encode())
    return path


def style() -> str:
    """The style sheet that ``as_html``, ``card`` and ``plot`` need."""
    return files(__package__).joinpath("report.css").read_text()


def script() -> str:
    """The script that draws each figure when it comes into view; load plotly's first, or put `plotly.js` next to it."""
    return files(__package__).joinpath("report.js").read_text()


def as_html(section: dict[str, Any]) -> str:
    """A section as HTML, all but its figure folded, for a page that has ``style`` and plotly's script."""
    return str(_template().run(section, folded=True))


def card(section: dict[str, Any], address: str, picture: str = "", themes: str = "", title: str = "") -> str:
    """A section as a card that links to it: its title, its question, its verdicts as a bar, its cost.

    Args:
        section: The section.
        address: Address of the section.
        picture: Address of its picture (default: none).
        themes: Its themes, as words by which cards are filtered.
        title: Its title (default: the name of the experiment).
    """
    return str(_template().card(section, address, picture, themes, title))


def plot(figure: go.Figure) -> str:
    """A figure as HTML that fits into 420 pixels, with its title as a caption.

    The page needs plotly's script, ``script`` and ``style``, and an element of class ``run`` around the figure.
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
    content = json.dumps(_rounded(json.loads(figure.to_json() or "")), separators=(",", ":")).replace("<", "\\u003c")
    drawing = f'<div class="plot" style="height:{height}px"></div><script type="application/json">{content}</script>'
    return f"<figure><figcaption>{caption}</figcaption>{drawing}</figure>"


def _rounded(content: Any) -> Any:
    """The content of a figure with six significant digits, more than a screen can show."""
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {name: _rounded(value) for name, value in content.items()}
    return [_rounded(value) for value in content] if isinstance(content, list) else content


def place_of(name: str, preset: str) -> str:
    """The name of a run among those of a page, which may show an experiment at several presets.

    Args:
        name: The name of the experiment.
        preset: The name of its preset.
    """
    return name if preset == "laptop" else f"{name}@{preset}"


def section(experiment: Experiment, results: Results, *, curves: bool = True) -> dict[str, Any]:
    """The content of the section on one run, with or without learning curves.

    Args:
        experiment: The experiment.
        results: The results of the run.
        curves: Whether to include learning curves.
    """
    claims = results.claims()
    arms = experiment.arms(results.preset, results.changed)
    broken: dict[str, str] = {}
    figures = figures_of(experiment, results, curves=curves, broken=broken)
    main_figure = figures.pop("figure", None)
    absent = [name for name in arms if name not in results.arms]
    lacks = [f"without {', '.join(absent)}"] * bool(absent)
    lacks += [f"its {name} cannot be drawn ({problem})" for name, problem in broken.items()]
    options = "" if results.preset == "laptop" else f" --preset {results.preset}"
    options += " --until-decided" if results.looks else ""
    return {
        "results": results,
        "experiment": experiment,
        "place": place_of(experiment.name, results.preset),
        "answer": _answer(experiment, results, claims),
        "refuted": [judged.claim for judged in claims if judged.corrected in BAD],
        "missing": ", ".join(lacks),
        "figure": "" if main_figure is None else plot(main_figure),
        "counted": counted_claims(claims),
        "verdicts": tally(claims),
        "groups": [_group(experiment, results, name, claims, figures) for name in experiment.by_name],
        "last_confidence": f"{1 - errors_at(len(results.looks))[-1]:.1%}" if results.looks else "",
        "command": f"engram run {experiment.name}{options}",
        "choices": table(results.choices),
        "finished": sum(trial.state == "finished" for trial in results.trials),
    }


def _group(
    experiment: Experiment,
    results: Results,
    name: str,
    claims: Sequence[JudgedClaim],
    figures: Mapping[str, go.Figure],
) -> dict[str, Any]:
    """The content on one study: its claims, figure, learning curves by metric, and settings."""
    study = experiment.by_name[name]
    ids = {claim.id for claim in experiment.claims_of(name)}
    own_claims = [judged for judged in claims if judged.claim.id in ids]
    curves: dict[str, list[str]] = {}
    for key, figure in figures.items():
        if key.startswith("curves-") and figure.data and figure.data[0].legendgroup in study.table:
            curves.setdefault(figure.layout.yaxis.title.text, []).append(plot(figure))
    base = configs.leaves(experiment.base(results.preset, name))
    meanings = {field: field_setting.meaning for field, field_setting in configs.fields(study.settings).items()}
    configured = {arm: config for arm, config in results.configs.items() if arm in study.table}
    return {
        "title": name.replace("-", " ").replace("_", " ").capitalize(),
        "counted": counted_claims(own_claims),
        "verdicts": tally(own_claims),
        "claims": [
            {
                "judged": judged,
                "axis": _axis(judged),
                "criterion": str(judged.claim.criterion).replace("<=", "≤").replace(">=", "≥"),
                "owner": OWNERS[judged.claim.threshold],
                "caveats": results.caveats(judged.claim),
            }
            for judged in own_claims
        ],
        "forest": [(judged, row) for judged in own_claims if (row := beside_criterion(judged)) is not None],
        "measured": quantities_table([each for each in results.quantities() if each.quantity.arms[0] in study.table]),
        "figure": plot(figures[f"figure-{name}"]) if f"figure-{name}" in figures else "",
        "curves": curves,
        "arms": {
            arm: [
                (field, meanings.get(field, field).partition(";")[0], value)
                for field, value in configs.leaves(config).items()
                if base.get(field) != value
            ]
            for arm, config in configured.items()
        },
        "settings": [(field, base.get(field), meaning) for field, meaning in meanings.items()],
    }


@cache
def _template() -> Any:
    environment = jinja2.Environment(loader=jinja2.PackageLoader(__package__, "."), autoescape=True)
    environment.filters |= {"duration": duration, "number": _number, "short": lambda value: f"{value:.3g}"}
    return environment.get_template("report.html").module


def _answer(experiment: Experiment, results: Results, claims: Sequence[JudgedClaim]) -> str:
    """What a run shows, as HTML in which each claim is linked: of our smallest recorded run the experiment's answer.

    That is the run that an answer tells of. Larger ones have other numbers and verdicts, which are told instead.

    Args:
        experiment: The experiment.
        results: The results of the run.
        claims: Its judged claims.
    """
    place = place_of(experiment.name, results.preset)
    smallest = next((preset for preset in experiment.presets if record_path(experiment, preset)), results.preset)
    if results.is_recorded and experiment.answer and results.preset == smallest:
        text = escape(" ".join(experiment.answer.split()), quote=False)

        def link(claim: str, word: str) -> str:
            return f'<a class="said" href="#claim-{place}-{claim}" title="{claim}">({word})</a>'

        return f"Our recorded run: {with_verdicts(text, recorded_rows(experiment), link)}"
    if not any(trial.state == "finished" for trial in results.trials):
        return "No trial of this run has finished, so it shows nothing yet."
    if not results.judges:
        return (
            f"Preset {escape(results.preset)} shows that the code runs; it judges no claim. "
            f"To judge them: <code>engram run {experiment.name}</code>."
        )
    whose = f"our recorded run of preset {escape(results.preset)}" if results.is_recorded else "this run"
    sentences = [f"In {whose} {counted_claims(claims)}."]
    for title, verdicts in (("Met", GOOD), ("Not met", BAD), ("Undecided", ("undecided",))):
        statements = [
            f'<a href="#claim-{place}-{judged.claim.id}">'
            f"{escape(judged.claim.statement[:1].lower() + judged.claim.statement[1:], quote=False)}</a>"
            for judged in claims
            if judged.corrected in verdicts and judged.is_tried
        ]
        more = f", and {len(statements) - LISTED} more" if len(statements) > LISTED else ""
        sentences += [f"{title}: {'; '.join(statements[:LISTED])}{more}."] if statements else []
    return " ".join(sentences)


def _axis(judged: JudgedClaim) -> dict[str, Any] | None:
    """The positions of a claim's values on its axis, in percent; None without a finite value."""
    criterion = judged.claim.criterion
    if not math.isfinite(judged.ours):
        return None
    ours = [judged.ours, *filter(math.isfinite, (judged.low, judged.high))]
    ends = [end for end in (criterion.low, criterion.high) if math.isfinite(end)]
    try:
        published = [float(judged.claim.published)]
    except ValueError:  # published in words
        published = []
    values_on_axis = [*ours, *ends, *published]
    log = min(values_on_axis) > 0 and math.log10(max(values_on_axis) / min(values_on_axis)) > DECADES
    scaled = [math.log(value) if log else value for value in values_on_axis]
    span = (max(scaled) - min(scaled)) or abs(scaled[0]) or 1.0
    start, width = min(scaled) - MARGIN * span, (1 + 2 * MARGIN) * span

    def position(value: float) -> float:
        if math.isinf(value):
            return 0.0 if value < 0 else 100.0
        return round(100 * ((math.log(value) if log else value) - start) / width, 2)

    def start_and_width(low: float, high: float) -> tuple[float, float]:
        return position(low), round(position(high) - position(low), 2)

    return {
        "ours": position(judged.ours),
        "interval": None if math.isnan(judged.low) else start_and_width(judged.low, judged.high),
        "criterion": start_and_width(criterion.low, criterion.high),
        "ends": [exp_or_infinity(end) if log else end for end in (start, start + width)],
        "published": position(published[0]) if published else None,
        "log": log,
    }


def beside_criterion(judged: JudgedClaim) -> tuple[float, float, float] | None:
    """The positions of a claim's value and of the ends of its interval in a row, in percent, relative to its criterion.

    The criterion is at 50, and values that meet it are to the right. The unit of distance is half the width of the
    interval, so that claims on different measures can be compared; large distances are compressed.

    Args:
        judged: The claim.

    Returns:
        The left end, the right end, and the value; None if no run can decide the claim, or without finite values.

    Examples:
        >>> from engram.lab import Claim, metric
        >>> condition = metric("error")("plastic") <= 0.5
        >>> beside_criterion(JudgedClaim(Claim("small", "It is small", condition), {}, 0.5, 0.4, 0.6, "undecided"))
        (39.24, 60.76, 50.0)
    """
    criterion, ours = judged.claim.criterion, (judged.low, judged.high, judged.ours)
    if judged.verdict not in (*GOOD, *BAD, "undecided") or not all(map(math.isfinite, ours)):
        return None
    half_width = (judged.high - judged.low) / 2

    def position(value: float) -> float:
        margin = min(value - criterion.low, criterion.high - value)
        distance = margin / half_width if half_width else math.copysign(math.inf, margin)
        scaled = math.asinh(min(max(distance, -FARTHEST), FARTHEST)) / math.asinh(FARTHEST)
        return round(50 + 50 * scaled, 2)

    low, high, value = map(position, ours)
    return min(low, high), max(low, high, value), value


def _number(value: Any) -> str:
    """A value of a trial's result, but only the size of a mapping, of a table and of a long list."""
    if isinstance(value, dict):
        return f"({len(value)} entries)"
    if isinstance(value, list | tuple):
        if any(isinstance(item, list | tuple | dict) for item in value):
            return f"({len(value)} rows)"
        return f"({len(value)} values)" if len(value) > FEW else f"[{', '.join(map(_number, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
