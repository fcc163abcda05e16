"""Hooks, which run when a module is called but not when its parameters are read."""

from __future__ import annotations

from torch import nn


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
