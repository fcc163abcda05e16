"""Exponentially many memories that survive errors in a share of all nodes (Chaudhuri and Fiete, 2017 and 2019).

A network of simple neurons on an expander graph is shown stored states with a share of their nodes flipped; what is
asked for is exactly the stored state. A seed has its own graphs, states and noise. Only abstracts and reviews of the
papers could be read, so that sizes, noise and criteria are ours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import plotly.graph_objects as go

from engram.experiments.expander_memory import clusters, recovery, stored
from engram.experiments.expander_memory.claims import claims
from engram.experiments.expander_memory.recovery import FLIPS, SIZES, Decoder, Network
from engram.lab import Arm, Experiment, Preset, Results, arms_of
from engram.lab.curves import PALETTE

QUICK = ("5-6", "local", "decoder-belief-propagation", "faults", "learning", "stored-attention")


@dataclass(frozen=True)
class Config:
    """The main arm of each study, from which the others are derived, and which arms there are."""

    recovery: recovery.Config
    """Recovery by size and share of errors."""
    faults: clusters.Faults
    """Failing hidden neurons."""
    learning: clusters.Learning
    """Clusters that learn."""
    load: Network
    """The classic network by load."""
    stored: stored.Config
    """Associative memories that store states of a code."""
    everything: bool = True
    """All arms, not only the few of a first look."""


def arms(config: Config) -> dict[str, Arm]:
    """Expanders and what is none, then decoders, faults, learning, and other associative memories."""
    memories = {f"stored-{memory}": replace(config.stored, memory=memory) for memory in get_args(stored.Memory)}
    found = {
        **arms_of(recovery.trial, recoveries(config.recovery), recovery.seconds),
        **arms_of(clusters.failing, {"faults": config.faults}, clusters.failing_seconds),
        **arms_of(clusters.learning, {"learning": config.learning}, clusters.learning_seconds),
        **arms_of(stored.classic, {"load": config.load}, stored.classic_seconds),
        **arms_of(stored.trial, memories, stored.seconds),
    }
    return found if config.everything else {arm: found[arm] for arm in QUICK}


def recoveries(base: recovery.Config) -> dict[str, recovery.Config]:
    """Return the arms that recover by graph and by decoder."""
    found = {f"{z}-{r}": replace(base, z=z, r=r) for z, r in ((5, 6), (5, 10), (3, 6), (4, 8), (4, 6), (3, 4))}
    found["local"] = replace(base, graph="local")
    found["hamming"] = replace(base, graph="hamming")
    # One size for what follows: for decoders the third, for votes the second, and one where the nearest can be found.
    second, third = (replace(base, smallest=base.smallest * 2 ** min(k, base.doublings), doublings=0) for k in (1, 2))
    few = replace(base, smallest=20, doublings=0, r=10, lowest=0.05, highest=0.15)
    ladder: tuple[Decoder, ...] = (*FLIPS, "gallager-b", "belief-propagation")
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
    for (arm, rows), color in zip(shown.items(), itertools.cycle(PALETTE), strict=False):
        for share, dash in ((0.02, "dot"), (0.04, "solid")):
            names = [SIZES[row] for row in range(9) if f"recovery_{SIZES[row]}_{share}" in rows[0]]
            if not names:
                continue
            plot.add_trace(
                go.Scatter(
                    x=[rows[0][f"size_{name}"] for name in names],
                    y=[float(np.mean([row[f"recovery_{name}_{share}"] for row in rows])) for name in names],
                    mode="lines+markers",
                    line={"color": color, "dash": dash},
                    name=f"{arm}, {share:.0%}",
                    legendgroup=arm,
                )
            )
    plot.update_layout(
        title="States recovered exactly, by nodes, graph (z-r) and share of flipped nodes; means over seeds",
        xaxis={"title": "nodes", "type": "log"},
        yaxis={"title": "share recovered", "rangemode": "tozero"},
    )
    return plot


LAPTOP = Config(recovery.Config(), clusters.Faults(), clusters.Learning(), Network(), stored.Config())
SMOKE = Config(
    recovery.Config(smallest=60, doublings=1, highest=0.06, words=5, sweeps=20),
    clusters.Faults(nodes=60, words=5, sweeps=20),
    clusters.Learning(nodes=60, words=5, samples=40),
    Network(nodes=60, words=5),
    stored.Config(nodes=60, words=5, most_stored=100),
    everything=False,
)
PAPER = Config(
    recovery.Config(doublings=5, words=1000),
    clusters.Faults(words=1000),
    clusters.Learning(words=1000),
    Network(words=1000),
    stored.Config(words=1000),
)
experiment = Experiment(
    name="expander-memory",
    summary="An expander network stores exponentially many states and corrects errors in a fixed share of its nodes",
    paper="Chaudhuri & Fiete, Bipartite expander Hopfield networks as self-decoding high-capacity error correcting "
    "codes, NeurIPS 2019 (arXiv 1704.02019)",
    presets={"smoke": Preset(SMOKE, seeds=2), "laptop": Preset(LAPTOP, seeds=5), "paper": Preset(PAPER, seeds=10)},
    arms=arms,
    claims=claims,
    figure=figure,
    headline="recovery",
)
