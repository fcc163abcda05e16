"""Exponentially many memories that survive errors in a share of all nodes (Chaudhuri and Fiete, 2017 and 2019).

A network of simple neurons on an expander graph is shown stored states with a share of their nodes flipped; what is
asked for is exactly the stored state. A seed has its own graphs, states and noise. Only abstracts and reviews of the
papers could be read, so that sizes, noise and criteria are ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import plotly.graph_objects as go

from engram.experiments.expander_memory import clusters, contents, recovery, stored
from engram.experiments.expander_memory.claims import claims
from engram.experiments.expander_memory.clusters import Faults, Learning, Packing
from engram.experiments.expander_memory.contents import Contents
from engram.experiments.expander_memory.recovery import FLIPS, SIZES, Decoder, Network, Recovery
from engram.experiments.expander_memory.stored import Stored
from engram.lab import Arm, Experiment, Preset, Results, arms_of
from engram.lab.curves import colors

QUICK = (
    "5-6",
    "local",
    "decoder-belief-propagation",
    "faults",
    "learning",
    "stored-attention",
    "contents-scaffold",
    "packing",
)


@dataclass(frozen=True)
class Config:
    """The main arm of each study, from which the others are derived, and which arms there are."""

    recovery: Recovery = Recovery()
    faults: Faults = Faults()
    learning: Learning = Learning()
    load: Network = Network()
    stored: Stored = Stored()
    contents: Contents = Contents()
    packing: Packing = Packing()
    everything: bool = True
    """All arms, not only the few of a first look."""


def arms(config: Config) -> dict[str, Arm]:
    """Expanders and what is none, then decoders, faults, learning, and other associative memories."""
    memories = {f"stored-{memory}": replace(config.stored, memory=memory) for memory in get_args(stored.Memory)}
    contents_of = {f"contents-{kind}": replace(config.contents, memory=kind) for kind in contents.KINDS}
    faults, taught, load = config.faults, config.learning, config.load
    found = {
        **arms_of(recovery.trial, recoveries(config.recovery), recovery.seconds),
        "faults": Arm(clusters.failing, faults, 0.2 + 6e-9 * faults.words * 6 * faults.sweeps * faults.nodes),
        "learning": Arm(clusters.learning, taught, 0.3 + 1e-6 * taught.nodes * (taught.samples + 30 * taught.words)),
        "load": Arm(stored.classic, load, 0.1 + 1e-6 * load.nodes * load.words),
        **arms_of(stored.trial, memories, stored.seconds),
        **arms_of(contents.trial, contents_of, contents.seconds),
        "packing": Arm(clusters.packing, config.packing, 0.3 + 4e-7 * config.packing.nodes * config.packing.samples),
    }
    return found if config.everything else {arm: found[arm] for arm in QUICK}


def recoveries(base: Recovery) -> dict[str, Recovery]:
    """Return the arms that recover by graph and by decoder."""
    found = {f"{z}-{r}": replace(base, z=z, r=r) for z, r in ((5, 6), (5, 10), (3, 6), (4, 8))}
    found["local"] = replace(base, graph="local")
    found["hamming"] = replace(base, graph="hamming")
    # One size for what follows: for decoders the third, for votes the second, and one where the nearest can be found.
    second, third = (replace(base, smallest=base.smallest * 2 ** min(k, base.doublings), doublings=0) for k in (1, 2))
    few = replace(base, smallest=20, doublings=0, r=10, lowest=0.05, highest=0.15)
    ladder: tuple[Decoder, ...] = (*FLIPS, "belief-propagation")
    few_decoders: tuple[Decoder, ...] = ("nearest", "belief-propagation", "max")
    found |= {f"decoder-{decoder}": replace(third, decoder=decoder) for decoder in ladder}
    found |= {f"small-{decoder}": replace(few, decoder=decoder) for decoder in few_decoders}
    found["wta"] = replace(second, decoder="wta", lowest=0.02, highest=0.06)
    return found


def figure(results: Results) -> go.Figure:
    """How much is recovered by size and share of errors, on expanders and on what is none: means over seeds."""
    plot = go.Figure()
    of_arm = {arm: [found[arm] for found in results.by_seed.values() if arm in found] for arm in results.arms}
    of_size = {arm: rows for arm, rows in of_arm.items() if rows and "size_first" in rows[0]}
    shown = {arm: rows for arm, rows in of_size.items() if "size_second" in rows[0]} or of_size
    color = colors(shown)
    for arm, rows in shown.items():
        for share, dash in ((0.02, "dot"), (0.04, "solid")):
            names = [SIZES[row] for row in range(9) if f"recovery_{SIZES[row]}_{share}" in rows[0]]
            if not names:
                continue
            x = [rows[0][f"size_{name}"] for name in names]
            y = [float(np.mean([row[f"recovery_{name}_{share}"] for row in rows])) for name in names]
            style = {"line": {"color": color[arm], "dash": dash}, "name": f"{arm}, {share:.0%}", "legendgroup": arm}
            plot.add_scatter(x=x, y=y, mode="lines+markers", **style)
    plot.update_layout(
        title="States recovered exactly, by nodes, graph (z-r) and share of flipped nodes; means over seeds",
        xaxis={"title": "nodes", "type": "log"},
        yaxis={"title": "share recovered", "rangemode": "tozero"},
    )
    return plot


SMOKE = Config(
    Recovery(smallest=60, doublings=1, highest=0.06, words=5, sweeps=20),
    Faults(nodes=60, words=5, sweeps=20),
    Learning(nodes=60, words=5, samples=40),
    Network(nodes=60, words=5),
    Stored(nodes=60, words=5, most_stored=100),
    Contents(nodes=60, words=5),
    Packing(nodes=24, samples=100),
    everything=False,
)
PAPER = Config(
    Recovery(doublings=5, words=1000),
    Faults(words=1000),
    Learning(words=1000),
    Network(words=1000),
    Stored(words=1000),
    Contents(words=1000),
    Packing(nodes=960),
)
experiment = Experiment(
    name="expander-memory",
    summary="An expander network stores exponentially many states and corrects errors in a fixed share of its nodes",
    paper="Chaudhuri & Fiete, Bipartite expander Hopfield networks as self-decoding high-capacity error correcting "
    "codes, NeurIPS 2019 (arXiv 1704.02019)",
    presets={"smoke": Preset(SMOKE, seeds=1), "laptop": Preset(Config(), seeds=10), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="",
)
