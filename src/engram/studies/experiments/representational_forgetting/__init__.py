"""Features outlast outputs: a new readout recovers what a network seems to have forgotten (after Xiong et al., 2019).

A network learns ten characters of one alphabet, then ten of another. New linear probes measure what its features still
encode about the first task. An update rule, a small network that sees each weight's gradient and information stored
about the old task, is trained to bring the student's activity close to that of a teacher of both tasks. The question is
whether it retains more than the best hand-made rules. Only the abstract of the paper could be read: this is a
redesigned method inspired by it, not a reproduction of its figures.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from engram.lab import Experiment, Preset, Results, Study
from engram.lab.output.figures import colors
from engram.studies.experiments.representational_forgetting.claims import claims, quantities
from engram.studies.experiments.representational_forgetting.pairs import Config, trial
from engram.tasks.data import load

COMPARED = {"teachers": True, "sequences": 3}  # also compared by activity, and after five tasks
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
}
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
            "pairs": 1,
            "chosen_by": 1,
            "judged_by": 1,
            "draws": 1,
            "first_steps": 4,
            "steps": 3,
            "teacher_steps": 3,
            "batch_size": 4,
            "bodies": 1,
            "meta_updates": 2,
            "judgements": 1,
            "students": 1,
            **{arm: {"sequences": 1} for arm in ("finetune", "learned")},
        },
    ),
    "laptop": Preset(seeds=5, looks=(5, 10, 20), planned=10),
    "large": Preset(
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
    """Load the characters, so that a run without them fails at once."""
    if config.characters != "glyphs":
        load(config.characters, size=config.size)


def figure(results: Results) -> go.Figure:
    """Probe accuracy on the new task against that on the old, for each seed and on average, by arm."""
    plot = go.Figure()
    for arm, color in colors(results.arms).items():
        old, new = (results.values(arm, name) for name in ("probe_old", "probe_new"))
        style = {"name": arm, "legendgroup": arm, "marker_color": color, "mode": "markers"}
        plot.add_scatter(x=old, y=new, opacity=0.4, showlegend=False, **style)
        plot.add_scatter(x=[sum(old) / len(old)], y=[sum(new) / len(new)], marker_size=12, **style)
    plot.update_xaxes(title="probe accuracy on the old task")
    plot.update_yaxes(title="probe accuracy on the new task")
    return plot.update_layout(title="Retention of the old task and learning of the new one")


experiment = Experiment(
    name="representational-forgetting",
    about=__doc__,
    paper="After Xiong, Ren & Urtasun, Learning to Remember from a Multi-Task Teacher, 2019 (arXiv 1910.04650)",
    studies=Study(trial, arms),
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="balance",
    check_requirements=check_requirements,
    answer="""With one head for all classes the outputs forget the first task completely {outputs-are-forgotten}, but
    its features remain in part: probes with all examples recover .71 of its answers, after .78 before, which is
    {features-are-left:.00} more than on an untrained body {features-are-left}, so that half of what learning had added
    is lost {half-of-what-was-learned-is-left}; probes with five examples per class recover .63 of them,
    {few-examples-recover:.00} more than on an untrained body {few-examples-recover}; with a head for each task, too,
    features forget much less than outputs {forgetting-is-mostly-the-read-out}. An update learned from a teacher of both
    tasks brings activity closer to the teacher's, on average by a third compared with Adam at the rate that is best for
    probes {it-mimics-the-teacher}. Probes then are {learned-updates-keep-more:.000} more accurate on the old task than
    after Adam {learned-updates-keep-more}, and as much less accurate on the new, where the paper reports an improvement
    {learned-updates-improve-the-new}; that the loss is more than .01 is not quite certain {learned-updates-do-not-pay};
    so over both tasks it gains nothing over learned rates alone {not-only-rates} and is only as good as plain Adam
    {as-good-as-plain}, as are an anchor, EWC and learning without forgetting, by outputs or by features, within .005.
    After five tasks it retains no more of the first four than Adam {longer-sequences}, and leaving the body alone is no
    solution: it costs .06 on the new task {a-frozen-body-pays}. So if a network seems to have forgotten a task, first
    fit a new readout to a few examples of it.""",
)
