"""The plastic recurrent scan for a rule with its own coefficients; see ``kernels.any_rule``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import any_rule, layout, rule_encoding
from engram.plasticity.kernels.any_rule import Recursion, StackedCoefficients, unit_coefficients
from engram.plasticity.kernels.layout import array
from engram.plasticity.kernels.plain_gradients import plain_gradients
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
    """Whether ``any_rule_scan`` can run these arguments."""
    is_known = neuromodulator is None and nonlinearity in (torch.tanh, torch.relu)
    return is_known and any_rule.can_run(drive, alpha, rule, (state.hidden, state.trace, weight))


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
    """As ``plastic_scan``, for arguments that ``can_run`` accepts."""
    coefficients = rule_encoding.coefficients_of(alpha, len(weight))
    tensors = drive, state.hidden, state.trace, weight, coefficients, *rule.parameters()
    outputs, trace = _Scan.apply(any_rule.has_graph(tensors), rule, clamp, nonlinearity, *tensors)  # type: ignore[no-untyped-call]
    return outputs, PlasticState(outputs[-1].clone(), TraceState(trace))


def stepper(
    weight: Float[Tensor, "hidden hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: PlasticState,
    *,
    neuromodulator: None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> Callable[[Float[Tensor, "1 batch hidden"]], Float[Tensor, "1 batch hidden"]]:
    """As ``step.stepper``, for arguments that ``can_run`` accepts."""
    alpha = rule_encoding.coefficients_of(alpha, len(weight))
    recursion = Recursion(weight, alpha, rule, state.hidden, state.trace)
    before, after = array(state.trace).copy(), np.empty_like(recursion.start)
    pending, hidden = None, state.hidden  # the traces are updated when the next step reads them

    def step(drive: Float[Tensor, "1 batch hidden"]) -> Float[Tensor, "1 batch hidden"]:
        nonlocal before, after, hidden, pending
        external = array(drive)[0]
        if pending is None:
            current = recursion.first(external)
        else:
            current = recursion.advance(before, *pending, after, external, array(hidden))
            before, after = after, before
        activity = nonlinearity(current)
        pending = array(hidden), *map(array, unit_coefficients(rule, activity))
        hidden = activity
        return activity.unsqueeze(0)

    return step


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        has_graph: bool,
        rule: PlasticityRule,
        clamp: Tensor | None,
        nonlinearity: Callable[[Tensor], Tensor],
        *scan_inputs: Tensor,
    ) -> tuple[Tensor, Tensor]:
        drive, hidden, start, weight, alpha, *_ = (tensor.detach() for tensor in scan_inputs)
        recursion = Recursion(weight, alpha, rule, hidden, start)
        # The traces of all steps for the backward pass; without one, two buffers alternate.
        traces = drive.new_empty(len(drive) if has_graph else 2, *start.shape)
        external, memory, before, pre = array(drive), array(traces), recursion.start, hidden
        current = recursion.first(external[0])
        steps = []
        for t in range(len(drive)):
            post, after = nonlinearity(current), memory[t % len(memory)]
            if clamp is not None:
                post = torch.where(clamp[t], drive[t], post)
            keep, increment = unit_coefficients(rule, post)
            steps.append((post, keep, increment))
            # No step follows the last one; its external input stands in for that of the next.
            next_external = external[min(t + 1, len(external) - 1)]
            current = recursion.advance(
                before, array(pre), array(keep), array(increment), after, next_external, array(post)
            )
            pre, before = post, after
        outputs, keeps, increments = map(torch.stack, zip(*steps, strict=True))
        if has_graph:
            ctx.save_for_backward(*scan_inputs, outputs, traces, keeps, increments)
        ctx.options, ctx.parameters = (rule, clamp, nonlinearity), scan_inputs[5:]
        ctx.set_materialize_grads(False)
        return outputs, traces[(len(drive) - 1) % len(traces)].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        # Accessed once: with checkpointing, the first access recomputes them.
        *saved, outputs, traces, keep, increment = ctx.saved_tensors
        scan_inputs = [*saved[:5], *ctx.parameters]
        filled = [torch.zeros_like(t) if g is None else g for g, t in zip(grads, (outputs, traces[-1]), strict=True)]
        gradients = None
        if not torch.is_grad_enabled():
            gradients = _gradients(scan_inputs, ctx.options, filled, outputs, traces, keep, increment)
        if gradients is None:
            outputs_of = partial(_plain, *ctx.options)
            gradients = plain_gradients(outputs_of, scan_inputs, ctx.needs_input_grad[4:], filled)
        return (None, None, None, None, *gradients)


def _plain(
    rule: PlasticityRule, clamp: Tensor | None, nonlinearity: Callable[[Tensor], Tensor], *scan_inputs: Tensor
) -> tuple[Tensor, ...]:
    drive, hidden, start, weight, alpha, *parameters = scan_inputs
    state = PlasticState(hidden, TraceState(start))

    def run(rule: PlasticityRule) -> tuple[Tensor, ...]:
        outputs, last = plastic_scan(drive, weight, alpha, rule, state, clamp=clamp, nonlinearity=nonlinearity)
        return outputs, last.trace

    return any_rule.with_parameters(rule, parameters, run)


def _gradients(
    scan_inputs: list[Tensor],
    options: tuple[Any, ...],
    grads: list[Tensor],
    outputs: Tensor,
    traces: Tensor,
    keep: Tensor,
    increment: Tensor,
) -> list[Tensor | None] | None:
    """The gradients of all tensors given to the scan; None if a unit's coefficients depend on other units."""
    from engram.plasticity.kernels.rnn.cpu_any_rule import backward

    (drive, hidden, start, weight, alpha, *parameters), (rule, clamp, nonlinearity) = scan_inputs, options
    _, batch, size = outputs.shape
    coefficients = StackedCoefficients(rule, outputs, keep, increment, parameters)
    results = layout.like((drive, keep, increment, hidden, start))
    alphas = alpha.new_zeros(min(layout.GROUPS, batch), *alpha.shape)
    mask = drive.new_empty((*drive.shape[:2], 0), dtype=torch.bool) if clamp is None else clamp
    tensors = [*grads, outputs, mask, traces, start, hidden, keep, increment, *coefficients.by_post, weight, alpha]
    fixed = (
        *map(array, tensors),
        array(weight).dtype.type(rule_encoding.bound_of(rule)),
        nonlinearity is torch.relu,
        *map(array, results),
    )
    layout.in_groups(
        backward,
        3 * outputs.numel() * size,
        batch,
        (3 * size, outputs.dtype),
        lambda group: (*fixed, array(alphas[group])),
    )
    of_drive, of_keep, of_increment, of_hidden, of_start = results
    of_parameters = coefficients.pull_back(of_keep, of_increment)
    if of_parameters is None:
        return None
    of_current = of_drive if clamp is None else of_drive.masked_fill(clamp, 0)
    of_weight = layout.weight_gradient(of_current, hidden, outputs)
    return [of_drive, of_hidden, of_start, of_weight, alphas.sum(0), *of_parameters]
