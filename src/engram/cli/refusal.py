"""Why a command cannot be read, in the words of the rest of engram: the argument, its value and what was expected."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

KINDS = {int: "an int", float: "a number"}
POSITIONAL = get_args(Positional[str])[1]
NAMED: Any = type(arg())


class Argument(NamedTuple):
    """An argument of a command.

    Attributes:
        name: Name of its field.
        owner: The class of the field.
        kind: The type of its value.
        marks: What tyro is told about it.
        is_required: Whether it has no default.
    """

    name: str
    owner: type
    kind: Any
    marks: tuple[Any, ...]
    is_required: bool

    @property
    def is_positional(self) -> bool:
        """Whether it is given without a name."""
        return POSITIONAL in self.marks

    @property
    def options(self) -> list[str]:
        """The options that give it a value."""
        aliases = [alias for mark in self.marks if isinstance(mark, NAMED) for alias in mark.aliases or ()]
        return [f"--{self.name.replace('_', '-')}", *aliases]

    @property
    def metavar(self) -> str:
        """The word that stands for it in a command's usage."""
        given = [mark.metavar for mark in self.marks if isinstance(mark, NAMED) and mark.metavar]
        return given[0] if given else self.name.upper()

    def read(self, text: str) -> Any:
        """The value that a word gives it; ValueError, which says what was expected, if it gives none."""
        for mark in self.marks:
            if isinstance(mark, PrimitiveConstructorSpec):
                return mark.instance_from_str([text])
        if get_origin(self.kind) is Literal:
            if text not in get_args(self.kind):
                raise ValueError(f"expected one of {', '.join(map(repr, get_args(self.kind)))}")
            return text
        try:
            return self.kind(text)
        except ValueError:
            raise ValueError(f"expected {KINDS.get(self.kind, self.kind.__name__)}") from None


def arguments_of(command: type) -> Iterator[Argument]:
    """The arguments of a command, and of the options that it contains."""
    hints = get_type_hints(command, include_extras=True)
    for field in dataclasses.fields(command):
        kind, *marks = (
            get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else [hints[field.name]]
        )
        if get_origin(kind) in (Union, types.UnionType):
            kind = next(part for part in get_args(kind) if part is not type(None))
        if dataclasses.is_dataclass(kind):
            yield from arguments_of(kind)  # type: ignore[arg-type]
        else:
            is_required = field.default is dataclasses.MISSING and get_origin(kind) is not tuple
            yield Argument(field.name, command, kind, tuple(marks), is_required)


def refuse(command: type, words: Sequence[str]) -> None:
    """Raise ValueError, which says what is wrong with the words of a command.

    Args:
        command: The class of the command.
        words: The words after its name; those of options that it does not have are left to others.
    """
    arguments = list(arguments_of(command))
    options = {option: argument for argument in arguments for option in argument.options}
    given: dict[type, dict[str, Any]] = {}
    rest = list(words)
    names: list[str] = []
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            names.append(word)
            continue
        name = name.replace("_", "-")
        argument = options.get(name) or options.get(name.replace("--no-", "--", 1))
        if argument is None:
            continue
        if argument.kind is bool:
            given.setdefault(argument.owner, {})[argument.name] = name in options
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ValueError(f"{argument.name} without a value: expected one, as in {name} {argument.metavar}")
            value = rest.pop(0)
        try:
            given.setdefault(argument.owner, {})[argument.name] = argument.read(value)
        except ValueError as error:
            raise ValueError(f"{argument.name} = {value!r}: {error}") from None
    if missing := [each.metavar for each in arguments if each.is_positional and each.is_required][len(names) :]:
        raise ValueError(f"{' and '.join(missing)} is missing: engram {command.__name__.lower()} --help")
    for owner, values in given.items():
        if owner is not command:
            owner(**values)  # which says what does not go together
    raise ValueError(f"{' '.join(words)!r} cannot be read: engram {command.__name__.lower()} --help")
