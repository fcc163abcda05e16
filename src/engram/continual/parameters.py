"""The slow weights of a module, to which a penalty applies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from engram import checks
from engram.plasticity import PlasticityRule

Select = str | Iterable[str] | Callable[[str, nn.Parameter], bool] | None


def slow_parameters(model: nn.Module, select: Select = None) -> dict[str, nn.Parameter]:
    """The parameters that a penalty applies to, by name; a shared one appears once.

    Args:
        model: Any module.
        select: None: all trained parameters, except those of fast weights, which are alpha, rule and neuromodulator of
            a plastic module and whatever a submodule returns from a method ``plastic_parameters()``. Otherwise the
            trained parameters to select: a regular expression to search for in the name, a list of names, or a function
            of name and parameter.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: ``select`` names a parameter that the model does not train, or leaves none; or the selected ones
            are complex, or differ in dtype or device.

    Examples:
        >>> list(slow_parameters(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), "weight"))
        ['0.weight', '1.weight']
    """
    checks.arguments()
    checks.instance("model", model, nn.Module)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if select is None:
        fast_ids = {id(parameter) for module in model.modules() for parameter in _fast(module)}
        selected = {name: parameter for name, parameter in trained.items() if id(parameter) not in fast_ids}
    elif isinstance(select, str):
        selected = {name: parameter for name, parameter in trained.items() if re.search(select, name)}
    elif callable(select):
        selected = {name: parameter for name, parameter in trained.items() if select(name, parameter)}
    else:
        names = list(select)
        if unknown := [name for name in names if name not in trained]:
            raise ValueError(f"select names {unknown[0]!r}: expected trained parameters, {_some(trained)}")
        selected = {name: parameter for name, parameter in trained.items() if name in names}
    if not selected:
        raise ValueError(f"select = {select!r}: leaves no parameter of the model's trained ones, {_some(trained)}")
    reference = next(iter(selected.values()))
    for name, parameter in selected.items():
        if parameter.is_complex():  # of whose gradients the squares are no importances
            raise ValueError(f"parameter {name!r} is complex ({parameter.dtype}): expected real ones")
        if parameter.dtype != reference.dtype or parameter.device != reference.device:
            expected = f"{reference.dtype} on {reference.device}, as the others"
            raise ValueError(f"parameter {name!r} is {parameter.dtype} on {parameter.device}: expected {expected}")
    return selected


def uncompiled(name: str) -> str:
    """The name of a parameter without the parts that ``torch.compile`` puts into it."""
    return name.replace("_orig_mod.", "")


def _fast(module: Any) -> list[nn.Parameter]:
    if hasattr(module, "plastic_parameters"):
        return list(module.plastic_parameters())
    if not isinstance(getattr(module, "rule", None), PlasticityRule):
        return []
    fast_names = ("alpha", "rule", "neuromodulator")
    return [parameter for name, parameter in module.named_parameters() if name.partition(".")[0] in fast_names]


def _some(names: Iterable[str]) -> str:
    all_names = list(names)
    return (
        ", ".join(map(repr, all_names[:6])) + (", ..." if len(all_names) > 6 else "")
        if all_names
        else "of which there are none"
    )
