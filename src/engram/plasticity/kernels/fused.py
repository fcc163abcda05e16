"""The plastic recurrent scan as one torch operator, ``engram::plastic_scan``, and what it can serve.

The operator has its own derivative, so that autograd keeps nothing but its inputs and outputs; it is known to
``torch.compile``. There is no derivative of the derivative, and no transform of ``torch.func`` passes through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity.alpha import LowRank
from engram.plasticity.clipped_hebb import ClippedHebb
from engram.plasticity.hebb import Hebb
from engram.plasticity.kernels import threads
from engram.plasticity.modulated import Modulated
from engram.plasticity.neuromodulator import Neuromodulator
from engram.plasticity.oja import Oja
from engram.plasticity.retroactive import Retroactive
from engram.plasticity.rule import EligibilityState, PlasticityRule, TraceState

if TYPE_CHECKING:
    from engram.plasticity.scan import PlasticState

# As `cpu` numbers them; numba is imported at the first call only.
LINEAR, SOFT, RETROACTIVE = 0, 1, 2
NOTHING, SHARE, RATE, OJA = 0, 1, 2, 3
SQUASH = {"identity": 0, "tanh": 1, "sigmoid": 2}

# Samples are summed in at most so many groups, whatever the number of threads, so that this does not show.
GROUPS = 32
# Bytes of one sample's traces that the backward pass keeps at once even where sqrt(T) of them are fewer.
CACHED = 2**19
# Arithmetic of fewer steps and connections than this is done before another thread has begun.
WORTH_A_THREAD = 2**17

_Options = (
    "int recursion, float clip, bool trace_first, bool relu, bool modulated, int squash, int forgets, int stretch"
)
_Inputs = (
    "Tensor? mask, Tensor hidden, Tensor trace, Tensor eligibility, Tensor weight, Tensor alpha, "
    "Tensor eta, Tensor v, Tensor v0, Tensor fan, Tensor base"
)


class Options(NamedTuple):
    """What a rule, its neuromodulator and the units are, in the numbers of the operator."""

    recursion: int
    clip: float
    trace_first: bool
    relu: bool
    modulated: bool
    squash: int
    forgets: int
    stretch: int = 0


def unsupported(  # noqa: PLR0917
    drive: Tensor,
    weight: Tensor,
    alpha: Tensor | LowRank | None,
    rule: PlasticityRule | None,
    state: PlasticState,
    neuromodulator: nn.Module | None,
    nonlinearity: Callable[[Tensor], Tensor],
) -> str | None:
    """Return why the operator cannot run a scan, as an error should say it; None if it can.

    Args:
        drive: External input.
        weight: Fixed weights.
        alpha: Plasticity coefficients.
        rule: The plasticity rule.
        state: State before the first step.
        neuromodulator: What modulates the rule.
        nonlinearity: f.

    Examples:
        >>> from engram.plasticity import PlasticState
        >>> state, zeros = PlasticState(torch.zeros(1, 1), Hebb().init(1, 1, 1)), torch.zeros(1, 1, 1)
        >>> unsupported(zeros, zeros[0], zeros[0], Hebb(), state, None, torch.sin)
        'nonlinearity = sin: expected torch.tanh or torch.relu'
    """
    # A subclass may have changed anything, so it is not taken for its parent.
    if rule is None or alpha is None or type(rule) not in (Hebb, Oja, ClippedHebb, Modulated, Retroactive):
        names = "Hebb, Oja, ClippedHebb, Modulated or Retroactive"
        return f"rule = {rule}: expected {names}, and no subclass"
    if isinstance(rule, Modulated) and rule.strict:
        return "rule.strict = True: expected False"
    if neuromodulator is not None and type(neuromodulator) is not Neuromodulator:
        return f"neuromodulator is a {type(neuromodulator).__name__}: expected a Neuromodulator, and no subclass"
    if (neuromodulator is None) == rule.modulated:
        return f"neuromodulator = {neuromodulator}: expected {'one' if rule.modulated else 'None'} for {rule}"
    if nonlinearity not in (torch.tanh, torch.relu):
        return f"nonlinearity = {getattr(nonlinearity, '__name__', nonlinearity)}: expected torch.tanh or torch.relu"
    if drive.device.type != "cpu":
        return f"input.device = {drive.device}: expected cpu"
    if drive.dtype not in (torch.float32, torch.float64):
        return f"input.dtype = {drive.dtype}: expected torch.float32 or torch.float64"
    modules = [m for m in (alpha, rule, neuromodulator) if isinstance(m, nn.Module)]
    tensors = [drive, weight, state.hidden, *state.rule, *[p for m in modules for p in m.parameters()]]
    tensors += [alpha] if isinstance(alpha, Tensor) else []
    if not torch.compiler.is_compiling() and any(torch.func.debug_unwrap(t) is not t for t in tensors):
        return "expected a call that no transform of torch.func is at work on; backend = 'auto' can be transformed"
    return None


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
    """Run a plastic recurrent network through time by the operator; see ``plastic_scan``, which it equals.

    Args:
        drive: External input u to the units.
        weight: Fixed weights W, (post, pre).
        alpha: Plasticity coefficients, (post, pre), (post,), () or two factors.
        rule: The plasticity rule.
        state: State before the first step.
        neuromodulator: What modulates the rule; None if the rule is not modulated.
        clamp: Where true, the unit takes its external input as its activity.
        nonlinearity: f, ``torch.tanh`` or ``torch.relu``.
        stretch: Number of steps whose traces the backward pass holds at once, for one sample a thread. T keeps all of
            them, 1 keeps a trace every step from which nothing is left to be made anew. If 0, as many as fit the
            cache, and at least sqrt(T).

    Returns:
        The activity at every step, and the state after the last one.

    Raises:
        ValueError: What the operator cannot run, in the words of ``unsupported``.

    Examples:
        >>> from engram.plasticity import PlasticState
        >>> rule, one = Hebb(), torch.ones(1, 1)
        >>> state = PlasticState(one, rule.init(1, 1, 1))
        >>> fused_scan(torch.zeros(2, 1, 1), one, one[0, 0], rule, state)[0].flatten().tolist()
        [0.7615..., 0.6454...]
    """
    reason = unsupported(drive, weight, alpha, rule, state, neuromodulator, nonlinearity)
    if reason is not None:
        raise ValueError(f"backend = 'fused': {reason}")
    assert alpha is not None
    assert rule is not None
    hidden, synapses = state
    size = weight.shape[0]
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    none, one = weight.new_zeros(1), weight.new_ones(1)
    v, v0, fan, base = none.expand(size), none, one.expand(size), none.expand(size)
    squash = "identity"
    if isinstance(neuromodulator, Neuromodulator):
        v, v0, squash = neuromodulator.weight.reshape(size), neuromodulator.bias, neuromodulator.nonlinearity
        if neuromodulator.fan_weight is not None and neuromodulator.fan_bias is not None:
            fan, base = neuromodulator.fan_weight.reshape(size), neuromodulator.fan_bias
    eta = getattr(rule, "eta", none).reshape(1)
    forgets = NOTHING
    if isinstance(rule, Modulated) and rule.mode == "decay":
        forgets = SHARE
    elif isinstance(rule, Hebb | Retroactive):
        forgets = RATE
    elif isinstance(rule, Oja):
        forgets = OJA
    options = Options(
        clip=math.inf if rule.clip is None else rule.clip,
        recursion={"linear": LINEAR, "soft": SOFT, "retroactive": RETROACTIVE}[rule.recursion],
        trace_first=isinstance(rule, Retroactive) and rule.trace_first,
        relu=nonlinearity is torch.relu,
        modulated=neuromodulator is not None,
        squash=SQUASH[squash],
        forgets=forgets,
        stretch=stretch,
    )
    eligibility = synapses.eligibility if isinstance(synapses, EligibilityState) else synapses.trace.new_empty(0)
    outputs, trace, eligibility = torch.ops.engram.plastic_scan(
        drive,
        clamp,
        hidden,
        synapses.trace,
        eligibility,
        weight,
        alpha.expand(size) if alpha.dim() == 0 else alpha,
        eta,
        v,
        v0,
        fan,
        base,
        *options,
    )
    last = TraceState(trace) if eligibility.dim() == 1 else EligibilityState(trace, eligibility)
    return outputs, state._replace(hidden=outputs[-1] if len(drive) else hidden, rule=last)


class _Prepared(NamedTuple):
    """What both passes are given alike, as arrays; what is taken row by row has rows of whole registers."""

    mask: Any
    hidden: Any
    trace: Any
    eligibility: Any
    weight: Any
    alpha: Any
    eta: Any
    v: Any
    v0: Any
    fan: Any
    base: Any


def _prepare(
    drive: Tensor, mask: Tensor | None, hidden: Tensor, trace: Tensor, eligibility: Tensor, *rest: Tensor
) -> _Prepared:
    from engram.plasticity.kernels.simd import REGISTER_BYTES, ROWS

    size = hidden.shape[1]
    lanes = REGISTER_BYTES // hidden.element_size()
    rows, width = -(-size // ROWS) * ROWS, -(-size // lanes) * lanes

    def row(values: Tensor) -> Any:
        return functional.pad(values, (0, width - size)).contiguous().numpy()

    def matrix(values: Tensor) -> Any:
        return functional.pad(values, (0, width - size, 0, rows - size)).contiguous().view(-1).numpy()

    weight, alpha, eta, v, v0, fan, base = (t.detach() for t in rest)
    clamped = drive.new_empty((*drive.shape[:2], 0), dtype=torch.bool) if mask is None else mask
    eligibility = eligibility.detach() if eligibility.dim() == 3 else trace.new_empty(0, 0, 0)
    return _Prepared(
        clamped.contiguous().numpy(),
        hidden.detach().contiguous().numpy(),
        trace.detach().contiguous().numpy(),
        eligibility.contiguous().numpy(),
        matrix(weight),
        matrix(alpha) if alpha.dim() == 2 else row(alpha),
        eta.contiguous().numpy(),
        row(v),
        v0.contiguous().numpy(),
        row(fan),
        row(base),
    )


def _run(kernel: Any, work: int, batch: int, scratch: Any, arguments: Callable[[int], tuple[Any, ...]]) -> None:
    groups = min(GROUPS, batch)

    def call(group: int, own: Any) -> None:
        kernel(*arguments(group), own, batch * group // groups, batch * (group + 1) // groups)

    count = torch.get_num_threads() if work >= WORTH_A_THREAD else 1
    threads.shared.run(call, groups, count, lambda: np.zeros(*scratch))


def _clipped(options: Options) -> bool:
    # An infinite bound would do for all; the rules without one gain from a kernel of their own.
    return math.isfinite(options.clip) or options.recursion != LINEAR


def _forward(drive: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    (_, hidden, trace, eligibility, _, alpha, *_), options = args[:11], Options(*args[11:])
    outputs = drive.new_empty(drive.shape)
    if drive.numel() == 0:
        return outputs, trace.contiguous().clone(), eligibility.contiguous().clone()
    last_trace, last_eligibility = trace.new_empty(trace.shape), eligibility.new_empty(eligibility.shape)
    from engram.plasticity.kernels.cpu import kernel, scratch_size

    arrays = _prepare(drive, *args[:11])
    written = (outputs.numpy(), last_trace.numpy(), last_eligibility.reshape(arrays.eligibility.shape).numpy())
    forward = kernel("forward", alpha.dim() == 2, options.recursion, _clipped(options))
    external = drive.detach().contiguous().numpy()
    size = scratch_size("forward", options.recursion, arrays.weight.size, len(arrays.fan), 1, 1)
    scratch = size, arrays.weight.dtype
    fixed = (external, *arrays, *options[1:-1], *written)
    _run(forward, drive.numel() * hidden.shape[1], len(hidden), scratch, lambda group: fixed)
    return outputs, last_trace, last_eligibility


def _backward(
    grad_outputs: Tensor, grad_last_trace: Tensor, grad_last_eligibility: Tensor, outputs: Tensor, *args: Any
) -> tuple[Tensor, ...]:
    (mask, hidden, trace, eligibility, weight, alpha, eta, v, v0, *_), options = args[:11], Options(*args[11:])
    size, batch, time = hidden.shape[1], len(hidden), len(outputs)
    if outputs.numel() == 0:
        zeros = [torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (weight, alpha, eta, v, v0, v, v)]
        own = outputs.new_empty(outputs.shape), torch.zeros_like(hidden, memory_format=torch.contiguous_format)
        return (*own, grad_last_trace.clone(), grad_last_eligibility.clone(), *zeros)
    from engram.plasticity.kernels.cpu import kernel, scratch_size

    arrays = _prepare(outputs, *args[:11])
    width = len(arrays.fan)
    trace_bytes = arrays.weight.nbytes
    stretch = min(time, options.stretch or max(math.isqrt(time - 1) + 1, CACHED // trace_bytes))
    groups = min(GROUPS, batch)
    drive_grad, hidden_grad = outputs.new_empty(outputs.shape), hidden.new_empty(hidden.shape)
    trace_grad, eligibility_grad = trace.new_empty(trace.shape), eligibility.new_empty(eligibility.shape)
    alpha_sums = outputs.new_zeros(groups, len(arrays.weight))
    eta_sums, v0_sums = outputs.new_zeros(2, batch).unbind()
    v_sums, fan_sums, base_sums = outputs.new_zeros(3, batch, width).unbind()
    read = (
        grad_outputs.contiguous().numpy(),
        grad_last_trace.contiguous().numpy(),
        grad_last_eligibility.contiguous().reshape(arrays.eligibility.shape).numpy(),
        outputs.detach().contiguous().numpy(),
    )
    written = (
        drive_grad.numpy(),
        hidden_grad.numpy(),
        trace_grad.numpy(),
        eligibility_grad.view(arrays.eligibility.shape).numpy(),
    )
    sums = [t.numpy() for t in (eta_sums, v_sums, v0_sums, fan_sums, base_sums)]
    alphas = alpha_sums.numpy()
    backward = kernel("backward", alpha.dim() == 2, options.recursion, _clipped(options))
    scratch = scratch_size("backward", options.recursion, arrays.weight.size, width, time, stretch), arrays.weight.dtype
    fixed = (*read, *arrays, *options[1:-1], stretch, *written)
    _run(backward, 3 * outputs.numel() * size, batch, scratch, lambda group: (*fixed, alphas[group], *sums))
    current = drive_grad if mask is None else drive_grad.masked_fill(mask, 0)
    before = torch.cat((hidden.detach().unsqueeze(0), outputs.detach()[:-1]))
    alpha_grad = alpha_sums.sum(0).view(-1, width)[:size, :size]
    return (
        drive_grad,
        hidden_grad,
        trace_grad,
        eligibility_grad,
        current.reshape(-1, size).t() @ before.reshape(-1, size),
        alpha_grad.contiguous() if alpha.dim() == 2 else alpha_grad.sum(1),
        eta_sums.sum().reshape(1),
        v_sums.sum(0)[:size].clone(),
        v0_sums.sum().reshape(1),
        fan_sums.sum(0)[:size].clone(),
        base_sums.sum(0)[:size].clone(),
    )


_scan = torch.library.custom_op(
    "engram::plastic_scan",
    _forward,
    mutates_args=(),
    device_types="cpu",
    schema=f"(Tensor drive, {_Inputs}, {_Options}) -> (Tensor, Tensor, Tensor)",
)
_scan_backward = torch.library.custom_op(
    "engram::plastic_scan_backward",
    _backward,
    mutates_args=(),
    device_types="cpu",
    schema=(
        "(Tensor grad_outputs, Tensor grad_trace, Tensor grad_eligibility, Tensor outputs, "
        f"{_Inputs}, {_Options}) -> ({', '.join(['Tensor'] * 11)})"
    ),
)


@_scan.register_fake
def _(drive: Tensor, mask: Tensor | None, hidden: Tensor, trace: Tensor, eligibility: Tensor, *rest: Any) -> Any:
    return tuple(t.new_empty(t.shape) for t in (drive, trace, eligibility))


@_scan_backward.register_fake
def _(grad_outputs: Tensor, grad_trace: Tensor, grad_eligibility: Tensor, outputs: Tensor, *args: Any) -> Any:
    _, *inputs = args[:11]
    return tuple(t.new_empty(t.shape) for t in (outputs, *inputs))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, *tensors = inputs[:12]
    ctx.save_for_backward(output[0], *tensors)
    ctx.options = inputs[12:]


def _gradients(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    drive, *others = _scan_backward(*grads, *ctx.saved_tensors, *ctx.options)
    return (drive, None, *others, *[None] * len(Options._fields))


def _no_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "the fused scan has no second derivative: make the network with backend='eager' to differentiate twice"
    )


_scan.register_autograd(_gradients, setup_context=_save)
_scan_backward.register_autograd(_no_second_derivative)
