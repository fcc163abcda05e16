"""Random weights between the output and every hidden layer, drawn at the first batch, which determines the sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from engram import checks
from engram.rules import chain
from engram.state import register_states


class OutputFeedback(NamedTuple):
    """The state of a rule in which each hidden layer has its own weights to or from the output.

    Attributes:
        weights: Weights of all hidden layers, side by side; empty before the first update.
        key: The key from which they are drawn.
    """

    weights: Float[Tensor, "outputs units"]
    key: Int[Tensor, ""]


register_states(OutputFeedback)


def init_feedback(generator: torch.Generator) -> OutputFeedback:
    """The state before the first update."""
    return OutputFeedback(torch.empty(0, 0), chain.new_key(generator))


def draw_feedback(
    state: OutputFeedback, hidden: Sequence[Tensor], output: Tensor, fan_in: Literal["outputs", "units"]
) -> tuple[OutputFeedback, list[int]]:
    """The state, with new weights of variance 1 / fan-in if it has none, and the number of units of each hidden layer.

    Args:
        state: The state.
        hidden: Activities of the hidden layers, the batch first.
        output: The output, (batch, outputs).
        fan_in: Whether the fan-in is the number of outputs or of the layer's units.

    Raises:
        ValueError: The state belongs to another network, or to one of another dtype or device.
    """
    sizes = [activity[0].numel() for activity in hidden]
    shape = output.shape[1], sum(sizes)
    if not state.weights.numel():
        weights = chain.normal(shape, torch.Generator().manual_seed(int(state.key)), output)
        fan_ins = [shape[0] if fan_in == "outputs" else size for size in sizes for _ in range(size)]
        return state._replace(weights=weights * weights.new_tensor(fan_ins).rsqrt()), sizes
    checks.tensor("state.weights", state.weights, shape, like=output)
    return state, sizes
