"""A baseline without memory, which cannot learn during its lifetime."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.nn.initial import uniform
from engram.nn.sequence import precise


class Memoryless(nn.Module):
    """A feedforward layer that has the interface of a recurrent network and replaces it.

        y(t) = tanh(W o(t) + b)

    Args:
        input_size: Number of features of an observation.
        hidden_size: Number of units.
        generator: Source of the initial values, which are those of ``nn.Linear``; torch's global one if None.

    Raises:
        ValueError: A size is not positive.

    Examples:
        >>> Memoryless(3, 4)(torch.zeros(5, 2, 3))[0].shape
        torch.Size([5, 2, 4])
    """

    def __init__(self, input_size: int, hidden_size: int, generator: torch.Generator | None = None) -> None:
        checks.arguments()
        super().__init__()
        self.hidden_size = checks.size("hidden_size", hidden_size)
        self.layer = uniform(nn.Linear, checks.size("input_size", input_size), hidden_size, generator=generator)

    def forward(
        self, input: Float[Tensor, "time batch features"], state: Any = None
    ) -> tuple[Float[Tensor, "time batch hidden"], Any]:
        """The activity for each observation on its own, and ``state`` unchanged."""
        input = precise(input, self.layer.weight)
        checks.tensor("input", input, ("time", "batch", self.layer.in_features), like=self.layer.weight)
        return torch.tanh(self.layer(input).to(self.layer.weight.dtype)), state
