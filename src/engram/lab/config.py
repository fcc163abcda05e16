"""Typed, validated configurations: an experiment's ``Config`` is a plain frozen dataclass whose annotations say it all.

Ranges stand in the annotation (``Annotated[int, Ge(1)]``), so that one declaration gives the command line its option,
the reader the allowed values, and a wrong value its error.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import types
from collections.abc import Hashable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import annotated_types
import pydantic

C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as a dictionary of JSON values."""
    return cast(dict[str, Any], _adapter(cast(Hashable, type(config))).dump_python(config, mode="json"))


def override(config: C, changes: Mapping[str, Any]) -> C:
    """Return ``config`` with some fields changed, all of it validated.

    Raises:
        ValueError: A field is unknown (the nearest one is suggested), or a value has the wrong type or lies out of
            range: the message names the field, the value and what is allowed.
    """
    known = [field.name for field in dataclasses.fields(cast(Any, config))]
    for name in changes:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
            raise ValueError(f"unknown field {name!r}; {hint}")
    return from_dict(type(config), {**to_dict(config), **changes})


def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
    """Build a config from JSON values; raises ValueError as ``override`` does."""
    try:
        # Through JSON, since pydantic's strict mode takes no dictionary for a dataclass but takes a JSON object.
        text = json.dumps(values, default=str)
        return cast(C, _adapter(cast(Hashable, cls)).validate_json(text, strict=True))
    except pydantic.ValidationError as error:
        raise ValueError("; ".join(_explain(cls, problem) for problem in error.errors())) from None


def allowed(cls: type, name: str) -> str:
    """Return in words what values a field may take.

    Examples:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Config:
        ...     bits: Annotated[int, annotated_types.Ge(1)] = 50
        >>> allowed(Config, "bits")
        'int >= 1'
    """
    kind, limits = annotation(cls, name)
    words = " or ".join(map(repr, get_args(kind))) if get_origin(kind) is Literal else _type_name(kind)
    return " and ".join([words, *limits]).replace(" and ", " ", 1) if limits else words


def annotation(cls: type, name: str) -> tuple[Any, list[str]]:
    """Return a field's type and its limits as words such as ``>= 1``."""
    hint = get_type_hints(cls, include_extras=True)[name]
    if get_origin(hint) is not Annotated:
        return hint, []
    kind, *extras = get_args(hint)
    signs = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
    limits = [
        f"{sign} {getattr(extra, attribute)}"
        for extra in extras
        if isinstance(extra, annotated_types.BaseMetadata)
        for attribute, sign in signs
        if getattr(extra, attribute, None) is not None
    ]
    return kind, limits


@functools.cache
def _adapter(cls: Hashable) -> Any:
    return pydantic.TypeAdapter(cast(type, cls))


def _explain(cls: type, problem: Any) -> str:
    if not problem["loc"]:  # raised by the config's own __post_init__, which names field and value
        return str(problem["ctx"]["error"] if "ctx" in problem else problem["msg"])
    name = str(problem["loc"][0])
    return f"{name} = {problem['input']!r}: expected {allowed(cls, name)}"


def _type_name(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(kind))
    return "None" if kind is type(None) else str(getattr(kind, "__name__", kind))
