"""Dense associative memory (modern Hopfield network): steeper energies store more patterns, each at N weights."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn

from engram.memory.hebb_hopfield import HopfieldRecall, check_signs, settled
from engram.storage.stored import Stored


class DenseHopfield(Stored, nn.Module):
    """A network that compares the state with every stored pattern, and follows the near ones.

        E = - sum over patterns of F(p . x),   F(m) = m^n or exp(m)
        x_i flips if that lowers E; one node after another in random order

    With a power n it stores about N^(n-1) patterns, with the exponential exponentially many; each costs N weights, and
    a state that is not stored is drawn to one that is.

    Args:
        n: The power, at least 2, or ``"exponential"``. 2 is the classic network with its diagonal.

    Attributes:
        stored: The patterns, (patterns, nodes).

    Raises:
        ValueError: n is neither.

    Source: Krotov and Hopfield, "Dense associative memory for pattern recognition" (2016), equations 1 to 3; Demircigil
    et al., "On a model of associative memory with huge storage capacity" (2017), for the exponential.

    Examples:
        >>> memory = DenseHopfield(3)
        >>> memory.store(torch.tensor([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]]))
        >>> memory.recall(torch.tensor([[1, 1, 1, -1, -1, 1]])).x.tolist()
        [[1, 1, 1, -1, -1, -1]]
    """

    stored: Tensor

    def __init__(self, n: int | str = 3) -> None:
        super().__init__()
        if n != "exponential" and (not isinstance(n, int) or n < 2):
            raise ValueError(f"n = {n!r}: expected an integer of at least 2, or 'exponential'")
        self.n = n
        self.register_buffer("stored", torch.zeros(0, 0, dtype=torch.int8))

    @property
    def n_weights(self) -> int:
        """Number of weights, one for each pattern and node."""
        return self.stored.numel()

    def store(self, X: Annotated[Tensor, "patterns nodes"]) -> None:
        """Store patterns of +1 and -1, (patterns, nodes), beside those that are there.

        Raises:
            ValueError: Another shape than before, or other values.
        """
        self.stored = stored_with(self.stored, X)

    def recall(
        self,
        x: Annotated[Tensor, "batch nodes"],
        max_iter: int = 100,
        generator: torch.Generator | None = None,
    ) -> HopfieldRecall:
        """Let the network settle from noisy patterns.

        Args:
            x: Patterns of +1 and -1, (batch, nodes).
            max_iter: Most sweeps through all nodes.
            generator: Source of the order of the nodes; torch's global one if None.

        Raises:
            RuntimeError: Nothing is stored.
            ValueError: Another shape or other values.
        """
        from engram.memory.kernels import hopfield

        check_stored(self.stored)
        start = check_signs("x", x, self.stored.shape[1]).to(torch.int8)
        by_node = np.ascontiguousarray(self.stored.numpy(force=True).T)
        power = 0 if self.n == "exponential" else int(self.n)
        return settled(hopfield.dense_sweeps, start, x, max_iter, generator, by_node, power)

    def _content(self) -> dict[str, Any]:
        return {"n": self.n, "stored": self.stored}

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> DenseHopfield:
        memory = cls(content["n"])
        memory.stored = content["stored"]
        return memory


def stored_with(stored: Tensor, X: Tensor) -> Tensor:
    """Return the patterns with new ones behind them, (patterns, nodes)."""
    new = check_signs("X", X, stored.shape[1] or X.shape[-1]).to(torch.int8)
    return torch.cat((stored, new)) if len(stored) else new


def check_stored(stored: Tensor) -> None:
    """Raise if there are no patterns."""
    if not len(stored):
        raise RuntimeError("nothing is stored: call store first")
