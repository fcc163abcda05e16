"""Dense associative memory (modern Hopfield network): steeper energies store more patterns, each at N weights."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from engram import checks
from engram.memory.hopfield.recall import HopfieldRecall, PatternStore, settle


class DenseHopfield(PatternStore):
    """A network that compares its state with every stored pattern, and moves towards the nearest ones.

        E = - sum over patterns of F(p . x),   F(m) = m^n or exp(m)
        x_i flips if that lowers E; one node after another in random order

    It stores about N^(n-1) patterns with a power n, and exponentially many with the exponential; each costs N weights.

    Args:
        n: The power, at least 2, or ``"exponential"``. 2 is the classic network with its diagonal.

    Source: Krotov and Hopfield, "Dense associative memory for pattern recognition" (2016), equations 1 to 3; Demircigil
    et al., "On a model of associative memory with huge storage capacity" (2017), for the exponential.

    Examples:
        >>> memory = DenseHopfield(3)
        >>> memory.store(torch.tensor([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]]))
        >>> memory.recall(torch.tensor([[1, 1, 1, -1, -1, 1]])).x.tolist()
        [[1, 1, 1, -1, -1, -1]]
    """

    _made_of, _learned = ("n",), ("stored",)

    def __init__(self, n: int | str = 3) -> None:
        super().__init__()
        if isinstance(n, str) and n != "exponential":
            raise ValueError(f"n = {n!r}: expected an integer of at least 2, or 'exponential'")
        self.n = n if isinstance(n, str) else checks.size("n", n, minimum=2)

    def extra_repr(self) -> str:
        """The arguments as ``repr`` shows them."""
        return repr(self.n)

    def recall(
        self, x: Annotated[Tensor, "batch nodes"], max_iter: int = 100, generator: torch.Generator | None = None
    ) -> HopfieldRecall:
        """The states in which the network settles from noisy patterns; RuntimeError if nothing is stored.

        Args:
            x: Patterns of +1 and -1, (batch, nodes).
            max_iter: Maximum number of sweeps through all nodes.
            generator: Source of the order of nodes; torch's global one if None.
        """
        from engram.memory.hopfield import kernels

        start = self._cue(x).to(torch.int8)
        by_node = np.ascontiguousarray(self.stored.numpy(force=True).T)
        power = 0 if self.n == "exponential" else int(self.n)
        return settle(kernels.dense_sweeps, start, x, max_iter, generator, by_node, power)
