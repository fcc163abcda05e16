"""Whether a module does what its class says, so that its parameters and settings tell what a call of it returns."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as of_torch

_CALL, _CALL_IMPL = nn.Module.__call__, nn.Module._call_impl


def has_hooks(*modules: nn.Module) -> bool:
    """Whether one of the modules has forward hooks: a user's, or those of pruning and of the older ``weight_norm``.

    Code that computes with the parameters of a module, without calling it, skips its hooks.

    Examples:
        >>> layer = nn.Linear(2, 2)
        >>> _ = layer.register_forward_hook(lambda module, inputs, output: 2 * output)
        >>> has_hooks(layer), has_hooks(nn.Linear(2, 2))
        (True, False)
    """
    return any(module._forward_pre_hooks or module._forward_hooks for module in modules)


def alteration(*modules: nn.Module, backward: bool = True) -> str:
    """What makes a call of a module differ from the forward of its class, as in "has hooks"; "" if nothing does.

    That is a hook, of the module or of all modules; a forward that was replaced, on the object or in a class of torch's
    or of engram's; a ``__call__`` of its own; or a tensor that hides a parameter. Code that computes with the
    parameters of a module, without calling it, asks this first. What a class of one's own does is not asked.

    Args:
        modules: The modules, of which the first that differs is described.
        backward: Whether hooks of the backward pass count too.

    Examples:
        >>> layer = nn.Linear(2, 2)
        >>> alteration(layer)
        ''
        >>> layer.forward = torch.tanh
        >>> alteration(layer)
        'has a forward of its own'
    """
    if of_torch._global_forward_hooks or of_torch._global_forward_pre_hooks:
        return "is called with hooks of all modules"
    if backward and (of_torch._global_backward_hooks or of_torch._global_backward_pre_hooks):
        return "is called with hooks of all modules"
    for module in modules:
        if reason := _of(module, backward):
            return reason
    return ""


def _of(module: nn.Module, backward: bool) -> str:
    if has_hooks(module) or (backward and (module._backward_hooks or module._backward_pre_hooks)):
        return "has hooks"
    own = module.__dict__
    if "forward" in own:
        return "has a forward of its own"
    if torch.compiler.is_compiling():  # which follows what a class does
        return ""
    kind: Any = type(module)
    if (kind.__call__ is not _CALL or kind._call_impl is not _CALL_IMPL or "_call_impl" in own) and not (
        _is_of_torch(kind.__call__) and _is_of_torch(module._call_impl)
    ):
        return "has a __call__ of its own"
    if not _is_as_defined(kind, kind.forward):
        return "has a forward that was put in place of its class's"
    for name in module._parameters:
        if name in own:
            return f"has an attribute that hides its parameter {name!r}"
    return ""


def _is_of_torch(call: Any) -> bool:
    """Whether torch defines how a module is called; its tracers put functions of their own there."""
    return str(getattr(call, "__globals__", {}).get("__name__", "")).startswith("torch.")


@functools.lru_cache(maxsize=1024)
def _is_as_defined(kind: type[nn.Module], forward: Any) -> bool:
    """Whether the forward of a class of torch's or of engram's is still the function that its source defines."""
    owner = next((base for base in kind.__mro__ if "forward" in vars(base)), nn.Module)
    if owner is nn.Module or not owner.__module__.startswith(("torch.nn.", "engram.")):
        return True
    if owner.__module__.startswith("engram."):  # a checker of types may wrap it
        forward = inspect.unwrap(forward)
    code, scope = getattr(forward, "__code__", None), getattr(forward, "__globals__", {})
    expected = f"{owner.__qualname__}.forward"
    return scope.get("__name__") == owner.__module__ and getattr(code, "co_qualname", None) == expected
