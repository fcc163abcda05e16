"""Pages that are generated when the site is built: the gallery from the run records, the reference from the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import house
import numpy as np
import results
from mkdocs.structure.files import File, Files
from plotly.offline import get_plotlyjs

import engram
from engram.lab.curves import learning_curves
from engram.lab.monitor import duration
from engram.tasks.meta import draw, explain, sample

ROOT = Path(__file__).parents[1]
REFERENCE = {
    "engram.plasticity": "Fast weights: synapses that change while the network runs.",
    "engram.rules": "Slow weights that learn without backpropagation, or beside it.",
    "engram.optim": "Evolution by ask and tell.",
    "engram.memory": "What stores and recalls.",
    "engram.memory.episodic.policies": "What a bounded memory keeps.",
    "engram.agents": "Reinforcement learning by networks whose state lasts through an episode.",
    "engram.agents.reference": "What can be reached in a meta-task: by chance, by knowing, by inference.",
    "engram.analysis": "What was learned, and how hard it was: measures as functions of arrays.",
    "engram.analysis.verify": "Properties of small ReLU networks, proved or refuted.",
    "engram.tasks": "What one learns from.",
    "engram.tasks.two_stimulus": "The fourteen tasks of two stimuli.",
    "engram.tasks.meta": "A space of meta-reinforcement-learning tasks.",
    "engram.tasks.data": "Data sets by name.",
    "engram.lab": "Trials, seeds, checkpoints, claims, reports.",
    "engram.storage": "Files that are whole or not there.",
    "engram.registry": "What parts there are.",
    "engram.testing": "The contracts as public checkers.",
}
TASKS = {"meta-task-space": lambda: sample(np.random.default_rng(0))}  # what an experiment is about


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and plotly's script, which they need."""
    readme = (ROOT / "README.md").read_text()
    index = readme.replace("docs/images/", "images/").replace("](CONTRIBUTING.md)", "](contributing.md)")
    index = re.sub(r"\[([\w-]+)\]\(results/[^)]*\)", r"[\1](gallery.md#\1)", index)
    for name in ("LICENSE", "CITATION.cff"):
        index = index.replace(f"]({name})", f"](files/{name})")
        files.append(File.generated(config, f"files/{name}", content=(ROOT / name).read_text()))
    pages = {
        "index.md": index,
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "]("),
        "gallery.md": gallery(),
        "house.md": house.house(),
        "reference.md": reference(),
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    files.append(File.generated(config, "scripts/plotly.js", content=get_plotlyjs()))
    return files


def gallery() -> str:
    """Return the page that shows every experiment of the registry: what it is, its claims as recorded, its figures."""
    parts = ["# Gallery", "Every experiment, with its claims as the committed run records have them."]
    parts.append('<script src="../scripts/plotly.js"></script>')
    for name in engram.experiments():
        experiment = engram.registry.get("experiments", name)
        laptop = experiment.presets["laptop"]
        time = sum(arm.seconds for arm in experiment.arms(laptop.config).values()) * laptop.seeds
        parts += [
            f"## {name}",
            f"{experiment.summary}. {experiment.paper}.",
            f"```console\n$ engram run {name}  # {duration(time / 2)} on 2 cores\n```",
        ]
        figures = []
        if name in TASKS:
            task = TASKS[name]()
            figures.append(draw(task))
            parts.append(f"One of its tasks, in words and below as a picture:\n\n```text\n{explain(task)}\n```")
        records = results.recorded(name)
        if not records:
            parts.append("Not recorded yet.")
        for run in records.values():
            parts.append(results.claims_table(run))
            figures += [learning_curves(run, experiment.headline), experiment.figure(run)]
        for figure in figures:
            figure.update_layout(template="plotly_white", height=420)
            parts.append(figure.to_html(full_html=False, include_plotlyjs=False))
    return "\n\n".join(parts)


def reference() -> str:
    """Return the page that lists every public name."""
    parts = ["# Reference"]
    for module, what in REFERENCE.items():
        loaded = __import__(module, fromlist=["_"])
        own = [
            name
            for name, item in vars(loaded).items()
            if inspect.isfunction(item) and item.__module__ == module and not name.startswith("_")
        ]
        below = [__import__(other, fromlist=["_"]) for other in REFERENCE if other.startswith(f"{module}.")]
        described = {id(getattr(part, name)) for part in below for name in getattr(part, "__all__", ())}
        names = [name for name in getattr(loaded, "__all__", own) if id(getattr(loaded, name)) not in described]
        parts.append(f"## `{module}`\n\n{what}")
        parts += [f"::: {module}.{name}" for name in names]
    return "\n\n".join(parts)
