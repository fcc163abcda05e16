"""Backward passes whose gradients cannot be differentiated again, and an error that says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def differentiable_once(reason: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator of ``backward``: to differentiate a gradient that it returned is an error, with this reason.

    The function also takes the saved tensors. A gradient counts as computed from these and from the gradients that
    reach ``backward``. torch's own ``once_differentiable`` does not name what cannot be differentiated, and where
    ``torch.autograd.grad`` asks for one of these tensors, it lets the gradient pass as a constant.

    Args:
        reason: What has no second derivative, and what to use instead.

    Returns:
        The decorator; the error is a NotImplementedError.

    Examples:
        >>> class Square(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         ctx.save_for_backward(x)
        ...         return x * x
        ...     @staticmethod
        ...     @differentiable_once("Square has no second derivative: multiply instead")
        ...     def backward(ctx, saved, grad):
        ...         return 2 * saved[0] * grad
        >>> x = torch.ones(1, requires_grad=True)
        >>> torch.autograd.grad(torch.autograd.grad(Square.apply(x), x, create_graph=True)[0], x)
        Traceback (most recent call last):
        NotImplementedError: Square has no second derivative: multiply instead
    """

    def decorate(backward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(backward)
        def once(ctx: Any, *grads: Tensor) -> Any:
            saved = ctx.saved_tensors  # once: with checkpointing, the first access recomputes them
            with torch.no_grad():
                gradients = backward(ctx, saved, *grads)
            if not torch.is_grad_enabled():
                return gradients
            if isinstance(gradients, Tensor):
                return _refusing(reason, gradients, *saved, *grads)
            return tuple(None if g is None else _refusing(reason, g, *saved, *grads) for g in gradients)

        return once

    return decorate


def _refusing(reason: str, gradient: Tensor, *sources: Tensor) -> Tensor:
    return _Refusing.apply(reason, gradient, *sources)  # type: ignore[no-untyped-call, no-any-return]


class _Refusing(torch.autograd.Function):
    """A gradient as it is, computed from other tensors; to differentiate it is an error."""

    @staticmethod
    def forward(ctx: Any, reason: str, gradient: Tensor, *sources: Tensor) -> Tensor:
        ctx.reason = reason
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise NotImplementedError(ctx.reason)
