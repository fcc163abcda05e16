"""Clusters that learn their patterns from samples of a code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge

from engram.experiments.expander_memory.network import Network, rate
from engram.lab import Run
from engram.memory import ExpanderMemory, corrupted
from engram.memory.expander.recovery import random_states


@dataclass(frozen=True)
class Config(Network):
    """A network, and what it learns from."""

    samples: Annotated[int, Ge(1)] = 600
    """States from which clusters learn."""


def trial(config: Config, run: Run) -> dict[str, Any]:
    """Teach clusters their patterns by samples of a code, and recover states that they have not seen."""
    graph = config.graph(run.rng)
    code, memory = ExpanderMemory(graph), ExpanderMemory(graph, "learn")
    sizes = [len(part) for part in np.array_split(np.arange(config.samples), min(20, config.samples))]
    for step in run.steps(len(sizes), memory=memory):
        memory.learn(random_states(code, sizes[step], run.generator))
        known = ~memory.violated(random_states(code, config.words, run.generator)).any(1)
        run.log(sum(sizes[: step + 1]), known=known.double().mean(), coverage=memory.coverage().double().mean())
    fresh = random_states(code, config.words, run.generator)
    noisy = corrupted(fresh, 0.04, generator=run.generator)
    seed = int(torch.randint(2**62, (), generator=run.generator))
    learned, built = (
        rate(m.recall(noisy, generator=torch.Generator().manual_seed(seed)).x, fresh) for m in (memory, code)
    )
    return {
        "known": float((~memory.violated(fresh).any(1)).double().mean()),
        "coverage": float(memory.coverage().double().mean()),
        "recovery": learned,
        "loss": built - learned,
    }


def seconds(config: Config) -> float:
    """Time of a trial on one core."""
    return 0.3 + 1e-6 * config.nodes * (config.samples + 30 * config.words)
