"""beartype, which checks arguments and shapes in tests, for functions that are defined at every call of another."""

from __future__ import annotations

import inspect
import sys
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from beartype import beartype

_made: dict[tuple[str, str, str], Callable[..., Any]] = {}
_SETTINGS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
_UNTYPED = [
    module
    for override in _SETTINGS["tool"]["mypy"]["overrides"]
    if override.get("ignore_errors")
    for module in override["module"]
]


class Untyped(MetaPathFinder):
    """Finds what mypy does not look into, kernels, before jaxtyping does: numba and Triton compile no wrapper."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return where such a module is."""
        untyped = any(fnmatch(fullname, module) for module in _UNTYPED)
        return PathFinder.find_spec(fullname, path, target) if untyped else None


# jaxtyping imports this file when it checks its first function, which none of those modules precedes.
sys.meta_path.insert(0, Untyped())


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
