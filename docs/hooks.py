"""Pages that are generated when the site is built: gallery from records, reference from code, notebooks from guides."""

from __future__ import annotations

import base64
import inspect
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import house
import notebooks
import numpy as np
import results
from mkdocs.structure.files import File, Files
from PIL import Image
from plotly.offline import get_plotlyjs

import engram
from engram.lab import report
from engram.tasks.meta import draw, explain, sample

ROOT = Path(__file__).parents[1]
REFERENCE = {
    "engram.plasticity": "Fast weights: synapses that change while the network runs.",
    "engram.rules": "Slow weights that learn without backpropagation, or beside it.",
    "engram.nn": "Plain layers and networks, and their initial values.",
    "engram.learned.blur": "Learned bidirectional update rules: a rule as a few numbers.",
    "engram.learned.learning_to_remember": "Online rules of neurons and synapses, found by learning to remember.",
    "engram.learned.updates": "How far each weight may move, learned from what becomes of old tasks.",
    "engram.continual": "Many tasks, one after another, without forgetting the first.",
    "engram.continual.anml": "Networks meta-learned to learn class after class.",
    "engram.optim": "Optimisers of torch, and evolution by ask and tell.",
    "engram.memory": "What stores and recalls.",
    "engram.memory.episodic.policies": "What a bounded memory keeps.",
    "engram.memory.fragments": "When a stream has become another, and which stored fragment comes back.",
    "engram.spatial": "Maps: exploring an unknown world with a bounded map.",
    "engram.spatial.pomcp": "Planning by simulated episodes, for any model that can be drawn from.",
    "engram.spatial.induction": "Maps that are guessed from their parts, and planners in them.",
    "engram.agents": "Reinforcement learning: networks whose state lasts, episodic control, values of transitions.",
    "engram.agents.reference": "What can be reached in a meta-task: by chance, by knowing, by inference.",
    "engram.generative.design": "Sequences that improve, from measurements of worse ones.",
    "engram.generative.diffusion": "Conditional diffusion models: schedules, networks, samplers.",
    "engram.analysis": "What was learned, and how hard it was: measures as functions of arrays.",
    "engram.analysis.composition": "Whether a generative model composes or interpolates.",
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
WORLDS = {  # in which the agents of an experiment act
    "maze": "engram/GridMaze-v0",
    "episodic-control": "engram/FourRoom-v0",
    "meta-rl-agents": "engram/DarkKeyToDoor-v0",
    "farcuriosity": "engram/TextureRooms-v0",
    "farmap": "engram/ColourMaze-v0",
    "qss": "engram/GridTransfer-v0",
    "d3g": "engram/PointWorld-v0",
    "map-induction": "engram/RepeatedUnit-v0",
}
FRAMES = 8
PLOTLY = '<script src="{}scripts/plotly.js"></script>\n\n'  # where the site's root is


def on_config(config: Any) -> Any:
    """List the pages of gallery and reference in the menu."""
    for name, pages in (("gallery", engram.experiments()), ("reference", REFERENCE)):
        place = next(n for n, entry in enumerate(config.nav) if entry == f"{name}.md")
        config.nav[place] = {name.capitalize(): [f"{name}.md", *(f"{name}/{page}.md" for page in pages)]}
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and the scripts and styles that they need."""
    readme = (ROOT / "README.md").read_text()
    index = readme.replace("docs/images/", "images/").replace("](CONTRIBUTING.md)", "](contributing.md)")
    index = re.sub(r"\[([\w-]+)\]\(results/[^)]*\)", r"[\1](gallery/\1.md)", index)
    for name in ("LICENSE", "CITATION.cff"):
        index = index.replace(f"]({name})", f"](files/{name})")
        files.append(File.generated(config, f"files/{name}", content=(ROOT / name).read_text()))
    pages = {
        "index.md": index,
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "]("),
        "gallery.md": gallery(),
        "house.md": house.house(),
        "reference.md": "# Reference\n\n"
        + "\n".join(f"- [`{m}`](reference/{m}.md): {w}" for m, w in REFERENCE.items()),
        "scripts/plotly.js": get_plotlyjs(),
        "styles/report.css": report.style(),
        **{f"gallery/{name}.md": experiment_page(name) for name in engram.experiments()},
        **{f"reference/{module}.md": reference(module) for module in REFERENCE},
    }
    for name in notebooks.GUIDES:
        pages[f"notebooks/{Path(name).stem}.ipynb"] = notebooks.executed((ROOT / "docs" / name).read_text())
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Show a guide that is a notebook as executed, with a link to the notebook."""
    name = page.file.src_uri
    if name not in notebooks.GUIDES:
        return markdown
    notebook = notebooks.executed((ROOT / "docs" / name).read_text())
    link = f"This page is a [notebook](notebooks/{Path(name).stem}.ipynb), executed when the site was built."
    return PLOTLY.format("") + re.sub(r"^(# .*\n)", rf"\1\n{link}\n", notebooks.page(notebook), count=1, flags=re.M)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Put the runs, which are HTML already, into the pages of gallery."""
    return re.sub(r"<p>\[\[(contents|[\w-]+/\w+)\]\]</p>", lambda match: _runs(match[1]), html)


def _runs(which: str) -> str:
    if which == "contents":
        sections = [section for name in engram.experiments() for section in recorded(name).values()]
        return report.contents(sections, lambda section: f"gallery/{section['experiment'].name}.html")
    name, preset = which.split("/")
    return report.as_html(recorded(name)[preset])


@cache
def recorded(name: str) -> dict[str, dict[str, Any]]:
    """Return what is shown of the records of an experiment, by preset."""
    experiment = engram.registry.get("experiments", name)
    return {preset: report.section(experiment, run) for preset, run in results.recorded(name).items()}


def gallery() -> str:
    """Return the page that lists every experiment of the registry with its verdicts."""
    missing = [f"[{name}](gallery/{name}.md)" for name in engram.experiments() if not recorded(name)]
    parts = ["# Gallery", "Every experiment, with the verdicts on its claims as the committed run records have them."]
    return "\n\n".join(
        [
            *parts,
            "[[contents]]",
            *(["Without a record of what they are now: " + ", ".join(missing) + "."] if missing else []),
        ]
    )


def experiment_page(name: str) -> str:
    """Return the page of an experiment: what it is, its claims as recorded, its figures."""
    parts = [PLOTLY.format("../"), f"# {name}"]
    if not recorded(name):
        experiment = engram.registry.get("experiments", name)
        why = results.waits(name).capitalize()
        parts += [f"{experiment.summary}. {experiment.paper}.", f"{why}: `engram run {name} --until-decided`."]
    for preset in recorded(name):
        parts += [f"## Preset {preset}"] * (len(recorded(name)) > 1) + [f"[[{name}/{preset}]]"]
    if name in TASKS:
        task = TASKS[name]()
        parts.append(f"## One of its tasks\n\n```text\n{explain(task)}\n```")
        parts.append(f'<div class="run">{report.plot(draw(task))}</div>')
    if name in WORLDS:
        parts.append(
            f"## The first steps of an episode\n\nBy actions at random, in `{WORLDS[name]}`.\n\n{frames(WORLDS[name])}"
        )
    return "\n\n".join(parts)


def frames(world: str) -> str:
    """Return the first frames of an episode of random actions, as images beside each other."""
    env = gymnasium.make(world, render_mode="rgb_array")
    env.action_space.seed(0)
    env.reset(seed=0)
    shown = []
    for step in range(FRAMES):
        png = io.BytesIO()
        Image.fromarray(env.render()).save(png, "PNG")
        shown.append(f'<img alt="step {step}" src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}">')
        env.step(env.action_space.sample())
    return "\n".join(shown)


def reference(module: str) -> str:
    """Return the page that lists every public name of a package."""
    loaded = __import__(module, fromlist=["_"])
    own = [
        name
        for name, item in vars(loaded).items()
        if inspect.isfunction(item) and item.__module__ == module and not name.startswith("_")
    ]
    below = [__import__(other, fromlist=["_"]) for other in REFERENCE if other.startswith(f"{module}.")]
    described = {id(getattr(part, name)) for part in below for name in getattr(part, "__all__", ())}
    names = [name for name in getattr(loaded, "__all__", own) if id(getattr(loaded, name)) not in described]
    return "\n\n".join([f"# `{module}`\n\n{REFERENCE[module]}", *(f"::: {module}.{name}" for name in names)])
