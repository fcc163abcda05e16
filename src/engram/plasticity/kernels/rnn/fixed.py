"""The recurrent scan without plasticity on the CPU: products of torch, one step after another, and their derivative.

Autograd would add a matrix to the gradient of the weights in every step. Here the backward pass collects d, the
gradients of the currents that reach the units,

    d(t) = f'(t) (grad y(t) + W^T d(t+1)),    dW = sum_t d(t) y(t-1)^T,

so that the sum over all steps is a single product. It consists of differentiable operators, so that it can be
differentiated again.

Source: Werbos, "Backpropagation through time" (1990); the arrangement is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import Function
from torch.compiler import is_compiling

from engram.plasticity.kernels.layout import weight_gradient
from engram.plasticity.kernels.plain_gradients import has_tangent
from engram.plasticity.scan import plastic_scan
from engram.plasticity.state import PlasticState


class _Scan(Function):
    @staticmethod
    def forward(ctx: Any, drive: Tensor, weight: Tensor, hidden: Tensor, mask: Tensor | None, relu: bool) -> Tensor:
        outputs, activity, to_units = torch.empty_like(drive), hidden, weight.t()
        for t, (external, output) in enumerate(zip(drive.unbind(0), outputs.unbind(0), strict=True)):
            torch.addmm(external, activity, to_units, out=output)
            activity = output.relu_() if relu else output.tanh_()
            if mask is not None:
                torch.where(mask[t], external, output, out=output)
        ctx.save_for_backward(outputs, weight, hidden, mask)
        ctx.relu = relu
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        outputs, weight, hidden, mask = ctx.saved_tensors
        slope = (outputs > 0).to(outputs) if ctx.relu else 1 - outputs * outputs
        if mask is not None:
            slope = slope.masked_fill(mask, 0)
        of_activity: list[Tensor] = []
        of_current: list[Tensor] = []
        for grad, steepness in zip(reversed(grads[0].unbind(0)), reversed(slope.unbind(0)), strict=True):
            of_activity.append(torch.addmm(grad, of_current[-1], weight) if of_current else grad)
            of_current.append(of_activity[-1] * steepness)
        currents = torch.stack(of_current[::-1])
        of_drive = currents if mask is None else torch.where(mask, torch.stack(of_activity[::-1]), currents)
        of_weight = weight_gradient(currents, hidden, outputs) if ctx.needs_input_grad[1] else None
        return of_drive, of_weight, currents[0] @ weight if ctx.needs_input_grad[2] else None, None, None


def fixed_scan(
    drive: Float[Tensor, "time batch hidden"],
    weight: Float[Tensor, "hidden hidden"],
    state: PlasticState,
    *,
    clamp: Bool[Tensor, "time batch hidden"] | None = None,
    nonlinearity: Callable[[Tensor], Tensor] = torch.tanh,
) -> tuple[Float[Tensor, "time batch hidden"], PlasticState]:
    """As ``plastic_scan`` without plasticity, for tensors on the CPU and with tanh or relu as the nonlinearity."""
    # What this derivative does not know: compilers see the loop itself, and derivatives in forward mode.
    tensors = drive, weight, state.hidden
    if is_compiling() or has_tangent(*tensors) or not len(drive):
        return plastic_scan(drive, weight, None, None, state, clamp=clamp, nonlinearity=nonlinearity)
    outputs: Tensor = _Scan.apply(drive, weight, state.hidden, clamp, nonlinearity is torch.relu)  # type: ignore[no-untyped-call]
    return outputs, state._replace(hidden=outputs[-1].clone())
