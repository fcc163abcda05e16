"""A scaffold of stable states under the contract of associative memories."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engram.memory.associative.contract import AssociativeMemory, patterns_of
from engram.memory.expander.expander_memory import ExpanderMemory
from engram.memory.expander.graphs import random_regular
from engram.memory.expander.scaffold import Scaffold

Z, R = 5, 6  # constraints per node of the scaffold, nodes per constraint
LEAST = 60  # minimum number of nodes


class ScaffoldMemory(AssociativeMemory):
    """A ``Scaffold`` on an expander memory whose number of nodes is about that of the units of a pattern.

    An answer is the sign of the content, or the sign of the cue where the content is 0.

    Args:
        units: Number of units, N.
        generator: Source of the graph, the states and all choices; a new one with the seed 0 if None.

    Examples:
        >>> memory = ScaffoldMemory(100)
        >>> memory.store(torch.ones(1, 100))
        >>> bool((memory.recall(torch.ones(1, 100)) == 1).all())
        True
    """

    stored = ("content",)

    def __init__(self, units: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__(units, generator=generator)
        nodes = R * -(-max(units, LEAST) // R)
        seed = int(torch.randint(2**62, (), generator=self.generator))
        graph = random_regular(nodes, Z, R, seed=seed)
        self.scaffold = Scaffold(ExpanderMemory(graph), units, generator=self.generator)

    @property
    def content(self) -> dict[str, Any]:
        """The scaffold and the contents associated with it."""
        return self.scaffold._content()

    @content.setter
    def content(self, value: dict[str, Any]) -> None:
        self.scaffold = Scaffold._from_content(value)
        self.scaffold.generator = self.generator

    @property
    def n_weights(self) -> int:
        """The number of weights to the scaffold, back from it, and within it."""
        memory = self.scaffold.memory
        return 2 * len(memory.graph.node_degrees) * self.units + memory.n_weights

    def store(self, patterns: Float[Tensor, "patterns units"]) -> None:
        """Associate patterns with random states."""
        self.scaffold.store(patterns_of(self, "patterns", patterns))

    def recall(self, cues: Float[Tensor, "batch units"]) -> Float[Tensor, "batch units"]:
        """The patterns associated with the states to which the cues lead."""
        cues = patterns_of(self, "cues", cues)
        content = self.scaffold.recall(cues, self.generator).content
        return torch.where(content == 0, cues, content.sign())
