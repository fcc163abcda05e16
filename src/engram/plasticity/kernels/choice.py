"""Which form of a scan is the fastest that can run it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import attention, fused, linear, lstm, step
from engram.plasticity.rule import PlasticityRule, RuleState

if TYPE_CHECKING:
    from engram.plasticity.scan import PlasticLSTMState, PlasticState

# Steps below which calling the operator takes longer than the plain loop, whatever the size.
FEW = 5
FEW_OF_LSTM = 4
# Steps times connections up to which a call without a graph is over before the kernel has laid out its matrices.
BRIEF = 2**20
# Samples times connections from which a step of the attention form repays its many small operations.
LARGE = 10**6
# How many times shorter than the layer is wide a sequence must be for the attention form to be faster than the kernel.
SHORTER = 8


def fastest(  # noqa: PLR0917
    scan: Callable[..., Any],
    drive: Tensor,
    weight: Tensor,
    alpha: Tensor | LowRank | None,
    rule: PlasticityRule | None,
    state: PlasticState,
    *,
    neuromodulator: nn.Module | None = None,
    clamp: Tensor | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> Callable[..., Any]:
    """Return the function that is to be called in place of ``plastic_scan``, with the same arguments.

    Args:
        scan: ``plastic_scan``, which is returned where nothing is faster.
        drive: External input u to the units, (time, batch, hidden).
        weight: Fixed weights.
        alpha: Plasticity coefficients.
        rule: The plasticity rule.
        state: State before the first step.
        neuromodulator: What modulates the rule.
        clamp: Where true, the unit takes its external input as its activity.
        nonlinearity: f.
    """
    time, batch, size = drive.shape
    connections = batch * size * size
    acting = drive.is_cpu and time * connections <= BRIEF and not torch.is_grad_enabled() and not is_compiling()
    kernel = acting or time >= FEW
    kernel = kernel and not fused.unsupported(drive, weight, alpha, rule, state, neuromodulator, nonlinearity)
    if acting and kernel:
        return step.step_scan
    rank = len(alpha.post) if isinstance(alpha, LowRank) else 1
    if attention.serves(alpha, rule) and connections >= LARGE and (SHORTER if kernel else 2) * time * rank <= size:
        return attention.attention_scan
    return partial(fused.fused_scan, supported=True) if kernel else scan


def fastest_lstm(  # noqa: PLR0917
    scan: Callable[..., Any],
    drive: Tensor,
    weight: Tensor,
    alpha: Tensor | LowRank,
    rule: PlasticityRule,
    state: PlasticLSTMState,
    *,
    neuromodulator: nn.Module | None = None,
    read_clip: float | None = None,
    **options: str,
) -> Callable[..., Any]:
    """Return the function that is to be called in place of ``plastic_lstm_scan``, with the same arguments.

    Args:
        scan: ``plastic_lstm_scan``, which is returned where nothing is faster.
        drive: External input u to the gates, (time, batch, 4 hidden).
        weight: Fixed weights.
        alpha: Plasticity coefficients.
        rule: The plasticity rule.
        state: State before the first step.
        neuromodulator: What modulates the rule.
        read_clip: Bound of the traces where they act.
        **options: What else the LSTM is, all of which the kernel can run.
    """
    if len(drive) < FEW_OF_LSTM or lstm.unsupported(drive, weight, alpha, rule, state, neuromodulator, read_clip):
        return scan
    return partial(lstm.fused_lstm_scan, supported=True)


def fastest_linear(  # noqa: PLR0917
    scan: Callable[..., Any],
    pre: Tensor,
    current: Tensor,
    alpha: Tensor | LowRank,
    rule: PlasticityRule,
    state: RuleState,
    *,
    modulator: Tensor | None = None,
    nonlinearity: Callable[[Tensor], Tensor],
) -> Callable[..., Any]:
    """Return the function that is to be called in place of ``plastic_linear_scan``, with the same arguments.

    Args:
        scan: ``plastic_linear_scan``, which is returned where nothing is faster.
        pre: Presynaptic activity, (time, batch, pre).
        current: What else reaches the receiving units.
        alpha: Plasticity coefficients.
        rule: The plasticity rule.
        state: State of the rule before the first step.
        modulator: Neuromodulatory signal.
        nonlinearity: f.
    """
    if len(pre) < FEW or linear.unsupported(pre, current, alpha, rule, state, modulator, nonlinearity):
        return scan
    return partial(linear.fused_linear_scan, supported=True)
