"""States of fast-weight memories, batch first: the matrices that are written while a sequence runs."""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from engram.state import register_states


class FastWeights(NamedTuple):
    """One matrix for each sequence and head, which maps keys to values."""

    weight: Float[Tensor, "*batch heads value key"]

    def detach(self) -> FastWeights:
        """The same state, detached from its graph, for truncated back-propagation."""
        return FastWeights(self.weight.detach())

    def __repr__(self) -> str:
        return _shapes(self)


class MomentumFastWeights(NamedTuple):
    """The matrix, and the momentum of its changes."""

    weight: Float[Tensor, "*batch heads value key"]
    momentum: Float[Tensor, "*batch heads value key"]

    def detach(self) -> MomentumFastWeights:
        """As ``FastWeights.detach``."""
        return MomentumFastWeights(self.weight.detach(), self.momentum.detach())

    def __repr__(self) -> str:
        return _shapes(self)


class ChunkFastWeights(NamedTuple):
    """The matrix, the matrix with which the chunk began, and the number of steps since then."""

    weight: Float[Tensor, "*batch heads value key"]
    start: Float[Tensor, "*batch heads value key"]
    position: Float[Tensor, "*batch"]

    def detach(self) -> ChunkFastWeights:
        """As ``FastWeights.detach``."""
        return ChunkFastWeights(self.weight.detach(), self.start.detach(), self.position.detach())

    def __repr__(self) -> str:
        return _shapes(self)


class LeastSquaresFastWeights(NamedTuple):
    """The weighted sums of value times key, and of key times key."""

    weight: Float[Tensor, "*batch heads value key"]
    gram: Float[Tensor, "*batch heads key key"]

    def detach(self) -> LeastSquaresFastWeights:
        """As ``FastWeights.detach``."""
        return LeastSquaresFastWeights(self.weight.detach(), self.gram.detach())

    def __repr__(self) -> str:
        return _shapes(self)


def _shapes(state: Any) -> str:
    """The state with the shapes of its tensors, of which one may have thousands of numbers."""
    fields = (f"{name}={tuple(tensor.shape)}" for name, tensor in state._asdict().items())
    return f"{type(state).__name__}({', '.join(fields)})"


register_states(FastWeights, MomentumFastWeights, ChunkFastWeights, LeastSquaresFastWeights)
