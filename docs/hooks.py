"""Pages that are generated when the site is built: gallery from records, reference from code, notebooks from guides."""

from __future__ import annotations

import base64
import gzip
import hashlib
import inspect
import io
import re
import sys
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import gymnasium
import headlines
import house
import notebooks
import numpy as np
from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url
from PIL import Image
from plotly.offline import get_plotlyjs

import engram
from engram.cli.absent_data import instead_of_absent_data
from engram.lab.output import report
from engram.studies.papers import papers
from engram.studies.recording import tables
from engram.studies.standings.comparison import shipped_row, standing_of_records
from engram.studies.standings.kinds import KINDS, in_words, tasks_of
from engram.studies.standings.page import STYLE, body, overview
from engram.studies.standings.standing import Standing
from engram.tasks.meta import draw, explain, sample
from engram.verdicts import recorded_index, recorded_verdicts

ROOT = Path(__file__).parents[1]
REFERENCE = {
    "engram.plasticity": "Fast weights: synapses that change while the network runs.",
    "engram.plasticity.sequence": "Memories in a sequence, written by Hebb's rule, the delta rule and their kin.",
    "engram.rules": "Learning rules that train a network's weights without backpropagation.",
    "engram.nn": "Plain layers and networks, and their initial values.",
    "engram.learned.blur": "Bidirectional update rules: learning rules of a few numbers, found by search.",
    "engram.learned.learning_to_remember": "Local rules for neurons and synapses, trained to remember what was shown.",
    "engram.learned.updates": "Update rules that learn how far each weight may move, to forget old tasks less.",
    "engram.continual": "Learning many tasks, one after another, with less forgetting of the first ones.",
    "engram.continual.anml": "Networks that are trained to learn class after class with less forgetting.",
    "engram.meta": "Learning to learn: differentiable inner loops, and gradients of single samples.",
    "engram.optim": "Optimisers for PyTorch, and evolution strategies with ask and tell.",
    "engram.memory": "Memories: dictionaries of sparse codes, associative memories, episodic memories, fragments.",
    "engram.memory.episodic.policies": "Policies that decide which entries a full memory replaces.",
    "engram.memory.fragments": "Dividing experience at surprises into fragments, which are stored and recalled.",
    "engram.spatial": "Exploring an unknown world with a map of bounded size.",
    "engram.spatial.pomcp": "Planning by simulated episodes (POMCP), for any model that can be simulated.",
    "engram.spatial.induction": "Guessing the unseen parts of a map from repeated ones, and planning with the guesses.",
    "engram.agents": "Reinforcement learning: recurrent agents, episodic control, values of transitions, curiosity.",
    "engram.agents.bonuses": "Exploration bonuses: rewards for new observations.",
    "engram.agents.reference": "Reference agents for meta-tasks: random, with known task, with exact inference.",
    "engram.generative.design": "Design of better sequences, such as proteins, from measurements of worse ones.",
    "engram.generative.diffusion": "Conditional diffusion models: schedules, networks, samplers.",
    "engram.analysis": "Measures of what a network has learned and of how hard its task was, as functions of arrays.",
    "engram.analysis.similarity": "Measures of how similar two networks' activity is, under one contract.",
    "engram.analysis.difficulty": "How hard a task is: the bits of inductive bias needed to generalise on it.",
    "engram.analysis.composition": "Measures of whether a generative model composes or interpolates.",
    "engram.verify": "Proofs and refutations of properties of small ReLU networks.",
    "engram.tasks": "Tasks: episodes, environments, data sets.",
    "engram.tasks.two_stimulus": "The fourteen tasks of two stimuli.",
    "engram.tasks.meta": "A space of meta-reinforcement-learning tasks.",
    "engram.tasks.data": "Data sets, loaded by name.",
    "engram.lab": "The laboratory: trials, seeds, checkpoints, claims, reports.",
    "engram.storage": "Files and checkpoints that are never half written.",
    "engram.registry": "The registry: finding parts by name.",
    "engram.testing": "Public checkers, which test whether your own part satisfies its contract.",
}
THEMES = {  # of the gallery: the name of each experiment in the menu
    "plasticity": {
        "pattern-completion": "Completing patterns",
        "image-completion": "Completing images",
        "one-shot-characters": "Characters from one drawing",
        "cue-reward": "Cue and reward",
        "maze": "A maze",
        "plastic-language": "A plastic LSTM on bigrams",
        "plastic-treebank": "A plastic LSTM on text",
        "evolved-plastic-networks": "Evolved plastic networks",
        "associative-recall": "Recall in a sequence",
    },
    "rules": {
        "learning-rules": "Learning rules compared",
        "learning-rules-on-images": "Learning rules on images",
        "optimizers": "Optimisers compared",
        "align": "Align rules",
        "hebbian-cnn": "Hebbian convolutions",
        "soft-hebbian-cnn": "Soft competition",
        "blur": "Evolved update rules",
        "learning-to-remember": "Learning to remember",
        "first-order-preconditioning": "Learned preconditioning",
    },
    "continual": {
        "continual-learners": "What learners forget",
        "dhp-softmax": "A plastic softmax layer",
        "anml": "Learning class after class",
        "representational-forgetting": "Forgetting in features",
    },
    "memory": {
        "associative-memories": "Memories compared",
        "expander-memory": "Expander memory",
        "noodl": "Dictionary learning",
        "episodic-control": "Episodic control",
    },
    "agents": {
        "meta-task-space": "A space of tasks",
        "meta-rl-agents": "Agents in new tasks",
        "agents": "Agents compared",
        "qss": "Values of transitions",
        "d3g": "Policies over states",
    },
    "space": {
        "farmap": "Maps in fragments",
        "farcuriosity": "Curiosity in fragments",
        "map-induction": "Guessing maps",
    },
    "generative": {
        "diffusion-compose": "Diffusion that composes",
        "protein-design": "Proteins that glow",
        "protein-design-aav": "Capsids of a virus",
    },
    "analysis": {
        "dsa": "Dynamical similarity",
        "rule-fingerprints": "Which rule trained it?",
        "rule-inference": "Which rule made these data?",
        "generalization-difficulty": "How hard is a task?",
        "property-verification": "Proofs about networks",
    },
}
VERDICTS = {"holds": "all hold", "refutes": "some fail", "open": "some open"}  # filters of the gallery
TASKS = {"meta-task-space": lambda: sample(np.random.default_rng(0))}  # shown on an experiment's page
WORLDS = {  # the environments of experiments, shown on their pages
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
FILES = ("LICENSE", "CITATION.cff")  # of the repository's root, to which pages link
NO_GUIDES = (
    "index.md",
    "gallery.md",
    "papers.md",
    "leaderboard.md",
    "house.md",
    "benchmarks.md",
    "contributing.md",
)
FIGURE = re.compile(r'(<div class="plot"[^>]*)></div><script type="application/json">(.*?)</script>', re.DOTALL)
# Signatures, types of arguments, and examples, which would be half of the search's index.
NOT_SEARCHED = re.compile(
    r'(<div class="doc-signature highlight"|<td(?=>\n<code><)|'
    r'<div class="highlight"(?=><pre><span></span><code><span class="gp">))'
)
FIGURES = '<script defer src="{0}scripts/report.js"></script>\n\n'  # draws the figures; {0}: path to the site's root


def on_config(config: Any) -> Any:
    """List the pages of papers, gallery and reference in the menu."""
    missing = set(engram.experiments()) ^ {name for named in THEMES.values() for name in named}
    if missing:
        raise ValueError(f"THEMES of docs/hooks.py and the registered experiments differ in: {', '.join(missing)}")
    groups = {title: pages for entry in config.nav for title, pages in entry.items()}
    groups["Gallery"] += [
        {theme.capitalize(): [{title: f"gallery/{name}.md"} for name, title in named.items()]}
        for theme, named in THEMES.items()
    ]
    pages = [{"All kinds": "leaderboard.md"}, *({in_words(kind): f"leaderboard/{kind}.md"} for kind in KINDS)]
    place = next(number for number, entry in enumerate(groups["Gallery"]) if "Leaderboard" in entry)
    groups["Gallery"][place] = {"Leaderboard": pages}
    groups["Gallery"].insert(place, {"Papers": [{paper.name: f"papers/{paper.slug}.md"} for paper in papers()]})
    groups["Reference"][1:1] = [{module.removeprefix("engram."): f"reference/{module}.md"} for module in REFERENCE]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages, and the scripts and styles that they need."""
    readme = (ROOT / "README.md").read_text()
    parts = re.search(r"<!-- parts: begin -->\n(.*?)<!-- parts: end -->", readme, re.DOTALL)
    assert parts, "README.md lists the packages"
    table = parts[1].replace("](docs/", "](")
    index, count = re.subn(r"The table of packages.*\n", table, (ROOT / "docs" / "index.md").read_text())
    assert count == 1, "index.md has a place for the packages"
    for name, page in (("CONTRIBUTING.md", "contributing.md"), *((name, f"files/{name}") for name in FILES)):
        index = index.replace(f"](../{name})", f"]({page})")
    pages = {
        "index.md": index,
        "parts.md": f"# Find what you need\n\n{table}",
        "contributing.md": (ROOT / "CONTRIBUTING.md").read_text().replace("](docs/", "]("),
        "papers.md": headlines.overview_page(papers(), recorded_index()),
        **{f"papers/{paper.slug}.md": headlines.page(paper, recorded_verdicts()) for paper in papers()},
        "gallery.md": gallery(),
        "leaderboard.md": standings(),
        **{f"leaderboard/{kind}.md": standing_page(kind) for kind in KINDS},
        "house.md": house.house(),
        "reference.md": "# Reference\n\n"
        + "\n".join(f"- [`{m}`](reference/{m}.md): {w}" for m, w in REFERENCE.items()),
        "scripts/plotly.js": get_plotlyjs(),
        "scripts/report.js": report.script(),
        "styles/report.css": report.style() + STYLE,
        **{f"files/{name}": (ROOT / name).read_text() for name in FILES},
        **{source_page(path): path.read_text() for path in (ROOT / "src").rglob("*.py")},
        **{f"gallery/{name}.md": experiment_page(name) for name in engram.experiments()},
        **{f"reference/{module}.md": reference(module) for module in REFERENCE},
    }
    for name in notebooks.GUIDES:
        pages[f"notebooks/{Path(name).stem}.ipynb"] = notebooks.executed((ROOT / "docs" / name).read_text())
    for name, content in pages.items():
        if written := files.get_file_from_path(name):
            files.remove(written)
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Show a guide as its executed notebook, with a link to the notebook."""
    name = page.file.src_uri
    if "/" not in name and name not in NO_GUIDES:
        page.meta["search"] = {"boost": 10}  # a guide answers before the reference does
    if name.startswith("reference"):
        page.meta["search"] = {"boost": 0.2}
    if name.startswith("papers"):  # their headings name systems, which the pages of experiments and guides explain
        page.meta["search"] = {"exclude": True}
    if name not in notebooks.GUIDES:
        return markdown
    notebook = notebooks.executed((ROOT / "docs" / name).read_text())
    link = f"This page is a [notebook](notebooks/{Path(name).stem}.ipynb), which ran when the site was built."
    return FIGURES.format("") + re.sub(r"^(# .*\n)", rf"\1\n{link}\n", notebooks.page(notebook), count=1, flags=re.M)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Insert the runs, which are HTML already, into the pages of the gallery, and unindent the reference.

    Each figure becomes a file of its own, which `report.js` loads when the figure comes into view.
    """
    if page.file.src_uri.startswith("reference/"):  # indentation is a fifth of a page
        html = re.sub(r"(<pre.*?</pre>)|\n\s+", lambda match: match[1] or "\n", html, flags=re.DOTALL)
        return NOT_SEARCHED.sub(r'\1 data-search-exclude="true"', html)

    def as_file(match: re.Match[str]) -> str:
        name = f"figures/{hashlib.sha256(match[2].encode()).hexdigest()[:16]}.js"
        if files.get_file_from_path(name) is None:
            packed = base64.b64encode(gzip.compress(match[2].encode(), mtime=0)).decode()  # half of its size
            files.append(File.generated(config, name, content=f'document.currentScript.figure = "{packed}";\n'))
        return f'{match[1]} data-figure="{get_relative_url(name, page.url)}"></div>'

    html = re.sub(r"<p>\[\[([\w-]+|[\w-]+/\w+)\]\]</p>", lambda match: _runs(match[1]), html)
    return FIGURE.sub(as_file, html)


def _runs(reference: str) -> str:
    if reference == "overview":
        standings = {kind: (scores, f"leaderboard/{kind}.html") for kind in KINDS if (scores := shipped(kind))}
        return f'<div class="run">{overview(standings)}</div>'
    if reference == "cards":
        of = {name: (theme, title) for theme, named in THEMES.items() for name, title in named.items()}
        cards = [card(name, preset, *of[name]) for name in of for preset in recorded(name)]
        return f'<div class="run cards">{"".join(cards)}</div>'
    name, preset = reference.split("/")
    if name == "standing" and (standing := shipped(preset)):
        return f'<div class="run">{body(standing)}</div>'
    return report.as_html(recorded(name)[preset])


def card(name: str, preset: str, theme: str, title: str) -> str:
    """Return the card of a record, named by its preset where an experiment has several; the first has the picture."""
    presets = list(recorded(name))
    if preset == presets[0]:
        return report.card(recorded(name)[preset], f"gallery/{name}.html", f"images/gallery/{name}.png", theme, title)
    address = f"gallery/{name}.html#preset-{preset}"
    return report.card(recorded(name)[preset], address, "", theme, f"{title}: preset {preset}")


@cache
def recorded(name: str) -> dict[str, dict[str, Any]]:
    """Return the sections that show the records of an experiment, by preset."""
    experiment = engram.registry.get("experiments", name)
    runs = tables.recorded(name)
    return {preset: report.section(experiment, run, curves=True) for preset, run in runs.items()}


def gallery() -> str:
    """Return the page that lists every experiment of the registry with its verdicts."""
    missing = [f"[{name}](gallery/{name}.md)" for name in engram.experiments() if not recorded(name)]
    buttons = "\n".join(
        "<p>"
        + " ".join(f'<button class="md-button filter" data-tag="{tag}">{title}</button>' for tag, title in tags.items())
        + "</p>"
        for tags in ({theme: theme for theme in THEMES}, VERDICTS)
    )
    return "\n\n".join(
        [
            "# Gallery",
            "All experiments. Each card shows the question, how many of the claims hold (green), fail (red) or are "
            "undecided (brown), and the computing time of a run.",
            f'<div class="filters">{buttons}</div><script defer src="scripts/gallery.js"></script>',
            "[[cards]]",
            '<details class="part" markdown="1"><summary>All verdicts</summary>\n\n'
            f"{tables.summary_table()}\n\n</details>",
            f"## What changed between versions\n\n{changes()}",
            *(["Experiments without a current record: " + ", ".join(missing) + "."] if missing else []),
        ]
    )


def changes() -> str:
    """Return the verdicts that differ from those of the last released version."""
    since = tables.last_release()
    if since is None:
        return (
            f"No version before {engram.__version__} was released. From the next version on, this section lists each "
            "verdict that differs from the version before."
        )
    titles = {name: title for named in THEMES.values() for name, title in named.items()}
    lines = [
        f"- [{titles[name]}](gallery/{name}.md), `{claim}`: {was or 'not there'} in {since}, now {now or 'not there'}"
        for name, claim, was, now in tables.changed_since(since)
    ]
    return "\n".join(lines) or f"Every verdict is the same as in version {since}."


def standings() -> str:
    """Return the page that lists the kinds of parts, with the leader of each in the records."""
    return "\n\n".join(
        [
            "# Leaderboard",
            "These pages compare the parts of the library on the tasks of their kind, each at a rate chosen by "
            "validation. [Where does my method stand?](compare.md) shows how to compare a method of your own.",
            "[[overview]]",
        ]
    )


def standing_page(kind: str) -> str:
    """Return the page that ranks the registered parts of a kind, from the records."""
    scores, command = shipped(kind), f"engram compare {kind.replace('_', '-')}"
    if scores is None:
        return f"# {in_words(kind)}\n\nNot recorded yet: `{command}` runs the comparison."
    about = f"`{command}` shows this table in a terminal; the [guide](../compare.md) shows how to add your own method."
    return "\n\n".join([FIGURES.format("../"), f"# {in_words(kind)}", about, f"[[standing/{kind}]]"])


@cache
def shipped(kind: str) -> Standing | None:
    """Return the standing of a kind from the records; None if they have none of it."""
    is_shipped = any(shipped_row(experiment, task) for experiment, task in tasks_of(kind))
    return standing_of_records(kind) if is_shipped else None


def experiment_page(name: str) -> str:
    """Return the page of an experiment: its summary, its recorded claims and its figures."""
    experiment = engram.registry.get("experiments", name)
    blocks = [FIGURES.format("../"), f"# {experiment.summary}"]
    if not recorded(name):
        why = tables.waits(name).capitalize()
        blocks += [f"{experiment.paper}.", f"{why}: `engram run {name} --until-decided`."]
    if instead := instead_of_absent_data(experiment):
        blocks.append(f"!!! note\n\n    {instead}")
    for preset in recorded(name):
        blocks += [f"## Preset {preset}"] * (len(recorded(name)) > 1) + [f"[[{name}/{preset}]]"]
    if name in TASKS:
        task = TASKS[name]()
        blocks.append(f"## One of its tasks\n\n```text\n{explain(task)}\n```")
        blocks.append(f'<div class="run">{report.plot(draw(task))}</div>')
    if name in WORLDS:
        blocks.append(
            f"## The first steps of an episode\n\nRandom actions in `{WORLDS[name]}`.\n\n{frames(WORLDS[name])}"
        )
    return "\n\n".join(blocks)


def frames(world: str) -> str:
    """Return the first frames of an episode of random actions, as adjacent images."""
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


def public(module: str) -> dict[str, str]:
    """Return the public names of a package, each with the package that it is imported from."""
    loaded = __import__(module, fromlist=["_"])
    defined_here = [
        name
        for name, item in vars(loaded).items()
        if inspect.isfunction(item) and item.__module__ == module and not name.startswith("_")
    ]
    if names := getattr(loaded, "__all__", defined_here):
        return dict.fromkeys(names, module)
    above = module.rpartition(".")[0]  # the package that exports these names
    package = __import__(above, fromlist=["_"])
    return {
        name: above
        for name in package.__all__
        if getattr(getattr(package, name), "__module__", "").startswith(f"{module}.")
    }


def reference(module: str) -> str:
    """Return the page that lists every public name of a package, except those on a page below.

    Each name is a line that opens on a click, because a page with all of them open would have about 13,000 nodes. A
    link to a name opens it.
    """
    below = [public(other) for other in REFERENCE if other.startswith(f"{module}.")]
    described = {id(getattr(sys.modules[home], name)) for names in below for name, home in names.items()}
    entries = []
    for name, home in public(module).items():
        part = getattr(sys.modules[home], name)
        if id(part) not in described:
            entries.append(
                f'<details class="part" markdown="1"><summary markdown="span">`{name}`{_first_line(part)}</summary>\n\n'
                f"::: {home}.{name}\n\n{source_link(part)}\n\n</details>"
            )
    return "\n\n".join([f"# `{module}`\n\n{REFERENCE[module]}", *entries])


def _first_line(part: Any) -> str:
    """Return the first line of the docstring of a class or function."""
    documented = inspect.isclass(part) or inspect.isfunction(part)
    return f" {escape(inspect.getdoc(part) or '', quote=False).partition(chr(10))[0]}" if documented else ""


def source_page(path: Path) -> str:
    """Return the path of a module's text on the site."""
    return f"source/{path.relative_to(ROOT / 'src').with_suffix('.txt')}"


def source_link(part: Any) -> str:
    """Return a link to the source line of a class or function of engram, and an empty string for anything else."""
    if not (inspect.isclass(part) or inspect.isfunction(part)):
        return ""
    path = Path(sys.modules[part.__module__].__file__ or "")
    if not path.is_relative_to(ROOT / "src"):
        return ""
    place = f"#:~:text={'class' if inspect.isclass(part) else 'def'}%20{part.__name__}"
    return f'<a href="../{source_page(path)}{place}">source</a>'
