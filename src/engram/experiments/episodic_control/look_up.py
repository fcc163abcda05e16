"""The time of a look-up by the size of the memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Ge

from engram.lab import Run
from engram.memory import KeyValueMemory

LOOKED_UP = (1000, 4000, 16000, 64000)  # rows of a table


@dataclass(frozen=True)
class LookUp:
    """What is looked for."""

    neighbours: Annotated[int, Ge(1)] = 11
    """Rows that an estimate is made from."""


def trial(config: LookUp, run: Run) -> dict[str, Any]:
    """Measure how long two full tables are searched, by their size; the result is the exponent of its growth."""
    shortest = np.full(len(LOOKED_UP), np.inf)
    for _ in run.steps(1, shortest=shortest):
        for i, rows in enumerate(LOOKED_UP):
            memory = KeyValueMemory(rows, 4, tables=2, generator=run.generator)
            keys = torch.randn(rows, 4, generator=run.generator)
            for table in range(2):
                memory.write(keys, torch.zeros(rows), tables=table)
            for asked in torch.randn(200, 1, 4, generator=run.generator):
                began = time.perf_counter()
                memory.query(asked, config.neighbours)
                shortest[i] = min(shortest[i], time.perf_counter() - began)
    found = {f"microseconds_{rows}": 1e6 * float(taken) for rows, taken in zip(LOOKED_UP, shortest, strict=True)}
    return found | {"exponent": float(np.log(shortest[-1] / shortest[-2]) / np.log(LOOKED_UP[-1] / LOOKED_UP[-2]))}
