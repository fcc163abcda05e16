"""The plastic linear layer's scan as one torch operator, ``engram::plastic_linear_scan``; see ``rnn.scan``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import custom_operator, layout, rule_decoding, rule_encoding
from engram.plasticity.kernels.constants import IDENTITY, SOFTMAX, TANH
from engram.plasticity.kernels.layout import array, copies, like, padded, traces, zeros
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.scan import identity, plastic_linear_scan, softmax
from engram.plasticity.state import RuleState

UNITS: dict[Callable[[Tensor], Tensor], int] = {identity: IDENTITY, torch.tanh: TANH, softmax: SOFTMAX}
_UNIT_FUNCTIONS = {code: function for function, code in UNITS.items()}

_INPUTS = "Tensor modulator, Tensor trace, Tensor eligibility, Tensor alpha, Tensor eta"


class Options(NamedTuple):
    """A rule and the units, encoded as the numbers of the operator."""

    recursion: int
    clip: float
    trace_first: bool
    forgets: int
    modulated: bool
    unit: int
    stretch: int


def unsupported(
    pre: Tensor,
    current: Tensor,
    alpha: Tensor | LowRank,
    rule: PlasticityRule,
    state: RuleState,
    *,
    modulator: Tensor | None = None,
    nonlinearity: Callable[[Tensor], Tensor],
) -> str | None:
    """Why the operator cannot run a scan with these arguments, as part of an error message; None if it can."""
    reason = rule_encoding.unsupported_rule(rule)
    if reason is not None:
        return reason
    if (modulator is None) == rule.modulated:
        actual = None if modulator is None else "a tensor"
        return f"modulator = {actual}: expected {'a tensor' if rule.modulated else 'None'} for {rule}"
    if nonlinearity not in UNITS:
        name = getattr(nonlinearity, "__name__", nonlinearity)
        return f"nonlinearity = {name}: expected identity, torch.tanh or softmax of engram.plasticity.scan"
    return rule_encoding.unsupported_input(pre) or rule_encoding.transformed(
        pre, current, state, alpha, rule, modulator
    )


def fused_scan(
    pre: Float[Tensor, "time batch pre"],
    current: Float[Tensor, "time batch post"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: RuleState,
    *,
    modulator: Float[Tensor, "time batch signals"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor],
    stretch: int = 0,
) -> tuple[Float[Tensor, "time batch post"], RuleState]:
    """As ``plastic_linear_scan``, by the operator; see ``rnn.fused_scan``."""
    signals = current[..., :0] if modulator is None else modulator.expand(current.shape)
    layer = rule_encoding.coefficients_of(alpha, current.shape[2]), rule_encoding.rate(rule, current)
    outputs, trace, eligibility = torch.ops.engram.plastic_linear_scan(
        *(pre, current, signals, *rule_encoding.traces_of(state), *layer),
        custom_operator.numbers(
            Options(*rule_encoding.rule_numbers(rule), modulator is not None, UNITS[nonlinearity], stretch)
        ),
    )
    return outputs, rule_encoding.state_of(trace, eligibility)


def _prepare(
    modulator: Tensor, trace: Tensor, eligibility: Tensor, alpha: Tensor, eta: Tensor
) -> tuple[tuple[Any, ...], int, int, int]:
    """Signals, state and layer as arrays; rows and width of a padded trace, and padded number of receiving units."""
    rows, width, high = layout.registers(trace.shape[1], trace.shape[2], trace.element_size())
    alphas = padded(alpha, rows, width) if alpha.dim() == 2 else padded(alpha, high)
    return (array(modulator), traces(trace, eligibility), (alphas, array(eta))), rows, width, high


def _forward(pre: Tensor, current: Tensor, *args: Any) -> tuple[Tensor, ...]:
    (_, trace, eligibility, alpha, _), options = args[:5], Options(*args[5:])
    if current.numel() == 0:
        return (*like([current]), *copies((trace, eligibility)))
    results = like((current, trace, eligibility))
    (signals, *arrays), rows, width, high = _prepare(*args[:5])
    forward = layout.kernel("linear", "forward", alpha.dim() == 2, options.recursion)
    size = layout.scratch_size("forward", options.recursion, rows * width, high)
    output_arrays = array(results[0]), *traces(*results[1:])
    fixed = (array(pre), array(current), signals), *arrays, options[1:-1], high, output_arrays
    work = current.numel() * pre.shape[2]
    layout.in_groups(forward, work, len(trace), (size, current.dtype), lambda group: fixed)
    return tuple(results)


def _backward(grad_outputs: Tensor, *args: Any) -> tuple[Tensor, ...]:
    grad_last, (outputs, pre), args = args[:2], args[2:4], args[4:]
    inputs, options = args[:5], Options(*args[5:])
    modulator, trace, eligibility, alpha, eta = inputs
    if outputs.numel() == 0:
        return (*like((pre, outputs, modulator)), *copies(grad_last), *zeros((alpha, eta)))
    time, batch, size = outputs.shape
    (signals, *arrays), rows, width, high = _prepare(*inputs)
    stretch = layout.stretch_of(time, options.stretch, rows * width * outputs.element_size())
    results = like((pre, outputs, modulator, trace, eligibility))
    sums = outputs.new_zeros(min(layout.GROUPS, batch), rows * width if alpha.dim() == 2 else high)
    eta_sums = outputs.new_zeros(batch)
    input_arrays = (array(grad_outputs), *traces(*grad_last), array(outputs))
    output_arrays = (*map(array, results[:3]), *traces(*results[3:]))
    backward = layout.kernel("linear", "backward", alpha.dim() == 2, options.recursion)
    numbers = layout.scratch_size("backward", options.recursion, rows * width, high, time, stretch)
    fixed = input_arrays, (array(pre), signals), *arrays, options[1:-1], high, stretch, output_arrays
    etas, alphas = eta_sums.numpy(), sums.numpy()
    work = 3 * outputs.numel() * pre.shape[2]
    layout.in_groups(backward, work, batch, (numbers, outputs.dtype), lambda group: (*fixed, alphas[group], etas))
    total = sums.sum(0)
    of_alpha = total.view(rows, width)[:size, : pre.shape[2]] if alpha.dim() == 2 else total[:size]
    return (*results, of_alpha.clone(memory_format=torch.contiguous_format), eta_sums.sum().reshape(1))


def _plain(pre: Tensor, current: Tensor, *args: Any) -> tuple[Tensor, ...]:
    (modulator, trace, eligibility, alpha, eta), options = args[:5], Options(*args[5:])
    outputs, state = plastic_linear_scan(
        pre,
        current,
        alpha,
        rule_decoding.DecodedRule(*options[:4], eta, options.modulated),
        rule_encoding.state_of(trace, eligibility),
        modulator=modulator if options.modulated else None,
        nonlinearity=_UNIT_FUNCTIONS[options.unit],
    )
    return outputs, *state


def _fake(pre: Tensor, current: Tensor, modulator: Tensor, trace: Tensor, eligibility: Tensor, *unused: Any) -> Any:
    return tuple(like((current, trace, eligibility)))


def _fake_backward(*args: Any) -> Any:
    outputs, pre, *inputs = args[3:10]
    return tuple(like((pre, outputs, *inputs)))


custom_operator.register(
    "plastic_linear_scan",
    (_forward, _backward),
    (_fake, _fake_backward),
    plain=_plain,
    given=f"Tensor pre, Tensor current, {_INPUTS}",
    kept=f"Tensor outputs, Tensor pre, {_INPUTS}",
    keep=lambda outputs: outputs[:1],
    external=1,
    options=Options,
    returned=3,
    graded=3,
)
