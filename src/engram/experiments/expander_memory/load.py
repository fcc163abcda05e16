"""A classic Hopfield network by load: how many random patterns it holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from engram.experiments.expander_memory.network import Network, rate
from engram.lab import Run
from engram.memory import HebbHopfield, corrupted

LOADS = (0.04, 0.08, 0.12, 0.14, 0.2)  # patterns a node


def trial(config: Network, run: Run) -> dict[str, Any]:
    """Recover random patterns from a classic Hopfield network, by the number of patterns that it holds."""
    rates = np.zeros(len(LOADS))
    for step in run.steps(len(LOADS), rates=rates):
        shape = max(1, round(LOADS[step] * config.nodes)), config.nodes
        patterns = 1 - 2 * torch.randint(0, 2, shape, generator=run.generator, dtype=torch.int8)
        memory = HebbHopfield(config.nodes)
        memory.store(patterns)
        x = patterns[torch.randint(len(patterns), (config.words,), generator=run.generator)]
        noisy = corrupted(x, 0.04, generator=run.generator)
        rates[step] = rate(memory.recall(noisy, generator=run.generator).x, x)
        run.log(len(patterns), recovery=rates[step])
    return {
        **{f"recovery_{share}": float(recovered) for share, recovered in zip(LOADS, rates, strict=True)},
        "recovery": float(rates[0]),
        "capacity": float(max(np.array(LOADS)[rates >= 0.5], default=0.0)),
    }


def seconds(config: Network) -> float:
    """Time of a trial on one core."""
    return 0.1 + 1e-6 * config.nodes * config.words
