"""Validation for ``load_state_dict``: a state must have the form of the object's own state."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import UnionType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.serialization import add_safe_globals
from torch.utils import _pytree

from engram import checks
from engram.copying import copied

_LIKE_PARAMETERS = ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "anchor", "importance", "square")


def register_states(*kinds: type) -> None:
    """Register with torch the NamedTuples of tensors that modules carry from step to step.

    Then ``torch.load(..., weights_only=True)`` accepts them, and ``torch.export.save`` writes programs that take or
    return them.
    """
    add_safe_globals([*kinds])
    for kind in kinds:
        _pytree._register_namedtuple(kind, serialized_type_name=f"{kind.__module__}.{kind.__qualname__}")


class Axes(NamedTuple):
    """The form of a tensor or an array, some of whose sizes are unknown.

    Attributes:
        shape: For each axis its size, or its name if any size will do.
        like: A tensor or an array of the expected dtype, or only its type if any dtype will do.
    """

    shape: tuple[int | str, ...]
    like: Any


class Maybe(NamedTuple):
    """The form of a value that may also be None."""

    form: Any


class OfOptimizer(NamedTuple):
    """The form of the state of ``optimizer``: its groups, and the tensors that it stores for each parameter."""

    optimizer: Optimizer


def check_module_state(module: nn.Module, state_dict: Any, strict: bool, **more: Any) -> None:
    """Raise unless a module can load the whole of a state; torch would load a part of it before it raises.

    Args:
        module: The module.
        state_dict: The state; its tensors may have other dtypes than the module's.
        strict: Whether each entry is expected; if not, only those are checked that state and module have in common.
        **more: The forms of entries that are not tensors.
    """
    checks.instance("state_dict", state_dict, Mapping)  # type: ignore[type-abstract]
    form = {name: Axes(tuple(value.shape), Tensor) for name, value in module.state_dict().items() if name not in more}
    form |= more
    if not strict:
        form = {name: entry_form for name, entry_form in form.items() if name in state_dict}
        state_dict = {name: state_dict[name] for name in form}
    check_state(state_dict, form, "state_dict")


def saved(value: Any) -> Any:
    """A copy of an attribute as a state: a module in it becomes a mapping of its own state and its mode.

    Examples:
        >>> saved([3, nn.Linear(1, 1, bias=False).eval()])[1].keys()
        dict_keys(['module', 'training'])
    """
    return _pytree.tree_map(_saved, value)


def form_of_attribute(value: Any) -> Any:
    """The form of the state that ``saved`` returns for an attribute; anything for None, which is yet to be learned."""
    if value is None:
        return object
    if isinstance(value, nn.Module):
        return saved(value)
    return list | tuple if type(value) in (list, tuple) else type(value)


def restored(name: str, state: Any, value: Any, like: nn.Module | None = None) -> Any:
    """The attribute that ``saved`` gave a state of, which shares nothing with the state.

    Args:
        name: The attribute's name, for errors.
        state: The state.
        value: The attribute of the object that loads the state.
        like: Where the attribute is no module yet, modules in the state are copies of this one, without gradients.

    Raises:
        TypeError, ValueError: The state of a module has another form.
    """

    def restore(leaf: Any) -> Any:
        if not _is_saved_module(leaf):
            return copy.deepcopy(leaf)
        if isinstance(value, nn.Module):
            module = copied(value)
        elif like is not None:
            module = copied(like).requires_grad_(False)
        else:
            raise ValueError(
                f"state[{name!r}] is of a module: expected {name} to be one, too, before a state is loaded"
            )
        form = {key: Axes(tuple(tensor.shape), Tensor) for key, tensor in module.state_dict().items()}
        check_state(leaf["module"], form, f"state[{name!r}]['module']")
        module.load_state_dict(leaf["module"])
        return module.train(bool(leaf["training"]))

    return _pytree.tree_map(restore, state, is_leaf=_is_saved_module)


def _saved(leaf: Any) -> Any:
    if not isinstance(leaf, nn.Module):
        return copy.deepcopy(leaf)
    return {"module": {key: tensor.clone() for key, tensor in leaf.state_dict().items()}, "training": leaf.training}


def _is_saved_module(state: Any) -> bool:
    return isinstance(state, Mapping) and state.keys() == {"module", "training"}


def form_of(part: Any) -> Any:
    """The form of the state of a module, an optimiser or another object with a ``state_dict``."""
    return OfOptimizer(part) if isinstance(part, Optimizer) else dict(part.state_dict())


def check_state(state: Any, form: Any, name: str = "state") -> None:
    """Raise unless a state has the expected form; each ``load_state_dict`` begins with this check.

    Args:
        state: Mappings, sequences, tensors, arrays and plain values.
        form: A state with the expected keys, lengths, shapes and dtypes. A value may be replaced by its type or a union
            of types, a tensor or an array by ``Axes``, and anything by ``Maybe``.
        name: The state's name, for the error.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: An entry is missing or unexpected; or a value has the wrong length, shape or dtype.

    Examples:
        >>> check_state({"mean": np.zeros(2), "steps": 3}, {"mean": np.ones(2), "steps": int})
        >>> check_state({"mean": np.zeros((2, 2))}, {"mean": np.ones((3, 2))})
        Traceback (most recent call last):
        ValueError: state['mean'].shape = (2, 2): expected (3, 2)
    """
    match form:
        case Maybe():
            if state is not None:
                check_state(state, form.form, name)
        case OfOptimizer():
            groups = form.optimizer.param_groups
            sizes = [{"params": [int] * len(group["params"])} for group in groups]
            check_state(state, {"state": dict, "param_groups": [dict] * len(groups)}, name)
            check_state([{"params": group.get("params")} for group in state["param_groups"]], sizes, name)
            for number, parameter in enumerate(parameter for group in groups for parameter in group["params"]):
                of_parameter = state["state"].get(number, {})
                _instance(f"{name}['state'][{number}]", of_parameter, Mapping)
                for key, value in of_parameter.items():
                    if key in _LIKE_PARAMETERS and value is not None:
                        _instance(f"{name}['state'][{number}][{key!r}]", value, Tensor)
                        checks.has_shape(f"{name}['state'][{number}][{key!r}]", value.shape, tuple(parameter.shape))
            _try_steps(form.optimizer, state, name)
        case Mapping():
            _instance(name, state, Mapping)
            for key in {**form, **state}:
                if (key in form) != (key in state):
                    problem = "missing" if key in form else "unexpected"
                    raise ValueError(f"{name}[{key!r}] is {problem}: expected the keys {', '.join(map(repr, form))}")
            for key, entry_form in form.items():
                check_state(state[key], entry_form, f"{name}[{key!r}]")
            if "bit_generator" in form:
                _try_generator(form["bit_generator"], state, name)
        case Axes() | Tensor() | np.ndarray():
            shape, like = form if isinstance(form, Axes) else (tuple(form.shape), form)
            kind = like if isinstance(like, type) else Tensor if isinstance(like, Tensor) else np.ndarray
            _instance(name, state, kind)
            checks.has_shape(name, state.shape, shape)
            if not isinstance(like, type) and state.dtype != like.dtype:
                raise ValueError(f"{name}.dtype = {state.dtype}: expected {like.dtype}")
        case list() | tuple():
            _instance(name, state, list | tuple)
            if len(state) != len(form):
                raise ValueError(f"{name} has {len(state)} parts: expected {len(form)}")
            for number, entry_form in enumerate(form):
                check_state(state[number], entry_form, f"{name}[{number}]")
        case type() | UnionType():
            _instance(name, state, form)
        case _:
            _instance(name, state, type(form))


def _try_steps(optimizer: Optimizer, state: Any, name: str) -> None:
    """Raise ValueError unless a copy of one of torch's optimisers loads the state and takes a step from it.

    Without this check, a missing entry such as Adam's ``step`` would not be noticed until the next step.
    """
    if not type(optimizer).__module__.startswith("torch.optim"):
        return
    try:
        scratch = copy.deepcopy(optimizer)
        scratch.load_state_dict(copy.deepcopy(state))
        for parameter in (parameter for group in scratch.param_groups for parameter in group["params"]):
            parameter.grad = torch.zeros_like(parameter)
        scratch.step(lambda: 0.0)
    except Exception as error:
        expected = f"expected the state of {type(optimizer).__name__}"
        raise ValueError(f"{name}: {expected}, which fails with {type(error).__name__}: {error}") from None


def _try_generator(kind: Any, state: Mapping[str, Any], name: str) -> None:
    """Raise ValueError unless a NumPy bit generator of this kind accepts the state."""
    try:
        getattr(np.random, kind)(0).state = state
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{name}: expected the state of {kind}, which fails with {error}") from None


def _instance(name: str, value: Any, kind: Any) -> None:
    value = value.item() if isinstance(value, np.generic) else value  # as a checkpoint stores it
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = kind.__name__ if isinstance(kind, type) else str(kind)
        raise TypeError(f"{name} is a {type(value).__name__}: expected {expected}")
