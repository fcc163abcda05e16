"""A pure step run over a sequence, so that the gradient through it can train the parameters of the step.

A step is a function of a state and an input that returns the next state and an output; its meta-parameters are trained
by backpropagation through the unrolled sequence. For a population of meta-parameters, they and the state have an
additional first axis, which the step handles itself or ``torch.func.vmap`` adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from engram import checks

State = TypeVar("State")
Input = TypeVar("Input")
Output = TypeVar("Output")


def unroll(
    step: Callable[[State, Input], tuple[State, Output]],
    state: State,
    inputs: Iterable[Input],
    *,
    checkpointed: bool = False,
) -> tuple[State, list[Output]]:
    """Run a step over a sequence of inputs and carry the state: s(t), y(t) = step(s(t-1), x(t)).

    Args:
        step: A pure function: it changes nothing in place and draws no random numbers.
        state: State before the first step: tensors, nested in tuples.
        inputs: Input of each step: a tensor, along its first axis, or any iterable.
        checkpointed: Whether to keep for the backward pass only the state before every sqrt(T)-th of the T steps, and
            to run the steps between again when their gradients are needed: memory for 2 sqrt(T) steps, at the price of
            another forward pass.

    Returns:
        The state after the last step, and the output of every step.

    Source: Chen, Xu, Zhang and Guestrin, "Training deep nets with sublinear memory cost" (2016), section 3, for the
    checkpoints.

    Examples:
        >>> import torch
        >>> unroll(lambda s, x: (s + x, 2 * s), torch.tensor(0.0), torch.arange(4.0))[0]
        tensor(6.)
    """
    checks.arguments()
    sequence: list[Any] = list(inputs)
    length = max(math.isqrt(len(sequence)), 1) if checkpointed else max(len(sequence), 1)

    def run_chunk(state: State, chunk: list[Input]) -> tuple[State, list[Output]]:
        outputs = []
        with checks.noted(step=step, state=state):
            for input in chunk:
                state, output = step(state, input)
                outputs.append(output)
        return state, outputs

    outputs: list[Output] = []
    for first in range(0, len(sequence), length):
        chunk = sequence[first : first + length]
        if checkpointed:
            state, chunk_outputs = checkpoint(run_chunk, state, chunk, use_reentrant=False, preserve_rng_state=False)
        else:
            state, chunk_outputs = run_chunk(state, chunk)
        outputs += chunk_outputs
    return state, outputs


def detached(state: State) -> State:
    """A state detached from its graph, for truncated windows that continue where the last one ended.

    Args:
        state: Tensors, nested in tuples and named tuples.

    Raises:
        TypeError: The state holds something else.

    Examples:
        >>> import torch
        >>> detached((torch.ones(1, requires_grad=True),))
        (tensor([1.]),)
    """
    if isinstance(state, Tensor):
        return state.detach()  # type: ignore[return-value]
    fields = [detached(part) for part in checks.instance("state", state, tuple)]
    return type(state)(*fields) if hasattr(state, "_fields") else type(state)(fields)  # type: ignore[call-arg]
