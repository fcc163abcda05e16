"""An LSTM with the interface of a network with a learned rule, for comparison: it remembers in its activity."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram import checks
from engram.nn.initial import uniform
from engram.nn.sequence import full_precision, precise
from engram.rules.unroll import detached
from engram.state import register_states


class LSTMMemoryState(NamedTuple):
    """The state of an LSTM, shaped as in ``nn.LSTM``."""

    hidden: Float[Tensor, "1 batch hidden"]
    cell: Float[Tensor, "1 batch hidden"]

    def detach(self) -> LSTMMemoryState:
        """The same state, detached from its autograd graph."""
        return detached(self)


register_states(LSTMMemoryState)


class LSTMMemory(nn.Module):
    """An LSTM with the interface of ``RuleNetwork``: it sees frames and a mask of what is shown, and returns logits.

    Args:
        features: Number of features of a frame.
        hidden_size: Number of units, each with two numbers as state.
        outputs: Number of outputs; ``features`` if None.
        generator: Source of the initial values, those of ``nn.LSTM`` and ``nn.Linear``; torch's global one if None.

    Examples:
        >>> lstm = LSTMMemory(12, 8, generator=torch.Generator().manual_seed(0))
        >>> lstm(torch.ones(5, 3, 12), lstm.init(3))[0].shape
        torch.Size([5, 3, 12])
    """

    def __init__(
        self, features: int, hidden_size: int, outputs: int | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.features, self.hidden_size = checks.size("features", features), checks.size("hidden_size", hidden_size)
        outputs = features if outputs is None else checks.size("outputs", outputs)
        self.lstm = uniform(nn.LSTM, 2 * features, hidden_size, bound=hidden_size**-0.5, generator=generator)
        self.readout = uniform(nn.Linear, hidden_size, outputs, generator=generator)

    def init(self, batch_size: int) -> LSTMMemoryState:
        """A state of zeros."""
        zeros = self.readout.weight.new_zeros(1, checks.size("batch_size", batch_size), self.hidden_size)
        return LSTMMemoryState(zeros, zeros.clone())

    def forward(
        self,
        input: Annotated[Tensor, "time batch features"],
        state: LSTMMemoryState,
        clamp: Annotated[Tensor | None, "time batch features"] = None,
    ) -> tuple[Float[Tensor, "time batch outputs"], LSTMMemoryState]:
        """The answers to all frames, and the state after the last.

        Args:
            input: Frames.
            state: From ``init``, or returned by the last call.
            clamp: 1 where something is shown, else 0; None: 1 where ``input`` is not 0.

        Returns:
            Logits of +1 against -1; and the state after the last frame.

        Raises:
            ValueError: ``input`` or ``clamp`` has another shape, dtype or device than the network expects.
        """
        input = precise(input, self.readout.weight)
        checks.tensor("input", input, ("time", "batch", self.features), self.readout.weight)
        mask = (input != 0).to(input) if clamp is None else precise(clamp, input)
        checks.tensor("clamp", mask, tuple(input.shape), input)
        with checks.noted(state=state), full_precision(input.device):
            output, last_state = self.lstm(torch.cat((input, mask), 2), tuple(state))
            return self.readout(output), LSTMMemoryState(*last_state)
