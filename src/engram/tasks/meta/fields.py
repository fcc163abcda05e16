"""Descriptions against their annotated types by pydantic, with errors that name the field, the value and the rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, cast, get_type_hints

import pydantic
from annotated_types import Ge, Le

STRICT = pydantic.ConfigDict(strict=True, extra="forbid", revalidate_instances="always", allow_inf_nan=False)
Index = Annotated[int, pydantic.Strict(), Ge(0)]
Count = Annotated[int, pydantic.Strict(), Ge(1)]
Side = Annotated[int, pydantic.Strict(), Ge(1), Le(1000)]  # of a grid
Number = float | int
Share = Annotated[float | int, Ge(0), Le(1)]
_WORDS = {"Input should be ": "", "greater than or equal to": "at least", "less than or equal to": "at most"}


def validate_fields(part: Any, prefix: str = "") -> None:
    """Convert the fields of a frozen dataclass to their annotated types; numbers are not converted.

    Its sequences may be of any kind, those in its parts are tuples. Errors put ``prefix`` before the name of a field.

    Examples:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Coin:
        ...     bias: Share
        >>> validate_fields(Coin(1.5))
        Traceback (most recent call last):
        ValueError: bias = 1.5: expected at most 1
    """
    for name, adapter in _adapters(cast(Hashable, type(part))).items():
        value = getattr(part, name)
        try:
            object.__setattr__(part, name, adapter.validate_python(value))
        except pydantic.ValidationError as error:
            is_type = all(problem["type"].endswith("_type") for problem in error.errors())
            raise (TypeError if is_type else ValueError)(explained(error, value, prefix + name)) from None


@cache
def _adapters(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: pydantic.TypeAdapter(hints[field.name]) for field in dataclasses.fields(cls)}


def explained(error: pydantic.ValidationError, value: Any, name: str = "") -> str:
    """What a validation found: for each place its value and what was expected there."""
    found: dict[str, list[str]] = {}
    told = []  # by a part that looks at several of its fields
    for problem in error.errors():
        place, at = name, value
        for step in problem["loc"]:
            if isinstance(step, int):
                place, at = f"{place}[{step}]", _inside(at, step)
            elif isinstance(at, Mapping) or hasattr(at, step):  # otherwise it is the name of a member of a union
                place, at = f"{place}.{step}" if place else step, _inside(at, step)
        rule = "a value" if problem["type"] == "missing" else str(problem.get("ctx", {}).get("error", problem["msg"]))
        for theirs, ours in _WORDS.items():
            rule = rule.replace(theirs, ours)
        if ": expected" in rule:
            told.append(rule)
        else:
            found.setdefault(f"{place} = {at!r}", []).append(rule)
    return "; ".join([*told, *(f"{place}: expected {' or '.join(rules)}" for place, rules in found.items())])


def _inside(value: Any, step: int | str) -> Any:
    if isinstance(value, Mapping):
        return value.get(step)
    if isinstance(step, str):
        return getattr(value, step)
    return value[step] if isinstance(value, Sequence) and step < len(value) else None
