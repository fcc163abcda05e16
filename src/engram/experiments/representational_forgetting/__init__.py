"""Features outlast outputs: what a network seems to have forgotten a fresh read-out finds (after Xiong et al., 2019).

A network learns ten characters of one alphabet, then ten of another. Probes fitted anew tell what of the first task its
features still hold. A small network that sees each weight's gradient, and what the old task left, is trained so that
the student's activity is that of a teacher of both tasks; the question is whether that keeps more than rules made by
hand do, at their best. Only the abstract of the paper could be read: this is a method after it, re-designed, and no
reproduction of its figures.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from engram.experiments.representational_forgetting.claims import claims
from engram.experiments.representational_forgetting.pairs import Config, trial
from engram.lab import Experiment, Preset, Results, Study
from engram.lab.figures import colors
from engram.tasks.data import load

COMPARED = {"teachers": True, "sequences": 3}  # also by their activity, and after five tasks
arms: dict[str, dict[str, Any]] = {
    "finetune": COMPARED,
    "finetune-single-head": {"single_head": True},
    "frozen": {"method": "frozen"},
    "l2": {"method": "l2"},
    "ewc": {"method": "ewc"},
    "lwf": {"method": "lwf"},
    "feature-lwf": {"method": "feature-lwf"},
    "replay-1": {"method": "replay"},
    "learned": {"method": "learned", **COMPARED},
    "learned-rates": {"method": "learned", "learned_rule": "rates"},
    "replay-5": {"method": "replay", "replayed": 5},
    "learned-gate-only": {"method": "learned", "learned_rule": "gate-only"},
    "learned-no-memory": {"method": "learned", "learned_rule": "no-memory"},
}
MAIN = list(arms)[:-3]
presets = {
    "smoke": Preset(
        seeds=1,
        changes={
            "characters": "glyphs",
            "rotations": False,
            "size": 8,
            "channels": 2,
            "units": 8,
            "ways": 2,
            "pairs": 2,
            "chosen_by": 1,
            "judged_by": 1,
            "draws": 1,
            "first_steps": 4,
            "steps": 3,
            "teacher_steps": 3,
            "batch_size": 4,
            "bodies": 1,
            "meta_updates": 20,
            "judgements": 2,
            "students": 1,
            **{arm: {"sequences": 2} for arm in ("finetune", "learned")},
        },
        arms=MAIN,
    ),
    "laptop": Preset(seeds=5, arms=MAIN, looks=(5, 10)),
    "paper": Preset(
        seeds=5,
        changes={
            "characters": "omniglot",
            "rotations": False,
            "channels": 32,
            "pairs": 200,
            "chosen_by": 10,
            "judgements": 20,
            "every": 1,
            "draws": 10,
            "bodies": 100,
            "meta_updates": 5000,
            **{arm: {"sequences": 20} for arm in ("finetune", "learned")},
        },
    ),
}


def check_requirements(config: Config) -> None:
    """Read the characters, so that a run without them does not begin."""
    if config.characters != "glyphs":
        load(config.characters, size=config.size)


def figure(results: Results) -> go.Figure:
    """What probes tell of the new task against what they tell of the old: each seed, and the mean, arm by arm."""
    plot = go.Figure()
    for arm, color in colors(results.arms).items():
        old, new = (results.values(arm, name) for name in ("probe_old", "probe_new"))
        style = {"name": arm, "legendgroup": arm, "marker_color": color, "mode": "markers"}
        plot.add_scatter(x=old, y=new, opacity=0.4, showlegend=False, **style)
        plot.add_scatter(x=[sum(old) / len(old)], y=[sum(new) / len(new)], marker_size=12, **style)
    plot.update_xaxes(title="probes of the old task: share of right answers")
    plot.update_yaxes(title="probes of the new task")
    return plot.update_layout(title="What is left of the old, and gained of the new")


experiment = Experiment(
    name="representational-forgetting",
    about=__doc__,
    paper="After Xiong, Ren & Urtasun, Learning to Remember from a Multi-Task Teacher, 2019 (arXiv 1910.04650)",
    studies=Study(trial, arms),
    presets=presets,
    claims=claims,
    figure=figure,
    headline="balance",
    check_requirements=check_requirements,
    answer="""With one head for all classes the outputs forget the first task altogether [outputs-are-forgotten: holds],
    but its features are left [features-are-left: holds]: probes with five examples of each class give back .62 of its
    answers [few-examples-recover: holds]. Whether an update that is learned from a teacher of both tasks keeps more
    than Adam at its best rate is open: by .016, with an interval of .05 either way
    [learned-updates-keep-more: is open]; over both tasks it comes within .01 of an anchor [as-good-as-l2: is open], EWC
    [as-good-as-ewc: is open] and learning without forgetting [as-good-as-lwf: is open], so that a large gain over rules
    made by hand is not to be expected. It brings activity nearer to the teacher's, in the mean by a quarter
    [it-mimics-the-teacher: is open].""",
)
