"""beartype, which checks arguments and shapes in tests, for functions that are defined at every call of another."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from beartype import beartype

_made: dict[tuple[str, str, str], Callable[..., Any]] = {}


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what checks a function's arguments, made once for all functions of one name and signature.

    What jaxtyping hands over is a function without a body; to make its check takes a millisecond.
    """
    if "<locals>" not in function.__qualname__:
        return beartype(function)
    key = function.__module__, function.__qualname__, str(inspect.signature(function))
    if key not in _made:
        _made[key] = beartype(function)
    return _made[key]
