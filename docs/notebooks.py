"""Guides as notebooks, which are executed when the site is built, shown with their outputs, and ready for download."""

from __future__ import annotations

import atexit
import json
import os
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import jupytext
import nbformat
import plotly.io

from engram.lab.output import report

if TYPE_CHECKING:
    from jupyter_client import KernelManager

GUIDES = (
    "plasticity.md",
    "learning-rules.md",
    "continual.md",
    "same-solution.md",
    "memory.md",
    "difficulty.md",
    "which-rule.md",
)
GUIDES_FOLDER = Path(__file__).parent
# These stand in the folder notebooks too, to be opened anywhere; `python docs/notebooks.py` writes them.
TO_TAKE = ("plasticity.md", "learning-rules.md", "recordings.md")
INSTALL = """# Where engram is missing, as in Colab: from a wheel beside this notebook, else from the package index.
import importlib.util
from pathlib import Path

if importlib.util.find_spec("engram") is None:
    wheel = next((str(path.resolve()) for path in Path().glob("engram_torch-*.whl")), "engram-torch")
    %pip install --quiet "{wheel}[lab,nwb]\""""
SECONDS = 300  # time limit of a cell
PLOTLY = "application/vnd.plotly.v1+json"


def to_take(text: str) -> str:
    """Return a guide in Markdown as a notebook in JSON that installs engram first, without outputs."""
    notebook = jupytext.reads(re.sub(r"\]\((?=[\w-]+\.md)", "](../docs/", text), "md")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(INSTALL))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return str(nbformat.writes(notebook)) + "\n"


@cache
def _kernel() -> KernelManager:
    """Start one kernel for all guides, so that each module is imported only once."""
    from jupyter_client import KernelManager  # where it is needed, since writing notebooks executes nothing

    os.environ["PLOTLY_RENDERER"] = "plotly_mimetype+notebook_connected"
    folder = tempfile.TemporaryDirectory()
    kernel = KernelManager(kernel_name="python3")
    kernel.start_kernel(cwd=folder.name, extra_arguments=["--log-level=ERROR"])
    atexit.register(folder.cleanup)
    atexit.register(kernel.shutdown_kernel, now=True)
    return kernel


@cache
def executed(text: str) -> str:
    """Return a guide in Markdown as a notebook in JSON, with the outputs of its Python."""
    notebook = jupytext.reads(text, "md")
    from nbclient import NotebookClient

    forgets = nbformat.v4.new_code_cell("%reset -f")  # deletes the definitions of the guide before
    notebook.cells.insert(0, forgets)
    NotebookClient(notebook, km=_kernel(), timeout=SECONDS, coalesce_streams=True).execute()
    notebook.cells.remove(forgets)
    for cell in notebook.cells:  # without warnings of other packages, which contain paths of this machine
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for counted in (cell, *(output for output in cell.outputs if "execution_count" in output)):
                counted.execution_count -= 1
    return str(nbformat.writes(notebook))


def page(notebook: str) -> str:
    """Return an executed notebook as Markdown for the site, outputs below their code."""
    blocks = []
    for cell in json.loads(notebook)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(source)
        else:
            blocks += [f"```python\n{source}\n```", *map(_output, cell["outputs"])]
    return "\n\n".join(blocks)


def _output(output: dict[str, object]) -> str:
    data = output.get("data", {})
    assert isinstance(data, dict)
    if PLOTLY in data:
        figure = plotly.io.from_json(json.dumps(data[PLOTLY]), skip_invalid=True)
        return f'<div class="run">{report.plot(figure.update_layout(template="plotly_white"))}</div>'
    lines = output.get("text") or data.get("text/plain") or ""
    assert isinstance(lines, list | str)
    text = "".join(lines).rstrip()
    return f"```text\n{text}\n```" if text else ""


if __name__ == "__main__":
    for guide in TO_TAKE:
        path = GUIDES_FOLDER.parent / "notebooks" / Path(guide).with_suffix(".ipynb").name
        path.write_text(to_take((GUIDES_FOLDER / guide).read_text()))
