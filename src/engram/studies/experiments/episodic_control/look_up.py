"""The time of a look-up as a function of memory size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from engram import registry
from engram.lab import Run, setting, settings
from engram.memory import KeyValueMemory

LOOKED_UP = (1000, 4000, 16000, 64000)  # rows of a table


@settings
class LookUp:
    """The settings of the look-up."""

    neighbours: int = setting(11, "neighbours from which a value is estimated", ge=1)


def step_of(policy: str, rows: int, neighbours: int) -> Callable[[], object]:
    """A function to be timed, which makes a look-up in full tables and a write.

    Args:
        policy: A registered replacement policy, or a reference such as ``file.py:Name``.
        rows: Rows of each of two tables.
        neighbours: The number of nearest rows to find.
    """
    generator = torch.Generator().manual_seed(0)
    replacement = registry.get("replacement_policies", policy)()
    memory = KeyValueMemory(rows, 4, policy=replacement, tables=2, generator=generator)

    def step() -> None:
        key, value = torch.randn(1, 4, generator=generator), torch.randn(1, generator=generator)
        memory.query(key, neighbours)
        memory.write(key, value, tables=int(value > 0))

    for _ in range(4 * rows):
        step()
    return step


def trial(config: LookUp, run: Run) -> dict[str, Any]:
    """Measure the search time in two full tables by their size; the main result is the exponent of its growth."""
    shortest = np.full(len(LOOKED_UP), np.inf)
    for _ in run.steps(1, shortest=shortest):
        for i, rows in enumerate(LOOKED_UP):
            memory = KeyValueMemory(rows, 4, tables=2, generator=run.generator)
            keys = torch.randn(rows, 4, generator=run.generator)
            for table in range(2):
                memory.write(keys, torch.zeros(rows), tables=table)
            for key in torch.randn(200, 1, 4, generator=run.generator):
                began = time.perf_counter()
                memory.query(key, config.neighbours)
                shortest[i] = min(shortest[i], time.perf_counter() - began)
    times = {f"microseconds_{rows}": 1e6 * float(seconds) for rows, seconds in zip(LOOKED_UP, shortest, strict=True)}
    return times | {"exponent": float(np.log(shortest[-1] / shortest[-2]) / np.log(LOOKED_UP[-1] / LOOKED_UP[-2]))}
