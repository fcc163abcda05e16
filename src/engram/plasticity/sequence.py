"""The sequences that plastic layers are given, checked, and their precision."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engram import checks
from engram.plasticity.kernels.encoding import transformed
from engram.threads import alone

# Multiplications of fewer numbers than this are done before other threads have come together.
WORTH_A_THREAD = 2**27
AXES = ("time", "batch", "feature")


def time_first(name: str, value: Tensor, features: int, like: Tensor, batch_first: bool = False) -> Tensor:
    """Return ``value`` as a checked sequence of shape (time, batch, features), with dtype and device of ``like``.

    Raises:
        TypeError: Not a tensor.
        ValueError: Wrong shape, dtype or device, an empty batch, or a value that is not finite.
    """
    if isinstance(value, Tensor) and value.is_floating_point() and autocast(value.device):
        value = value.to(like.dtype)
    checks.tensor(name, value, ("batch", "time", features) if batch_first else ("time", "batch", features), like)
    sequence = value.transpose(0, 1) if batch_first else value
    if sequence.shape[1] == 0:
        raise ValueError(f"{name}.shape = {tuple(value.shape)}: expected a batch of at least 1")
    checks.finite(name, sequence, AXES)
    return sequence


def projected(
    sequence: Float[Tensor, "time batch input"],
    weight: Float[Tensor, "output input"],
    bias: Float[Tensor, " output"] | None,
    backend: str,
) -> Float[Tensor, "time batch output"]:
    """Return ``functional.linear`` of a sequence; it and its derivative use one thread where that takes moments."""
    brief = sequence.is_cpu and len(weight) * sequence.numel() < WORTH_A_THREAD and not autocast(sequence.device)
    if not brief or backend == "eager" or torch.compiler.is_compiling() or transformed(sequence, weight, bias):
        return functional.linear(sequence, weight, bias)
    return _Projection.apply(sequence, weight, bias)  # type: ignore[no-untyped-call, no-any-return]


class _Projection(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, sequence: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(sequence, weight)
        with alone():
            return functional.linear(sequence, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        sequence, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        with alone():
            flat = grad.flatten(0, 1)
            of_weight = flat.t() @ sequence.flatten(0, 1) if needs[1] else None
            return grad @ weight if needs[0] else None, of_weight, flat.sum(0) if needs[2] else None


def check_precision(parameter: Tensor) -> None:
    """Raise if a module with traces is of half precision, in which their increments are soon lost."""
    if parameter.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"the parameters have dtype = {parameter.dtype}: expected torch.float32 or torch.float64, because half "
            "precision loses what is added to a trace; under torch.autocast the traces keep their precision"
        )


def autocast(device: torch.device) -> bool:
    """Return whether ``torch.autocast`` is at work on this device."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)
