"""A run as files for other programs: tables of its metrics, results and claims, and its figures."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import plotly.graph_objects as go
import plotly.io
import polars as pl
from plotly.offline import get_plotlyjs

from engram import checks, extras
from engram.lab.output.figures import figures_of
from engram.lab.output.results import Results, in_words
from engram.lab.trial.experiment import Experiment
from engram.storage.files import write_atomic, writing

LONGEST_NAME = 100  # in bytes; a file system allows 255 with the ending
SIZE = {"width": 860, "height": 420}  # in pixels, for a figure that sets no size
Table = Literal["csv", "parquet"]
Picture = Literal["html", "svg", "png"]


def export(
    experiment: Experiment, results: Results, folder: Path, *, tables: Table = "csv", pictures: Picture = "html"
) -> list[Path]:
    """Write the tables and figures of a run to a folder, which is created if needed; return their paths.

    Args:
        experiment: The experiment.
        results: A run of it.
        folder: Where to write.
        tables: ``"csv"`` or ``"parquet"``.
        pictures: ``"html"``, which opens offline; ``"svg"`` or ``"png"``, drawn by Chrome.

    Raises:
        ValueError: A format is unknown, or pictures cannot be drawn here.
        CannotWriteError: The folder cannot be written.
    """
    checks.choice("tables", tables, ("csv", "parquet"))
    checks.choice("pictures", pictures, ("html", "svg", "png"))
    files: dict[str, bytes] = {}
    for name, table in _tables(results).items():
        buffer = io.BytesIO()
        table.write_csv(buffer) if tables == "csv" else table.write_parquet(buffer)
        files[f"{name}.{tables}"] = buffer.getvalue()
    broken: dict[str, str] = {}
    drawn = figures_of(experiment, results, broken=broken)
    figures = {file_name(name): figure for name, figure in drawn.items()}
    if pictures == "html":
        pages = {
            name: figure.to_html(include_plotlyjs="directory", auto_play=False) for name, figure in figures.items()
        }
        files |= {f"{name}.html": page.encode() for name, page in pages.items()}
        files["plotly.min.js"] = get_plotlyjs().encode()
    else:
        images = draw(figures, pictures)
        files |= {f"{name}.{pictures}": content for name, content in images.items()}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomic(folder / name, content)
    for name, problem in broken.items():
        warnings.warn(f"the {name} of {experiment.name} is left out: {problem}", RuntimeWarning, stacklevel=2)
    return [folder / name for name in files]


def file_name(title: str) -> str:
    """The name of a file or a folder from its title: of a long one the beginning and a digest."""
    name = title.replace("/", "+")
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{name.encode()[:LONGEST_NAME].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def draw(figures: Mapping[str, go.Figure], kind: Literal["svg", "png"]) -> dict[str, bytes]:
    """Figures as pictures, drawn by kaleido in one headless Chrome.

    Raises:
        ValueError: Kaleido or Chrome is not installed.
    """
    if importlib.util.find_spec("kaleido") is None:
        raise ValueError(f"a {kind} needs kaleido, which is not installed: {extras.install('images')}; or write html")
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.{kind}") for number in range(len(figures))]
        try:
            widths, heights = (
                [figure.layout[side] or default for figure in figures.values()] for side, default in SIZE.items()
            )
            plotly.io.write_images(list(figures.values()), paths, width=widths, height=heights)
        except RuntimeError as error:
            raise ValueError(f"a {kind} cannot be drawn: {' '.join(str(error).split())}") from error
        return {name: path.read_bytes() for name, path in zip(figures, paths, strict=True)}


def _tables(results: Results) -> dict[str, pl.DataFrame]:
    columns = ("arm", "seed", "state", "seconds")
    trials = [
        {name: getattr(trial, name) for name in columns}
        | {f"result.{name}" if name in columns else name: value for name, value in _flat(trial.result).items()}
        for trial in results.trials
    ]
    # Unlike JSON, tables have numbers that are not finite: a mean that left them out would be another one.
    rows = {"results": trials, "claims": results.claim_rows()}
    if quantities := results.quantity_rows():
        rows["quantities"] = quantities
    tables = {name: pl.DataFrame(of_table, infer_schema_length=None) for name, of_table in rows.items()}
    return {"metrics": results.metrics, **tables}


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result as one row of a table: lists and dictionaries as JSON, with words for numbers that are not finite."""
    return {
        name: json.dumps(in_words(value)) if isinstance(value, list | dict) else value for name, value in result.items()
    }
