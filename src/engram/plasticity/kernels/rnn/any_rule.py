"""The plastic recurrent scan for a rule with coefficients of its own, which no other kernel knows.

A step is, with x = y(t-1), keep = 1 - D and increment = M z,

    c[j]     = u[j] + sum_i (W[j, i] + alpha[j, i] H[j, i]) x[i],    y = f(c)
    H'[j, i] = clip(keep[j] H[j, i] + increment[j] x[i])

Python calls the rule once a step, for keep and increment, and numba does the rest. In the backward pass numba goes
through all steps at once. It takes the coefficients of a unit as functions of its own activity, and of no other's, so
that all their derivatives can be computed beforehand, in one call with all steps as a batch. Whether that is true is
checked at the end, when autograd goes through the coefficients of all steps with the gradients that numba computed.
Where it is not, the plain scan is differentiated instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
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
        and _has_units_coefficients(rule, state.hidden)
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
    units = _Units(weight, rule_encoding.coefficients_of(alpha, len(weight)), rule, state, nonlinearity)
    before, after = array(state.trace).copy(), np.empty_like(units.start)
    pending, hidden = None, state.hidden  # the traces are updated when the next step reads them

    def step(drive: Float[Tensor, "1 batch hidden"]) -> Float[Tensor, "1 batch hidden"]:
        nonlocal before, after, hidden, pending
        external = array(drive)[0]
        if pending is None:
            current = units.first(external)
        else:
            current = units.advance(before, *pending, after, external, array(hidden))
            before, after = after, before
        activity = nonlinearity(current)
        pending = array(hidden), *map(array, units.coefficients(hidden, activity))
        hidden = activity
        return activity.unsqueeze(0)

    return step


class _Units:
    """What a layer does in every step, of its parameters."""

    def __init__(
        self,
        weight: Tensor,
        alpha: Tensor,
        rule: PlasticityRule,
        state: PlasticState,
        nonlinearity: Callable[[Tensor], Tensor],
    ) -> None:
        self.rule, self.nonlinearity, self.state = rule, nonlinearity, state
        self.weight, self.alpha, self.start = array(weight), array(alpha), array(state.trace)
        self.clip = self.weight.dtype.type(math.inf if rule.clip is None else rule.clip)
        self.current = torch.empty_like(state.hidden, requires_grad=False, memory_format=torch.contiguous_format)
        self.is_checked = False

    def first(self, external: Any) -> Tensor:
        """The currents of the first step."""
        hidden = array(self.state.hidden)
        return self._run(False, self.start, hidden, hidden, hidden, self.start, external, hidden)

    def advance(self, before: Any, pre: Any, keep: Any, increment: Any, after: Any, external: Any, read: Any) -> Tensor:
        """Make a step of the rule, from the traces ``before`` to those ``after``; return the currents of the next."""
        return self._run(True, before, keep, increment, pre, after, external, read)

    def _run(self, update: bool, *steps: Any) -> Tensor:
        from engram.plasticity.kernels.rnn.cpu_any_rule import forward

        *arrays, read = steps
        fixed = update, *arrays, self.weight, self.alpha, read, self.current.numpy(), self.clip
        work, batch = self.start.size, len(self.start)
        if work < layout.WORTH_A_THREAD:
            forward(*fixed, self.weight, 0, batch)
        else:
            layout.in_groups(forward, work, batch, (1, self.current.dtype), lambda group: fixed)
        return self.current

    def coefficients(self, pre: Tensor, post: Tensor) -> tuple[Tensor, Tensor]:
        """Keep and increment of every unit in a step; the first time, all arguments are checked."""
        if not self.is_checked:
            self.rule.check_step(TraceState(self.state.trace), pre, post, None)
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
        units = _Units(weight, alpha, rule, PlasticState(hidden, TraceState(start)), nonlinearity)
        traces = drive.new_empty(len(drive), *start.shape)
        external, written, before, pre = array(drive), array(traces), units.start, hidden
        current = units.first(external[0])
        steps = []
        for t, after in enumerate(written):
            post = nonlinearity(current)
            if clamp is not None:
                post = torch.where(clamp[t], drive[t], post)
            keep, increment = units.coefficients(pre, post)
            steps.append((post, keep, increment))
            # Nothing is read after the last step; its external input stands in for that of a next one.
            following = external[min(t + 1, len(external) - 1)]
            current = units.advance(before, array(pre), array(keep), array(increment), after, following, array(post))
            pre, before = post, after
        outputs, kept, increments = map(torch.stack, zip(*steps, strict=True))
        ctx.save_for_backward(*given, outputs, traces, kept, increments)
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
    is_the_same = not _differ(torch.stack(coefficients), torch.stack((keep, increment)).view(2, -1, size))
    if not (is_the_same and _come_from(coefficients, [post, *parameters])):
        message = f"coefficients of {rule} have changed since the forward pass: expected a function of post"
        raise RuntimeError(f"{message} and of the parameters")
    # If those of a unit depend on its own activity alone.
    by_post = [_pulled_back([part], [torch.ones_like(part)], [post])[0].view_as(outputs) for part in coefficients]
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
    assumed = [g * by.view(-1, size) for g, by in zip(of_coefficients, by_post, strict=True)]
    if _differ(assumed[0] + assumed[1], of_post):
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


def _has_units_coefficients(rule: PlasticityRule, like: Float[Tensor, "batch post"]) -> bool:
    """Whether a rule gives coefficients of units, computed from their activity and its parameters, always the same."""
    size = like.shape[1]
    post = torch.linspace(-0.9, 0.9, 2 * size, dtype=like.dtype).view(2, size)
    try:
        again = [coefficient.detach() for coefficient in _coefficients(rule, post)]
        coefficients = _coefficients(rule, post.requires_grad_(torch.is_grad_enabled()))
    except Exception:  # coefficients of connections, or an error, which the plain scan raises as it is
        return False
    if any(
        part.dtype != like.dtype or not torch.equal(part, same) for part, same in zip(coefficients, again, strict=True)
    ):
        return False  # another precision, or noise
    return _come_from(coefficients, [post, *rule.parameters()])


def _come_from(results: Sequence[Tensor], sources: Sequence[Tensor]) -> bool:
    """Whether autograd would compute gradients of no other tensors than these."""
    pending: list[Any] = [result.grad_fn or result for result in results if result.requires_grad]
    expected, seen = {id(source) for source in sources}, set()
    while pending:
        node = pending.pop()
        leaf = node if isinstance(node, Tensor) else getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in expected:
            return False
        if leaf is None and node not in seen:
            seen.add(node)
            pending += [following for following, _ in node.next_functions if following is not None]
    return True


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


def _differ(values: Tensor, expected: Tensor) -> bool:
    """Whether values differ by more than rounding; those that are not numbers do not."""
    return bool((values - expected).abs().max() > 1e-4 * expected.abs().max())
