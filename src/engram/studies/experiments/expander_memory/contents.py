"""Recall of contents by load, with a scaffold of stable states and in Hopfield networks with as many weights."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch

from engram.lab import Run, setting, settings
from engram.memory import ExpanderMemory, HebbHopfield, Scaffold, corrupt
from engram.studies.experiments.expander_memory.recovery import Network

LOADS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # items per node of the scaffold
WIDTH = 4  # features of a content per node: a scaffold of N nodes has 2 x N x 4 N weights, a network (4 N)^2 / 2
Kind = Literal["scaffold", "hebb", "pseudo-inverse", "cue"]
arms = {f"contents-{kind}": {"memory": kind} for kind in get_args(Kind)}


@settings
class Contents(Network):
    """The settings of the scaffold and of the memory for contents."""

    nodes: int = setting(240, "nodes of the scaffold", ge=10)
    memory: Kind = setting("scaffold", "the scaffold, a Hopfield network's rule, or the cue alone; set by each arm")


def trial(config: Contents, run: Run) -> dict[str, Any]:
    """Recall random contents with 4 % errors; the results are mean cosines of recalled and stored signs, by load."""
    features = WIDTH * config.nodes
    scaffolding = ExpanderMemory(config.graph(run.rng))
    overlaps = np.zeros(len(LOADS))
    for step in run.steps(len(LOADS), overlaps=overlaps):
        shape = max(1, round(LOADS[step] * config.nodes)), features
        contents = 1.0 - 2 * torch.randint(0, 2, shape, generator=run.generator)
        x = contents[torch.randint(len(contents), (config.words,), generator=run.generator)]
        noisy = corrupt(x, 0.04, generator=run.generator)
        if config.memory == "scaffold":
            scaffold = Scaffold(scaffolding, features, generator=run.generator)
            scaffold.store(contents)
            recalled = scaffold.recall(noisy, run.generator).content
        elif config.memory == "cue":
            recalled = noisy
        else:
            network = HebbHopfield(features, config.memory)
            network.store(contents)
            recalled = network.recall(noisy, generator=run.generator).x
        overlaps[step] = torch.cosine_similarity(recalled.sign(), x).mean()
        run.log(shape[0], overlap=overlaps[step])
    return {
        **{f"overlap_{load}": float(overlap) for load, overlap in zip(LOADS, overlaps, strict=True)},
        "recovery": float(overlaps[LOADS.index(1.0)]),
        "steepest": float(-np.diff(overlaps).min()),
    }
