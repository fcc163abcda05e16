"""A few steps of the plastic recurrent scan without a gradient, as when an agent acts.

The scan for many steps copies its matrices to a faster layout and starts threads, which takes longer than a step. Here
a step is a single numba call on the tensors as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels.layout import array, like, modulating, registers
from engram.plasticity.kernels.rule_encoding import recurrent, rule_numbers
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.state import PlasticState


def step_scan(
    drive: Float[Tensor, "time batch hidden"],
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: PlasticState,
    *,
    neuromodulator: nn.Module | None = None,
    clamp: Bool[Tensor, "time batch hidden"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticState]:
    """As ``plastic_scan``, on the CPU and without a graph, for arguments that ``rnn.scan.unsupported`` accepts."""
    from engram.plasticity.kernels.rnn.cpu_step import steps

    if not len(drive):  # no step writes the last traces
        return drive, state
    hidden, synapses = state
    outputs, last = drive.new_empty(drive.shape), type(synapses)(*like(synapses))
    mask = drive.new_empty((*drive.shape[:2], 0), dtype=torch.bool) if clamp is None else clamp
    before, after = [array(t) for t in synapses], [array(t) for t in last]
    layer, options = _constants(weight, alpha, rule, neuromodulator, nonlinearity)
    start, end = (array(hidden), before[0], before[-1]), (after[0], after[-1])
    steps(array(drive), array(mask), start, *layer, options, array(outputs), end)
    return outputs, state._replace(hidden=outputs[-1].clone(), rule=last)


def stepper(
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank | None,
    rule: PlasticityRule | None,
    state: PlasticState,
    *,
    neuromodulator: nn.Module | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> Callable[[Float[Tensor, "1 batch hidden"]], Float[Tensor, "1 batch hidden"]]:
    """As ``step_scan``, as a function that takes the external input of one step at a time and keeps the state.

    The layer's parameters are laid out once, so the layer must not change meanwhile. ``alpha`` and ``rule`` are None
    without plasticity.

    Examples:
        >>> from engram.plasticity import Hebb, PlasticState
        >>> rule, one = Hebb(), torch.ones(1, 1)
        >>> with torch.no_grad():
        ...     step = stepper(one, one[0, 0], rule, PlasticState(one, rule.init(1, 1, 1)))
        >>> [step(torch.zeros(1, 1, 1)).item() for _ in range(2)]
        [0.7615..., 0.6454...]
    """
    if alpha is None or rule is None:
        hidden, fixed = state.hidden, weight.t()

        def ordinary(drive: Float[Tensor, "1 batch hidden"]) -> Float[Tensor, "1 batch hidden"]:
            nonlocal hidden
            hidden = nonlinearity(torch.addmm(drive[0], hidden, fixed))
            return hidden.unsqueeze(0)

        return ordinary  # too short to be worth a kernel
    from engram.plasticity.kernels.rnn.cpu_step import steps

    layer, options = _constants(weight, alpha, rule, neuromodulator, nonlinearity)
    mask = np.empty((1, len(state.hidden), 0), dtype=bool)
    last = state.hidden.numpy()
    # The new trace is written to other memory than the old one: only then can the kernel's loops be vectorised.
    before, after = ([t.numpy().copy() for t in state.rule] for _ in range(2))

    def step(drive: Float[Tensor, "1 batch hidden"]) -> Float[Tensor, "1 batch hidden"]:
        nonlocal last, before, after
        outputs = torch.empty_like(drive)
        activity = outputs.numpy()
        start, end = (last, before[0], before[-1]), (after[0], after[-1])
        steps(drive.numpy(), mask, start, *layer, options, activity, end)
        last, before, after = activity[0], after, before
        return outputs

    return step


def _constants(
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    neuromodulator: nn.Module | None,
    nonlinearity: Callable[[Tensor], Tensor],
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The arrays of a layer and its options, as the kernel takes them."""
    _, width, _ = registers(len(weight), len(weight), weight.element_size())
    (_, coefficients, *modulation), squash = recurrent(weight, alpha, rule, neuromodulator)
    units = nonlinearity is torch.relu, neuromodulator is not None, squash
    return (array(weight), array(coefficients), modulating(width, *modulation)), (*rule_numbers(rule), *units)
