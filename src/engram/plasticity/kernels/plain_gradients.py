"""Gradients of a scan by autograd through its definition, the plain loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad


def plain_gradients(
    outputs_of: Callable[..., tuple[Tensor, ...]],
    scan_inputs: Sequence[Tensor | None],
    needs_gradient: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradients of tensors, by autograd through the plain scan; differentiable if gradients are enabled.

    Args:
        outputs_of: Runs the plain scan with these tensors and returns its outputs.
        scan_inputs: The tensors from which the scan is computed; None where one is missing.
        needs_gradient: Whether each of them needs a gradient.
        grads: Gradients of the outputs.
    """
    enabled = torch.is_grad_enabled()
    with torch.enable_grad(), torch.autocast(grads[0].device.type, enabled=False):
        # One input may be computed from another, as a state from the weights; the gradient of a view of each, or of a
        # copy without a graph, goes through this scan alone.
        tensors = [
            (t.view_as(t) if enabled else t.detach().requires_grad_()) if t is not None and need else t
            for t, need in zip(scan_inputs, needs_gradient, strict=True)
        ]
        inputs = [tensor for tensor, need in zip(tensors, needs_gradient, strict=True) if need and tensor is not None]
        outputs = outputs_of(*tensors)
        depending = [k for k, output in enumerate(outputs) if output.requires_grad]
        computed = torch.autograd.grad(
            [outputs[k] for k in depending],
            inputs,
            [grads[k] for k in depending],
            create_graph=enabled,
            allow_unused=True,
        )
    gradients = iter(computed)
    return [next(gradients) if need else None for need in needs_gradient]


def has_tangent(*tensors: Tensor) -> bool:
    """Whether forward-mode derivatives are taken with respect to a tensor, which no written-out derivative knows.

    Args:
        *tensors: The tensors.
    """
    return any(forward_ad.unpack_dual(t).tangent is not None for t in tensors)  # type: ignore[no-untyped-call]
