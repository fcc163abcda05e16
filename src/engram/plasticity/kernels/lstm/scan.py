"""The plastic LSTM's scan as one torch operator, ``engram::plastic_lstm_scan``, and what it can run; see ``rnn.scan``.

The operator also returns what its derivative needs of every step, the gates and the cell; the function beside it keeps
that to itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import encoding, operator
from engram.plasticity.kernels.codes import BLOCK, POST
from engram.plasticity.kernels.operator import RECURRENT, array, copies, like, padded, traces, zeros
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.state import PlasticLSTMState

# Fewest groups that a batch is dealt to: where the weights fit the second cache, and where to read them takes longer.
DEALT, DEALT_IF_LARGE = 8, 2
# Bytes of weights from which this is so.
LARGE = 2**20

_INPUTS = f"Tensor hidden, Tensor cell, {RECURRENT}"
_COUNT = 11


class Options(NamedTuple):
    """What a rule, its neuromodulator and the LSTM are, in the numbers of the operator."""

    recursion: int
    clip: float
    trace_first: bool
    forgets: int
    modulated: bool
    squash: int
    post: int
    from_cell: bool
    stretch: int


def unsupported(
    drive: Tensor,
    weight: Tensor,
    alpha: Tensor | LowRank,
    rule: PlasticityRule,
    state: PlasticLSTMState,
    *,
    neuromodulator: nn.Module | None = None,
    modulator_source: str = "hidden",
    read_clip: float | None = None,
    **options: str,
) -> str | None:
    """Return why the operator cannot run a scan with these arguments, as an error should say it; None if it can."""
    if read_clip is not None:
        return f"read_clip = {read_clip}: expected None"
    if modulator_source == "previous":
        return f"modulator_source = {modulator_source!r}: expected 'hidden' or 'cell'"
    return (
        encoding.unsupported_input(drive)
        or encoding.unsupported_rule(rule)
        or encoding.unsupported_modulation(rule, neuromodulator)
        or encoding.transformed(drive, weight, state[:2], state.rule, alpha, rule, neuromodulator)
    )


def fused_scan(
    drive: Float[Tensor, "time batch gates"],
    weight: Float[Tensor, "gates hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: PlasticLSTMState,
    *,
    neuromodulator: nn.Module | None = None,
    hebb_post: str = "input",
    modulator_source: str = "hidden",
    read_clip: float | None = None,
    stretch: int = 0,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticLSTMState]:
    """As ``plastic_lstm_scan``, by the operator; see ``rnn.fused_scan``."""
    hidden, cell, synapses = state
    layer, squash = encoding.recurrent(weight, alpha, rule, neuromodulator)
    units = neuromodulator is not None, squash, POST[hebb_post], modulator_source == "cell"
    outputs, cell, trace, eligibility, *_ = torch.ops.engram.plastic_lstm_scan(
        *(drive, hidden, cell, *encoding.traces_of(synapses), *layer),
        *Options(*encoding.rule_numbers(rule), *units, stretch),
    )
    last = outputs[-1] if len(drive) else hidden
    return outputs, state._replace(hidden=last, cell=cell, rule=encoding.state_of(trace, eligibility))


def _groups(batch: int, weight: Tensor) -> int:
    """Return how many groups the samples are dealt to; those of one share the reading of the weights."""
    fewest = DEALT_IF_LARGE if weight.nbytes > LARGE else DEALT
    block = min(BLOCK, -(-batch // fewest))
    # More than a block only where there would be too many groups, and then whole blocks.
    return -(-batch // (-(-batch // (operator.GROUPS * block)) * block))


def _prepare(direction: str, hidden: Tensor, cell: Tensor, *rest: Tensor) -> tuple[tuple[Any, ...], int, int]:
    """Return what both passes are given alike, as arrays with rows of whole registers; rows and width of a trace."""
    from engram.numeric.simd import REGISTER_BYTES

    trace, eligibility, weight, alpha, *ends = rest
    size = hidden.shape[1]
    rows, width, _ = operator.registers(size, size, hidden.element_size())
    weight = weight.detach()
    if direction == "forward":
        gates = functional.pad(weight.view(4, size, size), (0, rows - size, 0, width - size))
        matrix = gates.reshape(4 * width, rows).t()
    else:
        matrix = functional.pad(weight.reshape(4, size, size), (0, width - size, 0, width - size)).view(-1, width)
    # Panels of as many columns as fit a register, each row by row.
    panels = matrix.reshape(len(matrix), -1, REGISTER_BYTES // hidden.element_size()).transpose(0, 1).contiguous()
    alphas = padded(alpha, rows, width) if alpha.dim() == 2 else padded(alpha, width)
    state = array(hidden), array(cell), *traces(trace, eligibility)
    return (*state, panels.view(-1).numpy(), alphas, *operator.modulating(width, *ends)), rows, width


def _forward(drive: Tensor, *args: Any) -> tuple[Tensor, ...]:
    (hidden, cell, trace, eligibility, weight, alpha, *_), options = args[:_COUNT], Options(*args[_COUNT:])
    outputs = drive.new_empty(*drive.shape[:2], hidden.shape[1])
    steps = torch.empty_like(outputs), drive.new_empty(drive.shape), _currents(outputs, options)
    if drive.numel() == 0:
        return (outputs, *copies((cell, trace, eligibility)), *steps)
    last = like((cell, trace, eligibility))
    arrays, rows, width = _prepare("forward", *args[:_COUNT])
    forward = operator.kernel("lstm", "forward", alpha.dim() == 2, options.recursion)
    numbers = BLOCK * operator.scratch_size("forward", options.recursion, rows * width, width)
    written = array(outputs), array(last[0]), *traces(*last[1:]), *map(array, steps)
    fixed = (array(drive), *arrays, *options[1:-1], *written)
    work, batch = drive.numel() * hidden.shape[1], len(hidden)
    operator.in_groups(forward, work, batch, (numbers, drive.dtype), lambda group: fixed, _groups(batch, weight))
    return (outputs, *last, *steps)


def _currents(outputs: Tensor, options: Options) -> Tensor:
    """Return room for the currents that the rule takes as activity: of no units where it takes something else."""
    return outputs.new_empty(*outputs.shape[:2], outputs.shape[2] if options.post == POST["recurrent"] else 0)


def _backward(grad_outputs: Tensor, *args: Any) -> tuple[Tensor, ...]:
    grad_last, (outputs, cells, gates, currents), args = args[:3], args[3:7], args[7:]
    inputs, options = args[:_COUNT], Options(*args[_COUNT:])
    hidden, cell, trace, eligibility, weight, alpha, *_ = inputs
    if outputs.numel() == 0:
        return (*like([gates]), *zeros([hidden]), *copies(grad_last), *zeros(inputs[4:]))
    time, batch, size = outputs.shape
    arrays, rows, width = _prepare("backward", *inputs)
    stretch = operator.stretch_of(time, options.stretch, BLOCK * rows * width * outputs.element_size())
    groups = _groups(batch, weight)
    current_grad = _currents(outputs, options)
    made = like((gates, hidden, cell, trace, eligibility))
    alpha_sums = outputs.new_zeros(groups, rows * width if alpha.dim() == 2 else width)
    sums = operator.modulator_sums(outputs, batch, width)
    posts = (gates[..., 2 * size : 3 * size], currents, cells, outputs)
    read = (array(grad_outputs), array(grad_last[0]), *traces(*grad_last[1:]))
    kept = map(array, (outputs, cells, gates, posts[options.post]))
    written = array(made[0]), array(current_grad), *map(array, made[1:3]), *traces(*made[3:])
    backward = operator.kernel("lstm", "backward", alpha.dim() == 2, options.recursion)
    numbers = BLOCK * operator.scratch_size("backward", options.recursion, rows * width, width, time, stretch)
    fixed = (*read, *kept, *arrays, *options[1:-1], stretch, *written)
    ends, alphas, work = [t.view(-1).numpy() for t in sums], alpha_sums.numpy(), 3 * gates.numel() * size
    operator.in_groups(
        backward, work, batch, (numbers, outputs.dtype), lambda group: (*fixed, alphas[group], *ends), groups
    )
    fixed_grad = made[0]
    if options.post == POST["recurrent"]:
        # The fixed weights of the cell input are behind its current, not behind its input.
        fixed_grad = fixed_grad.clone()
        fixed_grad[..., 2 * size : 3 * size] = current_grad
    before = torch.cat((hidden.detach().unsqueeze(0), outputs.detach()[:-1]))
    weight_grad = fixed_grad.view(-1, 4 * size).t() @ before.view(-1, size)
    alpha_grad = alpha_sums.sum(0)
    of_alpha = alpha_grad.view(-1, width)[:size, :size] if alpha.dim() == 2 else alpha_grad[:size]
    return (*made, weight_grad, of_alpha.clone(memory_format=torch.contiguous_format), *operator.totals(sums, size))


def _fake(drive: Tensor, *args: Any) -> Any:
    (hidden, cell, trace, eligibility, *_), options = args[:_COUNT], Options(*args[_COUNT:])
    outputs = drive.new_empty(*drive.shape[:2], hidden.shape[1])
    return (*like((outputs, cell, trace, eligibility, outputs, drive)), _currents(outputs, options))


def _fake_backward(*args: Any) -> Any:
    _, _, gates, _, *inputs = args[4 : 8 + _COUNT]
    return tuple(like((gates, *inputs)))


operator.register(
    "plastic_lstm_scan",
    (_forward, _backward),
    (_fake, _fake_backward),
    given=f"Tensor drive, {_INPUTS}",
    kept=f"Tensor outputs, Tensor cells, Tensor gates, Tensor currents, {_INPUTS}",
    keep=lambda given, made: (made[0], *made[4:], *given[1:]),
    options=Options,
    returned=7,
    # What of the cells, the gates and the currents is kept is used here alone, so that no gradient comes into it.
    graded=4,
)
