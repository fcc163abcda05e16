"""Guides as notebooks: executed when the site is built, shown with what came out, and to be downloaded."""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache

import jupytext
import nbformat
import plotly.io
from nbclient import NotebookClient

from engram.lab import report

GUIDES = ("plasticity.md", "learning-rules.md", "continual.md", "same-solution.md", "memory.md", "difficulty.md")
SECONDS = 300  # that a cell may take
PLOTLY = "application/vnd.plotly.v1+json"


@cache
def executed(text: str) -> str:
    """Return a guide in Markdown as a notebook in JSON, with the outputs of its Python."""
    notebook = jupytext.reads(text, "md")
    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype+notebook_connected"
    options = {"timeout": SECONDS, "kernel_name": "python3", "coalesce_streams": True}
    options["extra_arguments"] = ["--log-level=ERROR"]
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, resources={"metadata": {"path": folder}}, **options).execute()
    for cell in notebook.cells:  # warnings of other packages, and where they lie on this machine
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return str(nbformat.writes(notebook))


def page(notebook: str) -> str:
    """Return an executed notebook as Markdown for the site, outputs below their code."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        else:
            parts += [f"```python\n{source}\n```", *map(_output, cell["outputs"])]
    return "\n\n".join(parts)


def _output(output: dict[str, object]) -> str:
    data = output.get("data", {})
    assert isinstance(data, dict)
    if PLOTLY in data:
        figure = plotly.io.from_json(json.dumps(data[PLOTLY]), skip_invalid=True)
        return f'<div class="run">{report.plot(figure)}</div>'
    lines = output.get("text") or data.get("text/plain") or ""
    assert isinstance(lines, list | str)
    text = "".join(lines).rstrip()
    return f"```text\n{text}\n```" if text else ""
