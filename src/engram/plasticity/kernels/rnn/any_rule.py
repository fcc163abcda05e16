"""The plastic recurrent scan for a rule with coefficients of its own, which no other kernel knows.

A step is, with x = y(t-1), keep = 1 - D and increment = M z,

    c[j]     = u[j] + sum_i (W[j, i] + alpha[j, i] H[j, i]) x[i],    y = f(c)
    H'[j, i] = clip(keep[j] H[j, i] + increment[j] x[i])

Python calls the rule once a step, for keep and increment, and numba does the rest. In the backward pass numba goes
through all steps at once. It takes the coefficients of a unit as functions of its own activity, and of no other's, so
that all their derivatives can be computed beforehand, in one call with all steps as a batch. Whether that is true is
checked: at the first step, and at the end, when autograd goes through the coefficients of all steps with the gradients
that numba found. Where it is not, the plain scan is differentiated instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from engram import checks
from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import layout, rule_encoding
from engram.plasticity.kernels.layout import array
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.scan import plastic_scan
from engram.plasticity.state import PlasticState, TraceState


def can_run(
    drive: Tensor,
    weight: Tensor,
    alpha: Tensor | LowRank | None,
    rule: PlasticityRule | None,
    state: PlasticState,
    *,
    neuromodulator: nn.Module | None = None,
    clamp: Tensor | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> bool:
    """Whether ``any_rule_scan`` takes these arguments; the plain scan takes all others, and says what is wrong."""
    return (
        rule is not None
        and alpha is not None
        and neuromodulator is None
        and not rule.modulated
        # Only of the base's own update is it known what it does with the coefficients.
        and getattr(rule.update, "__func__", None) is PlasticityRule.update
        and rule.state_type is TraceState
        and nonlinearity in (torch.tanh, torch.relu)
        and drive.numel() > 0
        and checks.readable(drive)
        and rule_encoding.unsupported_input(drive) is None
        and rule_encoding.transformed(drive, weight, state.hidden, state.rule, alpha, rule) is None
        and _is_elementwise(rule, state.hidden)
    )


def any_rule_scan(
    drive: Float[Tensor, "time batch hidden"],
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: PlasticState,
    *,
    neuromodulator: None = None,
    clamp: Bool[Tensor, "time batch hidden"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticState]:
    """As ``plastic_scan``, for what ``can_run`` accepts."""
    coefficients = rule_encoding.coefficients_of(alpha, len(weight))
    tensors = drive, state.hidden, state.trace, weight, coefficients, *rule.parameters()
    outputs, trace = _Scan.apply(rule, clamp, nonlinearity, *tensors)  # type: ignore[no-untyped-call]
    return outputs, PlasticState(outputs[-1], TraceState(trace))


def stepper(
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: PlasticState,
    *,
    neuromodulator: None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> Callable[[Float[Tensor, "1 batch hidden"]], Float[Tensor, "1 batch hidden"]]:
    """As ``step.stepper``, for what ``can_run`` accepts."""
    units = _Units(weight, rule_encoding.coefficients_of(alpha, len(weight)), rule, nonlinearity)
    before = state.trace.detach().clone(memory_format=torch.contiguous_format)
    after, hidden, has_stepped = torch.empty_like(before), state.hidden, False
    # The traces are updated when the next step reads them.
    pending = hidden, torch.zeros_like(hidden), torch.zeros_like(hidden)

    def step(drive: Float[Tensor, "1 batch hidden"]) -> Float[Tensor, "1 batch hidden"]:
        nonlocal before, after, hidden, pending, has_stepped
        current = units.advance(has_stepped, before, *pending, after, drive[0], hidden)
        if has_stepped:
            before, after = after, before
        activity = nonlinearity(current)
        pending = (hidden, *units.coefficients(before, hidden, activity))
        hidden, has_stepped = activity, True
        return activity.unsqueeze(0)

    return step


class _Units:
    """What a layer does in every step, of its parameters."""

    def __init__(
        self, weight: Tensor, alpha: Tensor, rule: PlasticityRule, nonlinearity: Callable[[Tensor], Tensor]
    ) -> None:
        self.rule, self.nonlinearity = rule, nonlinearity
        self.weight, self.alpha = array(weight), array(alpha)
        self.clip = self.weight.dtype.type(math.inf if rule.clip is None else rule.clip)
        self.is_checked = False

    def advance(
        self,
        update: bool,
        before: Tensor,
        pre: Tensor,
        keep: Tensor,
        increment: Tensor,
        after: Tensor,
        external: Tensor,
        read: Tensor,
    ) -> Tensor:
        """The currents of a step, from the traces ``before``, or from those ``after`` a step of the rule."""
        from engram.plasticity.kernels.rnn.cpu_any_rule import forward

        current = torch.empty_like(read, memory_format=torch.contiguous_format)
        steps = [array(tensor) for tensor in (before, keep, increment, pre, after, external)]
        fixed = (update, *steps, self.weight, self.alpha, array(read), array(current), self.clip)
        work, batch = before.numel(), len(before)
        if work < layout.WORTH_A_THREAD:
            forward(*fixed, self.weight, 0, batch)
        else:
            layout.in_groups(forward, work, batch, (1, before.dtype), lambda group: fixed)
        return current

    @torch.no_grad()
    def coefficients(self, trace: Tensor, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Keep and increment of every unit in a step; the first time, all arguments are checked."""
        if not self.is_checked:
            self.rule.check_step(TraceState(trace), pre, post, None)
            self.is_checked = True
        return _coefficients(self.rule, post)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rule: PlasticityRule,
        clamp: Tensor | None,
        nonlinearity: Callable[[Tensor], Tensor],
        *given: Tensor,
    ) -> tuple[Tensor, Tensor]:
        drive, hidden, start, weight, alpha, *_ = (tensor.detach() for tensor in given)
        units = _Units(weight, alpha, rule, nonlinearity)
        outputs, keep, increment = layout.like((drive, drive, drive))
        traces = drive.new_empty(len(drive), *start.shape)
        pre, before = hidden, start
        current = units.advance(False, before, pre, keep[0], increment[0], traces[0], drive[0], pre)
        # Nothing is read after the last step; its external input stands in for that of a next one.
        for t, following in enumerate((*drive[1:], drive[-1])):
            activity = nonlinearity(current)
            outputs[t] = activity if clamp is None else torch.where(clamp[t], drive[t], activity)
            keep[t], increment[t] = units.coefficients(before, pre, outputs[t])
            current = units.advance(True, before, pre, keep[t], increment[t], traces[t], following, outputs[t])
            pre, before = outputs[t], traces[t]
        ctx.save_for_backward(*given, outputs, traces, keep, increment)
        ctx.options = rule, clamp, nonlinearity
        ctx.set_materialize_grads(False)
        return outputs, traces[-1].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        *given, outputs, traces, keep, increment = ctx.saved_tensors
        whole = [torch.zeros_like(t) if g is None else g for g, t in zip(grads, (outputs, traces[-1]), strict=True)]
        gradients = None
        if not torch.is_grad_enabled():
            gradients = _gradients(given, ctx.options, whole, outputs, traces, keep, increment)
        if gradients is None:
            gradients = _plain_gradients(given, ctx.options, whole)
        return (None, None, None, *gradients)


def _gradients(
    given: list[Tensor],
    options: tuple[Any, ...],
    grads: list[Tensor],
    outputs: Tensor,
    traces: Tensor,
    keep: Tensor,
    increment: Tensor,
) -> list[Tensor | None] | None:
    """The gradients of all tensors given to the scan; None if a unit's coefficients depend on other units."""
    from engram.plasticity.kernels.rnn.cpu_any_rule import backward

    (drive, hidden, start, weight, alpha, *parameters), (rule, clamp, nonlinearity) = given, options
    _, batch, size = outputs.shape
    with torch.enable_grad():
        post = outputs.detach().view(-1, size).requires_grad_()
        coefficients = _coefficients(rule, post)
    if not all(_is_close(a.view_as(b), b) for a, b in zip(coefficients, (keep, increment), strict=True)):
        message = f"coefficients of {rule} have changed since the forward pass: expected a function of post"
        raise RuntimeError(f"{message} and of the parameters")
    by_post = [_derivative(coefficient, post).view_as(outputs) for coefficient in coefficients]
    made = layout.like((drive, keep, increment, hidden, start))
    alphas = alpha.new_zeros(min(layout.GROUPS, batch), *alpha.shape)
    mask = drive.new_empty((*drive.shape[:2], 0), dtype=torch.bool) if clamp is None else clamp
    clip = math.inf if rule.clip is None else rule.clip
    read = [*grads, outputs, mask, traces, start, hidden, keep, increment, *by_post, weight, alpha]
    fixed = (*map(array, read), array(weight).dtype.type(clip), nonlinearity is torch.relu, *map(array, made))
    layout.in_groups(
        backward,
        3 * outputs.numel() * size,
        batch,
        (3 * size, outputs.dtype),
        lambda group: (*fixed, array(alphas[group])),
    )
    of_drive, of_keep, of_increment, of_hidden, of_start = made
    of_coefficients = of_keep.view(-1, size), of_increment.view(-1, size)
    of_post, *of_parameters = _pulled_back(coefficients, of_coefficients, [post, *parameters])
    assumed = sum((g * by.view(-1, size) for g, by in zip(of_coefficients, by_post, strict=True)), torch.zeros(()))
    if not _is_close(assumed, of_post):
        return None
    of_current = of_drive if clamp is None else of_drive.masked_fill(clamp, 0)
    of_weight = torch.addmm(
        of_current[0].t() @ hidden, of_current[1:].reshape(-1, size).t(), outputs[:-1].reshape(-1, size)
    )
    return [of_drive, of_hidden, of_start, of_weight, alphas.sum(0), *of_parameters]


def _plain_gradients(given: list[Tensor], options: tuple[Any, ...], grads: list[Tensor]) -> list[Tensor | None]:
    """The gradients of all tensors given to the scan, by autograd through the plain one."""
    (drive, hidden, start, weight, alpha, *_), (rule, clamp, nonlinearity) = given, options
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        state = PlasticState(hidden, TraceState(start))
        outputs, last = plastic_scan(drive, weight, alpha, rule, state, clamp=clamp, nonlinearity=nonlinearity)
        needed = [tensor for tensor in given if tensor.requires_grad]
        made = torch.autograd.grad((outputs, last.trace), needed, grads, create_graph=again, allow_unused=True)
    gradients = iter(made)
    return [next(gradients) if tensor.requires_grad else None for tensor in given]


def _coefficients(rule: PlasticityRule, post: Float[Tensor, "batch post"]) -> tuple[Tensor, Tensor]:
    """Keep and increment of every unit, (batch, post) each."""
    decay, gain, target = rule.coefficients(post, None)
    return (1 - decay).expand(post.shape), (gain * target).expand(post.shape)


def _is_elementwise(rule: PlasticityRule, like: Float[Tensor, "batch post"]) -> bool:
    """Whether the coefficients of every unit seem to depend on its own activity and the rule's parameters alone."""
    size = like.shape[1]
    post = torch.linspace(-0.9, 0.9, 2 * size, dtype=like.dtype).view(2, size)
    parameters = list(rule.parameters())
    try:
        with torch.enable_grad():
            post.requires_grad_()
            coefficients, again = _coefficients(rule, post), _coefficients(rule, post)
    except Exception:  # coefficients of connections, or an error, which the plain scan raises as it is
        return False
    if any(
        first.dtype != like.dtype or not torch.equal(first, second)
        for first, second in zip(coefficients, again, strict=True)
    ):
        return False  # another precision, or noise
    if not torch.is_grad_enabled():
        return True
    others = {id(tensor) for tensor in (post, *parameters)}
    if not all(id(leaf) in others for leaf in _leaves(coefficients)):
        return False  # a gradient would be lost
    weights = torch.linspace(1, 2, 2 * size, dtype=like.dtype).view(2, size)
    return all(
        _is_close(weights * _derivative(part, post), _pulled_back([part], [weights], [post])[0])
        for part in coefficients
    )


def _leaves(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """The tensors from which others were computed, and whose gradients autograd would compute."""
    leaves = [tensor for tensor in tensors if tensor.requires_grad and tensor.grad_fn is None]
    pending, seen = [tensor.grad_fn for tensor in tensors], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        pending += [following for following, _ in node.next_functions]
    return leaves


def _derivative(coefficient: Tensor, post: Tensor) -> Tensor:
    """That of every unit's coefficient by its own activity, if it depends on no other's."""
    return _pulled_back([coefficient], [torch.ones_like(coefficient)], [post])[0]


def _pulled_back(outputs: Sequence[Tensor], grads: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of inputs from those of outputs; zero where none depends on it."""
    depending = [k for k, output in enumerate(outputs) if output.requires_grad]
    gradients: dict[int, Tensor | None] = {}
    if depending:
        needed = [k for k, tensor in enumerate(inputs) if tensor.requires_grad]
        made = torch.autograd.grad(
            [outputs[k] for k in depending],
            [inputs[k] for k in needed],
            [grads[k] for k in depending],
            retain_graph=True,
            allow_unused=True,
        )
        gradients = dict(zip(needed, made, strict=True))
    return [
        torch.zeros_like(tensor) if (gradient := gradients.get(k)) is None else gradient
        for k, tensor in enumerate(inputs)
    ]


def _is_close(first: Tensor, second: Tensor) -> bool:
    """Whether two gradients are equal up to rounding."""
    size = max(first.abs().max().item(), second.abs().max().item())
    return torch.allclose(first, second, rtol=1e-3, atol=1e-4 * size if math.isfinite(size) else 1, equal_nan=True)
