"""Notes on errors from deep inside a public call: which argument is not as its type says, or is out of the ordinary.

The error stays what it is, and nothing is looked at while a call goes well.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import inspect
import re
import sys
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from beartype import BeartypeConf, FrozenDict
from beartype.door import is_bearable
from jaxtyping import jaxtyped
from torch import Tensor

LARGE = 2**20  # beyond which a number may be why memory, time or a type did not suffice
NUMBERS = {float: float | int | np.floating | np.integer, int: int | np.integer, bool: bool | np.bool_}
CONF = BeartypeConf(hint_overrides=FrozenDict(NUMBERS))


def noted_in(package: str) -> None:
    """Let what a package offers note the argument: its functions, and the public methods of its classes.

    A function is replaced in its own module too, so that it can still be pickled. A class that the package loads when
    it is asked for goes through ``noted`` then.
    """
    module = sys.modules[package]
    for name in module.__all__:
        thing = vars(module).get(name)
        if inspect.isfunction(thing) and thing.__module__.startswith("engram."):
            wrapped = _noted(thing)
            for place in (module, sys.modules[thing.__module__]):
                if getattr(place, name, None) is thing:
                    setattr(place, name, wrapped)
        elif inspect.isclass(thing) and not issubclass(thing, BaseException | enum.Enum):
            noted(thing)


def noted(cls: Any) -> Any:
    """A class, whose public methods now note the argument, with those of its bases in engram."""
    for base in cls.__mro__:
        if base.__module__.startswith("engram.") and not getattr(base, "_is_protocol", False):
            _note_methods(base)
    return cls


def _note_methods(cls: type) -> None:
    for name, function in list(vars(cls).items()):
        if inspect.isfunction(function) and (name in ("__init__", "__call__") or not name.startswith("_")):
            setattr(cls, name, _noted(function))


def _noted(function: Any) -> Any:
    if hasattr(function, "_notes_arguments"):
        return function

    @functools.wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            with contextlib.suppress(Exception):  # a value that cannot even be looked at hides no error
                for note in _why(function, args, kwargs, error):
                    error.add_note(note)
            raise

    noted._notes_arguments = True  # type: ignore[attr-defined]
    return noted


def _why(function: Callable[..., Any], args: Any, kwargs: Any, error: Exception) -> list[str]:
    """Which arguments are not as their types say or, if all are, which are out of the ordinary."""
    given = inspect.signature(function).bind(*args, **kwargs).arguments
    given.pop("self", None)
    said = " ".join([str(error), *getattr(error, "__notes__", ())])
    if any(re.search(rf"\b{re.escape(name)}\b", said) for name in given):
        return []
    hints = {name: _resolved(hint, function) for name, hint in function.__annotations__.items() if name in given}
    with jaxtyped("context"):  # one name of an axis is one length
        wrong = [name for name, hint in hints.items() if not is_bearable(given[name], hint, conf=CONF)]
    if wrong:
        return [f"{name} = {shown(given[name])}: expected {_said(hints[name])}" for name in wrong]
    odd = [name for name, value in given.items() if name not in hints or hints[name] is Any or _odd(value)]
    return [f"{name} = {shown(given[name])}: may be why" for name in odd]


def _resolved(hint: Any, function: Callable[..., Any]) -> Any:
    try:
        return eval(hint, function.__globals__) if isinstance(hint, str) else hint
    except (NameError, TypeError, AttributeError, SyntaxError):  # named for the type checker alone
        return Any


def _odd(value: Any) -> bool:
    """Say whether a value, or a number in it, is none that one would give: empty, negative, not finite, or large."""
    if isinstance(value, Tensor):
        if value.is_meta or value.layout != torch.strided:
            return True
        value = value.detach().cpu().float().numpy()
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "biuf" or not value.size or not bool((np.abs(value) < LARGE).all())
    if isinstance(value, int | float | np.number):
        return not 0 <= value <= LARGE
    return isinstance(value, Collection) and not isinstance(value, str) and (not value or any(map(_odd, value)))


def shown(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray | Tensor):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        return f"{kind} of shape {tuple(value.shape)} and dtype {value.dtype}"
    said = repr(value)
    return said if len(said) < 80 else f"{said[:76]} ..."


def _said(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
