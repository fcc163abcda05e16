"""The plastic recurrent scan as one torch operator, ``engram::plastic_scan``, and what it can serve.

The operator has its own derivative, so that autograd keeps nothing but its inputs and outputs; it is known to
``torch.compile``. There is no derivative of the derivative, and no transform of ``torch.func`` passes through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from engram.plasticity.alpha import LowRank
from engram.plasticity.clipped_hebb import ClippedHebb
from engram.plasticity.hebb import Hebb
from engram.plasticity.kernels.operator import GROUPS, in_groups, operator
from engram.plasticity.modulated import Modulated
from engram.plasticity.neuromodulator import Neuromodulator
from engram.plasticity.oja import Oja
from engram.plasticity.retroactive import Retroactive
from engram.plasticity.rule import EligibilityState, PlasticityRule, TraceState
from engram.plasticity.validation import readable

if TYPE_CHECKING:
    from engram.plasticity.scan import PlasticLSTMState, PlasticState

# As `cpu` numbers them; numba is imported at the first call only.
LINEAR, SOFT, RETROACTIVE, HEBB, ADDITIVE = 0, 1, 2, 3, 4
NOTHING, SHARE, RATE, OJA = 0, 1, 2, 3
SQUASH = {"identity": 0, "tanh": 1, "sigmoid": 2}

# Whether the CUDA kernels can be made; like numba, it is imported at the first call only.
TRITON = find_spec("triton") is not None

# Bytes of one sample's traces that the backward pass keeps at once even where sqrt(T) of them are fewer.
CACHED = 2**19
# By how much an error of rounding may grow before the inverted trace is replaced by one that is computed forwards.
GROWTH = 100.0
# Steps that are undone at once even where the cache does not hold their traces.
UNDONE = 4

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
    invert: bool = False


def unsupported(  # noqa: PLR0917
    drive: Tensor,
    weight: Tensor,
    alpha: Tensor | LowRank | None,
    rule: PlasticityRule | None,
    state: PlasticState | PlasticLSTMState,
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
    reason = unsupported_rule(None if alpha is None else rule)
    if reason is not None or rule is None:
        return reason
    if neuromodulator is not None and type(neuromodulator) is not Neuromodulator:
        return f"neuromodulator is a {type(neuromodulator).__name__}: expected a Neuromodulator, and no subclass"
    if (neuromodulator is None) == rule.modulated:
        return f"neuromodulator = {neuromodulator}: expected {'one' if rule.modulated else 'None'} for {rule}"
    if nonlinearity not in (torch.tanh, torch.relu):
        return f"nonlinearity = {getattr(nonlinearity, '__name__', nonlinearity)}: expected torch.tanh or torch.relu"
    if drive.device.type == "cuda" and not TRITON:
        return f"input.device = {drive.device}: expected cpu, or the package triton (pip install 'engram[cuda]')"
    if drive.device.type not in ("cpu", "cuda"):
        return f"input.device = {drive.device}: expected cpu or cuda"
    if drive.dtype not in (torch.float32, torch.float64):
        return f"input.dtype = {drive.dtype}: expected torch.float32 or torch.float64"
    modules = [m for m in (alpha, rule, neuromodulator) if isinstance(m, nn.Module)]
    tensors = [drive, weight, state.hidden, *state.rule, *[p for m in modules for p in m.parameters(recurse=False)]]
    tensors += [alpha] if isinstance(alpha, Tensor) else []
    return transformed(tensors)


def unsupported_rule(rule: PlasticityRule | None) -> str | None:
    """Return why no operator can run a rule, as an error should say it; None if they can.

    Args:
        rule: The plasticity rule.
    """
    # A subclass may have changed anything, so it is not taken for its parent.
    if rule is None or type(rule) not in (Hebb, Oja, ClippedHebb, Modulated, Retroactive):
        names = "Hebb, Oja, ClippedHebb, Modulated or Retroactive"
        return f"rule = {rule}: expected {names}, and no subclass"
    if rule.recursion == "own" or getattr(rule, "only_half", False):
        return f"rule = {rule}: expected only_half=False and, of a retroactive rule, mode='clip'"
    return "rule.strict = True: expected False" if isinstance(rule, Modulated) and rule.strict else None


def unsupported_input(drive: Tensor) -> str | None:
    """Return why no kernel of the CPU can run on such a tensor, as an error should say it; None if they can.

    Args:
        drive: What a layer is given.
    """
    if drive.device.type != "cpu":
        return f"input.device = {drive.device}: expected cpu"
    if drive.dtype not in (torch.float32, torch.float64):
        return f"input.dtype = {drive.dtype}: expected torch.float32 or torch.float64"
    return None


def check_invertible(rule: PlasticityRule | None) -> None:
    """Raise unless the trace before a step can be had from the one after it.

    Args:
        rule: The plasticity rule.

    Raises:
        ValueError: Not ``Hebb`` or ``Oja``, or a plasticity rate at which a step may lose the trace before it.

    Examples:
        >>> check_invertible(Hebb(eta=1.5))
        Traceback (most recent call last):
        ...
        ValueError: storage = 'invert': Hebb() has eta = 1.5: expected between 0 and 1, both excluded
    """
    if type(rule) not in (Hebb, Oja):
        raise ValueError(f"storage = 'invert': {rule} cannot be inverted: expected Hebb or Oja, and no subclass")
    assert isinstance(rule, Hebb | Oja)
    if readable(rule.eta) and not 0 < rule.eta < 1:
        raise ValueError(
            f"storage = 'invert': {rule} has eta = {rule.eta.item():.6g}: expected between 0 and 1, both excluded"
        )


def transformed(tensors: Iterable[Tensor]) -> str | None:
    """Return why an operator cannot run where a transform of ``torch.func`` is at work on a tensor; None if none is.

    Args:
        tensors: What the operator would be given.
    """
    if torch.compiler.is_compiling() or all(torch.func.debug_unwrap(t) is t for t in tensors):
        return None
    return "expected a call that no transform of torch.func is at work on; backend = 'auto' can be transformed"


class RuleNumbers(NamedTuple):
    """What a rule is, in the numbers of the operators."""

    recursion: int
    clip: float
    trace_first: bool
    forgets: int


def rule_numbers(rule: PlasticityRule) -> RuleNumbers:
    """Return what a rule is, in the numbers of the operators.

    Args:
        rule: One that ``unsupported_rule`` has nothing against.
    """
    forgets = NOTHING
    if isinstance(rule, Modulated) and rule.mode == "decay":
        forgets = SHARE
    elif isinstance(rule, Hebb | Retroactive):
        forgets = RATE
    elif isinstance(rule, Oja):
        forgets = OJA
    return RuleNumbers(
        recursion={"linear": LINEAR, "soft": SOFT, "retroactive": RETROACTIVE}[rule.recursion],
        clip=math.inf if rule.clip is None else rule.clip,
        trace_first=isinstance(rule, Retroactive) and rule.trace_first,
        forgets=forgets,
    )


class Signal(NamedTuple):
    """What a neuromodulator is: the parameters of f(v . y + v0) and of its fan-out, and the number of f."""

    v: Tensor
    v0: Tensor
    fan: Tensor
    base: Tensor
    squash: int


def signal(neuromodulator: nn.Module | None, weight: Float[Tensor, "_ hidden"]) -> Signal:
    """Return what a neuromodulator is; one that emits nothing for None, and one without fan-out fans out by ones.

    Args:
        neuromodulator: What modulates the rule.
        weight: A tensor of the layer's dtype, as wide as the layer.
    """
    size = weight.shape[1]
    none, one = weight.new_zeros(1), weight.new_ones(1)
    if not isinstance(neuromodulator, Neuromodulator):
        return Signal(none.expand(size), none, one.expand(size), none.expand(size), SQUASH["identity"])
    fan, base = one.expand(size), none.expand(size)
    if neuromodulator.fan_weight is not None and neuromodulator.fan_bias is not None:
        fan, base = neuromodulator.fan_weight.reshape(size), neuromodulator.fan_bias
    squash = SQUASH[neuromodulator.nonlinearity]
    return Signal(neuromodulator.weight.reshape(size), neuromodulator.bias, fan, base, squash)


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
    storage: str = "auto",
    supported: bool = False,
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
        storage: Where the backward pass has the traces from, of one sample a thread; see ``PlasticRNN``.
        supported: Whether ``unsupported`` was asked already, and had nothing against it.

    Returns:
        The activity at every step, and the state after the last one.

    Raises:
        ValueError: What the operator cannot run, in the words of ``unsupported``; ``storage="invert"`` for a rule
            that cannot be inverted.

    Examples:
        >>> from engram.plasticity import PlasticState
        >>> rule, one = Hebb(), torch.ones(1, 1)
        >>> state = PlasticState(one, rule.init(1, 1, 1))
        >>> fused_scan(torch.zeros(2, 1, 1), one, one[0, 0], rule, state)[0].flatten().tolist()
        [0.7615..., 0.6454...]
    """
    reason = None if supported else unsupported(drive, weight, alpha, rule, state, neuromodulator, nonlinearity)
    if reason is not None:
        asked = "backend = 'fused'" if storage == "auto" else f"storage = {storage!r}"
        raise ValueError(f"{asked}: {reason}")
    assert alpha is not None
    assert rule is not None
    if storage == "invert":
        check_invertible(rule)
        if drive.device.type != "cpu":
            raise ValueError(f"storage = 'invert': input.device = {drive.device}: expected cpu")
    hidden, synapses = state
    size = weight.shape[0]
    alpha = alpha.dense() if isinstance(alpha, LowRank) else alpha
    v, v0, fan, base, squash = signal(neuromodulator, weight)
    eta = getattr(rule, "eta", v0.new_zeros(1)).reshape(1)
    recursion, clip, trace_first, forgets = rule_numbers(rule)
    time = len(drive)
    root = math.isqrt(max(time - 1, 0)) + 1
    options = Options(
        clip=clip,
        recursion=recursion,
        trace_first=trace_first,
        relu=nonlinearity is torch.relu,
        modulated=neuromodulator is not None,
        squash=squash,
        forgets=forgets,
        stretch={"auto": 0, "store": time, "checkpoint": root, "invert": 0}[storage],
        invert=storage == "invert",
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


def _tiles(matrix: Tensor) -> Any:
    """Return a padded matrix tile after tile: four rows of a register each, then those to the right of them."""
    from engram.plasticity.kernels.simd import REGISTER_BYTES, ROWS

    lanes = REGISTER_BYTES // matrix.element_size()
    return matrix.view(-1, ROWS, matrix.shape[1] // lanes, lanes).transpose(1, 2).contiguous().view(-1).numpy()


def _untiled(tiles: Tensor, width: int) -> Tensor:
    """Return the matrix of which these are the tiles."""
    from engram.plasticity.kernels.simd import REGISTER_BYTES, ROWS

    lanes = REGISTER_BYTES // tiles.element_size()
    return tiles.view(-1, width // lanes, ROWS, lanes).transpose(1, 2).reshape(-1, width)


def _in_tiles(arrays: _Prepared) -> _Prepared:
    def tiles(matrix: Any) -> Any:
        return _tiles(torch.from_numpy(matrix).view(-1, len(arrays.fan)))

    alpha = tiles(arrays.alpha) if len(arrays.alpha) == len(arrays.weight) else arrays.alpha
    return arrays._replace(weight=tiles(arrays.weight), alpha=alpha)


def _kind(options: Options) -> tuple[int, bool]:
    """Return the recursion as the kernels tell them apart, and whether they look at a bound."""
    # An infinite bound would do for all; the linear rules without one gain from kernels of their own.
    clipped = math.isfinite(options.clip) or options.recursion != LINEAR
    if options.recursion == LINEAR and options.forgets == NOTHING:
        return ADDITIVE, clipped
    if options.recursion == LINEAR and options.forgets == RATE and not clipped:
        return HEBB, clipped
    return options.recursion, clipped


def _forward(drive: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    (_, hidden, trace, eligibility, _, alpha, *_), options = args[:11], Options(*args[11:])
    outputs = drive.new_empty(drive.shape)
    if drive.numel() == 0:
        return outputs, trace.contiguous().clone(), eligibility.contiguous().clone()
    last_trace, last_eligibility = trace.new_empty(trace.shape), eligibility.new_empty(eligibility.shape)
    from engram.plasticity.kernels.cpu import kernel, scratch_size

    arrays = _in_tiles(_prepare(drive, *args[:11]))
    written = (outputs.numpy(), last_trace.numpy(), last_eligibility.reshape(arrays.eligibility.shape).numpy())
    kind = _kind(options)
    forward = kernel("forward", alpha.dim() == 2, *kind)
    external = drive.detach().contiguous().numpy()
    size = scratch_size("forward", kind[0], arrays.weight.size, len(arrays.fan))
    scratch = size, arrays.weight.dtype
    fixed = (external, *arrays, *options[1:7], *written)
    in_groups(forward, drive.numel() * hidden.shape[1], len(hidden), scratch, lambda group: fixed)
    return outputs, last_trace, last_eligibility


def _stretches(time: int, arrays: _Prepared, outputs: Tensor, options: Options) -> tuple[int, int]:
    """Return of how many steps the backward pass holds the traces at once, and how many such stretches it can undo."""
    fit = CACHED // arrays.weight.nbytes
    if not options.invert:
        return min(time, options.stretch or max(math.isqrt(time - 1) + 1, fit)), 1
    lost = float(arrays.eta[0])
    if options.forgets == OJA:
        lost *= max(1.0, outputs.abs().max().item() ** 2)
    if not 0 < lost < 1:
        raise ValueError(
            f"storage = 'invert': a step forgets {lost:.6g} of a trace (eta, or for Oja eta y^2): expected a share "
            "between 0 and 1, both excluded"
        )
    # An error of rounding grows by 1 / (1 - lost) in a step.
    span = min(time, max(1, int(math.log(GROWTH) / -math.log1p(-lost))))
    stretch = min(span, max(UNDONE, fit))
    return stretch, span // stretch


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

    arrays = _in_tiles(_prepare(outputs, *args[:11]))
    width = len(arrays.fan)
    stretch, windows = _stretches(time, arrays, outputs.detach(), options)
    groups = min(GROUPS, batch)
    drive_grad, hidden_grad = outputs.new_empty(outputs.shape), hidden.new_empty(hidden.shape)
    trace_grad, eligibility_grad = trace.new_empty(trace.shape), eligibility.new_empty(eligibility.shape)
    alpha_sums = outputs.new_empty(groups, len(arrays.weight))
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
    sums = [t.view(-1).numpy() for t in (eta_sums, v_sums, v0_sums, fan_sums, base_sums)]
    alphas = alpha_sums.numpy()
    kind = _kind(options)
    backward = kernel("backward", alpha.dim() == 2, *kind)
    scratch = (
        scratch_size("backward", kind[0], arrays.weight.size, width, time, stretch, windows, options.invert),
        arrays.weight.dtype,
    )
    fixed = (*read, *arrays, *options[1:7], stretch, windows, options.invert, *written)
    in_groups(backward, 3 * outputs.numel() * size, batch, scratch, lambda group: (*fixed, alphas[group], *sums))
    current = drive_grad if mask is None else drive_grad.masked_fill(mask, 0)
    alpha_grad = _untiled(alpha_sums.sum(0), width)[:size, :size]
    # The activity before every step is `hidden`, then the output but for its last.
    first, rest = current[0].t() @ hidden.detach(), current[1:].reshape(-1, size).t()
    weight_grad = torch.addmm(first, rest, outputs.detach()[:-1].reshape(-1, size))
    return (
        drive_grad,
        hidden_grad,
        trace_grad,
        eligibility_grad,
        weight_grad,
        alpha_grad.contiguous() if alpha.dim() == 2 else alpha_grad.sum(1),
        eta_sums.sum().reshape(1),
        v_sums.sum(0)[:size].clone(),
        v0_sums.sum().reshape(1),
        fan_sums.sum(0)[:size].clone(),
        base_sums.sum(0)[:size].clone(),
    )


def _fake(drive: Tensor, mask: Tensor | None, hidden: Tensor, trace: Tensor, eligibility: Tensor, *rest: Any) -> Any:
    return tuple(t.new_empty(t.shape) for t in (drive, trace, eligibility))


def _fake_backward(*args: Any) -> Any:
    outputs, _, *inputs = args[3:15]
    return tuple(t.new_empty(t.shape) for t in (outputs, *inputs))


SCAN = operator(
    "plastic_scan",
    (_forward, _backward),
    (_fake, _fake_backward),
    given=f"Tensor drive, {_Inputs}",
    kept=f"Tensor outputs, {_Inputs}",
    keep=lambda given, made: (made[0], *given[1:]),
    options=Options,
    returned=(3, 11),
    graded=3,
)


def _cuda_forward(*args: Any) -> tuple[Tensor, Tensor, Tensor]:
    from engram.plasticity.kernels import cuda

    return cuda.forward(*args)


def _cuda_backward(*args: Any) -> tuple[Tensor, ...]:
    from engram.plasticity.kernels import cuda

    return cuda.backward(*args)


SCAN.forward.register_kernel("cuda", _cuda_forward)
SCAN.backward.register_kernel("cuda", _cuda_backward)
