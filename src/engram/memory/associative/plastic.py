"""A layer of Hebbian traces under the contract of associative memories."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from engram.memory.associative.contract import AssociativeMemory, patterns_of
from engram.plasticity.associative_memory import PlasticAssociativeMemory


class PlasticMemory(AssociativeMemory):
    """A ``PlasticAssociativeMemory``: patterns are stored in traces, and every unit of a cue is read out once.

        answer = sign(H q), without the diagonal of H; where that is 0, q

    Args:
        units: Number of units, N.
        generator: Not used.

    Examples:
        >>> memory = PlasticMemory(4)
        >>> memory.store(torch.tensor([[1.0, 1, -1, -1]]))
        >>> memory.recall(torch.tensor([[1.0, 1, -1, 1]])).tolist()
        [[1.0, 1.0, -1.0, -1.0]]
    """

    stored = ("trace",)

    def __init__(self, units: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__(units, generator=generator)
        silence = np.zeros((1, units), dtype=np.float32)  # stores nothing, but creates the traces
        self.layer = PlasticAssociativeMemory().fit(silence)

    @property
    def trace(self) -> Float[Tensor, "1 units units"]:
        """The traces H."""
        trace: Tensor = self.layer.state_.trace
        return trace

    @trace.setter
    def trace(self, value: Tensor) -> None:
        self.layer.state_ = self.layer.state_._replace(trace=value)

    @property
    def n_weights(self) -> int:
        """The number of traces; each pair of units counts once."""
        return self.units * (self.units - 1) // 2

    def store(self, patterns: Float[Tensor, "patterns units"]) -> None:
        """Present each pattern once."""
        self.layer.partial_fit(patterns_of(self, "patterns", patterns).numpy())

    def recall(self, cues: Float[Tensor, "batch units"]) -> Float[Tensor, "batch units"]:
        """The signs of the read-out."""
        cues = patterns_of(self, "cues", cues)
        answer = torch.from_numpy(self.layer.predict(cues.numpy()))
        return torch.where(answer == 0, cues, answer.sign())
