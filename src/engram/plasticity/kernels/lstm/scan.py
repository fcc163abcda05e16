"""The plastic LSTM's scan as one torch operator, ``engram::plastic_lstm_scan``; see ``rnn.scan``.

The operator also returns the values of every step that its derivative needs, such as the gates and the cell;
``fused_scan`` does not pass them on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import custom_operator, layout, rule_decoding, rule_encoding
from engram.plasticity.kernels.constants import BLOCK, POST
from engram.plasticity.kernels.custom_operator import RECURRENT
from engram.plasticity.kernels.layout import array, copies, like, padded, traces, zeros
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.scan import plastic_lstm_scan
from engram.plasticity.state import PlasticLSTMState

# Fewest groups into which a batch is split: if the weights fit the second-level cache, and if they are larger.
DEALT, DEALT_IF_LARGE = 8, 2
# Bytes above which weights count as large.
LARGE = 2**20

_INPUTS = f"Tensor hidden, Tensor cell, {RECURRENT}"
_COUNT = 11
_POST_NAMES = {code: name for name, code in POST.items()}


class Options(NamedTuple):
    """A rule, its neuromodulator and the LSTM, encoded as the numbers of the operator."""

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
    """Why the operator cannot run a scan with these arguments, as part of an error message; None if it can."""
    if read_clip is not None:
        return f"read_clip = {read_clip}: expected None"
    if modulator_source == "previous":
        return f"modulator_source = {modulator_source!r}: expected 'hidden' or 'cell'"
    return (
        rule_encoding.unsupported_input(drive)
        or rule_encoding.unsupported_rule(rule)
        or rule_encoding.unsupported_modulation(rule, neuromodulator)
        or rule_encoding.transformed(drive, weight, state[:2], state.rule, alpha, rule, neuromodulator)
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
    layer, squash = rule_encoding.recurrent(weight, alpha, rule, neuromodulator)
    units = neuromodulator is not None, squash, POST[hebb_post], modulator_source == "cell"
    outputs, cell, trace, eligibility, *_ = torch.ops.engram.plastic_lstm_scan(
        *(drive, hidden, cell, *rule_encoding.traces_of(synapses), *layer),
        custom_operator.numbers(Options(*rule_encoding.rule_numbers(rule), *units, stretch)),
    )
    last = outputs[-1].clone() if len(drive) else hidden
    return outputs, state._replace(hidden=last, cell=cell, rule=rule_encoding.state_of(trace, eligibility))


def _groups(batch: int, weight: Tensor) -> int:
    """The number of groups of samples; the samples of a group share each reading of the weights."""
    fewest = DEALT_IF_LARGE if weight.nbytes > LARGE else DEALT
    block = min(BLOCK, -(-batch // fewest))
    # A group is larger than a block only if there would be too many groups, and then it is whole blocks.
    return -(-batch // (-(-batch // (layout.GROUPS * block)) * block))


def _prepare(direction: str, hidden: Tensor, cell: Tensor, *tensors: Tensor) -> tuple[tuple[Any, Any], int, int]:
    """The state and the layer, as arrays with rows of whole registers; and the rows and width of a trace."""
    from engram.numeric.simd import REGISTER_BYTES

    trace, eligibility, weight, alpha, *modulation = tensors
    size = hidden.shape[1]
    rows, width, _ = layout.registers(size, size, hidden.element_size())
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
    return (state, (panels.view(-1).numpy(), alphas, *layout.modulating(width, *modulation))), rows, width


def _forward(drive: Tensor, *args: Any) -> tuple[Tensor, ...]:
    (hidden, cell, trace, eligibility, weight, alpha, *_), options = args[:_COUNT], Options(*args[_COUNT:])
    outputs = drive.new_empty(*drive.shape[:2], hidden.shape[1])
    steps = torch.empty_like(outputs), drive.new_empty(drive.shape), _currents(outputs, options)
    if drive.numel() == 0:
        return (outputs, *copies((cell, trace, eligibility)), *steps)
    last = like((cell, trace, eligibility))
    arrays, rows, width = _prepare("forward", *args[:_COUNT])
    forward = layout.kernel("lstm", "forward", alpha.dim() == 2, options.recursion)
    numbers = BLOCK * layout.scratch_size("forward", options.recursion, rows * width, width)
    output_arrays = array(outputs), array(last[0]), *traces(*last[1:]), *map(array, steps)
    fixed = array(drive), *arrays, options[1:-1], output_arrays
    work, batch = drive.numel() * hidden.shape[1], len(hidden)
    layout.in_groups(forward, work, batch, (numbers, drive.dtype), lambda group: fixed, _groups(batch, weight))
    return (outputs, *last, *steps)


def _currents(outputs: Tensor, options: Options) -> Tensor:
    """An uninitialised tensor for the currents, if the rule takes them as activity; else one of no units."""
    return outputs.new_empty(*outputs.shape[:2], outputs.shape[2] if options.post == POST["recurrent"] else 0)


def _backward(grad_outputs: Tensor, *args: Any) -> tuple[Tensor, ...]:
    grad_last, (outputs, cells, gates, currents), args = args[:3], args[3:7], args[7:]
    inputs, options = args[:_COUNT], Options(*args[_COUNT:])
    hidden, cell, trace, eligibility, weight, alpha, *_ = inputs
    if outputs.numel() == 0:
        return (*like([gates]), *zeros([hidden]), *copies(grad_last), *zeros(inputs[4:]))
    time, batch, size = outputs.shape
    arrays, rows, width = _prepare("backward", *inputs)
    stretch = layout.stretch_of(time, options.stretch, BLOCK * rows * width * outputs.element_size())
    groups = _groups(batch, weight)
    current_grad = _currents(outputs, options)
    results = like((gates, hidden, cell, trace, eligibility))
    alpha_sums = outputs.new_zeros(groups, rows * width if alpha.dim() == 2 else width)
    sums = layout.modulator_sums(outputs, batch, width)
    posts = (gates[..., 2 * size : 3 * size], currents, cells, outputs)
    last = array(grad_outputs), array(grad_last[0]), *traces(*grad_last[1:])
    input_arrays = *last, *map(array, (outputs, cells, gates, posts[options.post]))
    output_arrays = array(results[0]), array(current_grad), *map(array, results[1:3]), *traces(*results[3:])
    backward = layout.kernel("lstm", "backward", alpha.dim() == 2, options.recursion)
    numbers = BLOCK * layout.scratch_size("backward", options.recursion, rows * width, width, time, stretch)
    fixed = input_arrays, *arrays, options[1:-1], stretch, output_arrays
    sum_arrays, alphas, work = tuple(t.view(-1).numpy() for t in sums), alpha_sums.numpy(), 3 * gates.numel() * size
    layout.in_groups(
        backward, work, batch, (numbers, outputs.dtype), lambda group: (*fixed, alphas[group], sum_arrays), groups
    )
    fixed_grad = results[0]
    if options.post == POST["recurrent"]:
        # The fixed weights of the cell input are behind its current, not behind its input.
        fixed_grad = fixed_grad.clone()
        fixed_grad[..., 2 * size : 3 * size] = current_grad
    before = torch.cat((hidden.detach().unsqueeze(0), outputs.detach()[:-1]))
    weight_grad = fixed_grad.view(-1, 4 * size).t() @ before.view(-1, size)
    alpha_grad = alpha_sums.sum(0)
    of_alpha = alpha_grad.view(-1, width)[:size, :size] if alpha.dim() == 2 else alpha_grad[:size]
    return (*results, weight_grad, of_alpha.clone(memory_format=torch.contiguous_format), *layout.totals(sums, size))


def _plain(drive: Tensor, *args: Any) -> tuple[Tensor, ...]:
    tensors, options = args[:_COUNT], Options(*args[_COUNT:])
    hidden, cell, trace, eligibility, weight, alpha, eta, *modulation = tensors
    outputs, state = plastic_lstm_scan(
        drive,
        weight,
        alpha,
        rule_decoding.DecodedRule(*options[:4], eta, options.modulated),
        PlasticLSTMState(hidden, cell, rule_encoding.state_of(trace, eligibility)),
        neuromodulator=rule_decoding.neuromodulator_of(options.squash, *modulation) if options.modulated else None,
        hebb_post=_POST_NAMES[options.post],
        modulator_source="cell" if options.from_cell else "hidden",
    )
    return outputs, state.cell, *state.rule


def _fake(drive: Tensor, *args: Any) -> Any:
    (hidden, cell, trace, eligibility, *_), options = args[:_COUNT], Options(*args[_COUNT:])
    outputs = drive.new_empty(*drive.shape[:2], hidden.shape[1])
    return (*like((outputs, cell, trace, eligibility, outputs, drive)), _currents(outputs, options))


def _fake_backward(*args: Any) -> Any:
    _, _, gates, _, *inputs = args[4 : 8 + _COUNT]
    return tuple(like((gates, *inputs)))


custom_operator.register(
    "plastic_lstm_scan",
    (_forward, _backward),
    (_fake, _fake_backward),
    plain=_plain,
    given=f"Tensor drive, {_INPUTS}",
    kept=f"Tensor outputs, Tensor cells, Tensor gates, Tensor currents, {_INPUTS}",
    keep=lambda outputs: (outputs[0], *outputs[4:]),
    external=0,
    options=Options,
    returned=7,
    # Only the derivative uses the saved cells, gates and currents, so that they have no gradient.
    graded=4,
)
