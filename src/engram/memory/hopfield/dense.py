"""Networks that compare the state with every stored pattern (modern Hopfield networks), each at N weights."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from engram import checks
from engram.memory.hopfield.recall import HopfieldRecall, PatternStore, settled


class DenseHopfield(PatternStore):
    """A network that compares the state with every stored pattern, and follows the near ones.

        E = - sum over patterns of F(p . x),   F(m) = m^n or exp(m)
        x_i flips if that lowers E; one node after another in random order

    With a power n it stores about N^(n-1) patterns, with the exponential exponentially many; each costs N weights.

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
        self.n = n if isinstance(n, str) else checks.size("n", n, least=2)

    def recall(
        self, x: Annotated[Tensor, "batch nodes"], max_iter: int = 100, generator: torch.Generator | None = None
    ) -> HopfieldRecall:
        """As ``HebbHopfield.recall``; raise RuntimeError where nothing is stored."""
        from engram.memory.hopfield import kernels

        start = self._cue(x).to(torch.int8)
        by_node = np.ascontiguousarray(self.stored.numpy(force=True).T)
        power = 0 if self.n == "exponential" else int(self.n)
        return settled(kernels.dense_sweeps, start, x, max_iter, generator, by_node, power)


class AttentionMemory(PatternStore):
    """A modern Hopfield network of continuous states, one step and a sign.

        x' = sign(P^T softmax(beta P x))      P: stored patterns in rows

    Args:
        beta: Inverse temperature, above 0; 1 / sqrt(N) if None.

    Source: Ramsauer et al., "Hopfield networks is all you need" (2021), equation 3.

    Examples:
        >>> memory = AttentionMemory()
        >>> memory.store(torch.tensor([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]]))
        >>> memory.recall(torch.tensor([[1, 1, 1, -1, -1, 1]])).x.tolist()
        [[1, 1, 1, -1, -1, -1]]
    """

    _made_of, _learned = ("beta",), ("stored",)

    def __init__(self, beta: float | None = None) -> None:
        super().__init__()
        self.beta = None if beta is None else checks.number("beta", beta, above=0)

    def recall(self, x: Annotated[Tensor, "batch nodes"]) -> HopfieldRecall:
        """Return the patterns that attention answers to noisy ones; a node at exactly 0 keeps its sign."""
        cue = self._cue(x)
        answer = self._step(cue)
        return HopfieldRecall(answer.to(x.dtype), (self._step(answer) == answer).all(1), (answer != cue).sum(1))

    def _step(self, x: Tensor) -> Tensor:
        patterns = self.stored.to(x.dtype)
        beta = patterns.shape[1] ** -0.5 if self.beta is None else self.beta
        answer = (beta * (x @ patterns.T)).softmax(1) @ patterns
        return torch.where(answer == 0, x, answer.sign())
