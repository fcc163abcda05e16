"""How tests check arguments and shapes: as jaxtyping's decorator with beartype does, at a fraction of its cost.

jaxtyping binds the arguments at each call and checks them twice, before and after it; and it makes two checkers for
each function, those that are defined at every call of another included. Here, a function that a test calls more than
``DENSE`` times is checked at one call in ``STRIDE`` from there on; ``make soak`` checks all calls.
"""

from __future__ import annotations

import functools
import inspect
import tomllib
import typing
from collections.abc import Callable
from contextlib import nullcontext
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jaxtyping
import torch
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

_of_jaxtyping = jaxtyping.jaxtyped
_typed = beartype(conf=BeartypeConf(violation_type=TypeError))  # as an error of jaxtyping is one
_SETTINGS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
_UNTYPED = [
    module
    for override in _SETTINGS["tool"]["mypy"]["overrides"]
    if override.get("ignore_errors")
    for module in override["module"]
]
_made: dict[tuple[str, str, str], Callable[..., Any]] = {}
DENSE, STRIDE = 8, 64
_calls: dict[Any, int] = {}  # of each function, in this test


def begin_test() -> None:
    """Check the first calls of each function again."""
    _calls.clear()


def _is_due(key: Any) -> bool:
    calls = _calls[key] = _calls.get(key, 0) + 1
    return calls <= DENSE or not calls % STRIDE


def jaxtyped(checked: Any = None, *, typechecker: Any = None) -> Any:
    """Return a class or function that checks its arguments and what it returns, one length for one name in a call."""
    if checked is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if isinstance(checked, str):
        return _of_jaxtyping(checked)
    # What mypy does not look into are kernels: numba and Triton compile no wrapper.
    if any(fnmatch(checked.__module__, module) for module in _UNTYPED):
        return checked
    if not inspect.isfunction(checked):
        return _of_jaxtyping(checked, typechecker=once)
    # A generator is checked when it begins to run, where lengths are those of the function that iterates over it.
    if inspect.isgeneratorfunction(checked):
        return checked
    if "<locals>" in checked.__qualname__:  # which is defined anew at each call of another
        is_due = _is_due((checked.__module__, checked.__qualname__, "definition"))
        return _sampled(checked, _of_jaxtyping(checked, typechecker=once)) if is_due else checked
    hints = {name: _resolved(hint, checked.__globals__) for name, hint in checked.__annotations__.items()}
    checked.__annotations__ = hints
    typed = _typed(checked)
    context = _of_jaxtyping("context") if any(map(_has_shape, hints.values())) else nullcontext()

    @functools.wraps(checked)  # also of its module, as the library asks from which ones a trial is made
    def checked_call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        with context:
            return typed(*args, **kwargs)

    return _sampled(checked, checked_call)


def _sampled(function: Callable[..., Any], checked_call: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__module__, function.__qualname__  # and not the function, which may hold tensors

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if torch.compiler.is_compiling() or jaxtyping.config.jaxtyping_disable or not _is_due(name):
            return function(*args, **kwargs)
        return checked_call(*args, **kwargs)

    return wrapped


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


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """Return a type hint as an object; Any if it names what is imported for the type checker alone."""

    def holder() -> None: ...

    holder.__annotations__ = {"hint": hint}
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["hint"]
    except NameError:
        return Any


def _has_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(map(_has_shape, typing.get_args(hint)))
