"""A memory that is one step of softmax attention over what it stores."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from engram.memory.dense_hopfield import check_stored, stored_with
from engram.memory.hebb_hopfield import HopfieldRecall, check_signs
from engram.storage.stored import Stored


class AttentionMemory(Stored, nn.Module):
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

    stored: Tensor

    def __init__(self, beta: float | None = None) -> None:
        super().__init__()
        if beta is not None and not beta > 0:
            raise ValueError(f"beta = {beta}: expected a positive number")
        self.beta = beta
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

    def recall(self, x: Annotated[Tensor, "batch nodes"]) -> HopfieldRecall:
        """Return the patterns that attention answers to noisy ones; a node at exactly 0 keeps its sign.

        Args:
            x: Patterns of +1 and -1, (batch, nodes).

        Raises:
            RuntimeError: Nothing is stored.
            ValueError: Another shape or other values.
        """
        check_stored(self.stored)
        cue = check_signs("x", x, self.stored.shape[1])
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
