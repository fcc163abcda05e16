"""Plasticity rules as JSON, for configurations that are saved beside the weights of a network."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from engram import checks
from engram.plasticity.rule import PlasticityRule

_LOADED_WITH_WEIGHTS = ("eta", "hebb_eta", "device", "dtype")


def rule_to_json(rule: PlasticityRule) -> dict[str, Any]:
    """The type of a rule and the arguments of its constructor; trained rates are among the weights.

    Args:
        rule: The rule, whose constructor keeps its arguments as attributes of the same name.

    Returns:
        A dictionary that ``json`` can write and ``rule_from_json`` reads.

    Raises:
        TypeError: An argument is not kept or is no value of JSON.

    Examples:
        >>> from engram.plasticity import ClippedHebb
        >>> rule_to_json(ClippedHebb(clip=2.0))
        {'rule': 'engram.plasticity.clipped_hebb:ClippedHebb', 'clip': 2.0, 'connections': None, 'eta_param': 'raw'}
    """
    checks.instance("rule", rule, PlasticityRule)  # type: ignore[type-abstract]
    kind = type(rule)
    stored: dict[str, Any] = {"rule": _place(kind)}
    for argument in inspect.signature(kind).parameters:
        if argument in _LOADED_WITH_WEIGHTS:
            continue
        if argument == "eta_param":  # kept as the name of the parameter
            stored[argument] = "sigmoid" if "eta_logit" in rule._parameters else "raw"
            continue
        stored[argument] = getattr(rule, argument, ...)
        try:
            json.dumps(stored[argument], allow_nan=False)
        except (TypeError, ValueError):
            raise TypeError(
                f"rule is a {kind.__name__}, whose argument {argument!r} is not kept as an attribute that JSON can "
                "write: expected a number, a text, or a list of them"
            ) from None
    return stored


def rule_from_json(stored: Mapping[str, Any]) -> PlasticityRule:
    """The rule that ``rule_to_json`` described, with its initial rates; ``load_state_dict`` brings the trained ones.

    Nothing is imported: the type of a rule of your own has to be known, as it is once its module is imported.

    Args:
        stored: The dictionary.

    Raises:
        ValueError: It names no known type of rules, or an argument is out of range.
        TypeError: It has an argument that the rule does not take.

    Examples:
        >>> from engram.plasticity import Oja
        >>> rule_from_json(rule_to_json(Oja(eta_param="sigmoid"))).eta.requires_grad
        True
    """
    checks.instance("stored", stored, Mapping)  # type: ignore[type-abstract]
    arguments = dict(stored)
    place = arguments.pop("rule", None)
    known = {_place(kind): kind for kind in _types(PlasticityRule)}  # type: ignore[type-abstract]
    if place not in known:
        raise ValueError(f"stored['rule'] = {checks.shown(place)}: expected one of {', '.join(sorted(known))}")
    return known[place](**arguments)


def _place(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _types(kind: type[PlasticityRule]) -> Iterator[type[PlasticityRule]]:
    for below in kind.__subclasses__():
        yield below
        yield from _types(below)
