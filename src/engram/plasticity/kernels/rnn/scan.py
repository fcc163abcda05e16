"""The plastic recurrent scan as one torch operator, ``engram::plastic_scan``, and the conditions under which it runs.

The operator has its own derivative, so that autograd stores only its inputs and outputs, and it is known to
``torch.compile``. Its second derivative is that of the plain scan; ``torch.func`` cannot transform it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from engram import extras
from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import custom_operator, layout, rule_decoding, rule_encoding
from engram.plasticity.kernels.constants import ADDITIVE, FIXED, HEBB, LINEAR, NOTHING, RATE
from engram.plasticity.kernels.custom_operator import RECURRENT
from engram.plasticity.kernels.layout import array, copies, like, padded, traces, zeros
from engram.plasticity.kernels.rnn.fixed import fixed_scan
from engram.plasticity.kernels.rnn.options import Options
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.scan import plastic_scan
from engram.plasticity.state import PlasticState

# Whether the CUDA kernels can be compiled; like numba, Triton is imported only at the first call.
TRITON = find_spec("triton") is not None

_INPUTS = f"Tensor? mask, Tensor hidden, {RECURRENT}"


def unsupported(
    drive: Tensor,
    weight: Tensor,
    alpha: Tensor | LowRank | None,
    rule: PlasticityRule | None,
    state: PlasticState,
    *,
    neuromodulator: nn.Module | None = None,
    clamp: Tensor | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> str | None:
    """Why the operator cannot run a scan with these arguments, as part of an error message; None if it can.

    Examples:
        >>> from engram.plasticity import Hebb
        >>> state, zeros = PlasticState(torch.zeros(1, 1), Hebb().init(1, 1, 1)), torch.zeros(1, 1, 1)
        >>> unsupported(zeros, zeros[0], zeros[0], Hebb(), state, nonlinearity=torch.sin)
        'nonlinearity = sin: expected torch.tanh or torch.relu'
    """
    fixed = alpha is None and rule is None
    reason = None if fixed else rule_encoding.unsupported_rule(rule if alpha is not None else None)
    reason = reason or rule_encoding.unsupported_modulation(rule, neuromodulator)
    if reason is not None:
        return reason
    if nonlinearity not in (torch.tanh, torch.relu):
        return f"nonlinearity = {getattr(nonlinearity, '__name__', nonlinearity)}: expected torch.tanh or torch.relu"
    if drive.device.type == "cuda" and not TRITON:
        return f"input.device = {drive.device}: expected cpu, or the package triton ({extras.install('cuda')})"
    return rule_encoding.unsupported_input(drive, ("cpu", "cuda")) or rule_encoding.transformed(
        drive, weight, state.hidden, state.rule, alpha, rule, neuromodulator
    )


def fused_scan(
    drive: Float[Tensor, "time batch hidden"],
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank | None,
    rule: PlasticityRule | None,
    state: PlasticState,
    *,
    neuromodulator: nn.Module | None = None,
    clamp: Bool[Tensor, "time batch hidden"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
    stretch: int = 0,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticState]:
    """As ``plastic_scan``, run by the operator, for arguments that ``unsupported`` accepts.

    ``stretch`` is the number of steps whose traces of one sample the backward pass holds at once; if 0, as many as fit
    the cache, but at least sqrt(T).
    """
    if alpha is None and drive.is_cpu:
        return fixed_scan(drive, weight, state, clamp=clamp, nonlinearity=nonlinearity)
    hidden, synapses = state
    layer, squash = rule_encoding.recurrent(weight, alpha, rule, neuromodulator)
    units = nonlinearity is torch.relu, neuromodulator is not None, squash
    outputs, trace, eligibility = torch.ops.engram.plastic_scan(
        *(drive, clamp, hidden, *rule_encoding.traces_of(synapses), *layer),
        custom_operator.numbers(Options(*rule_encoding.rule_numbers(rule), *units, stretch)),
    )
    last = outputs[-1].clone() if len(drive) else hidden
    return outputs, state._replace(hidden=last, rule=rule_encoding.state_of(trace, eligibility))


def _prepare(drive: Tensor, mask: Tensor | None, hidden: Tensor, *tensors: Tensor) -> tuple[tuple[Any, Any], int, int]:
    """The state and the layer, as arrays with rows of whole registers; and the rows and width of a trace."""
    trace, eligibility, weight, alpha, *modulation = tensors
    rows, width, _ = layout.registers(len(weight), len(weight), weight.element_size())
    clamped = drive.new_empty((*drive.shape[:2], 0), dtype=torch.bool) if mask is None else mask
    alphas = _tiles(alpha, rows, width) if alpha.dim() == 2 else padded(alpha, width)
    state = array(clamped), array(hidden), *traces(trace, eligibility)
    return (state, (_tiles(weight, rows, width), alphas, *layout.modulating(width, *modulation))), rows, width


def _tiles(matrix: Tensor, rows: int, width: int) -> Any:
    """A padded matrix stored tile by tile from left to right; a tile is four rows of a register each."""
    from engram.numeric.simd import REGISTER_BYTES, ROWS

    lanes = REGISTER_BYTES // matrix.element_size()
    tiles: Any = layout.memory(rows * width, matrix.dtype)
    tile = -1, ROWS, width // lanes, lanes
    tiles.reshape(-1, width // lanes, ROWS, lanes)[:] = padded(matrix, rows, width).reshape(tile).swapaxes(1, 2)
    return tiles


def _untiled(tiles: Tensor, width: int) -> Tensor:
    """The matrix that is stored in these tiles."""
    from engram.numeric.simd import REGISTER_BYTES, ROWS

    lanes = REGISTER_BYTES // tiles.element_size()
    return tiles.view(-1, width // lanes, ROWS, lanes).transpose(1, 2).reshape(-1, width)


def _kind(options: Options) -> tuple[int, bool]:
    """The recursion as the kernels distinguish them, and whether they apply a bound."""
    # An infinite bound would suit all rules, but linear rules without a bound are faster with their own kernels.
    clipped = math.isfinite(options.clip) or options.recursion != LINEAR
    if options.recursion == LINEAR and options.forgets == NOTHING:
        return ADDITIVE, clipped
    if options.recursion == LINEAR and options.forgets == RATE and not clipped:
        return HEBB, clipped
    return options.recursion, clipped


def _forward(drive: Tensor, *args: Any) -> tuple[Tensor, ...]:
    (_, hidden, trace, eligibility, _, alpha, *_), options = args[:11], Options(*args[11:])
    if drive.numel() == 0:
        return (*like([drive]), *copies((trace, eligibility)))
    results = like((drive, trace, eligibility))
    (arrays, rows, width), kind = _prepare(drive, *args[:11]), _kind(options)
    forward = layout.kernel("rnn", "forward", alpha.dim() == 2, *kind)
    size = layout.scratch_size("forward", kind[0], rows * width, width)
    fixed = array(drive), *arrays, options[1:-1], (array(results[0]), *traces(*results[1:]))
    layout.in_groups(forward, drive.numel() * hidden.shape[1], len(hidden), (size, drive.dtype), lambda group: fixed)
    return tuple(results)


def _backward(grad_outputs: Tensor, *args: Any) -> tuple[Tensor, ...]:
    grad_last, outputs, args = args[:2], args[2], args[3:]
    (mask, *inputs), options = args[:11], Options(*args[11:])
    hidden, trace, eligibility, _, alpha, *_ = inputs
    if outputs.numel() == 0:
        return (*like([outputs]), *zeros([hidden]), *copies(grad_last), *zeros(inputs[3:]))
    time, batch, size = outputs.shape
    (arrays, rows, width), kind = _prepare(outputs, *args[:11]), _kind(options)
    stretch = layout.stretch_of(time, options.stretch, rows * width * outputs.element_size())
    results = like((outputs, hidden, trace, eligibility))
    alpha_sums = outputs.new_empty(min(layout.GROUPS, batch), rows * width)
    sums = layout.modulator_sums(outputs, batch, width)
    backward = layout.kernel("rnn", "backward", alpha.dim() == 2, *kind)
    numbers = layout.scratch_size("backward", kind[0], rows * width, width, time, stretch)
    input_arrays = (array(grad_outputs), *traces(*grad_last), array(outputs))
    output_arrays = (*map(array, results[:2]), *traces(*results[2:]))
    fixed = input_arrays, *arrays, options[1:-1], stretch, output_arrays
    sum_arrays, alphas, work = tuple(t.view(-1).numpy() for t in sums), alpha_sums.numpy(), 3 * outputs.numel() * size
    layout.in_groups(backward, work, batch, (numbers, outputs.dtype), lambda group: (*fixed, alphas[group], sum_arrays))
    current = results[0] if mask is None else results[0].masked_fill(mask, 0)
    alpha_grad = _untiled(alpha_sums.sum(0), width)[:size, :size]
    weight_grad = layout.weight_gradient(current, hidden.detach(), outputs.detach())
    of_alpha = alpha_grad.contiguous() if alpha.dim() == 2 else alpha_grad.sum(1)
    return (*results, weight_grad, of_alpha, *layout.totals(sums, size))


def _plain(drive: Tensor, *args: Any) -> tuple[Tensor, ...]:
    (mask, hidden, trace, eligibility, weight, alpha, eta, *modulation), options = args[:11], Options(*args[11:])
    outputs, state = plastic_scan(
        drive,
        weight,
        None if options.recursion == FIXED else alpha,
        rule_decoding.rule_of(*options[:4], eta, options.modulated),
        PlasticState(hidden, rule_encoding.state_of(trace, eligibility)),
        neuromodulator=rule_decoding.neuromodulator_of(options.squash, *modulation) if options.modulated else None,
        clamp=mask,
        nonlinearity=torch.relu if options.relu else torch.tanh,
    )
    return outputs, *state.rule


def _fake(drive: Tensor, mask: Tensor | None, hidden: Tensor, trace: Tensor, eligibility: Tensor, *unused: Any) -> Any:
    return tuple(like((drive, trace, eligibility)))


def _fake_backward(*args: Any) -> Any:
    outputs, _, *inputs = args[3:15]
    return tuple(like((outputs, *inputs)))


SCAN, DERIVATIVE = custom_operator.register(
    "plastic_scan",
    (_forward, _backward),
    (_fake, _fake_backward),
    plain=_plain,
    given=f"Tensor drive, {_INPUTS}",
    kept=f"Tensor outputs, {_INPUTS}",
    keep=lambda outputs: outputs[:1],
    external=0,
    options=Options,
    returned=3,
    graded=3,
)


def _on_cuda(direction: str, *args: Any) -> Any:
    return getattr(import_module("engram.plasticity.kernels.rnn.cuda"), direction)(*args)


custom_operator.implement(
    (SCAN, DERIVATIVE), (partial(_on_cuda, "forward"), partial(_on_cuda, "backward")), Options, "cuda"
)
