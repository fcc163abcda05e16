"""Typed, validated configurations: an experiment's ``Config`` is a plain frozen dataclass whose annotations say it all.

Ranges stand in the annotation (``Annotated[int, Ge(1)]``), so that one declaration gives the command line its option,
the reader the allowed values, and a wrong value its error. A config may hold configs of studies as fields; a field of
one of them is named with a dot, as in ``ring.neurons``.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import json
import types
from collections.abc import Hashable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import annotated_types
import pydantic

C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a config as a dictionary of JSON values, in which a study's config is a dictionary of its own."""
    return cast(dict[str, Any], _adapter(cast(Hashable, type(config))).dump_python(config, mode="json"))


def leaves(config: Any) -> dict[str, Any]:
    """Return a config as JSON values by field, those of studies by their dotted names, as ``ring.neurons``."""
    return dict(_flat(type(config), to_dict(config)))


def fields(cls: Any) -> list[str]:
    """Return the names of a config's fields, dotted where they are a study's."""
    names = []
    for field in dataclasses.fields(cls):
        kind, _ = annotation(cls, field.name)
        names += [f"{field.name}.{name}" for name in fields(kind)] if dataclasses.is_dataclass(kind) else [field.name]
    return names


def override(config: C, changes: Mapping[str, Any]) -> C:
    """Return ``config`` with fields changed, by name, those of a study in a mapping or dotted; all is validated.

    Raises:
        ValueError: A field is unknown (the nearest one is suggested), or a value has the wrong type or lies out of
            range: the message names the field, the value and what is allowed.
    """
    known = fields(type(config))
    values = to_dict(config)
    for name, value in _flat(type(config), changes):
        if name not in known:
            raise ValueError(f"unknown field {name!r}; {_nearest(name, known)}")
        *studies, last = name.split(".")
        functools.reduce(lambda inner, study: inner[study], studies, values)[last] = value
    return from_dict(type(config), values)


def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
    """Build a config from JSON values; raises ValueError as ``override`` does."""
    try:
        # Through JSON, since pydantic's strict mode takes no dictionary for a dataclass but takes a JSON object.
        text = json.dumps(values, default=str)
        return cast(C, _adapter(cast(Hashable, cls)).validate_json(text, strict=True))
    except pydantic.ValidationError as error:
        raise ValueError("; ".join(_explain(cls, problem) for problem in error.errors())) from None


def narrow(config: Any, cls: type[C]) -> C:
    """Return what a config has of the class that it extends: the config of an arm, out of that of the experiment.

    Examples:
        >>> Trial = dataclasses.make_dataclass("Trial", [("steps", int, 5)])
        >>> Config = dataclasses.make_dataclass("Config", [("long_steps", int, 50)], bases=(Trial,))
        >>> narrow(Config(steps=7), Trial)
        Trial(steps=7)
    """
    return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cast(Any, cls))})


def allowed(cls: type, name: str) -> str:
    """Return in words what values a field may take, as ``int >= 1``."""
    kind, limits = annotation(cls, name)
    words = " or ".join(map(repr, get_args(kind))) if get_origin(kind) is Literal else _type_name(kind)
    return " and ".join([words, *limits]).replace(" and ", " ", 1) if limits else words


def annotation(cls: type, name: str) -> tuple[Any, list[str]]:
    """Return a field's type and its limits as words such as ``>= 1``."""
    study, _, rest = name.partition(".")
    hint = _hints(cls)[study]
    if rest:
        return annotation(hint, rest)
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
def _hints(cls: Hashable) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


@functools.cache
def _adapter(cls: Hashable) -> Any:
    return pydantic.TypeAdapter(cast(type, cls))


def _flat(cls: Any, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the values of a config by field, dotted where they are a study's."""
    hints = get_type_hints(cls)
    for name, value in values.items():
        if isinstance(value, Mapping) and dataclasses.is_dataclass(hints.get(name)):
            yield from ((f"{name}.{inner}", item) for inner, item in _flat(hints[name], value))
        else:
            yield name, value


def _nearest(name: str, known: list[str]) -> str:
    """Suggest a field for one that is unknown; its study may be left out."""
    called = {field if "." in name else field.rpartition(".")[2]: field for field in reversed(known)}
    close = difflib.get_close_matches(name, called, n=1)
    return f"did you mean {called[close[0]]!r}?" if close else f"known: {', '.join(known)}"


def _explain(cls: type, problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    if problem["type"] == "value_error":  # raised by the __post_init__ of a config, which names field and value
        return ".".join([*place, str(problem["ctx"]["error"])])
    names = itertools.accumulate(place, "{}.{}".format)
    name = next((name for name in names if name in fields(cls)), ".".join(place))
    return f"{name} = {problem['input']!r}: expected {allowed(cls, name)}"


def _type_name(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(kind))
    return "None" if kind is type(None) else str(getattr(kind, "__name__", kind))
