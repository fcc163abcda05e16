"""Feedback alignment: errors go back through fixed random weights, not through those that the input came by."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.types import Device


class _FeedbackAlignment(torch.autograd.Function):
    """The linear layer whose backward pass has the feedback in place of the weight."""

    generate_vmap_rule = True

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor) -> Tensor:
        return functional.linear(input, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, Tensor], output: Tensor) -> None:
        input, _, bias, feedback = inputs
        ctx.save_for_backward(input, feedback)
        ctx.has_bias = bias is not None

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None, None]:
        (error,) = gradients
        input, feedback = ctx.saved_tensors
        rows = error.reshape(-1, error.shape[-1])
        weight = rows.T @ input.reshape(-1, input.shape[-1])
        # Of a first layer nothing goes back to the input.
        back = error @ feedback if ctx.needs_input_grad[0] else None
        return back, weight, rows.sum(0) if ctx.has_bias else None, None


def feedback_alignment_linear(
    input: Float[Tensor, "*batch inputs"],
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, " outputs"] | None,
    feedback: Float[Tensor, "outputs inputs"],
) -> Float[Tensor, "*batch outputs"]:
    """Return a linear layer's output, whose gradient comes back by feedback alignment.

        y = W x + b,   dL/dx := B^T dL/dy,   dL/dW = dL/dy x^T,   dL/db = dL/dy

    Args:
        input: x.
        weight: W.
        bias: b, or None.
        feedback: B; with B = W this is backpropagation.

    Source: Lillicrap et al., "Random synaptic feedback weights support error backpropagation for deep learning"
    (2016), equation 2.

    Examples:
        >>> x, W = torch.ones(1, 2, requires_grad=True), torch.ones(1, 2, requires_grad=True)
        >>> feedback_alignment_linear(x, W, None, torch.tensor([[2.0, -1.0]])).sum().backward()
        >>> x.grad, W.grad
        (tensor([[ 2., -1.]]), tensor([[1., 1.]]))
    """
    return _FeedbackAlignment.apply(input, weight, bias, feedback)  # type: ignore[no-any-return, no-untyped-call]


class FeedbackAlignmentLinear(nn.Linear):
    """``nn.Linear``, whose arguments it takes, that learns by feedback alignment, in any network.

    Args:
        generator: Source of the initial values; torch's global one if None.

    Attributes:
        weight: W, (out, in); initially uniform in +-1 / sqrt(in), as in ``nn.Linear``.
        bias: (out,) or None; likewise.
        feedback: B, (out, in), a buffer; drawn as the weight is, and never learned.

    Source: as of ``feedback_alignment_linear``.

    Examples:
        >>> _ = torch.manual_seed(0)
        >>> layer = FeedbackAlignmentLinear(64, 10)
        >>> layer(torch.randn(3, 64)).shape, [name for name, _ in layer.named_parameters()]
        (torch.Size([3, 10]), ['weight', 'bias'])
    """

    feedback: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device="meta", dtype=dtype)  # draws nothing
        self.to_empty(device=torch.get_default_device() if device is None else device)
        self.register_buffer("feedback", torch.empty_like(self.weight, requires_grad=False))
        bound = 1 / math.sqrt(in_features)
        for values in (self.weight, self.bias, self.feedback):
            if values is not None:
                nn.init.uniform_(values, -bound, bound, generator=generator)

    def forward(self, input: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Return W x + b."""
        return feedback_alignment_linear(input, self.weight, self.bias, self.feedback)
