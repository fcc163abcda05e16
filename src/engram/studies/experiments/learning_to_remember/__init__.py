"""Local rules for neurons and synapses are found by learning to remember over short windows (Gregor, 2020).

The cell bodies and synapses of a network have vector states, updated by two small functions that all of them share. The
functions are trained to recall what was shown some frames earlier, by back-propagation through one short window. Only
the abstract and introduction of the paper could be read: the functions, the task, all sizes and criteria are ours.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from engram.lab import Experiment, Preset, Results, Study
from engram.lab.output.figures import colors
from engram.studies.experiments.learning_to_remember import references, remembering
from engram.studies.experiments.learning_to_remember.claims import AGES, claims, quantities
from engram.studies.experiments.learning_to_remember.remembering import arms

presets = {
    "smoke": Preset(
        seeds=1,
        changes={
            "remembering": {"bits": 6, "hidden": 4, "batch_size": 4, "tested": 5},
            **{arm: {"windows": 10} for arm in arms},
            "carried": {"windows": 10, "further": 10},
            "references": {"bits": 6, "windows": 10, "snippets": (2, 4)},
        },
        arms=[
            *("two", "carried", "retention", "retention-untrained", "additive", "outer", "delta", "static", "mean"),
            *("recurrent", "no-types", "sparse", "layered", "feedforward", "deep", "lstm", "references"),
        ],
    ),
    "laptop": Preset(seeds=12, looks=(12, 24)),
    "large": Preset(
        seeds=6,
        changes={
            "remembering": {"bits": 64, "hidden": 64, "body_size": 16, "channels": 8, "synapse_hidden": 32}
            | {"body_hidden": 32, "batch_size": 64, "learning_rate": 2e-3},
            **{arm: {"windows": 50_000} for arm in arms},
            "references": {"bits": 64, "windows": 500},
        },
        arms=[*(arm for arm in arms if arm != "mean"), "references"],
    ),
}


def figure(results: Results) -> go.Figure:
    """The accuracy of recall by the age of a snippet in windows, for each seed and on average."""
    plot = go.Figure()
    shown_arms = [arm for arm in ("retention", "retention-untrained", "carried") if results.values(arm)]
    for arm, color in colors(shown_arms).items():
        curves = np.array([results.values(arm, f"age_{age}") for age in range(AGES)]).T
        for curve in curves:
            style = {"line": {"color": color, "width": 0.7}, "opacity": 0.45, "showlegend": False}
            plot.add_scatter(y=curve, mode="lines", name=arm, **style)
        line = {"color": color, "width": 2.5}
        plot.add_scatter(y=curves.mean(0), mode="lines+markers", name=arm, line=line)
    plot.add_hline(y=0.5, line_dash="dot", annotation_text="chance")
    plot.update_xaxes(title="windows since the snippet was shown", dtick=1)
    return plot.update_layout(title="Recall by age", yaxis_title="share of correct bits")


experiment = Experiment(
    name="learning-to-remember",
    about=__doc__,
    paper="Gregor, Finding online neural update rules by learning to remember, 2020 (arXiv 2003.03124)",
    studies={"remembering": Study(remembering.trial, arms), "references": Study(references.trial, {"references": {}})},
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="accuracy",
    answer="""A rule found in 2,000 short windows recalls over 99 % of the bits of four snippets, in the median of 24
    seeds {rule-is-found}; four searches got stuck near 69 %, so start several with different seeds. With six snippets
    such rules recall 6 % more than Hebb's rule {as-good-as-hebb}, with two online gradient descent recalls
    {gradient-descent-above:0.0 %} more than they, but with four and six they recall 3 % more than descent in a network
    with a hidden layer {better-than-deep-gradient-descent}; with four an LSTM stays {better-than-lstm:0 %} behind after
    as many windows {better-than-lstm}, at the accuracy of the searches that got stuck. A rule found for 12 neurons
    whose messages are averaged works as well with 24 and 48 {rule-runs-in-larger-networks}; networks with hidden
    neurons learn too, whether layered {layered-learns}, with two hidden layers {deep-learns}, recurrent
    {recurrent-learns} or sparse {sparse-learns}, if four searches are begun and the best goes on for three times as
    many windows: a single one often stays at what bodies alone recall; rules that are trained to recall earlier windows
    recall most bits of the previous one, in the median 86 % {the-last-window-is-recalled}. Simple rules do as well: one
    state variable in each synapse is enough {one-number-is-enough}, types of neurons do not help {types-help}, and a
    rule without products of activities recalls as much, contrary to our expectation {products-matter}. So begin with a
    single number in each synapse, one type of neurons and several searches, and add parts only if they are needed.""",
)
