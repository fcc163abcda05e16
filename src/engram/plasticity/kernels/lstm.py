"""The plastic LSTM's scan as one torch operator, ``engram::plastic_lstm_scan``, and what it can serve.

As ``fused``, whose helpers it shares, for the LSTM. The operator also returns what its derivative needs of every step,
the gates and the cell; the function beside it keeps that to itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import fused
from engram.plasticity.kernels.fused import CACHED, rule_numbers, signal, transformed, unsupported_input
from engram.plasticity.kernels.operator import GROUPS, in_groups, operator
from engram.plasticity.rule import EligibilityState, PlasticityRule, TraceState

if TYPE_CHECKING:
    from engram.plasticity.scan import PlasticLSTMState

# As `cpu_lstm` numbers them; numba is imported at the first call only.
POST = {"input": 0, "recurrent": 1, "cell": 2, "hidden": 3}

# Fewest groups that a batch is dealt to: where the weights fit the second cache, and where to read them takes longer.
DEALT, DEALT_IF_LARGE = 8, 2
# Bytes of weights from which this is so.
LARGE = 2**20

_Inputs = (
    "Tensor hidden, Tensor cell, Tensor trace, Tensor eligibility, Tensor weight, Tensor alpha, "
    "Tensor eta, Tensor v, Tensor v0, Tensor fan, Tensor base"
)
_INPUTS = 11


class Options(NamedTuple):
    """What a rule, its neuromodulator and the LSTM are, in the numbers of the operator."""

    recursion: int
    clip: float
    trace_first: bool
    modulated: bool
    squash: int
    forgets: int
    post: int
    from_cell: bool
    stretch: int


def unsupported(  # noqa: PLR0917
    drive: Tensor,
    weight: Tensor,
    alpha: Tensor | LowRank,
    rule: PlasticityRule,
    state: PlasticLSTMState,
    neuromodulator: nn.Module | None,
    read_clip: float | None = None,
) -> str | None:
    """Return why the operator cannot run a scan, as an error should say it; None if it can.

    Args:
        drive: External input.
        weight: Fixed weights.
        alpha: Plasticity coefficients.
        rule: The plasticity rule.
        state: State before the first step.
        neuromodulator: What modulates the rule.
        read_clip: Bound of the traces where they act.
    """
    if read_clip is not None:
        return f"read_clip = {read_clip}: expected None"
    return (
        unsupported_input(drive)
        or fused.unsupported(drive, weight, alpha, rule, state, neuromodulator, torch.tanh)
        or transformed([state.cell])
    )


def fused_lstm_scan(
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
    supported: bool = False,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticLSTMState]:
    """Run a plastic LSTM through time by the operator; see ``plastic_lstm_scan``, which it equals.

    Args:
        drive: External input u to the gates, (time, batch, 4 hidden) in torch's order i, f, g, o.
        weight: Fixed weights W, (4 hidden, hidden) in the same order.
        alpha: Plasticity coefficients, (post, pre), (post,), () or two factors.
        rule: The plasticity rule.
        state: State before the first step.
        neuromodulator: What modulates the rule; None if the rule is not modulated.
        hebb_post: What the rule takes as postsynaptic activity.
        modulator_source: What the neuromodulator reads.
        read_clip: Bound of the traces where they act; None, for the operator knows no other.
        stretch: Number of steps whose traces of one sample the backward pass holds at once; if 0, as many as fit the
            cache, and at least sqrt(T).
        supported: Whether ``unsupported`` was asked already, and had nothing against it.

    Returns:
        The output h at every step, and the state after the last one.

    Raises:
        ValueError: What the operator cannot run, in the words of ``unsupported``.

    Examples:
        >>> from engram.plasticity import ClippedHebb, PlasticLSTMState
        >>> rule, zeros = ClippedHebb(), torch.zeros(1, 2)
        >>> state = PlasticLSTMState(zeros, zeros, rule.init(1, 2, 2))
        >>> fused_lstm_scan(torch.ones(1, 1, 8), torch.zeros(8, 2), torch.tensor(1.0), rule, state)[0].tolist()
        [[[0.369..., 0.369...]]]
    """
    reason = None if supported else unsupported(drive, weight, alpha, rule, state, neuromodulator, read_clip)
    if reason is not None:
        raise ValueError(f"backend = 'fused': {reason}")
    hidden, cell, synapses = state
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    *sent, squash = signal(neuromodulator, weight)
    recursion, clip, trace_first, forgets = rule_numbers(rule)
    options = Options(
        recursion=recursion,
        clip=clip,
        trace_first=trace_first,
        modulated=neuromodulator is not None,
        squash=squash,
        forgets=forgets,
        post=POST[hebb_post],
        from_cell=modulator_source == "cell",
        stretch=stretch,
    )
    outputs, cell, trace, eligibility, *_ = torch.ops.engram.plastic_lstm_scan(
        drive,
        hidden,
        cell,
        synapses.trace,
        synapses.eligibility if isinstance(synapses, EligibilityState) else synapses.trace.new_empty(0),
        weight,
        alpha.expand(weight.shape[1]) if alpha.dim() == 0 else alpha,
        getattr(rule, "eta", weight.new_zeros(1)).reshape(1),
        *sent,
        *options,
    )
    last = TraceState(trace) if eligibility.dim() == 1 else EligibilityState(trace, eligibility)
    return outputs, state._replace(hidden=outputs[-1] if len(drive) else hidden, cell=cell, rule=last)


def panels(matrix: Tensor, lanes: int) -> Any:
    """Return a matrix cut into panels of as many columns as fit a register, each row by row, as one flat array.

    Args:
        matrix: A matrix whose width is a multiple of ``lanes``.
        lanes: How many numbers fit a register.
    """
    return matrix.reshape(len(matrix), -1, lanes).transpose(0, 1).contiguous().view(-1).numpy()


def _groups(batch: int, weight: Tensor) -> int:
    """Return how many groups the samples are dealt to; those of one share the reading of the weights."""
    from engram.plasticity.kernels.cpu_lstm import BLOCK

    fewest = DEALT_IF_LARGE if weight.nbytes > LARGE else DEALT
    block = min(BLOCK, -(-batch // fewest))
    # More than a block only where there would be too many groups, and then whole blocks.
    return -(-batch // (-(-batch // (GROUPS * block)) * block))


class _Prepared(NamedTuple):
    """What both passes are given alike, as arrays; what is taken row by row has rows of whole registers."""

    hidden: Any
    cell: Any
    trace: Any
    eligibility: Any
    panels: Any
    alpha: Any
    eta: Any
    v: Any
    v0: Any
    fan: Any
    base: Any


def _prepare(direction: str, hidden: Tensor, cell: Tensor, trace: Tensor, eligibility: Tensor, *rest: Tensor) -> Any:
    from engram.plasticity.kernels.simd import REGISTER_BYTES, ROWS

    weight, alpha, eta, v, v0, fan, base = (t.detach() for t in rest)
    size = hidden.shape[1]
    lanes = REGISTER_BYTES // hidden.element_size()
    rows, width = -(-size // ROWS) * ROWS, -(-size // lanes) * lanes

    def row(values: Tensor) -> Any:
        return functional.pad(values, (0, width - size)).contiguous().numpy()

    if direction == "forward":
        gates = functional.pad(weight.view(4, size, size), (0, rows - size, 0, width - size))
        matrix = gates.reshape(4 * width, rows).t()
    else:
        matrix = functional.pad(weight.reshape(4, size, size), (0, width - size, 0, width - size)).view(-1, width)
    connections = functional.pad(alpha, (0, width - size, 0, rows - size)) if alpha.dim() == 2 else alpha
    eligibility = eligibility.detach() if eligibility.dim() == 3 else trace.new_empty(0, 0, 0)
    prepared = _Prepared(
        hidden.detach().contiguous().numpy(),
        cell.detach().contiguous().numpy(),
        trace.detach().contiguous().numpy(),
        eligibility.contiguous().numpy(),
        panels(matrix, lanes),
        connections.contiguous().view(-1).numpy() if alpha.dim() == 2 else row(alpha),
        eta.contiguous().numpy(),
        row(v),
        v0.contiguous().numpy(),
        row(fan),
        row(base),
    )
    return prepared, rows * width


def _forward(drive: Tensor, *args: Any) -> tuple[Tensor, ...]:
    (hidden, cell, trace, eligibility, weight, alpha, *_), options = args[:_INPUTS], Options(*args[_INPUTS:])
    outputs = drive.new_empty(*drive.shape[:2], hidden.shape[1])
    cells, gates = torch.empty_like(outputs), drive.new_empty(drive.shape)
    currents = _currents(outputs, options)
    if drive.numel() == 0:
        last = (t.contiguous().clone() for t in (cell, trace, eligibility))
        return (outputs, *last, cells, gates, currents)
    last_cell, last_trace, last_eligibility = (t.new_empty(t.shape) for t in (cell, trace, eligibility))
    from engram.plasticity.kernels.cpu_lstm import BLOCK, kernel
    from engram.plasticity.kernels.cpu_trace import scratch_size

    arrays, connections = _prepare("forward", *args[:_INPUTS])
    written = (
        outputs.numpy(),
        last_cell.numpy(),
        last_trace.numpy(),
        last_eligibility.view(arrays.eligibility.shape).numpy(),
        cells.numpy(),
        gates.numpy(),
        currents.numpy(),
    )
    forward = kernel("forward", alpha.dim() == 2, options.recursion)
    numbers = BLOCK * scratch_size("forward", options.recursion, connections, len(arrays.fan), 1, 1)
    scratch = numbers, arrays.fan.dtype
    fixed = (drive.detach().contiguous().numpy(), *arrays, *options[1:-1], *written)
    work, batch = drive.numel() * hidden.shape[1], len(hidden)
    in_groups(forward, work, batch, scratch, lambda group: fixed, _groups(batch, weight))
    return outputs, last_cell, last_trace, last_eligibility, cells, gates, currents


def _currents(outputs: Tensor, options: Options) -> Tensor:
    """Return room for the currents that the rule takes as activity: of no units where it takes something else."""
    return outputs.new_empty(*outputs.shape[:2], outputs.shape[2] if options.post == POST["recurrent"] else 0)


def _backward(  # noqa: PLR0917
    grad_outputs: Tensor,
    grad_last_cell: Tensor,
    grad_last_trace: Tensor,
    grad_last_eligibility: Tensor,
    outputs: Tensor,
    cells: Tensor,
    gates: Tensor,
    currents: Tensor,
    *args: Any,
) -> tuple[Tensor, ...]:
    (hidden, cell, trace, eligibility, *parameters), options = args[:_INPUTS], Options(*args[_INPUTS:])
    weight, alpha, *_ = parameters
    if outputs.numel() == 0:
        zeros = (torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (hidden, *parameters))
        last = (t.contiguous().clone() for t in (grad_last_cell, grad_last_trace, grad_last_eligibility))
        return (gates.new_empty(gates.shape), next(zeros), *last, *zeros)
    from engram.plasticity.kernels.cpu_lstm import BLOCK, kernel
    from engram.plasticity.kernels.cpu_trace import scratch_size

    time, batch, size = outputs.shape
    arrays, connections = _prepare("backward", *args[:_INPUTS])
    width = len(arrays.fan)
    held = CACHED // (BLOCK * connections * outputs.element_size())
    stretch = min(time, options.stretch or max(math.isqrt(time - 1) + 1, held))
    groups = _groups(batch, weight)
    drive_grad, current_grad = gates.new_empty(gates.shape), _currents(outputs, options)
    hidden_grad, cell_grad = hidden.new_empty(hidden.shape), cell.new_empty(cell.shape)
    trace_grad, eligibility_grad = trace.new_empty(trace.shape), eligibility.new_empty(eligibility.shape)
    alpha_sums = outputs.new_zeros(groups, len(arrays.alpha))
    eta_sums, v0_sums = outputs.new_zeros(2, batch).unbind()
    v_sums, fan_sums, base_sums = outputs.new_zeros(3, batch, width).unbind()
    posts = {"input": gates[..., 2 * size : 3 * size], "recurrent": currents, "cell": cells, "hidden": outputs}
    read = (
        grad_outputs.contiguous().numpy(),
        grad_last_cell.contiguous().numpy(),
        grad_last_trace.contiguous().numpy(),
        grad_last_eligibility.contiguous().view(arrays.eligibility.shape).numpy(),
        outputs.detach().contiguous().numpy(),
        cells.detach().contiguous().numpy(),
        gates.detach().contiguous().numpy(),
        list(posts.values())[options.post].detach().contiguous().numpy(),
    )
    written = (
        drive_grad.numpy(),
        current_grad.numpy(),
        hidden_grad.numpy(),
        cell_grad.numpy(),
        trace_grad.numpy(),
        eligibility_grad.view(arrays.eligibility.shape).numpy(),
    )
    sums = [t.view(-1).numpy() for t in (eta_sums, v_sums, v0_sums, fan_sums, base_sums)]
    alphas = alpha_sums.numpy()
    backward = kernel("backward", alpha.dim() == 2, options.recursion)
    numbers = BLOCK * scratch_size("backward", options.recursion, connections, width, time, stretch)
    scratch = numbers, arrays.fan.dtype
    fixed = (*read, *arrays, *options[1:-1], stretch, *written)
    work = 3 * gates.numel() * size
    in_groups(backward, work, batch, scratch, lambda group: (*fixed, alphas[group], *sums), groups)
    fixed_grad = drive_grad
    if options.post == POST["recurrent"]:
        # The fixed weights of the cell input are behind its current, not behind its input.
        fixed_grad = drive_grad.clone()
        fixed_grad[..., 2 * size : 3 * size] = current_grad
    before = torch.cat((hidden.detach().unsqueeze(0), outputs.detach()[:-1]))
    alpha_grad = alpha_sums.sum(0)
    return (
        drive_grad,
        hidden_grad,
        cell_grad,
        trace_grad,
        eligibility_grad,
        fixed_grad.view(-1, 4 * size).t() @ before.view(-1, size),
        (alpha_grad.view(-1, width)[:size, :size] if alpha.dim() == 2 else alpha_grad[:size]).clone(
            memory_format=torch.contiguous_format
        ),
        eta_sums.sum().reshape(1),
        v_sums.sum(0)[:size].clone(),
        v0_sums.sum().reshape(1),
        fan_sums.sum(0)[:size].clone(),
        base_sums.sum(0)[:size].clone(),
    )


def _fake(drive: Tensor, *args: Any) -> Any:
    (hidden, cell, trace, eligibility, *_), options = args[:_INPUTS], Options(*args[_INPUTS:])
    outputs = drive.new_empty(*drive.shape[:2], hidden.shape[1])
    last = (t.new_empty(t.shape) for t in (cell, trace, eligibility))
    steps = outputs.new_empty(outputs.shape), drive.new_empty(drive.shape)
    return (outputs, *last, *steps, _currents(outputs, options))


def _fake_backward(*args: Any) -> Any:
    _, _, gates, _, *inputs = args[4 : 8 + _INPUTS]
    return tuple(t.new_empty(t.shape) for t in (gates, *inputs))


operator(
    "plastic_lstm_scan",
    (_forward, _backward),
    (_fake, _fake_backward),
    given=f"Tensor drive, {_Inputs}",
    kept=f"Tensor outputs, Tensor cells, Tensor gates, Tensor currents, {_Inputs}",
    keep=lambda given, made: (made[0], *made[4:], *given[1:]),
    options=Options,
    returned=(7, 12),
    # What of the cells, the gates and the currents is kept is used here alone, so that no gradient comes into it.
    graded=4,
)
