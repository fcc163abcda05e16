"""A memory that is one step of softmax attention over what it stores."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from engram import checks
from engram.memory.hopfield.recall import HopfieldRecall, PatternStore


class AttentionMemory(PatternStore):
    """A modern Hopfield network of continuous states, one step and a sign.

        x' = sign(P^T softmax(beta P x))      P: stored patterns in rows

    Args:
        beta: Inverse temperature; 1 / sqrt(N) if None.

    Attributes:
        stored: The patterns, (patterns, nodes).

    Raises:
        ValueError: ``beta`` is not positive.

    Source: Ramsauer et al., "Hopfield networks is all you need" (2021), equation 3.

    Examples:
        >>> memory = AttentionMemory()
        >>> memory.store(torch.tensor([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]]))
        >>> memory.recall(torch.tensor([[1, 1, 1, -1, -1, 1]])).x.tolist()
        [[1, 1, 1, -1, -1, -1]]
    """

    def __init__(self, beta: float | None = None) -> None:
        super().__init__()
        self.beta = None if beta is None else checks.number("beta", beta, above=0)

    def recall(self, x: Annotated[Tensor, "batch nodes"]) -> HopfieldRecall:
        """Return the patterns that attention answers to noisy ones; a node at exactly 0 keeps its sign."""
        cue = self._cue(x)
        answer = self._step(cue)
        return HopfieldRecall(answer.to(x.dtype), (self._step(answer) == answer).all(1), (answer != cue).sum(1))

    def _content(self) -> dict[str, Any]:
        return {"beta": self.beta, "stored": self.stored}

    @classmethod
    def _from_content(cls, content: dict[str, Any]) -> AttentionMemory:
        memory = cls(content["beta"])
        memory.stored = content["stored"]
        return memory

    def _step(self, x: Tensor) -> Tensor:
        patterns = self.stored.to(x.dtype)
        beta = patterns.shape[1] ** -0.5 if self.beta is None else self.beta
        answer = (beta * (x @ patterns.T)).softmax(1) @ patterns
        return torch.where(answer == 0, x, answer.sign())
