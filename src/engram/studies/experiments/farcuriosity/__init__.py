"""Whether fragmented curiosity modules prevent known places from becoming novel again (after Hwang et al., 2023).

Curiosity rewards what a predictor cannot predict. A single predictor forgets the first room while it learns the others,
so the first becomes novel again. Here rooms are learned one after another, by one predictor and by methods that should
forget less. Then a walk goes around the rooms twice: new fragments begin at surprising views and old ones are recalled
at the doors, whereas the controls begin fragments at random, never recall them, or have room for only two. Finally, an
agent is rewarded only by one of these curiosities.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.lab import Experiment, Preset, Results, Study
from engram.lab.output.figures import PALETTE, add_line
from engram.studies.experiments.farcuriosity import compared, forgetting, policy, walk
from engram.studies.experiments.farcuriosity.claims import claims, quantities

SHOWN = {"walk-rnd": "one module", "walk-far": "fragments"}

presets = {
    "smoke": Preset(
        seeds=1,
        changes={
            "forgetting": {"updates": 10},
            **{arm: {"updates": 10} for arm in ("fast-ewc", "fast-rooms")},
            "walk": {"steps": 256, "updates": 1},
            "policy": {"steps": 2048},
            "returning": {"walk": {"steps": 256, "updates": 1}},
            "exploring": {"policy": {"steps": 2048}},
        },
        arms=["slow-rnd", "fast-ewc", "fast-rooms", "walk-rnd", "walk-far", "walk-random", "policy-far", "policy-none"],
    ),
    "laptop": Preset(
        seeds=5, changes={"policy": {"steps": 150_000}}, arms=[*forgetting.arms, *walk.arms, *policy.arms]
    ),
    "large": Preset(seeds=3, arms=[*policy.doors, *policy.atari]),
}


def check_requirements(config: Any) -> None:
    """Make the game, so that a run without the emulator fails at once."""
    if isinstance(config, policy.Policy) and config.game:
        policy.games(config.game, 1).close()


def figure(results: Results) -> go.Figure:
    """Curiosity along a walk and in each cell by lap, cells seen by agents, and forgetting."""
    shown_arms = [arm for arm in SHOWN if arm in results.arms and results.shown(arm)]
    titles = ["Curiosity on a walk, twice around four rooms; colours show the active fragment"]
    titles += [f"{SHOWN[arm]}, lap {lap + 1}: curiosity in each cell" for arm in shown_arms for lap in range(walk.LAPS)]
    titles += [
        "Cells seen in 10,000 steps",
        "Increase of the error in the first room (orders of magnitude)",
    ]
    rows = 2 + (len(titles) - 3)
    plot = make_subplots(
        rows + 1, 1, subplot_titles=titles, vertical_spacing=0.05, row_heights=[2.0] + [0.7] * (rows - 2) + [2.0, 1.6]
    )
    colors = dict(zip(SHOWN, ("#D55E00", "#0072B2"), strict=True))
    for arm in shown_arms:
        add_line(plot, results, arm, "curiosity", place=(1, 1), name=SHOWN[arm], line={"color": colors[arm]})
    if "walk-far" in shown_arms:
        owners, height = results.shown("walk-far")["owners"], walk.Walk().rollout
        active, lengths = zip(*((owner, height * len(list(stay))) for owner, stay in groupby(owners)), strict=True)
        colours = [PALETTE[owner % len(PALETTE)] for owner in active]
        middle = np.cumsum(lengths) - np.divide(lengths, 2)
        bar = {"marker": {"color": colours, "line": {"width": 0}}, "width": lengths, "showlegend": False}
        plot.add_bar(
            x=middle, y=[0.02] * len(middle), base=-0.1, hovertext=active, hoverinfo="text", **bar, row=1, col=1
        )
    maps = {arm: np.array(results.shown(arm)["map"]) for arm in shown_arms}
    largest_curiosity = max((float(np.quantile(curiosity, 0.98)) for curiosity in maps.values()), default=1.0)
    for number, (arm, lap) in enumerate((arm, lap) for arm in shown_arms for lap in range(walk.LAPS)):
        cells = np.where(maps[arm][lap] < 0, np.nan, maps[arm][lap])
        scale = {"coloraxis": "coloraxis", "name": f"{SHOWN[arm]}, lap {lap + 1}"}
        plot.add_heatmap(z=cells, **scale, row=2 + number, col=1)
    for arm, color in zip(policy.arms, PALETTE, strict=False):
        if arm in results.arms:
            add_line(plot, results, arm, "cells", place=(rows, 1), name=arm, line={"color": color})
    for arm in forgetting.arms:
        if arm in results.arms:
            values = results.values(arm, "orders")
            plot.add_box(
                x=values, name=arm, boxpoints="all", showlegend=False, marker_color="#555555", row=rows + 1, col=1
            )
    plot.update_xaxes(title="steps", row=1, col=1).update_yaxes(title="error", row=1, col=1)
    plot.update_xaxes(title="steps of all environments", row=rows, col=1).update_yaxes(title="cells", row=rows, col=1)
    legend = {"title": "error", "len": 0.4, "y": 0.6}
    shade: dict[str, Any] = {"colorscale": "Inferno", "cmin": 0, "cmax": largest_curiosity, "colorbar": legend}
    return plot.update_layout(height=1500, coloraxis=shade, bargap=0)


experiment = Experiment(
    name="farcuriosity",
    about=__doc__,
    paper="Hwang, Hong, Chen, Boopathy, Agrawal & Fiete, Neuro-Inspired Fragmentation and Recall to Overcome "
    "Catastrophic Forgetting in Curiosity, NeurIPS 2023 workshop on intrinsically motivated open-ended learning "
    "(arXiv 2310.17537)",
    studies={
        "forgetting": Study(forgetting.trial, forgetting.arms),
        "walk": Study(walk.trial, walk.arms),
        "policy": Study(policy.trial, policy.arms),
        "doors": Study(policy.trial, policy.doors),
        "atari": Study(policy.trial, policy.atari),
        "returning": Study(compared.returning, {}),  # `engram compare` adds the arms of this and the next study
        "exploring": Study(compared.exploring, {}),
    },
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="curiosity",
    tasks=compared.tasks,
    check_requirements=check_requirements,
    answer="""A single predictor forgets: its error in the first room triples at a low learning rate {forgets-slow} and
    rises 370-fold at a high one {forgets-fast}, to a third of that before training; four times the width reduces this
    to a fifth {width-forgets-too}, as does EWC at the strength chosen for all rooms, to {ewc-over-rooms:.00} more than
    a predictor for each room, which forgets nothing; replay of old observations, a tenth of each batch, reduces the
    rise to 59-fold {replay-keeps}. If they are cut at surprise, fragments begin at doors {cuts-at-doors}, new rooms are
    {novelty-of-new-rooms:0.0} times as interesting as to a single module, and the fragments of known rooms are active
    again soon after entry {recalls}. On return these are .8 times as interesting as to a single module in the first 256
    steps {known-at-entry}; in steps 65 to 320 they are only a tenth as interesting {known-again}, in 31 of 40 seeds,
    while in nine the fragment of one room also serves another; cuts at random, which make a quarter fewer fragments, do
    worse {surprise-matters}. But fragments are made even if all rooms are identical {same-rooms}. An agent rewarded by
    curiosity sees five times as many cells as one without a reward {curiosity-explores}, but fragments add nothing to
    that: with them it sees 9 % fewer cells than with a single module {explores-more}, and no more than if they are cut
    as often at random {more-than-by-chance}; so use fragments to remember which rooms are known, not to explore
    more.""",
)
