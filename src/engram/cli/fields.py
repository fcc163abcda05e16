"""The fields of an experiment's config as options: read from arguments, and listed."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import tyro
from rich.markup import escape

if TYPE_CHECKING:
    from engram.lab import Experiment


def parsed(kind: Any, arguments: Sequence[str], **options: Any) -> Any:
    """Return what tyro reads of the arguments; raise ValueError, in one sentence, where it cannot."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=list(arguments), **options)
    except SystemExit as ended:
        if not ended.code:
            raise
    words = re.sub(r"[\s╭╮╰╯│]+", " ", said.getvalue())
    wrong = re.search(r"Error parsing (--[\w.-]+): .* \1 (\S+)", words)
    if wrong is None:
        what = re.split("─{9,} ", re.sub("^ ─ .*?─+ ", "", words))[0].strip()
        raise ValueError(f"{what} (--help says more)")
    name, kind = wrong[1].removeprefix("--").replace("-", "_"), wrong[2]
    expected = {"INT": "an int", "FLOAT": "a number"}.get(kind, kind)
    raise ValueError(f"{name} = {_given(wrong[1], arguments)!r}: expected {expected}")


def changes(experiment: Experiment, preset: str, rest: Sequence[str]) -> dict[str, Any]:
    """Read the remaining arguments as config fields; return those that differ from the preset."""
    from engram.lab.config import override

    config = config_of(experiment, preset)
    options = read(config, rest)
    given = dict(_differences(_options(config), options))
    override(config, given)
    return given


def config_of(experiment: Experiment, preset: str) -> Any:
    """Return the config of a preset."""
    from engram import checks

    return experiment.presets[checks.choice("preset", preset, experiment.presets)].config


def read(config: Any, rest: Sequence[str]) -> Any:
    """Read arguments as fields of a config; return an object with all of them, of the right types but unchecked."""
    from engram.lab.config import fields, override

    known = {option(field) for field in fields(type(config))}
    for argument in rest:
        name = argument.partition("=")[0].replace("_", "-")
        negated = re.sub(r"^(--.*\.|--)no-", r"\1", name)
        if argument.startswith("--") and not {name, negated} & known:
            override(config, {name.removeprefix("--").replace("-", "_"): None})  # says which field is nearest
    options = _options(config)
    return parsed(type(options), rest, default=options, prog="engram run NAME")


def values(config: Any, rest: Sequence[str]) -> dict[str, Any]:
    """Read the remaining arguments as values of fields: ``--rate 0.1,0.2``, a range, ``--rate 0.1:1``, or flags."""
    from engram.lab import Range
    from engram.lab.config import annotation, fields

    known = {option(field): field for field in fields(type(config))}
    words = [part for argument in rest for part in (argument.split("=", 1) if argument[:2] == "--" else [argument])]
    found: dict[str, Any] = {}
    while words:
        name = words.pop(0).replace("_", "-")
        if name not in known or not words or words[0].startswith("--"):
            given = [name, *(word for word in words[:1] if not word.startswith("--"))]
            found |= {field: [value] for field, value in _differences(_options(config), read(config, given))}
            continue
        field, text = known[name], words.pop(0)
        kind = annotation(type(config), field)[0]
        if kind is bool:
            found[field] = [_truth(field, one) for one in text.split(",")]
            continue
        ranged = kind in (int, float) and ":" in text
        each = [read(config, [name, one]) for one in text.split(":" if ranged else ",")]
        given_values = [functools.reduce(getattr, field.split("."), one) for one in each]
        found[field] = Range(*given_values) if ranged and len(each) == 2 else given_values
    return found


def _truth(field: str, text: str) -> bool:
    from engram import checks

    return checks.choice(field, text.lower(), ("true", "false")) == "true"


def option(field: str) -> str:
    """Return the option of a field."""
    return "--" + field.replace("_", "-")


def rows(experiment: Experiment) -> tuple[list[str], Iterator[tuple[str, ...]]]:
    """Return the columns of a table of the fields, and its rows: allowed values, those of each preset, what it is."""
    from engram.lab.config import allowed, fields, leaves

    shown = {name: leaves(preset.config) for name, preset in experiment.presets.items()}
    kind = type(experiment.presets["laptop"].config)
    texts = _texts(kind)
    plain = (
        (option(field), allowed(kind, field), *(str(values[field]) for values in shown.values()), texts.get(field, ""))
        for field in fields(kind)
    )
    cells = (tuple(map(escape, row)) for row in plain)
    return ["option", "allowed", *shown, "what it is"], cells


def _options(config: Any) -> Any:
    """Return a config as an object that validates nothing, so that parsing does not validate half a config."""
    from engram.lab.config import annotation

    options = []
    for field in dataclasses.fields(config):
        kind, value = annotation(type(config), field.name)[0], getattr(config, field.name)
        if dataclasses.is_dataclass(kind):
            value = _options(value)
            kind = type(value)
        options.append((field.name, kind, value))
    return dataclasses.make_dataclass("Fields", options, frozen=True)()


def _differences(before: Any, after: Any) -> Iterator[tuple[str, Any]]:
    """Yield the fields that differ, dotted where they are a study's, with their new values."""
    for name, value in vars(after).items():
        if dataclasses.is_dataclass(value):
            yield from ((f"{name}.{inner}", item) for inner, item in _differences(getattr(before, name), value))
        elif value != getattr(before, name):
            yield name, value


def _texts(kind: Any) -> dict[str, str]:
    """Return the documentation that stands under each field of a config class, those inherited and of studies too."""
    from engram.lab.config import annotation

    trees = [ast.parse(textwrap.dedent(inspect.getsource(one))).body[0] for one in reversed(kind.__mro__[:-1])]
    texts = {
        field.target.id: str(text.value.value)
        for tree in trees
        if isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    for field in dataclasses.fields(kind):
        study = annotation(kind, field.name)[0]
        if dataclasses.is_dataclass(study):
            texts |= {f"{field.name}.{inner}": text for inner, text in _texts(study).items()}
    return texts


def _given(option: str, arguments: Sequence[str]) -> str:
    """Return the value that an option was given."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == option:
            return value if equals else " ".join(arguments[place + 1 : place + 2])
    return ""
