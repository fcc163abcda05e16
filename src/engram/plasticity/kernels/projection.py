"""The linear map of a layer's input, computed by one thread if waiting for other threads would take longer."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engram.nn.sequence import autocast
from engram.numeric.threads import single_threaded
from engram.plasticity.kernels.rule_encoding import transformed

# Fewer multiplications than this are done before other threads have synchronised.
WORTH_A_THREAD = 2**27


def projected(
    sequence: Float[Tensor, "time batch input"],
    weight: Float[Tensor, "output input"],
    bias: Float[Tensor, " output"] | None,
    backend: str,
) -> Float[Tensor, "time batch output"]:
    """``functional.linear`` of a sequence; if the product is small, it and its derivative use one thread.

    Args:
        sequence: Input.
        weight: W.
        bias: b; None: no bias.
        backend: ``"eager"``: always torch's own operator.
    """
    plain = backend == "eager" or torch.compiler.is_compiling() or not sequence.is_cpu or autocast(sequence.device)
    if plain or len(weight) * sequence.numel() >= WORTH_A_THREAD or transformed(sequence, weight, bias):
        return functional.linear(sequence, weight, bias)
    return _Projection.apply(sequence, weight, bias)  # type: ignore[no-untyped-call, no-any-return]


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sequence: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(sequence, weight)
        with single_threaded():
            return functional.linear(sequence, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        sequence, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        with single_threaded():
            flat = grad.flatten(0, 1)
            grad_weight = flat.t() @ sequence.flatten(0, 1) if needs[1] else None
            return grad @ weight if needs[0] else None, grad_weight, flat.sum(0) if needs[2] else None
