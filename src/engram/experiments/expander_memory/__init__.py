"""An expander network stores exponentially many states, safe from errors in a share of nodes (Chaudhuri & Fiete, 2019).

A network of simple neurons on an expander graph is shown stored states with a share of their nodes flipped; what is
asked for is exactly the stored state. Expanders are compared with what is none, then decoders, faults, learning, and
other associative memories. A seed has its own graphs, states and noise. Only abstracts and reviews of the papers could
be read, so that sizes, noise and criteria are ours.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from engram.experiments.expander_memory import clusters, contents, recovery, stored
from engram.experiments.expander_memory.claims import claims
from engram.lab import Experiment, Preset, Results, Study
from engram.lab.figures import colors

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
    "paper": Preset(
        seeds=10,
        changes={f"{study}.words": 1000 for study in studies if study != "packing"}
        | {"recovery.doublings": 5, "packing.nodes": 960},
    ),
}


def figure(results: Results) -> go.Figure:
    """How much is recovered by size and share of errors, on expanders and on what is none: means over seeds."""
    plot = go.Figure()
    shown = [arm for arm in results.arms if any("size_second" in result for result in results.values(arm))]
    for arm, color in colors(shown).items():
        trials = results.values(arm)
        for share, dash in ((0.02, "dot"), (0.04, "solid")):
            names = [name for name in recovery.SIZES if f"recovery_{name}_{share}" in trials[0]]
            x = [trials[0][f"size_{name}"] for name in names]
            y = [float(np.mean([result[f"recovery_{name}_{share}"] for result in trials])) for name in names]
            style = {"line": {"color": color, "dash": dash}, "name": f"{arm}, {share:.0%}", "legendgroup": arm}
            plot.add_scatter(x=x, y=y, mode="lines+markers", **style)
    return plot.update_layout(
        title="States recovered exactly, by nodes, graph (z-r) and share of flipped nodes; means over seeds",
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
    figure=figure,
    headline="",
    answer="""Expander networks of all sizes recover 99 % of states with 4 % of their nodes flipped
    [errors-in-a-fixed-share: holds], the largest as well as the smallest [no-loss-with-size: holds], of a number
    of states that grows exponentially with the nodes [exponentially-many-states: holds]. Local wiring
    [local-wiring-fails: holds] and independent blocks [blocks-fail: holds] do not. At 10 % errors the network
    recovers 16 % [par-is-in-scaling-only: holds] and belief propagation on the same graph all
    [belief-propagation-goes-further: holds]: it is good in how it scales, not in how much it corrects. Its states
    are those of its code, and random patterns of one's own would leave none that suits all clusters
    [and-leave-no-joint-state: holds]. Contents of one's own are kept on a scaffold, as many as it has nodes
    [scaffold-holds-its-nodes: holds].""",
)
