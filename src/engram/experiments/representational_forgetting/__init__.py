"""Did it forget, or only lose its read-out, and can an update be learned that keeps more? (after Xiong et al.).

A network learns ten characters of one alphabet, then ten of another. Probes fitted anew tell what of the first task its
features still hold. A small network that sees each weight's gradient, and what the old task left, is trained so that
the student's activity is that of a teacher of both tasks; it is compared with rules made by hand, at their best. Only
the abstract of the paper could be read: this is a method after it, re-designed, and no reproduction of its figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import plotly.graph_objects as go
from annotated_types import Ge

from engram.experiments.representational_forgetting.claims import claims
from engram.experiments.representational_forgetting.pairs import Training, seconds, trial
from engram.lab import Arm, Experiment, Preset, Results, arms_of, narrow
from engram.lab.curves import colors
from engram.tasks.data import load


@dataclass(frozen=True)
class Config(Training):
    """The training of all arms, and what is different in some."""

    longer: Annotated[int, Ge(0)] = 1
    """Sequences of five tasks, of Adam and the learned update."""
    ablations: bool = False
    """Add the learned update without its residual, and without what old tasks left."""


def arms(config: Config) -> dict[str, Arm]:
    """Plain training, a frozen body, rules made by hand, replay, and learned updates."""
    base = narrow(config, Training)
    compared = replace(base, teachers=True, sequences=config.longer)
    learned = replace(compared, method="learned")
    found = {
        "finetune": compared,
        "finetune-single-head": replace(base, single_head=True),
        "frozen": replace(base, method="frozen"),
        "l2": replace(base, method="l2"),
        "ewc": replace(base, method="ewc"),
        "lwf": replace(base, method="lwf"),
        "feature-lwf": replace(base, method="feature-lwf"),
        "replay-1": replace(base, method="replay"),
        "learned": learned,
        "learned-rates": replace(base, method="learned", learned_rule="rates"),
    }
    if config.ablations:
        found["replay-5"] = replace(base, method="replay", replayed=5)
        found["learned-gate-only"] = replace(base, method="learned", learned_rule="gate-only")
        found["learned-no-memory"] = replace(base, method="learned", learned_rule="no-memory")
    return arms_of(trial, found, seconds)


def ready(config: Training) -> None:
    """Read the characters, so that a run without them does not begin."""
    if config.characters != "glyphs":
        load(config.characters, size=config.size)


def figure(results: Results) -> go.Figure:
    """What probes tell of the new task against what they tell of the old: each seed, and the mean, arm by arm."""
    plot = go.Figure()
    for arm, color in colors(results.arms).items():
        rows = [found[arm] for found in results.by_seed.values() if arm in found]
        old, new = ([float(row[name]) for row in rows] for name in ("probe_old", "probe_new"))
        style = {"name": arm, "legendgroup": arm, "marker_color": color, "mode": "markers"}
        plot.add_scatter(x=old, y=new, opacity=0.4, showlegend=False, **style)
        plot.add_scatter(x=[sum(old) / len(old)], y=[sum(new) / len(new)], marker_size=12, **style)
    plot.update_xaxes(title="probes of the old task: share of right answers")
    plot.update_yaxes(title="probes of the new task")
    return plot.update_layout(title="What is left of the old, and gained of the new")


SMOKE = Config(
    characters="glyphs",
    rotations=False,
    size=8,
    channels=2,
    units=8,
    ways=2,
    pairs=2,
    chosen_by=1,
    draws=1,
    first_steps=4,
    steps=3,
    teacher_steps=3,
    batch_size=4,
    bodies=1,
    meta_updates=20,
    students=1,
    longer=2,
)
PAPER = Config(
    characters="omniglot",
    rotations=False,
    channels=32,
    pairs=200,
    chosen_by=10,
    draws=10,
    bodies=100,
    meta_updates=5000,
    longer=20,
    ablations=True,
)
experiment = Experiment(
    name="representational-forgetting",
    summary="Features outlast outputs, and an update learned from a multi-task teacher is to keep more of them",
    paper="After Xiong, Ren & Urtasun, Learning to Remember from a Multi-Task Teacher, 2019 (arXiv 1910.04650)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=3), "paper": Preset(PAPER, seeds=5)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="balance",
    ready=ready,
)
