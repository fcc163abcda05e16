"""What the studies share: an expander network of one size, and the share of states that it recovers exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge
from torch import Tensor

from engram.memory import BipartiteGraph, random_regular

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
