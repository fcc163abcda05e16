"""Networks evolved to learn: plastic networks that acquire cognitive tasks from rewards alone (Miconi, 2023).

Three nested loops. Evolution shapes the innate weights and plasticities of a recurrent network. In its lifetime,
dropped into an unknown task, its connections change by a reward-modulated Hebbian rule. In a trial, its activity holds
a stimulus until the answer is due. No gradient is propagated back anywhere. The question is whether what evolved on
some tasks learns one that evolution has never seen, and does it better than a network trained by gradients, whose
activity learns. At laptop size it does not: that network is ahead on the unseen task as on the trained ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from engram.experiments.evolved_plastic_networks import evolution, gru
from engram.experiments.evolved_plastic_networks.claims import claims
from engram.experiments.evolved_plastic_networks.evolution import training_tasks, two_stimulus
from engram.lab import Arm, Experiment, Preset, Results, arms_of
from engram.lab.curves import add_line, colors
from engram.tasks.two_stimulus import ladder

MATRICES = {
    "target_newborn_after_life": "target:<br>life, no evolution",
    "target_evolved_before_life": "target:<br>evolution, no life",
    "target_evolved_after_life": "target:<br>evolution and life",
    "stimulus1_evolved_after_life": "stimulus 1:<br>evolution and life",
}


@dataclass(frozen=True)
class Config:
    """The studies, and which arms there are."""

    evolution: evolution.Config
    """Evolution of plastic networks."""
    rung: evolution.Config
    """The arm that is to reach the first rung of the ladder, with networks of published size."""
    gru: gru.Config
    """The arm without evolution."""
    study: Literal["accelerated", "headline", "published"] = "accelerated"
    """Which arms there are: all at laptop size, those of the unseen task at published size, or all of that size."""


def arms(config: Config) -> dict[str, Arm]:
    """Evolution with plasticity and a GRU and, by study, the first rung, no plasticity, and another withheld task."""
    plain = replace(config.evolution, decoded_lives=0, controls=False)
    evolved = {"first-rung": config.rung} if config.study == "accelerated" else {}
    evolved["evolved"] = config.evolution
    if config.study != "headline":
        evolved["no-plasticity"] = replace(plain, plastic=False)
    if config.study == "published":
        evolved["withhold-nand"] = replace(plain, withheld="nand")
    seconds = 2 + config.gru.iterations * 0.055 + config.gru.test_lives * 0.05
    return arms_of(evolution.trial, evolved, evolution.seconds) | {"gru": Arm(gru.trial, config.gru, seconds)}


def figure(results: Results) -> go.Figure:
    """Learning curves over generations with the rungs of the ladder, and decoding matrices."""
    titles = ["share of right answers by generation", *MATRICES.values()]
    places: list[list[dict[str, int] | None]] = [[{"colspan": 2}, None], [{}, {}], [{}, {}]]
    plot = make_subplots(3, 2, specs=places, subplot_titles=titles, row_heights=[0.4, 0.3, 0.3], vertical_spacing=0.1)
    for arm, color in colors(results.arms).items():
        for metric, what, dash in (("accuracy", "", "solid"), ("withheld_accuracy", ", withheld task", "dot")):
            style = {"color": color, "dash": dash}
            add_line(plot, results, arm, metric, place=(1, 1), name=arm + what, line=style)
    evolution = results.config.evolution
    for rung in ladder(two_stimulus(evolution, training_tasks(evolution.withheld)).tables):
        plot.add_hline(y=rung.accuracy, line_dash="dot", line_width=1, annotation_text=rung.knows, row=1, col=1)
    step, bar = 2 * evolution.dt, {"len": 0.5, "y": 0.25}
    for place, key in enumerate(MATRICES):
        found = [seed["evolved"].get(f"{key}_matrix") for seed in results.by_seed.values() if "evolved" in seed]
        matrices = [matrix for matrix in found if matrix]
        if matrices:
            mean = np.mean(matrices, axis=0)
            axes = {"x0": 0, "dx": step, "y0": 0, "dy": step}
            heat = go.Heatmap(z=mean, zmin=0.5, zmax=1, showscale=place == 0, colorbar=bar, **axes)
            plot.add_trace(heat, row=2 + place // 2, col=1 + place % 2)
    plot.update_layout(
        title="Learning to learn: evolution of plastic networks, and decoding (train by test time, ms)",
        yaxis={"range": [0.4, 1.02]},
        xaxis={"title": "generation"},
        height=1100,
    )
    return plot


FIRST_RUNG = evolution.Config(
    population=100, generations=250, trials=150, scored=50, units=70, dt=20.0, decoded_lives=0, controls=False
)
SMALL = evolution.Config(
    population=4, generations=4, trials=64, scored=4, units=12, dt=60.0, test_lives=2, decoded_lives=24
)
PUBLISHED = evolution.Config(population=500, generations=1000, trials=400, scored=100, units=70, dt=20.0)
SMOKE = Config(SMALL, replace(SMALL, decoded_lives=0, controls=False), gru.Config(iterations=10, test_lives=2))
LAPTOP = Config(evolution.Config(), FIRST_RUNG, gru.Config())
HOUR = Config(PUBLISHED, FIRST_RUNG, gru.Config(), "headline")  # of each seed
PAPER = Config(PUBLISHED, FIRST_RUNG, gru.Config(iterations=20_000), "published")
experiment = Experiment(
    name="evolved-plastic-networks",
    summary="Plastic networks, evolved on some cognitive tasks, learn others in their lifetime from rewards alone",
    paper="Miconi, Learning to acquire novel cognitive tasks, ICML 2023 (arXiv 2112.08588)",
    presets={
        "smoke": Preset(SMOKE, seeds=1),
        "laptop": Preset(LAPTOP, seeds=3),
        "hour": Preset(HOUR, seeds=3),
        "paper": Preset(PAPER, seeds=3),
    },
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
