"""Hopfield networks under the contract of associative memories, each with its own generator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from engram import checks
from engram.memory.associative.contract import AssociativeMemory, patterns_of
from engram.memory.hopfield.attention import AttentionMemory
from engram.memory.hopfield.dense import DenseHopfield
from engram.memory.hopfield.hebb import HebbHopfield
from engram.memory.hopfield.recall import PatternStore


class HopfieldMemory(AssociativeMemory):
    """Any Hopfield network as an associative memory; its generator draws the order in which units are updated.

    Args:
        units: Number of units, N.
        make_network: Function of N that returns a ``HebbHopfield``, a ``DenseHopfield`` or an ``AttentionMemory``.
        generator: Source of the order of units; a new one with the seed 0 if None.

    Examples:
        >>> memory = HopfieldMemory(6, lambda units: DenseHopfield(3))
        >>> memory.store(torch.tensor([[1.0, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]]))
        >>> memory.recall(torch.tensor([[1.0, 1, 1, -1, -1, 1]])).tolist()
        [[1.0, 1.0, 1.0, -1.0, -1.0, -1.0]]
    """

    stored = ("content",)

    def __init__(
        self,
        units: int,
        make_network: Callable[[int], HebbHopfield | DenseHopfield | AttentionMemory],
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        checks.arguments()
        super().__init__(units, generator=generator)
        self.network = make_network(self.units)
        if not isinstance(self.network, HebbHopfield | PatternStore):
            raise TypeError(f"make_network makes a {type(self.network).__name__}: expected a Hopfield network")

    @property
    def content(self) -> dict[str, Any]:
        """The network's arguments and what it has stored."""
        return self.network._content()

    @content.setter
    def content(self, value: dict[str, Any]) -> None:
        made_of = {name: getattr(self.network, name) for name in self.network._made_of}
        if {name: value[name] for name in made_of if name in value} != made_of:
            raise ValueError(f"state['content'] is of another network than {self.network}")
        network = type(self.network)._from_content(value)
        if isinstance(network, HebbHopfield) and network.weight.shape != (self.units, self.units):
            shape = tuple(network.weight.shape)
            raise ValueError(f"state['content']['weight'].shape = {shape}: expected ({self.units}, {self.units})")
        self.network = network

    @property
    def n_weights(self) -> int:
        """The number of the network's weights."""
        return self.network.n_weights

    def store(self, patterns: Float[Tensor, "patterns units"]) -> None:
        """Store patterns in the network."""
        self.network.store(patterns_of(self, "patterns", patterns))

    def recall(self, cues: Float[Tensor, "batch units"]) -> Float[Tensor, "batch units"]:
        """The states in which the network settles."""
        cues = patterns_of(self, "cues", cues)
        if isinstance(self.network, AttentionMemory):
            return self.network.recall(cues).x
        return self.network.recall(cues, generator=self.generator).x


def hebb(units: int, *, generator: torch.Generator | None = None) -> HopfieldMemory:
    """The classic network with Hebb's rule."""
    return HopfieldMemory(units, HebbHopfield, generator=generator)


def pseudo_inverse(units: int, *, generator: torch.Generator | None = None) -> HopfieldMemory:
    """The classic network with the pseudo-inverse rule."""
    return HopfieldMemory(units, lambda n: HebbHopfield(n, "pseudo-inverse"), generator=generator)


def cubic(units: int, *, generator: torch.Generator | None = None) -> HopfieldMemory:
    """The dense network with a cubic energy."""
    return HopfieldMemory(units, lambda n: DenseHopfield(3), generator=generator)


def exponential(units: int, *, generator: torch.Generator | None = None) -> HopfieldMemory:
    """The dense network with an exponential energy."""
    return HopfieldMemory(units, lambda n: DenseHopfield("exponential"), generator=generator)


def attention(units: int, *, generator: torch.Generator | None = None) -> HopfieldMemory:
    """One step of softmax attention."""
    return HopfieldMemory(units, lambda n: AttentionMemory(), generator=generator)
