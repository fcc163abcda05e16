"""Validation of descriptions by pydantic, with errors that name the field, the value and the rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, cast, get_type_hints

import numpy as np
import pydantic
from annotated_types import Ge, Le

STRICT = pydantic.ConfigDict(strict=True, extra="forbid", revalidate_instances="always", allow_inf_nan=False)
PLAIN = pydantic.BeforeValidator(lambda value: int(value) if isinstance(value, np.integer) else value)  # of NumPy
Index = Annotated[int, pydantic.Strict(), Ge(0), PLAIN]
Count = Annotated[int, pydantic.Strict(), Ge(1), PLAIN]
Side = Annotated[int, pydantic.Strict(), Ge(1), Le(1000), PLAIN]  # of a grid
Number = Annotated[float | int, PLAIN]
Share = Annotated[float | int, Ge(0), Le(1), PLAIN]
_WORDS = {"Input should be ": "", "greater than or equal to": "at least", "less than or equal to": "at most"}


def validate_fields(part: Any, prefix: str = "") -> None:
    """Convert the fields of a frozen dataclass to their annotated types; of numbers, only NumPy's integers are.

    Its own fields may be sequences of any kind; in its parts they are tuples. ``prefix`` precedes the field in errors.

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
    """The message of a validation error: each wrong value, and what was expected.

    Args:
        error: The error.
        value: The value that was validated.
        name: Its name.
    """
    rules_at: dict[str, list[str]] = {}
    sentences = []  # from parts that check several of their fields together
    for problem in error.errors():
        path, current = name, value
        for step in problem["loc"]:
            if isinstance(step, int):
                path, current = f"{path}[{step}]", _inside(current, step)
            elif isinstance(current, Mapping) or hasattr(current, step):  # otherwise a member of a union
                path, current = f"{path}.{step}" if path else step, _inside(current, step)
        rule = "a value" if problem["type"] == "missing" else str(problem.get("ctx", {}).get("error", problem["msg"]))
        for pydantic_words, words in _WORDS.items():
            rule = rule.replace(pydantic_words, words)
        if ": expected" in rule:
            sentences.append(rule)
        else:
            rules_at.setdefault(f"{path} = {current!r}", []).append(rule)
    return "; ".join([*sentences, *(f"{path}: expected {' or '.join(rules)}" for path, rules in rules_at.items())])


def _inside(value: Any, step: int | str) -> Any:
    if isinstance(value, Mapping):
        return value.get(step)
    if isinstance(step, str):
        return getattr(value, step)
    return value[step] if isinstance(value, Sequence) and step < len(value) else None
