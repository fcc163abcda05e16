"""An expander network stores exponentially many error-correcting states (Chaudhuri & Fiete, 2019).

A network of simple neurons on an expander graph is cued with stored states in which a share of the nodes is flipped,
and has to recover the stored state exactly. Expanders are compared with other graphs; then decoders, faults, learning
and other associative memories are studied. Each seed has its own graphs, states and noise. Only abstracts and reviews
of the papers could be read, so sizes, noise and criteria are ours.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from engram.lab import Experiment, Preset, Results, Study
from engram.lab.output.figures import colors
from engram.studies.experiments.expander_memory import clusters, contents, recovery, stored
from engram.studies.experiments.expander_memory.claims import claims, quantities

studies = {
    "recovery": Study(recovery.trial, recovery.arms),
    "faults": Study(clusters.failing, {"faults": {}}),
    "learning": Study(clusters.learning, {"learning": {}}),
    "load": Study(stored.classic, {"load": {}}),
    "stored": Study(stored.trial, stored.arms),
    "contents": Study(contents.trial, contents.arms),
    "packing": Study(clusters.packing, {"packing": {}}),
}
presets = {
    "smoke": Preset(
        seeds=1,
        changes={
            "recovery": {"smallest": 60, "doublings": 1, "highest": 0.06, "words": 5, "sweeps": 20},
            "decoder-belief-propagation.smallest": 120,
            "faults": {"nodes": 60, "words": 5, "sweeps": 20},
            "learning": {"nodes": 60, "words": 5, "samples": 40},
            "load": {"nodes": 60, "words": 5},
            "stored": {"nodes": 60, "words": 5, "most_stored": 100},
            "contents": {"nodes": 60, "words": 5},
            "packing": {"nodes": 24, "samples": 100},
        },
        arms=[
            "5-6",
            "local",
            "decoder-belief-propagation",
            "faults",
            "learning",
            "stored-attention",
            "contents-scaffold",
            "packing",
        ],
    ),
    "laptop": Preset(seeds=10),
    "large": Preset(
        seeds=10,
        changes={f"{study}.words": 1000 for study in studies if study != "packing"}
        | {"recovery.doublings": 5, "packing.nodes": 960},
    ),
}


def figure(results: Results) -> go.Figure:
    """The share of recovered states by size and error rate, on expanders and other graphs, as means over seeds."""
    plot = go.Figure()
    shown_arms = [arm for arm in results.arms if any("size_second" in result for result in results.values(arm))]
    for arm, color in colors(shown_arms).items():
        trials = results.values(arm)
        for share, dash in ((0.02, "dot"), (0.04, "solid")):
            names = [name for name in recovery.SIZES if f"recovery_{name}_{share}" in trials[0]]
            x = [trials[0][f"size_{name}"] for name in names]
            y = [float(np.mean([result[f"recovery_{name}_{share}"] for result in trials])) for name in names]
            style = {"line": {"color": color, "dash": dash}, "name": f"{arm}, {share:.0%}", "legendgroup": arm}
            plot.add_scatter(x=x, y=y, mode="lines+markers", **style)
    return plot.update_layout(
        title="States recovered exactly, by number of nodes, graph (z-r) and share of flipped nodes; means over seeds",
        xaxis={"title": "nodes", "type": "log"},
        yaxis={"title": "share recovered", "rangemode": "tozero"},
    )


experiment = Experiment(
    name="expander-memory",
    about=__doc__,
    paper="Chaudhuri & Fiete, Bipartite expander Hopfield networks as self-decoding high-capacity error correcting "
    "codes, NeurIPS 2019 (arXiv 1704.02019)",
    studies=studies,
    presets=presets,
    claims=claims,
    quantities=quantities,
    figure=figure,
    headline="",
    answer="""Expander networks of all sizes recover {errors-in-a-fixed-share:0 %} of states with 4 % of their nodes
    flipped {errors-in-a-fixed-share}, the largest as well as the smallest {no-loss-with-size}, and the number of states
    grows exponentially with that of nodes {exponentially-many-states}. Local wiring {local-wiring-fails} and
    independent blocks {blocks-fail}, which are smaller codes of a higher rate, do not; if 2 % of the clusters answer at
    random in every sweep, the network still recovers from 2 % errors {hidden-faults}, but in less than a fifth of the
    cases if 5 % do {more-hidden-faults}. At 10 % errors the network recovers {par-is-in-scaling-only:0 %} of the states
    {par-is-in-scaling-only} and belief propagation on the same graph all of them {belief-propagation-goes-further}: the
    network's strength is its scaling, not the number of errors it corrects. Its states are given by its wiring, and
    imposing random patterns would leave hardly any others consistent with all clusters, if these are independent (the
    logarithm of their number is {joint-states:0.00} per node); contents of your own can be attached to its states by a
    scaffold, which holds as many as it has nodes {scaffold-holds-its-nodes}. So use it where its own states will do:
    for contents, a pseudo-inverse network with as many weights holds twice as many perfectly
    {scaffold-declines-smoothly}, and at four times as many returns the cue, of which a scaffold then keeps a third
    {scaffold-keeps-something}.""",
)
