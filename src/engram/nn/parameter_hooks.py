"""Hooks of parameters, which autograd runs on their gradients; gradients computed otherwise have to pass them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def suspended_hooks(parameters: Iterable[Tensor]) -> Iterator[None]:
    """A context in which autograd runs none of the parameters' hooks, so that they can run once, on the whole gradient.

    Args:
        parameters: The parameters; hooks that are registered within the context stay.

    Examples:
        >>> w = torch.ones(1, requires_grad=True)
        >>> _ = w.register_hook(lambda gradient: 0 * gradient)
        >>> with suspended_hooks([w]):
        ...     torch.autograd.grad(3 * w, w)
        (tensor([3.]),)
    """
    suspended = [(hooks, dict(hooks)) for parameter in parameters if (hooks := parameter._backward_hooks)]
    for hooks, _ in suspended:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, earlier in suspended:
            later = dict(hooks)
            hooks.clear()
            hooks.update(earlier | later)


def through_hooks(parameters: Mapping[str, Tensor], grads: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients after the hooks that ``register_hook`` has added to their parameters.

    Args:
        parameters: Parameters by name.
        grads: Gradients of some of them.

    Examples:
        >>> w = torch.ones(2, requires_grad=True)
        >>> _ = w.register_hook(lambda gradient: gradient * torch.tensor([0.0, 1.0]))
        >>> through_hooks({"w": w}, {"w": torch.tensor([5.0, 5.0])})
        {'w': tensor([0., 5.])}
    """
    passed = dict(grads)
    if hooked := [name for name in grads if parameters[name]._backward_hooks and parameters[name].requires_grad]:
        inputs = [parameters[name] for name in hooked]
        with torch.enable_grad():
            outputs = [torch.ops.aten.alias(parameter) for parameter in inputs]
        # Autograd itself runs them, in its order and with its checks.
        values = torch.autograd.grad(outputs, inputs, [grads[name] for name in hooked])
        passed |= dict(zip(hooked, values, strict=True))
    return passed


def run_accumulated_hooks(parameters: Iterable[Tensor]) -> None:
    """Call the hooks of ``register_post_accumulate_grad_hook``, as autograd does once it has written ``.grad``.

    Args:
        parameters: Parameters whose ``.grad`` has just been written.
    """
    for parameter in parameters:
        for hook in list((parameter._post_accumulate_grad_hooks or {}).values()):
            hook(parameter)
