"""The plastic LSTM's scan for a rule with its own coefficients; see ``kernels.any_rule``."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import any_rule, layout, rule_encoding
from engram.plasticity.kernels.any_rule import Recursion, StackedCoefficients, unit_coefficients
from engram.plasticity.kernels.constants import POST
from engram.plasticity.kernels.layout import array
from engram.plasticity.kernels.plain_gradients import plain_gradients
from engram.plasticity.rule import PlasticityRule
from engram.plasticity.scan import plastic_lstm_scan
from engram.plasticity.state import PlasticLSTMState, TraceState


def can_run(
    drive: Tensor,
    weight: Tensor,
    alpha: Tensor | LowRank | None,
    rule: PlasticityRule | None,
    state: PlasticLSTMState,
    *,
    neuromodulator: nn.Module | None = None,
    read_clip: float | None = None,
    **options: str,
) -> bool:
    """Whether ``any_rule_scan`` can run these arguments."""
    is_known = neuromodulator is None and read_clip is None
    return is_known and any_rule.can_run(drive, alpha, rule, (state.hidden, state.cell, state.trace, weight))


def any_rule_scan(
    drive: Float[Tensor, "time batch gates"],
    weight: Float[Tensor, "gates hidden"],
    alpha: Float[Tensor, "..."] | LowRank,
    rule: PlasticityRule,
    state: PlasticLSTMState,
    *,
    neuromodulator: None = None,
    hebb_post: str = "input",
    modulator_source: str = "hidden",
    read_clip: None = None,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticLSTMState]:
    """As ``plastic_lstm_scan``, for arguments that ``can_run`` accepts."""
    alpha = rule_encoding.coefficients_of(alpha, weight.shape[1])
    tensors = drive, state.hidden, state.cell, state.trace, weight, alpha, *rule.parameters()
    outputs, cell, trace = _Scan.apply(any_rule.has_graph(tensors), rule, hebb_post, *tensors)  # type: ignore[no-untyped-call]
    return outputs, PlasticLSTMState(outputs[-1].clone(), cell, TraceState(trace))


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, has_graph: bool, rule: PlasticityRule, hebb_post: str, *scan_inputs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        drive, hidden, cell, start, weight, alpha, *_ = (tensor.detach() for tensor in scan_inputs)
        size = hidden.shape[1]
        first, to_cell, last = slice(2 * size), slice(2 * size, 3 * size), slice(3 * size, None)
        gate_weight = torch.cat((weight[first], weight[last])).t()
        gate_drive, cell_drive = torch.cat((drive[..., first], drive[..., last]), 2), drive[..., to_cell]
        recursion = Recursion(weight[to_cell], alpha, rule, hidden, start)
        # The traces of all steps for the backward pass; without one, two buffers alternate.
        traces = drive.new_empty(len(drive) if has_graph else 2, *start.shape)
        # The postsynaptic activity may be the product alone, so the drive is added outside the recursion.
        before, pre, nothing = recursion.start, hidden, array(torch.zeros_like(hidden))
        recurrent, steps, memory = recursion.first(nothing), [], array(traces)
        for t in range(len(drive)):
            after = memory[t % len(memory)]
            gates = torch.addmm(gate_drive[t], pre, gate_weight).sigmoid_()
            admit, forget, emit = gates.chunk(3, 1)
            cell_activity = torch.tanh(cell_drive[t] + recurrent)
            cell = forget * cell + admit * cell_activity
            output = emit * torch.tanh(cell)
            post = {"input": cell_activity, "recurrent": recurrent, "cell": cell, "hidden": output}[hebb_post]
            post = post.clone() if post is recurrent else post
            keep, increment = unit_coefficients(rule, post)
            steps.append((output, cell, gates, cell_activity, post, keep, increment))
            step = before, *map(array, (pre, keep, increment)), after, nothing, array(output)
            recurrent = recursion.advance(*step)
            pre, before = output, after
        stacked = [torch.stack(tensors) for tensors in zip(*steps, strict=True)]
        if has_graph:
            ctx.save_for_backward(*scan_inputs, traces, *stacked)
        ctx.options, ctx.parameters = (rule, hebb_post), scan_inputs[6:]
        ctx.set_materialize_grads(False)
        return stacked[0], cell, traces[(len(drive) - 1) % len(traces)].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: with checkpointing, the first access recomputes them
        count = 6 + len(ctx.parameters)
        scan_inputs, steps = [*saved[:6], *ctx.parameters], saved[count:]
        likes = steps[1], scan_inputs[2], scan_inputs[3]
        filled = [torch.zeros_like(t) if g is None else g for g, t in zip(grads, likes, strict=True)]
        gradients = None
        if not torch.is_grad_enabled():
            gradients = _gradients(scan_inputs, ctx.options, filled, *steps)
        if gradients is None:
            outputs_of = partial(_plain, *ctx.options)
            gradients = plain_gradients(outputs_of, scan_inputs, ctx.needs_input_grad[3:], filled)
        return (None, None, None, *gradients)


def _plain(rule: PlasticityRule, hebb_post: str, *scan_inputs: Tensor) -> tuple[Tensor, ...]:
    drive, hidden, cell, start, weight, alpha, *parameters = scan_inputs
    state = PlasticLSTMState(hidden, cell, TraceState(start))

    def run(rule: PlasticityRule) -> tuple[Tensor, ...]:
        outputs, last = plastic_lstm_scan(drive, weight, alpha, rule, state, hebb_post=hebb_post)
        return outputs, last.cell, last.trace

    return any_rule.with_parameters(rule, parameters, run)


def _gradients(
    scan_inputs: list[Tensor],
    options: tuple[Any, ...],
    grads: list[Tensor],
    traces: Tensor,
    outputs: Tensor,
    cells: Tensor,
    gates: Tensor,
    inputs: Tensor,
    post: Tensor,
    keep: Tensor,
    increment: Tensor,
) -> list[Tensor | None] | None:
    """The gradients of all tensors given to the scan; None if a unit's coefficients depend on other units."""
    from engram.plasticity.kernels.lstm.cpu_any_rule import backward

    (drive, hidden, cell, start, weight, alpha, *parameters), (rule, hebb_post) = scan_inputs, options
    _, batch, size = outputs.shape
    coefficients = StackedCoefficients(rule, post, keep, increment, parameters)
    results = layout.like((drive, drive, keep, increment, hidden, cell, start))
    alphas = alpha.new_zeros(min(layout.GROUPS, batch), *alpha.shape)
    tensors = [*grads, outputs, cells, gates, inputs, traces, start, hidden, cell, keep, increment]
    tensors += [*coefficients.by_post, weight, alpha]
    numbers = array(weight).dtype.type(rule_encoding.bound_of(rule)), POST[hebb_post]
    fixed = (*map(array, tensors), *numbers, *map(array, results))
    layout.in_groups(
        backward,
        3 * outputs.numel() * size,
        batch,
        (4 * size, outputs.dtype),
        lambda group: (*fixed, array(alphas[group])),
    )
    of_drive, of_fixed, of_keep, of_increment, of_hidden, of_cell, of_start = results
    of_parameters = coefficients.pull_back(of_keep, of_increment)
    if of_parameters is None:
        return None
    of_weight = layout.weight_gradient(of_fixed, hidden, outputs)
    return [of_drive, of_hidden, of_cell, of_start, of_weight, alphas.sum(0), *of_parameters]
