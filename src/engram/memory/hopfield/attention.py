"""A memory whose recall is one step of softmax attention over stored patterns."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from engram import checks
from engram.memory.hopfield.recall import HopfieldRecall, PatternStore
from engram.nn.sequence import full_precision


class AttentionMemory(PatternStore):
    """A modern Hopfield network with continuous states: one step, then the sign.

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
        """The patterns that attention recalls from noisy ones; a node at exactly 0 keeps its sign."""
        cue = self._cue(x)
        with full_precision(x.device):  # overlaps of many nodes are not whole numbers of half precision
            recalled = self._step(cue)
            converged = (self._step(recalled) == recalled).all(1)
        return HopfieldRecall(recalled.to(x.dtype), converged, (recalled != cue).sum(1))

    def _step(self, x: Tensor) -> Tensor:
        average, error = self._average(x)
        unsure = (average.abs() <= error).any(1)
        if unsure.any():  # what cancels leaves rounding errors, smaller ones in double precision
            average = average.double()
            average[unsure], error = self._average(x[unsure].double())
        return torch.where(average.abs() <= error, x, average.sign().to(x.dtype))

    def _average(self, x: Tensor) -> tuple[Tensor, float]:
        """The average of the patterns, and the largest error by rounding: that of a sum over them."""
        patterns = self.stored.to(x.dtype)
        beta = patterns.shape[1] ** -0.5 if self.beta is None else self.beta
        return (beta * (x @ patterns.T)).softmax(1) @ patterns, len(patterns) * torch.finfo(x.dtype).eps
