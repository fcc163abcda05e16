"""Settings: one line gives a setting's default, meaning and range.

A class of settings is a frozen dataclass of pydantic. The validator, the command line and the documentation are
generated from its fields; a field may itself be a class of settings, whose fields are named with a dot, as in
``fit.rank``.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import itertools
import json
import os
import re
import types
from collections.abc import Collection, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import annotated_types
import pydantic
import pydantic.dataclasses
from pydantic_core import PydanticUndefined

from engram import registry

C = TypeVar("C")
T = TypeVar("T")
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def setting(
    default: T,
    meaning: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> T:
    """A field of a class of settings.

    Args:
        default: Its value unless it is changed.
        meaning: Its meaning, in words.
        ge: The smallest value allowed.
        gt: An exclusive lower bound.
        le: The largest value allowed.
        lt: An exclusive upper bound.
    """
    limits = {name: limit for name, limit in (("ge", ge), ("gt", gt), ("le", le), ("lt", lt)) if limit is not None}
    return cast(T, pydantic.Field(default, description=meaning, **limits))  # type: ignore[call-overload]


@dataclass_transform(frozen_default=True)  # without field specifiers, since ``setting`` takes its default by position
def settings(cls: type[C]) -> type[C]:
    """Make a class a frozen dataclass of settings, which are validated when an object is made.

    Examples:
        >>> @settings
        ... class Config:
        ...     steps: int = setting(100, "steps of training", ge=1)
        >>> Config(steps=7)
        Config(steps=7)
    """
    strict = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)
    return cast(type[C], pydantic.dataclasses.dataclass(frozen=True, config=strict)(cls))


class Field(NamedTuple):
    """The declaration of a field.

    Attributes:
        kind: Its type.
        limits: Its range, as words such as ``>= 1``.
        meaning: Its meaning.
    """

    kind: Any
    limits: tuple[str, ...]
    meaning: str

    @property
    def allowed(self) -> str:
        """The allowed values in words, as ``int >= 1``."""
        words = _type_name(self.kind)
        return f"{words} {' and '.join(self.limits)}" if self.limits else words


@functools.cache
def fields(cls: type) -> dict[str, Field]:
    """All fields of a config class by name; a nested class is replaced by its fields, under dotted names."""
    declared = getattr(cls, "__pydantic_fields__", {})
    hints = get_type_hints(cls, include_extras=True)
    docs = "\n".join(base.__doc__ or "" for base in reversed(cls.__mro__[:-1]))
    documented = dict(re.findall(r"^ +(\w+): (.+)$", docs, re.MULTILINE))  # those of a dataclass without settings
    described: dict[str, Field] = {}
    for name in (field.name for field in dataclasses.fields(cast(Any, cls))):
        kind, *constraints = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        info = declared.get(name)
        inner_fields: dict[str, Field] = {}
        if (nested := nested_class(kind)) is not None:
            inner_fields = {f"{name}.{inner}": field for inner, field in fields(nested).items()}
        if nested is not None and nested is kind:
            described |= inner_fields
            continue
        constraints += () if info is None else info.metadata
        limits = [
            f"{sign} {getattr(constraint, attribute)}"
            for constraint in constraints
            if isinstance(constraint, annotated_types.BaseMetadata)
            for attribute, sign in _SIGNS.items()
            if getattr(constraint, attribute, None) is not None
        ]
        meaning = documented.get(name, "") if info is None else info.description or documented.get(name, "")
        described[name] = Field(kind, tuple(limits), meaning)
        described |= inner_fields
    return described


def nested_class(kind: Any) -> Any:
    """The class of settings that a field holds, also one that may be None, as ``Inner | None``; None if it has none."""
    if dataclasses.is_dataclass(kind):
        return kind
    parts = [part for part in get_args(kind) if part is not type(None)] if _is_union(kind) else []
    return parts[0] if len(parts) == 1 and dataclasses.is_dataclass(parts[0]) else None


def inner_class(cls: type, name: str) -> Any:
    """The class of settings that a field of another one holds, also one that may be None; None if it has none."""
    return nested_class(_hints(cls).get(name))


def draft(cls: type) -> Any:
    """An object of a config class that is not validated, with the defaults of the fields that have one."""
    config: Any = object.__new__(cls)
    described = getattr(cls, "__pydantic_fields__", {})
    for field in dataclasses.fields(cast(Any, cls)):
        if field.name in described:
            default = described[field.name].get_default(call_default_factory=True, validated_data={})
        else:
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if default is not dataclasses.MISSING and default is not PydanticUndefined:
            object.__setattr__(config, field.name, default)
    return config


def value_of(config: Any, name: str) -> Any:
    """The value of a field by its dotted name; None if it is one of a class of settings that is None."""
    for part in name.split("."):
        config = None if config is None else getattr(config, part)
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """A config as a nested dictionary of JSON values."""
    dumped = _adapter(cast(Any, type(config))).dump_python(config, mode="json", warnings=False)
    return cast(dict[str, Any], _in_order(config, dumped))


def _in_order(value: Any, dumped: Any) -> Any:
    """JSON values, with the sets that they are of, at any depth, in an order that does not depend on the process."""
    match value, dumped:
        case set() | frozenset(), list():
            return sorted(map(_in_order, value, dumped), key=json.dumps)
        case list() | tuple(), list() if len(value) == len(dumped):
            return list(map(_in_order, value, dumped))
        case Mapping(), dict() if len(value) == len(dumped):
            return dict(zip(dumped, map(_in_order, value.values(), dumped.values()), strict=True))
        case _, dict() if dataclasses.is_dataclass(value):
            return {name: _in_order(getattr(value, name, None), item) for name, item in dumped.items()}
    return dumped


def plain(value: Any) -> Any:
    """A value of a setting as JSON has it: of a path the text, of an enumeration the value, of settings a dictionary.

    Examples:
        >>> from pathlib import Path
        >>> plain({"data": Path("rates.csv"), "bits": {2, 1}})
        {'data': 'rates.csv', 'bits': [1, 2]}
    """
    match value:
        case enum.Enum():
            return plain(value.value)
        case os.PathLike():
            return os.fspath(value)
        case Mapping():
            return {plain(name): plain(item) for name, item in value.items()}
        case list() | tuple():
            return type(value)(map(plain, value)) if type(value) in (list, tuple) else [plain(item) for item in value]
        case set() | frozenset():
            return sorted(map(plain, value), key=json.dumps)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value.tolist() if hasattr(value, "tolist") else value


def leaves(config: Any) -> dict[str, Any]:
    """A config as JSON values by field, with dotted names for nested configs."""
    return dict(flat(type(config), to_dict(config)))


def from_dict(cls: type[C], values: Mapping[str, Any]) -> C:
    """Make a config from JSON values or Python objects.

    Args:
        cls: The config class.
        values: The values by field, nested or under dotted names; a field that is left out has its default.

    Raises:
        ValueError: A field is unknown (the nearest one is suggested), or a value has the wrong type or lies out of
            range; the message names the field, the value and what is allowed.
    """
    nested: dict[str, Any] = {}
    for name, value in flat(cls, values):
        check_known(name, fields(cast(Any, cls)))
        if isinstance(value, str) and value != value.encode(errors="replace").decode():
            raise ValueError(f"{name} = {value!a}: expected text of UTF-8")
        *outer, last = name.split(".")
        inner = nested
        for part in outer:
            if inner.get(part) is None:  # a class of settings that was None is made by one of its fields
                inner[part] = {}
            inner = inner[part]
        inner[last] = _member(fields(cast(Any, cls))[name].kind, value)
    try:
        # Through JSON, since pydantic's strict mode refuses a dictionary for a dataclass but accepts a JSON object.
        config = cast(C, _adapter(cast(Any, cls)).validate_json(json.dumps(nested, default=_plain), strict=True))
    except pydantic.ValidationError as error:
        raise explained(cls, error) from None
    for name, value in leaves(config).items():
        if _has_nan(value):
            raise ValueError(f"{name} = {value!r}: expected a number, and not NaN, which equals nothing")
    return config


def is_same(value: Any, other: Any) -> bool:
    """Whether two values of a setting are equal as JSON has them: a list equals the tuple that a config makes of it."""
    value, other = plain(value), plain(other)
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        return len(value) == len(other) and all(map(is_same, value, other))
    return bool(value == other)


def _has_nan(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = list(value.values())
    return any(map(_has_nan, value)) if isinstance(value, list | tuple) else value != value  # noqa: PLR0124


def normal(cls: type, name: str, value: Any) -> Any:
    """A value of a field of a config class as JSON has it."""
    return _member(fields(cls)[name].kind, plain(value))


def _member(kind: Any, value: Any) -> Any:
    """The value of a member of an enumeration that is given by its name; any other value as it is."""
    if not isinstance(value, str):
        return value
    for part in get_args(kind) if _is_union(kind) else (kind,):
        if isinstance(part, type) and issubclass(part, enum.Enum) and value in part.__members__:
            is_value = any(member.value == value for member in part)
            return value if is_value else plain(part[value])
    return value


def explained(cls: type, error: pydantic.ValidationError) -> ValueError:
    """Convert an error of pydantic to one that names each field, its value and what is allowed."""
    return ValueError("; ".join(_explain(cls, problem) for problem in error.errors()))


def flat(cls: Any, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield values by field, with dotted names for nested configs."""
    hints = _hints(cls)
    for name, value in values.items():
        inner = vars(value) if dataclasses.is_dataclass(value) else value
        nested = nested_class(hints.get(name))
        is_optional = nested is not None and nested is not hints[name]
        if is_optional and isinstance(inner, Mapping) and not inner:  # this says that it is not None
            inner = vars(draft(nested)) or None
        if isinstance(inner, Mapping) and nested is not None:
            yield from ((f"{name}.{last}", item) for last, item in flat(nested, inner))
        else:
            yield name, value


def dotted(*parts: str) -> str:
    """Join the non-empty parts of a name with dots."""
    return ".".join(filter(None, parts))


def check_known(name: str, known: Mapping[str, Any], others: Collection[str] = ()) -> None:
    """Raise ValueError, with the nearest known name, if a field is unknown.

    Args:
        name: The name.
        known: The fields.
        others: Names that may have been meant too, such as those of options that are no fields.
    """
    if name in known:
        return
    called = {field if "." in name else field.rpartition(".")[2]: field for field in reversed(list(known))}
    called = {other: other for other in others} | called
    raise ValueError(f"unknown field {name!r}; {registry.suggestion(name, known, called=called)}")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


@functools.cache
def _adapter(cls: type) -> Any:
    return pydantic.TypeAdapter(cls)


def _plain(value: Any) -> Any:
    """The JSON representation of a value whose type JSON lacks."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return vars(value)
    if isinstance(value, enum.Enum | os.PathLike | set | frozenset | Mapping):
        return plain(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _explain(cls: Any, problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    if problem["type"] == "value_error":  # raised by the __post_init__ of a config, which names field and value
        return ".".join([*path, str(problem["ctx"]["error"])])
    allowed_fields = fields(cls)
    names = [name for name in itertools.accumulate(path, "{}.{}".format) if name in allowed_fields]
    name = names[-1] if names else ".".join(path)
    allowed = allowed_fields[name].allowed if name in allowed_fields else "one with fields " + ", ".join(allowed_fields)
    return f"{name} = {problem['input']!r}: expected {allowed}"


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _type_name(kind: Any) -> str:
    if _is_union(kind):
        return " or ".join(_type_name(part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return " or ".join(kind.__members__)
    if get_origin(kind) is not None:
        parts = ", ".join("..." if part is ... else _type_name(part) for part in get_args(kind))
        return f"{get_origin(kind).__name__}[{parts}]"
    return "None" if kind is type(None) else str(getattr(kind, "__name__", kind))
