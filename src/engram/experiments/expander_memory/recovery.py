"""Recovery from errors in a share of all nodes, by graph, size and decoder."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from engram.lab import Run
from engram.memory import (
    BipartiteGraph,
    ExpanderMemory,
    belief_propagation,
    corrupted,
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


@dataclass(frozen=True)
class Network:
    """An expander network and how often it is asked; the config of a study of one size, or what such a one extends."""

    nodes: Annotated[int, Ge(10)] = 480
    """Nodes of the network."""
    words: Annotated[int, Ge(2)] = 200
    """Noisy states for each point."""

    def __post_init__(self) -> None:
        check_regular("nodes", self.nodes, Z, R)

    def graph(self, rng: np.random.Generator) -> BipartiteGraph:
        """Draw the graph of the network."""
        return random_regular(self.nodes, Z, R, seed=rng)


def check_regular(name: str, nodes: int, z: int, r: int) -> None:
    """Refuse a number of nodes for which there is no regular graph."""
    if nodes * z % r:
        raise ValueError(f"{name} = {nodes}: expected a multiple of r / z, here of {r} / {z}")


def rate(found: Tensor, right: Tensor) -> float:
    """Return in which share of the cases a state is exactly right."""
    return float((found == right).all(1).double().mean())


@dataclass(frozen=True)
class Recovery:
    """The networks, what is asked of them, and how they answer."""

    graph: Literal["random", "local", "hamming"] = "random"
    """Random expander, the same with local wiring, or independent blocks of Hamming codes."""
    z: Annotated[int, Ge(1)] = Z
    """Constraints of each node."""
    r: Annotated[int, Ge(2)] = R
    """Nodes of each constraint."""
    decoder: Decoder = "max"
    """Order of the network's flips, or another decoder of the same code."""
    smallest: Annotated[int, Ge(10)] = 240
    """Nodes of the smallest network; of Hamming blocks, the next multiple of 7."""
    doublings: Annotated[int, Ge(0), Le(8)] = 3
    """How many networks there are beyond it, each of twice as many nodes."""
    lowest: Annotated[float, Gt(0), Le(0.5)] = 0.02
    """Smallest share of flipped nodes."""
    highest: Annotated[float, Gt(0), Le(0.5)] = 0.1
    """Largest share; between them steps of 0.02."""
    words: Annotated[int, Ge(2)] = 200
    """Noisy states for each point."""
    sweeps: Annotated[int, Ge(1)] = 2000
    """Most sweeps where clusters' winners vote."""

    def __post_init__(self) -> None:
        if self.lowest > self.highest:
            raise ValueError(f"lowest = {self.lowest}: expected at most highest = {self.highest}")
        if self.graph != "hamming":
            check_regular("smallest", self.smallest, self.z, self.r)
        if self.graph == "local" and self.smallest % SPAN:
            raise ValueError(f"smallest = {self.smallest}: expected a multiple of {SPAN} for local wiring")

    def sizes(self) -> list[int]:
        """Return the numbers of nodes."""
        sizes = [self.smallest * 2**k for k in range(self.doublings + 1)]
        return [-(-size // 7) * 7 for size in sizes] if self.graph == "hamming" else sizes

    def shares(self) -> list[float]:
        """Return the shares of flipped nodes."""
        count = round((self.highest - self.lowest) / 0.02) + 1
        return [round(self.lowest + 0.02 * k, 3) for k in range(count)]


def trial(config: Recovery, run: Run) -> dict[str, Any]:
    """Recover random stored states, for each size and each share of flipped nodes."""
    sizes, shares = config.sizes(), config.shares()
    reference = int(np.abs(np.array(shares) - 0.04).argmin())  # the share that stands for all
    graph_seeds = run.rng.integers(2**62, size=len(sizes))
    rates, (states, total) = np.zeros((len(sizes), len(shares))), np.zeros((2, len(sizes)))
    for step in run.steps(rates.size, rates=rates, states=states, total=total):
        row, column = divmod(step, len(shares))
        memory = ExpanderMemory(build_graph(config, sizes[row], np.random.default_rng(graph_seeds[row])))
        states[row], total[row] = memory.message_size, sizes[row] + memory.n_hidden
        x = random_states(memory, config.words, run.generator)
        noisy = corrupted(x, shares[column], generator=run.generator)
        rates[row, column] = rate(decoded(config, memory, noisy, shares[column], run.generator), x)
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
    """Draw the graph of a network."""
    if config.graph == "hamming":
        return hamming74_blocks(-(-nodes // 7))
    if config.graph == "local":
        return local_graph(nodes, config.z, config.r, SPAN, seed=rng)
    return random_regular(nodes, config.z, config.r, seed=rng)


def decoded(
    config: Recovery, memory: ExpanderMemory, noisy: Tensor, fraction: float, generator: torch.Generator
) -> Tensor:
    """Return what a decoder makes of noisy states."""
    match config.decoder:
        case "belief-propagation":
            bits = belief_propagation(memory.graph, noisy < 0, fraction).x
            return 1 - 2 * bits.to(noisy.dtype)
        case "nearest":
            return nearest_state(memory, noisy)
        case order:
            limit = config.sweeps if order == "wta" else None
            return memory.recall(noisy, limit, order, generator).x


def seconds(config: Recovery) -> float:
    """Time of a trial on one core: of each noisy state, and of encoders, which grows with the cube of the size."""
    each = {"belief-propagation": 8e-7, "wta": 8e-7, "nearest": 4e-7}
    word = each.get(config.decoder, 1.5e-7) * config.words
    return 0.1 + len(config.shares()) * sum(word * n + 2e-12 * n**3 for n in config.sizes())
