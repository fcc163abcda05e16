"""The time of an episode in a memory, a query for each step and one write at its end, by replacement policy."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from engram import registry
from engram.lab import Run, setting, settings
from engram.memory import KeyValueMemory

TIMED = ("lru", "k-means", "dkm-author")


@settings
class Cost:
    """The sizes of the memory and of an episode."""

    rows: int = setting(100, "rows of each of two tables", ge=2)
    key_dim: int = setting(4, "length of a key", ge=1)
    steps: int = setting(20, "steps of an episode, at most a quarter of the rows", ge=1)
    episodes: int = setting(100, "episodes that are timed, after the tables are full", ge=1)
    neighbours: int = setting(11, "neighbours from which a value is estimated", ge=1)


def trial(config: Cost, run: Run) -> dict[str, Any]:
    """Measure equal episodes in memories that differ in their policy, in turns; the main results are ratios of times.

    Every state is new, so that each write has to replace or merge rows.
    """
    memories = {
        name: KeyValueMemory(
            config.rows,
            config.key_dim,
            policy=registry.get("replacement_policies", name)(),
            tables=2,
            generator=run.generator,
        )
        for name in TIMED
    }
    filling = 4 * config.rows // config.steps  # episodes until both tables are certainly full
    seconds = np.zeros((filling + config.episodes, len(TIMED)))
    for episode in run.steps(len(seconds), seconds=seconds, **{f"memory_{name}": m for name, m in memories.items()}):
        keys = torch.randn(config.steps, config.key_dim, generator=run.generator)
        values = torch.randn(config.steps, generator=run.generator)
        actions = torch.randint(2, (config.steps,), generator=run.generator)
        for turn in range(len(TIMED)):
            n = (episode + turn) % len(TIMED)
            memory = memories[TIMED[n]]
            began = time.process_time()
            for key in keys:
                memory.query(key[None], config.neighbours)
            memory.write(keys, values, tables=actions)
            seconds[episode, n] = time.process_time() - began
    typical = dict(zip(TIMED, np.median(seconds[filling:], axis=0).tolist(), strict=True))
    ratios = {f"ratio_of_seconds_{name}": typical["dkm-author"] / typical[name] for name in TIMED[:2]}
    return {f"seconds_{name}": value for name, value in typical.items()} | ratios
