"""What a public call failed of, where the error comes from deep inside: the argument, its value, what was expected.

Nothing is looked at while a call goes well.
"""

from __future__ import annotations

import contextlib
import dis
import enum
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import jaxtyped
from torch import Tensor

from engram import checks

OTHERS = ("builtins", "numpy", "numba", "sklearn", "torch")  # whose errors say nothing of our arguments
MEANT = (OSError, StopIteration, NotImplementedError, Warning)  # what is meant as it is
LARGE = 2**20  # beyond which a number may be why memory, time or a type did not suffice
NUMBERS = {float: float | int | np.floating | np.integer, int: int | np.integer, bool: bool | np.bool_}


def named_in(package: str) -> None:
    """Let what a package offers name the argument: its functions, and the public methods of its classes.

    A function is replaced in its own module too, so that it can still be pickled.
    """
    module = sys.modules[package]
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isfunction(thing) and thing.__module__.startswith("engram."):
            wrapped = _named(thing)
            for place in (module, sys.modules[thing.__module__]):
                if getattr(place, name, None) is thing:
                    setattr(place, name, wrapped)
        elif inspect.isclass(thing) and not issubclass(thing, BaseException | enum.Enum):
            for base in thing.__mro__:
                if base.__module__.startswith("engram.") and not getattr(base, "_is_protocol", False):
                    _name_methods(base)


def _name_methods(cls: type) -> None:
    for name, function in list(vars(cls).items()):
        if inspect.isfunction(function) and (name in ("__init__", "__call__") or not name.startswith("_")):
            setattr(cls, name, _named(function))


def _named(function: Any) -> Any:
    if hasattr(function, "_names_arguments"):
        return function

    @functools.wraps(function)
    def named(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        try:
            return function(*args, **kwargs)
        except Exception as error:
            own = type(error).__module__.split(".")[0] not in OTHERS or type(error).__name__ == "NotFittedError"
            if own or isinstance(error, MEANT) or _of_state(error):
                raise
            told = None
            with contextlib.suppress(Exception):  # a value that cannot even be looked at hides no error
                told = _why(function, args, kwargs, str(error))
            if told is None:
                raise
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"{told} ({type(error).__name__}: {error})") from error

    named._names_arguments = True  # type: ignore[attr-defined]
    return named


def _of_state(error: Exception) -> bool:
    """Say whether our own code raised it, and not of an argument: that something has to be called before, say."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or isinstance(error, ValueError | TypeError):
        return False
    ours = str(trace.tb_frame.f_globals.get("__name__", "")).startswith("engram.")
    return ours and dis.opname[trace.tb_frame.f_code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _why(function: Callable[..., Any], args: Any, kwargs: Any, said: str) -> str | None:
    """Return which argument is not as its type says or, if all are, which are out of the ordinary."""
    try:
        signature = inspect.signature(function)
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return None  # Python has named it
    given = {name: value for name, value in given.items() if name != "self"}
    if any(re.search(rf"\b{re.escape(name)}\b", said) for name in given):
        return None
    hints = {name: _resolved(hint, function) for name, hint in function.__annotations__.items() if name in given}
    with jaxtyped("context"):  # one name of an axis is one length
        for name, value in given.items():
            if not fits(value, hint := hints.get(name, Any)):
                return f"{name} = {shown(value)}: expected {_said(hint)}"
    for name, value in given.items():
        if re.search(rf"'{type(value).__name__}'|\b{type(value).__name__} object|^{type(value).__name__}\b", said):
            return f"{name} = {shown(value)}: not what was expected"
    odd = [f"{name} = {shown(value)}" for name, value in given.items() if _odd(value)]
    if odd:
        return f"{', '.join(odd)}: expected ordinary numbers"
    defaults = {name: parameter.default for name, parameter in signature.parameters.items()}
    untyped = [name for name, value in given.items() if hints.get(name, Any) is Any and value is not defaults[name]]
    arrays = [name for name, value in given.items() if isinstance(value, np.ndarray | Tensor)]
    told = [f"{name} = {shown(given[name])}" for name in untyped or arrays]
    return f"{', '.join(told)}: not what was expected" if told else None


def _resolved(hint: Any, function: Callable[..., Any]) -> Any:
    try:
        found = eval(hint, function.__globals__) if isinstance(hint, str) else hint
        return Any if typing.get_origin(found) is typing.Annotated and typing.get_args(found)[0] is Any else found
    except (NameError, TypeError, AttributeError, SyntaxError):  # named for the type checker alone
        return Any


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value is of a type, as far as that can be told without doubt.

    Examples:
        >>> [fits(value, int | None) for value in (1, None, "x", True)]
        [True, True, False, False]
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in args)
    if origin is typing.Literal:
        return any(value is one or (type(value) is type(one) and value == one) for one in args)
    if origin is typing.Annotated:
        return fits(value, args[0])
    if origin is tuple and isinstance(value, tuple):
        kinds = args[:1] * len(value) if args[1:] == (...,) else args
        return len(kinds) == len(value) and all(map(fits, value, kinds))
    if isinstance(value, str | bytes) and origin is not None and str not in args:
        return False  # letters are a sequence, but never what is meant
    if hint in NUMBERS:
        return isinstance(value, NUMBERS[hint]) and (hint is bool or not isinstance(value, bool))
    kind = hint if origin is None else origin
    if not isinstance(kind, type) or (getattr(kind, "_is_protocol", False) and not hasattr(kind, "array_type")):
        return True
    try:
        right = isinstance(value, kind)
    except (TypeError, AttributeError):  # a class that cannot say
        return True
    if right and len(args) == 1 and isinstance(value, list | tuple):
        return all(fits(one, args[0]) for one in value)
    return right


def _odd(value: Any) -> bool:
    """Say whether a value, or a number in it, is none that one would give: empty, negative, not finite, or large."""
    if isinstance(value, np.ndarray | Tensor):
        if value.dtype in (object, bool, torch.bool) or (isinstance(value, Tensor) and value.layout != torch.strided):
            return True
        if isinstance(value, Tensor) and (value.dtype == torch.bfloat16 or not checks.readable(value)):
            return value.is_meta
        numbers = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        return numbers.dtype.kind not in "biuf" or not numbers.size or not bool((np.abs(numbers) < LARGE).all())
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return isinstance(value, np.complexfloating) or not 0 <= value <= LARGE
    return isinstance(value, Collection) and (not value or any(_odd(one) for one in _first(value)))


def _first(values: Collection[Any]) -> Iterator[Any]:
    return (value for value, _ in zip(values, range(100), strict=False) if not isinstance(value, str))


def shown(value: Any) -> str:
    """Return a value in a few words."""
    if isinstance(value, np.ndarray | Tensor):
        kind = "tensor" if isinstance(value, Tensor) else "array"
        return f"{kind} of shape {tuple(value.shape)} and dtype {value.dtype}"
    said = repr(value)
    return said if len(said) < 80 else f"{said[:76]} ..."


def _said(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
