"""Associative memories by load: stored and other states of a code, and random patterns in a classic network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from engram.lab import Run, setting, settings
from engram.memory import AttentionMemory, DenseHopfield, ExpanderMemory, HebbHopfield, corrupt
from engram.memory.expander.recovery import random_states
from engram.studies.experiments.expander_memory.recovery import Network, rate

LOADS = (0.04, 0.08, 0.12, 0.14, 0.2)  # random patterns per node
Memory = Literal["expander", "hebb", "dense-3", "dense-exponential", "attention"]
arms = {f"stored-{memory}": {"memory": memory} for memory in get_args(Memory)}


@settings
class Stored(Network):
    """The settings of the code and of the memory that stores its states."""

    memory: Memory = setting("expander", "the memory; set by each arm")
    most_stored: int = setting(10_000, "largest number of patterns, in powers of ten from 10 on", ge=10)


def trial(config: Stored, run: Run) -> dict[str, Any]:
    """Recover stored and other states of a code from an associative memory."""
    code = ExpanderMemory(config.graph(run.rng))
    counts = [10**k for k in range(1, len(str(config.most_stored)))]
    rates = np.zeros((2, len(counts)))
    weights = np.zeros(len(counts))
    for step in run.steps(len(counts), rates=rates, weights=weights):
        patterns = random_states(code, counts[step], run.generator)
        recall, weights[step] = associative(config, code, patterns, run.generator)
        for row, source in enumerate((patterns, random_states(code, config.words, run.generator))):
            x = source[torch.randint(len(source), (config.words,), generator=run.generator)]
            rates[row, step] = rate(recall(corrupt(x, 0.04, generator=run.generator)), x)
        run.log(counts[step], recovery=rates[0, step], recovery_of_others=rates[1, step], weights=weights[step])
    return {
        "recovery": float(rates[0, -1]),
        "least_recovery": float(rates[0].min()),
        "recovery_of_others": float(rates[1, -1]),
        "weights": float(weights[-1]),
        "states_log2": code.n_states_log2 if config.memory == "expander" else float(np.log2(counts[-1])),
    }


def associative(
    config: Stored, code: ExpanderMemory, patterns: Tensor, generator: torch.Generator
) -> tuple[Callable[[Tensor], Tensor], int]:
    """The recall function of a memory, after storing the patterns if it stores any, and its number of weights.

    Args:
        config: The settings, with the kind of memory.
        code: The expander memory, which has states of its own.
        patterns: The patterns to be stored, (patterns, units), of +1 and -1.
        generator: Source of the order of updates.
    """
    if config.memory == "expander":
        return lambda noisy: code.recall(noisy, generator=generator).x, code.n_weights
    if config.memory == "attention":
        attention = AttentionMemory()
        attention.store(patterns)
        return lambda noisy: attention.recall(noisy).x, attention.n_weights
    network: HebbHopfield | DenseHopfield
    if config.memory == "hebb":
        network = HebbHopfield(patterns.shape[1])
    else:
        network = DenseHopfield(3 if config.memory == "dense-3" else "exponential")
    network.store(patterns)
    return lambda noisy: network.recall(noisy, generator=generator).x, network.n_weights


def classic(config: Network, run: Run) -> dict[str, Any]:
    """Recover random patterns from a classic Hopfield network, by the number of stored patterns."""
    rates = np.zeros(len(LOADS))
    for step in run.steps(len(LOADS), rates=rates):
        shape = max(1, round(LOADS[step] * config.nodes)), config.nodes
        patterns = 1 - 2 * torch.randint(0, 2, shape, generator=run.generator, dtype=torch.int8)
        memory = HebbHopfield(config.nodes)
        memory.store(patterns)
        x = patterns[torch.randint(len(patterns), (config.words,), generator=run.generator)]
        noisy = corrupt(x, 0.04, generator=run.generator)
        rates[step] = rate(memory.recall(noisy, generator=run.generator).x, x)
        run.log(len(patterns), recovery=rates[step])
    return {
        **{f"recovery_{share}": float(recovered) for share, recovered in zip(LOADS, rates, strict=True)},
        "recovery": float(rates[0]),
        "capacity": float(max(np.array(LOADS)[rates >= 0.5], default=0.0)),
    }
