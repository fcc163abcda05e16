"""The plastic linear layer's scan as one torch operator, ``engram::plastic_linear_scan``, and what it can serve.

As ``fused``, whose helpers it shares, for the linear layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels.fused import (
    CACHED,
    rule_numbers,
    transformed,
    unsupported_input,
    unsupported_rule,
)
from engram.plasticity.kernels.operator import GROUPS, in_groups, operator
from engram.plasticity.nonlinearity import identity, softmax
from engram.plasticity.rule import EligibilityState, PlasticityRule, RuleState, TraceState

# As `cpu_linear` numbers them; numba is imported at the first call only.
UNITS: dict[Callable[[Tensor], Tensor], int] = {identity: 0, torch.tanh: 1, softmax: 2}

_Inputs = "Tensor modulator, Tensor trace, Tensor eligibility, Tensor alpha, Tensor eta"


class Options(NamedTuple):
    """What a rule and the units are, in the numbers of the operator."""

    recursion: int
    clip: float
    trace_first: bool
    modulated: bool
    unit: int
    forgets: int
    stretch: int


def unsupported(  # noqa: PLR0917
    pre: Tensor,
    current: Tensor,
    alpha: Tensor | LowRank,
    rule: PlasticityRule,
    state: RuleState,
    modulator: Tensor | None,
    nonlinearity: Callable[[Tensor], Tensor],
) -> str | None:
    """Return why the operator cannot run a scan, as an error should say it; None if it can.

    Args:
        pre: Presynaptic activity.
        current: What else reaches the receiving units.
        alpha: Plasticity coefficients.
        rule: The plasticity rule.
        state: State of the rule before the first step.
        modulator: Neuromodulatory signal.
        nonlinearity: f.

    Examples:
        >>> from engram.plasticity import Hebb
        >>> one = torch.ones(1, 1, 1)
        >>> unsupported(one, one, one[0], Hebb(), Hebb().init(1, 1, 1), None, torch.relu)
        'nonlinearity = relu: expected identity, torch.tanh or softmax of engram.plasticity.nonlinearity'
    """
    reason = unsupported_rule(rule)
    if reason is not None:
        return reason
    if (modulator is None) == rule.modulated:
        given = None if modulator is None else "a tensor"
        return f"modulator = {given}: expected {'a tensor' if rule.modulated else 'None'} for {rule}"
    if nonlinearity not in UNITS:
        name = getattr(nonlinearity, "__name__", nonlinearity)
        return f"nonlinearity = {name}: expected identity, torch.tanh or softmax of engram.plasticity.nonlinearity"
    modules = [m for m in (alpha, rule) if isinstance(m, nn.Module)]
    tensors = [pre, current, *state, *[p for m in modules for p in m.parameters()]]
    tensors += [t for t in (alpha, modulator) if isinstance(t, Tensor)]
    return unsupported_input(pre) or transformed(tensors)


def fused_linear_scan(
    pre: Float[Tensor, "time batch pre"],
    current: Float[Tensor, "time batch post"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: RuleState,
    *,
    modulator: Float[Tensor, "time batch signals"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor],
    stretch: int = 0,
    supported: bool = False,
) -> tuple[Float[Tensor, "time batch post"], RuleState]:
    """Run a feed-forward layer of plastic connections through time by the operator; see ``plastic_linear_scan``.

    Args:
        pre: Presynaptic activity x.
        current: What the fixed weights, the bias and the external input add up to, c.
        alpha: Plasticity coefficients, (post, pre), (post,), () or two factors.
        rule: The plasticity rule.
        state: State of the rule before the first step.
        modulator: Neuromodulatory signal m, (time, batch, 1) or (time, batch, post), for a modulated rule.
        nonlinearity: f: ``torch.tanh``, or ``identity`` or ``softmax`` of ``engram.plasticity.nonlinearity``.
        stretch: Number of steps whose traces of one sample the backward pass holds at once; if 0, as many as fit the
            cache, and at least sqrt(T).
        supported: Whether ``unsupported`` was asked already, and had nothing against it.

    Returns:
        The activity at every step, and the state after the last one.

    Raises:
        ValueError: What the operator cannot run, in the words of ``unsupported``.

    Examples:
        >>> from engram.plasticity import Hebb
        >>> rule, x = Hebb(eta=0.5), torch.ones(2, 1, 1)
        >>> layer = (x, x, torch.tensor(1.0), rule, rule.init(1, 1, 1))
        >>> fused_linear_scan(*layer, nonlinearity=identity)[0].tolist()
        [[[1.0]], [[1.5]]]
    """
    reason = None if supported else unsupported(pre, current, alpha, rule, state, modulator, nonlinearity)
    if reason is not None:
        raise ValueError(f"backend = 'fused': {reason}")
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    recursion, clip, trace_first, forgets = rule_numbers(rule)
    options = Options(
        recursion=recursion,
        clip=clip,
        trace_first=trace_first,
        modulated=modulator is not None,
        unit=UNITS[nonlinearity],
        forgets=forgets,
        stretch=stretch,
    )
    outputs, trace, eligibility = torch.ops.engram.plastic_linear_scan(
        pre,
        current,
        current[..., :0] if modulator is None else modulator.expand(current.shape),
        state.trace,
        state.eligibility if isinstance(state, EligibilityState) else state.trace.new_empty(0),
        alpha.expand(current.shape[2]) if alpha.dim() == 0 else alpha,
        getattr(rule, "eta", current.new_zeros(1)).reshape(1),
        *options,
    )
    return outputs, TraceState(trace) if eligibility.dim() == 1 else EligibilityState(trace, eligibility)


class _Prepared(NamedTuple):
    """What both passes are given alike, as arrays; what is taken row by row has rows of whole registers."""

    modulator: Any
    trace: Any
    eligibility: Any
    alpha: Any
    eta: Any


def _prepare(
    modulator: Tensor, trace: Tensor, eligibility: Tensor, alpha: Tensor, eta: Tensor
) -> tuple[Any, int, int, int]:
    """Return the arrays, rows and width of a padded trace, and how long what there is for every receiving unit is."""
    from engram.plasticity.kernels.simd import REGISTER_BYTES, ROWS

    _, size, sent = trace.shape
    lanes = REGISTER_BYTES // trace.element_size()
    rows, high, width = -(-size // ROWS) * ROWS, -(-size // lanes) * lanes, -(-sent // lanes) * lanes
    padding = (0, width - sent, 0, rows - size) if alpha.dim() == 2 else (0, high - size)
    eligibility = eligibility.detach() if eligibility.dim() == 3 else trace.new_empty(0, 0, 0)
    prepared = _Prepared(
        modulator.detach().contiguous().numpy(),
        trace.detach().contiguous().numpy(),
        eligibility.contiguous().numpy(),
        functional.pad(alpha.detach(), padding).contiguous().view(-1).numpy(),
        eta.detach().contiguous().numpy(),
    )
    return prepared, rows, width, high


def _forward(pre: Tensor, current: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    (_, trace, eligibility, alpha, _), options = args[:5], Options(*args[5:])
    outputs = current.new_empty(current.shape)
    if current.numel() == 0:
        return outputs, trace.contiguous().clone(), eligibility.contiguous().clone()
    last_trace, last_eligibility = trace.new_empty(trace.shape), eligibility.new_empty(eligibility.shape)
    from engram.plasticity.kernels.cpu_linear import kernel
    from engram.plasticity.kernels.cpu_trace import scratch_size

    arrays, rows, width, high = _prepare(*args[:5])
    written = (outputs.numpy(), last_trace.numpy(), last_eligibility.view(arrays.eligibility.shape).numpy())
    forward = kernel("forward", alpha.dim() == 2, options.recursion)
    size = scratch_size("forward", options.recursion, rows * width, high, 1, 1)
    given = (t.detach().contiguous().numpy() for t in (pre, current))
    fixed = (*given, *arrays, *options[1:-1], high, *written)
    work, batch = current.numel() * pre.shape[2], len(trace)
    in_groups(forward, work, batch, (size, arrays.alpha.dtype), lambda group: fixed)
    return outputs, last_trace, last_eligibility


def _backward(
    grad_outputs: Tensor,
    grad_last_trace: Tensor,
    grad_last_eligibility: Tensor,
    outputs: Tensor,
    pre: Tensor,
    *args: Any,
) -> tuple[Tensor, ...]:
    (modulator, trace, eligibility, alpha, eta), options = args[:5], Options(*args[5:])
    pre_grad, current_grad, modulator_grad = (t.new_empty(t.shape) for t in (pre, outputs, modulator))
    if outputs.numel() == 0:
        zeros = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (alpha, eta))
        last = (t.contiguous().clone() for t in (grad_last_trace, grad_last_eligibility))
        return (pre_grad, current_grad, modulator_grad, *last, *zeros)
    from engram.plasticity.kernels.cpu_linear import kernel
    from engram.plasticity.kernels.cpu_trace import scratch_size

    time, batch, size = outputs.shape
    arrays, rows, width, high = _prepare(*args[:5])
    trace_bytes = rows * width * outputs.element_size()
    stretch = min(time, options.stretch or max(math.isqrt(time - 1) + 1, CACHED // trace_bytes))
    trace_grad, eligibility_grad = trace.new_empty(trace.shape), eligibility.new_empty(eligibility.shape)
    alpha_sums = outputs.new_zeros(min(GROUPS, batch), len(arrays.alpha))
    eta_sums = outputs.new_zeros(batch)
    read = (
        grad_outputs.contiguous().numpy(),
        grad_last_trace.contiguous().numpy(),
        grad_last_eligibility.contiguous().view(arrays.eligibility.shape).numpy(),
        outputs.detach().contiguous().numpy(),
        pre.detach().contiguous().numpy(),
    )
    written = (
        pre_grad.numpy(),
        current_grad.numpy(),
        modulator_grad.numpy(),
        trace_grad.numpy(),
        eligibility_grad.view(arrays.eligibility.shape).numpy(),
    )
    alphas, etas = alpha_sums.numpy(), eta_sums.numpy()
    backward = kernel("backward", alpha.dim() == 2, options.recursion)
    scratch = scratch_size("backward", options.recursion, rows * width, high, time, stretch), arrays.alpha.dtype
    fixed = (*read, *arrays, *options[1:-1], high, stretch, *written)
    work = 3 * outputs.numel() * pre.shape[2]
    in_groups(backward, work, batch, scratch, lambda group: (*fixed, alphas[group], etas))
    alpha_grad = alpha_sums.sum(0)
    if alpha.dim() == 2:
        alpha_grad = alpha_grad.view(rows, width)[:, : pre.shape[2]]
    return (
        pre_grad,
        current_grad,
        modulator_grad,
        trace_grad,
        eligibility_grad,
        alpha_grad[:size].clone(memory_format=torch.contiguous_format),
        eta_sums.sum().reshape(1),
    )


def _fake(pre: Tensor, current: Tensor, modulator: Tensor, trace: Tensor, eligibility: Tensor, *rest: Any) -> Any:
    return tuple(t.new_empty(t.shape) for t in (current, trace, eligibility))


def _fake_backward(*args: Any) -> Any:
    outputs, pre, *inputs = args[3:10]
    return tuple(t.new_empty(t.shape) for t in (pre, outputs, *inputs))


operator(
    "plastic_linear_scan",
    (_forward, _backward),
    (_fake, _fake_backward),
    given=f"Tensor pre, Tensor current, {_Inputs}",
    kept=f"Tensor outputs, Tensor pre, {_Inputs}",
    keep=lambda given, made: (made[0], given[0], *given[2:]),
    options=Options,
    returned=(3, 7),
    graded=3,
)
