"""Online rules of neurons and synapses found by learning to remember (Gregor, 2020).

A network's bodies and synapses have vectors as states, which two small functions change that all of them share. They
are trained to recall, some frames later, what was shown, by back-propagation through that one short window. Only
abstract and introduction of the paper could be read: the functions, the task, all sizes and criteria are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import plotly.graph_objects as go
from annotated_types import Ge

from engram.experiments.learning_to_remember import references, remembering
from engram.experiments.learning_to_remember.claims import AGES, claims
from engram.experiments.learning_to_remember.references import References
from engram.experiments.learning_to_remember.remembering import Remembering
from engram.lab import Arm, Experiment, Preset, Results, arms_of, narrow
from engram.lab.curves import colors


@dataclass(frozen=True)
class Config(Remembering):
    """The training of the first arm, and what is different in others."""

    carried_windows: Annotated[int, Ge(10)] = 1200
    """Windows of training where states go on."""
    longer_windows: Annotated[int, Ge(10)] = 4000
    """Windows of training where more than two snippets are recalled, and of the types of networks."""
    retention_windows: Annotated[int, Ge(10)] = 4000
    """Windows of training where earlier windows are asked for."""
    watched_windows: Annotated[int, Ge(1)] = 10_000
    """Windows after training in which states that go on are watched."""
    references: References = References()


def arms(config: Config) -> dict[str, Arm]:
    """Two snippets, in several ways; more of them; earlier windows; other networks; and known rules."""
    two = narrow(config, Remembering)
    longer = replace(two, windows=config.longer_windows)
    six, four = replace(longer, snippets=6, curriculum=True), replace(longer, snippets=4)
    earlier = replace(two, carry=True, windows=config.retention_windows)
    found = {
        "two": two,
        "carried": replace(two, carry=True, windows=config.carried_windows, further=config.watched_windows),
        "additive": replace(two, rule="additive"),
        "two-longer": longer,
        "six": six,
        "twelve": replace(six, snippets=12),
        "static": replace(six, rule="static", curriculum=False),
        "retention": replace(earlier, old=0.5),
        "retention-untrained": earlier,
        "mean": replace(two, aggregate="mean", transfer=(2 * config.bits, 4 * config.bits)),
        "four": four,
        "recurrent": replace(four, network="recurrent"),
        "layered": replace(four, network="layered", hidden=2 * config.hidden),
        "feedforward": replace(four, network="feedforward", hidden=2 * config.hidden),
        "lstm": replace(two, network="lstm"),
    }
    known = Arm(references.trial, config.references, references.seconds(config.references))
    return {**arms_of(remembering.trial, found, remembering.seconds), "references": known}


def figure(results: Results) -> go.Figure:
    """How much is recalled by how many windows ago it was shown: each seed, and the mean."""
    plot = go.Figure()
    shown = [arm for arm in ("retention", "retention-untrained", "carried") if arm in results.arms]
    for arm, color in colors(shown).items():
        rows = [found[arm] for found in results.by_seed.values() if arm in found]
        curves = [[row[f"age_{age}"] for age in range(AGES)] for row in rows]
        ages = list(range(AGES))
        for curve in curves:
            style = {"line": {"color": color, "width": 0.7}, "opacity": 0.45, "showlegend": False}
            plot.add_scatter(x=ages, y=curve, mode="lines", name=arm, **style)
        mean = [sum(values) / len(values) for values in zip(*curves, strict=True)]
        plot.add_scatter(x=ages, y=mean, mode="lines+markers", name=arm, line={"color": color, "width": 2.5})
    plot.add_hline(y=0.5, line_dash="dot", annotation_text="chance")
    plot.update_xaxes(title="windows since the snippet was shown", dtick=1)
    return plot.update_layout(title="Recall by age", yaxis_title="share of right bits")


SMOKE = Config(
    windows=20,
    carried_windows=20,
    longer_windows=20,
    retention_windows=20,
    watched_windows=20,
    tested=20,
    bits=6,
    hidden=3,
    batch_size=4,
    references=References(bits=6, windows=20),
)
PAPER = Config(
    bits=64,
    hidden=64,
    body_size=16,
    channels=8,
    synapse_hidden=32,
    body_hidden=32,
    batch_size=64,
    learning_rate=2e-3,
    windows=50_000,
    carried_windows=50_000,
    longer_windows=50_000,
    retention_windows=50_000,
    references=References(bits=64, windows=500),
)
experiment = Experiment(
    name="learning-to-remember",
    summary="Local rules of neurons and synapses are found by learning to remember, through short windows",
    paper="Gregor, Finding online neural update rules by learning to remember, 2020 (arXiv 2003.03124)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=5), "paper": Preset(PAPER, seeds=5)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="accuracy",
)
