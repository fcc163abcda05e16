"""Faulty clusters, which vote by their winners, and clusters that learn their patterns from samples of a code."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from engram.lab import Run, setting, settings
from engram.memory import ExpanderMemory, corrupt, random_regular
from engram.memory.expander.recovery import random_states
from engram.studies.experiments.expander_memory.recovery import Network, Z, rate

FAULTS = (0.0, 0.02, 0.05)
SHARES = (0.02, 0.04)  # shares of flipped nodes
# Bits by which random packings fall short, by nodes per cluster: means over 100 to 4000 packings drawn pattern by
# pattern.
DEFICITS = {4: 1.428, 5: 1.570, 6: 1.687, 8: 1.907, 10: 2.084}


@settings
class Faults(Network):
    """The settings of a network with faulty clusters."""

    sweeps: int = setting(1500, "the maximal number of sweeps", ge=1)


def failing(config: Faults, run: Run) -> dict[str, Any]:
    """Recover states by votes of the clusters' winners, some of them random in every sweep."""
    memory = ExpanderMemory(config.graph(run.rng), order="wta")
    rates = np.zeros((len(FAULTS), len(SHARES)))
    x = random_states(memory, config.words, run.generator)
    for step in run.steps(rates.size, rates=rates):
        row, column = divmod(step, len(SHARES))
        noisy = corrupt(x, SHARES[column], generator=run.generator)
        recalled = memory.recall(noisy, config.sweeps, generator=run.generator, faults=FAULTS[row])
        rates[row, column] = rate(recalled.x, x)
        run.log(step + 1, recovery=rates[row, column])
    result = {
        f"recovery_{q}_{share}": float(rates[row, column])
        for (row, q), (column, share) in itertools.product(enumerate(FAULTS), enumerate(SHARES))
    }
    # Votes and single flips should have the same stable states, tested from distant starts, which mostly end in errors.
    far = corrupt(x, 0.1, generator=run.generator)
    ends = memory.recall(far, order="random", generator=run.generator).x
    votes = memory.recall(ends, 10, "wta", run.generator).x
    late = memory.recall(far, config.sweeps, "wta", run.generator)
    at_rest = late.x[late.stable]
    flips = memory.recall(at_rest, order="random", generator=run.generator).x if len(at_rest) else at_rest
    same_outcome = torch.cat(((votes == ends).all(1), (flips == at_rest).all(1))).double().mean()
    return {**result, "recovery": float(rates[0, -1]), "same_rest": float(same_outcome)}


@settings
class Learning(Network):
    """The settings of a network that learns."""

    samples: int = setting(600, "states from which clusters learn", ge=1)


def learning(config: Learning, run: Run) -> dict[str, Any]:
    """Let clusters learn their patterns from samples of a code, and recover states that they have not seen."""
    graph = config.graph(run.rng)
    code, memory = ExpanderMemory(graph), ExpanderMemory(graph, "learn")
    sizes = [len(part) for part in np.array_split(np.arange(config.samples), min(20, config.samples))]
    for step in run.steps(len(sizes), memory=memory):
        memory.learn(random_states(code, sizes[step], run.generator))
        is_stable = ~memory.violated(random_states(code, config.words, run.generator)).any(1)
        run.log(sum(sizes[: step + 1]), known=is_stable.double().mean(), coverage=memory.coverage().double().mean())
    run.keep(memory=memory)
    fresh = random_states(code, config.words, run.generator)
    noisy = corrupt(fresh, 0.04, generator=run.generator)
    seed = int(torch.randint(2**62, (), generator=run.generator))
    learned_recovery, built = (
        rate(decoder.recall(noisy, generator=torch.Generator().manual_seed(seed)).x, fresh)
        for decoder in (memory, code)
    )
    return {
        "known": float((~memory.violated(fresh).any(1)).double().mean()),
        "coverage": float(memory.coverage().double().mean()),
        "recovery": learned_recovery,
        "loss": built - learned_recovery,
    }


@settings
class Packing:
    """The settings of networks that learn random states."""

    nodes: int = setting(480, "nodes of each network; a multiple of 24", ge=24)
    samples: int = setting(20_000, "random states shown to the clusters", ge=1)

    def __post_init__(self) -> None:
        if self.nodes % 24:
            raise ValueError(f"nodes = {self.nodes}: expected a multiple of 24")


def packing(config: Packing, run: Run) -> dict[str, Any]:
    """Let clusters of 4 to 10 nodes learn random states, rejecting those one flip from a permitted pattern.

    Each ends with a maximal set; the result is the number of bits by which it falls short of all 2^r patterns.
    """
    lacking = np.zeros(len(DEFICITS))
    for step in run.steps(len(DEFICITS), lacking=lacking):
        r = list(DEFICITS)[step]
        memory = ExpanderMemory(random_regular(config.nodes, Z, r, seed=run.rng), "learn")
        memory.learn(1 - 2 * torch.randint(0, 2, (config.samples, config.nodes), generator=run.generator))
        lacking[step] = r - memory.permitted.sum(1).double().log2().mean()
        run.log(r, lacking=lacking[step])
    result = {"error": float(np.abs(lacking - list(DEFICITS.values())).max())}
    for r, bits in zip(DEFICITS, lacking, strict=True):
        result |= {f"lacking_{r}": float(bits), f"exponent_{r}": float(1 - Z * bits / r)}
    return result
