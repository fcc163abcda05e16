"""Plasticity rules as JSON, for configurations that are saved beside the weights of a network."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from engram import checks, registry
from engram.plasticity.rule import PlasticityRule

_KIND = "plasticity_rules"
_LOADED_WITH_WEIGHTS = ("eta", "hebb_eta", "device", "dtype")


def rule_to_json(rule: PlasticityRule) -> dict[str, Any]:
    """The registered name of a rule and the arguments of its constructor; trained rates are among the weights.

    Args:
        rule: The rule; of a registered type, whose constructor keeps its arguments as attributes of the same name.

    Returns:
        A dictionary that ``json`` can write and ``rule_from_json`` reads.

    Raises:
        TypeError: The type of the rule is not registered, or an argument is not kept or is no value of JSON.

    Examples:
        >>> from engram.plasticity import Modulated
        >>> rule_to_json(Modulated(clip=2.0))
        {'rule': 'modulated', 'clip': 2.0, 'mode': 'clip', 'strict': False, 'only_half': False}
    """
    checks.instance("rule", rule, PlasticityRule)
    kind = type(rule)
    name = next((name for name in registry.names(_KIND) if registry.get(_KIND, name) is kind), None)
    if name is None:
        raise TypeError(f"rule is a {kind.__name__}: expected a registered one; {', '.join(registry.names(_KIND))} are")
    stored: dict[str, Any] = {"rule": name}
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

    Args:
        stored: The dictionary.

    Raises:
        KeyError, TypeError, ValueError: It names no registered rule, or arguments that the rule does not take.

    Examples:
        >>> rule_from_json({"rule": "oja", "connections": None, "eta_param": "sigmoid"}).eta.requires_grad
        True
    """
    checks.instance("stored", stored, Mapping)
    arguments = dict(stored)
    rule: PlasticityRule = registry.get(_KIND, arguments.pop("rule"))(**arguments)
    return rule
