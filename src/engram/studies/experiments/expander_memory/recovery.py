"""Recovery from errors in a share of all nodes, by graph, size and decoder."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from engram.lab import Run, setting, settings
from engram.memory import (
    BipartiteGraph,
    ExpanderMemory,
    belief_propagation,
    corrupt,
    hamming74_blocks,
    local_graph,
    random_regular,
)
from engram.memory.expander.recovery import nearest_state, random_states

SPAN = 12  # nodes in a window of the local graph
SIZES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
Decoder = Literal["max", "random", "parallel", "wta", "belief-propagation", "nearest"]
FLIPS: tuple[Decoder, ...] = ("max", "random", "parallel")
Z, R = 5, 6  # constraints of each node, nodes of each constraint


@settings
class Network:
    """The settings of an expander network and its cues, for studies of a single size, most of which extend them."""

    nodes: int = setting(480, "nodes of the network", ge=10)
    words: int = setting(200, "noisy states per point", ge=2)

    def __post_init__(self) -> None:
        check_regular("nodes", self.nodes, Z, R)

    def graph(self, rng: np.random.Generator) -> BipartiteGraph:
        """A random graph for the network."""
        return random_regular(self.nodes, Z, R, seed=rng)


def check_regular(name: str, nodes: int, z: int, r: int) -> None:
    """Raise ValueError if there is no regular graph with this number of nodes.

    Args:
        name: The name of the setting, for the error.
        nodes: Number of nodes.
        z: Number of constraints of a node.
        r: Number of nodes of a constraint.
    """
    if nodes * z % r:
        raise ValueError(f"{name} = {nodes}: expected a multiple of r / z, here of {r} / {z}")


def rate(answer: Tensor, right: Tensor) -> float:
    """The share of states that are exactly right."""
    return float((answer == right).all(1).double().mean())


@settings
class Recovery:
    """The settings of networks, their cues and their decoders."""

    graph: Literal["random", "local", "hamming"] = setting(
        "random", "random or local wiring, or blocks of Hamming codes"
    )
    z: int = setting(Z, "constraints of each node", ge=1)
    r: int = setting(R, "nodes of each constraint", ge=2)
    decoder: Decoder = setting("max", "order of the network's flips, or another decoder for the same code")
    smallest: int = setting(240, "nodes of the smallest network; of Hamming blocks, the next multiple of 7", ge=10)
    doublings: int = setting(3, "further networks, each with twice as many nodes as the one before", ge=0, le=8)
    lowest: float = setting(0.02, "smallest share of flipped nodes", gt=0, le=0.5)
    highest: float = setting(0.1, "largest share, approached in steps of 0.02", gt=0, le=0.5)
    words: int = setting(200, "noisy states per point", ge=2)
    sweeps: int = setting(2000, "maximal number of sweeps if clusters' winners vote", ge=1)

    def __post_init__(self) -> None:
        if self.lowest > self.highest:
            raise ValueError(f"lowest = {self.lowest}: expected at most highest = {self.highest}")
        if self.graph != "hamming":
            check_regular("smallest", self.smallest, self.z, self.r)
        if self.graph == "local" and self.smallest % SPAN:
            raise ValueError(f"smallest = {self.smallest}: expected a multiple of {SPAN} for local wiring")

    def sizes(self) -> list[int]:
        """The numbers of nodes."""
        sizes = [self.smallest * 2**k for k in range(self.doublings + 1)]
        return [-(-size // 7) * 7 for size in sizes] if self.graph == "hamming" else sizes

    def shares(self) -> list[float]:
        """The shares of flipped nodes."""
        count = int((self.highest - self.lowest) / 0.02 + 1e-6) + 1
        return [round(self.lowest + 0.02 * k, 3) for k in range(count)]


# The other arms have one size: decoders the third, votes the second, small ones a size that can be searched exactly.
SMALL = {"smallest": 20, "doublings": 0, "r": 10, "lowest": 0.05, "highest": 0.15}
arms: dict[str, dict[str, Any]] = {
    **{f"{z}-{r}": {"z": z, "r": r} for z, r in ((5, 6), (5, 10), (3, 6), (4, 8))},
    "local": {"graph": "local"},
    "hamming": {"graph": "hamming"},
    **{
        f"decoder-{decoder}": {"decoder": decoder, "smallest": 960, "doublings": 0}
        for decoder in (*FLIPS, "belief-propagation")
    },
    **{f"small-{decoder}": {**SMALL, "decoder": decoder} for decoder in ("nearest", "belief-propagation", "max")},
    "wta": {"decoder": "wta", "smallest": 480, "doublings": 0, "highest": 0.06},
}


def trial(config: Recovery, run: Run) -> dict[str, Any]:
    """Recover random stored states, for each size and each share of flipped nodes."""
    sizes, shares = config.sizes(), config.shares()
    reference = int(np.abs(np.array(shares) - 0.04).argmin())  # the share used for summaries
    graph_seeds = run.rng.integers(2**62, size=len(sizes))
    rates, (states, total) = np.zeros((len(sizes), len(shares))), np.zeros((2, len(sizes)))
    for step in run.steps(rates.size, rates=rates, states=states, total=total):
        row, column = divmod(step, len(shares))
        memory = ExpanderMemory(build_graph(config, sizes[row], np.random.default_rng(graph_seeds[row])))
        states[row], total[row] = memory.message_size, sizes[row] + memory.n_hidden
        x = random_states(memory, config.words, run.generator)
        noisy = corrupt(x, shares[column], generator=run.generator)
        rates[row, column] = rate(decode(config, memory, noisy, shares[column], run.generator), x)
        if column == reference:
            run.log(sizes[row], recovery=rates[row, column])
    result: dict[str, Any] = {"recovery": float(rates[-1, reference])}
    for (row, size), (column, share) in itertools.product(enumerate(sizes), enumerate(shares)):
        result[f"recovery_{SIZES[row]}_{share}"] = float(rates[row, column])
        result[f"size_{SIZES[row]}"] = size
    if config.graph == "random":
        excess = states - [size * (1 - config.z / config.r) for size in sizes]
        result["excess_states"] = float(np.abs(excess).max())
        result["least_excess_states"] = float(excess.min())
    result["bits_per_neuron"] = float((rates[:, reference] * states / total).min())
    result["states_per_node"] = float((states / sizes).min())
    return result


def build_graph(config: Recovery, nodes: int, rng: np.random.Generator) -> BipartiteGraph:
    """A random graph for a network of the given size.

    Args:
        config: The settings.
        nodes: Number of nodes.
        rng: Source of the edges.
    """
    if config.graph == "hamming":
        return hamming74_blocks(-(-nodes // 7))
    if config.graph == "local":
        return local_graph(nodes, config.z, config.r, SPAN, seed=rng)
    return random_regular(nodes, config.z, config.r, seed=rng)


def decode(
    config: Recovery, memory: ExpanderMemory, noisy: Tensor, fraction: float, generator: torch.Generator
) -> Tensor:
    """The states that a decoder recovers from noisy ones.

    Args:
        config: The settings, with the decoder.
        memory: The memory.
        noisy: The noisy states, (states, nodes), of +1 and -1.
        fraction: The share of nodes that were flipped, which belief propagation uses.
        generator: Source of the order of the flips.
    """
    match config.decoder:
        case "belief-propagation":
            bits = belief_propagation(memory.graph, noisy < 0, fraction).x
            return 1 - 2 * bits.to(noisy.dtype)
        case "nearest":
            return nearest_state(memory, noisy)
        case order:
            limit = config.sweeps if order == "wta" else None
            return memory.recall(noisy, limit, order, generator).x
