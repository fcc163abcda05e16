"""Copies of modules that compute with their own weights."""

from __future__ import annotations

import copy
import dis
import functools
import weakref
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

AnyModule = TypeVar("AnyModule", bound=nn.Module)

MOST_OBJECTS = 10_000  # that are looked through for each function
_OF_LIBRARIES = ("torch", "engram", "numpy")


def copied(module: AnyModule) -> AnyModule:
    """A copy of a module that shares nothing with it; activity that it keeps is copied without its graph.

    ``copy.deepcopy`` keeps functions as they are. A function that was set on the module, as its forward or as a hook,
    would compute with the weights of the original if it holds them: in a closure, a default, or a global name.

    Args:
        module: The module, which is not changed.

    Raises:
        TypeError: A function of the module holds a part of it, so that a copy would compute with the original's
            weights; the message names the submodule and the function.

    Examples:
        >>> import torch
        >>> layer = nn.Linear(2, 2)
        >>> torch.equal(copied(layer).weight, layer.weight)
        True
    """
    refuse_shared(module)
    kept = [leaf for part in module.modules() for leaf in tree_leaves(vars(part)) if isinstance(leaf, Tensor)]
    return copy.deepcopy(module, {id(tensor): tensor.detach() for tensor in kept if tensor.grad_fn is not None})


def refuse_shared(module: nn.Module) -> None:
    """Raise TypeError if a copy of a module would compute with the weights of the original.

    Args:
        module: The module.
    """
    ids, addresses = {id(part) for part in module.modules()}, set[int]()
    for tensor in (*module.parameters(), *module.buffers()):
        ids.add(id(tensor))
        addresses |= _address(tensor)
    for name, part, attribute, shared in _reached(module):
        if _holds(shared, ids, addresses):
            whose = f"layer {name!r}, a {type(part).__name__}," if name else "the module itself"
            what = "a weak reference to" if isinstance(shared, weakref.ref) else "a function that holds"
            raise TypeError(
                f"{type(module).__name__} cannot be copied: {attribute!r} of {whose} is {what} a part of it, so that "
                "the copy would compute with the weights of the original; expected a class with a forward that reads "
                "self"
            )


def _reached(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Any]]:
    """What a copy of a module shares with it and a call of it may reach: the part's name, the part, and what it holds.

    Each function is met once. A method is reached if a function that is reached reads its name.
    """
    waiting, methods = list[Any](), dict[str, list[Any]]()
    for name, part in module.named_modules():
        waiting += [(name, part, attribute, shared) for attribute, shared in _shared_attributes(part)]
        for attribute, method in _methods(part):
            found = name, part, attribute, method
            if _is_entrance(type(part), attribute):
                waiting.append(found)
            else:
                methods.setdefault(attribute, []).append(found)
    met, read = dict[int, Any](), set[int]()
    for found in waiting:  # which grows
        shared = found[-1]
        if id(shared) not in met:
            met[id(shared)] = shared
            yield found
            for name in _names_read(shared, read):
                waiting += methods.pop(name, [])


def _shared_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The functions that are set on a module, within what ``copy.deepcopy`` takes of it."""
    if _copies_itself(type(module)):
        return
    seen, state = set[int](), module.__getstate__()  # type: ignore[no-untyped-call]
    for name, value in (state if isinstance(state, dict) else vars(module)).items():
        if name not in ("_parameters", "_buffers", "_modules", "_compiled_call_impl"):  # the last is not copied
            yield from ((name, shared) for shared in _shared(value, seen))


def _methods(module: nn.Module) -> Iterator[tuple[str, FunctionType]]:
    """The methods of a class of one's own."""
    kind = type(module)
    for base in () if _copies_itself(kind) else kind.__mro__:
        if not _is_of_library(base.__module__):
            for name, value in vars(base).items():
                if isinstance(value, FunctionType) and (name == "__call__" or not name.startswith("__")):
                    yield name, value


def _copies_itself(kind: type) -> bool:
    return hasattr(kind, "__deepcopy__") or kind.__module__.startswith("torch._dynamo")


def _is_entrance(kind: type[nn.Module], name: str) -> bool:
    """Whether a method is called from outside: a forward, any if there is none, and what a library's class calls."""
    if name in ("forward", "__call__") or kind.forward is nn.Module.forward:
        return True
    of_libraries = (base for base in kind.__mro__ if _is_of_library(base.__module__) and base is not nn.Module)
    return any(name in vars(base) for base in of_libraries)


def _names_read(function: Any, read: set[int]) -> Iterator[str]:
    """The names that a function and those that it calls read; of functions that were not read before."""
    waiting = [function]
    while waiting:
        value = waiting.pop()
        if id(value) not in read and isinstance(value, FunctionType | MethodType | functools.partial):
            if isinstance(value, FunctionType):
                read.add(id(value))
                if not _is_of_library(value.__globals__.get("__name__")):
                    yield from _names(value.__code__)
            waiting += _within(value)


@functools.lru_cache(maxsize=1024)
def _names(code: CodeType) -> frozenset[str]:
    """The names that a function reads, of globals and of attributes, with those of the functions within it."""
    return frozenset(code.co_names).union(*(_names(part) for part in code.co_consts if isinstance(part, CodeType)))


def _shared(value: Any, seen: set[int]) -> Iterator[Any]:
    """The functions within an object that is copied, which stay the same in its copy."""
    if id(value) in seen or isinstance(value, nn.Module | Tensor | str | int | float | type):
        return
    seen.add(id(value))
    if isinstance(value, FunctionType | weakref.ref):
        yield value
    elif isinstance(value, MethodType):
        yield value.__func__  # the object itself is copied
    elif isinstance(value, functools.partial):
        for part in (value.func, value.args, value.keywords):
            yield from _shared(part, seen)
    elif isinstance(value, Mapping):
        for part in list(value.values()):
            yield from _shared(part, seen)
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _shared(part, seen)


def _holds(function: Any, ids: set[int], addresses: set[int]) -> bool:
    """Whether a function reaches one of the objects, or a tensor at one of the addresses."""
    waiting, seen = [function], set[int]()
    while waiting and len(seen) < MOST_OBJECTS:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if id(value) in ids or (isinstance(value, Tensor) and _address(value) & addresses):
            return True
        waiting += _within(value)
    return False


def _within(value: Any) -> list[Any]:
    """The objects that an object holds."""
    if isinstance(value, FunctionType):
        if _is_of_library(value.__module__):
            named: list[Any] = []
        else:
            scope = value.__globals__
            named = [scope[name] for name in _global_names(value.__code__) if name in scope]
        cells = [content for cell in value.__closure__ or () for content in _content(cell)]
        return [*named, *cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, weakref.ref):
        return [value()]
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, nn.Module):
        return [*value._modules.values(), *value._parameters.values(), *value._buffers.values(), *vars(value).values()]
    if isinstance(value, type | ModuleType | Tensor) or _is_of_library(type(value).__module__):
        owner = getattr(value, "__self__", None)  # of a function that is built in
        return [] if owner is None or isinstance(owner, ModuleType) else [owner]
    return [getattr(value, "__self__", None), *getattr(value, "__dict__", {}).values()]


def _content(cell: Any) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # it is empty
        return []


@functools.lru_cache(maxsize=1024)
def _global_names(code: CodeType) -> frozenset[str]:
    """The global names that a function reads, with those of the functions within it."""
    own = {str(step.argval) for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return frozenset(own.union(*(_global_names(part) for part in code.co_consts if isinstance(part, CodeType))))


def _is_of_library(name: Any) -> bool:
    return str(name).partition(".")[0] in _OF_LIBRARIES


def _address(tensor: Tensor) -> set[int]:
    """Where the numbers of a tensor lie; the empty set if it has none."""
    if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
        return set()
    try:
        address = tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # of sparse and of wrapped tensors
        return set()
    return {address} if address else set()
