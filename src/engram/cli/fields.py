"""The settings of an experiment as options: read from arguments, and listed.

``--steps 100`` changes a setting of all arms that do not set it themselves, ``--lstm.steps 100`` that of one arm or
study.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import tyro
from rich.markup import escape

if TYPE_CHECKING:
    from engram.lab import Experiment


def parsed(kind: Any, arguments: Sequence[str], **options: Any) -> Any:
    """Parse the arguments with tyro; raise ValueError, in one sentence, if that fails.

    Args:
        kind: The dataclass to read.
        arguments: The words of the command line.
        **options: Further arguments of ``tyro.cli``.
    """
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(kind, args=list(arguments), **options)
    except SystemExit as ended:
        if not ended.code:
            raise
    words = re.sub(r"[\s╭╮╰╯│]+", " ", messages.getvalue())
    wrong = re.search(r"Error parsing (--[\w.-]+): .* \1 (\S+)", words)
    if wrong is None:
        message = re.split("─{9,} ", re.sub("^ ─ .*?─+ ", "", words))[0].strip()
        raise ValueError(f"{message} (see --help)")
    name, kind = wrong[1].removeprefix("--").replace("-", "_"), wrong[2]
    several_values = {"[INT": "ints with spaces between", "[FLOAT": "numbers with spaces between"}
    expected = ({"INT": "an int", "FLOAT": "a number"} | several_values).get(kind, kind)
    raise ValueError(f"{name} = {_value_of(wrong[1], arguments)!r}: expected {expected}")


def changes(experiment: Experiment, preset: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The remaining arguments as changes of settings by dotted name, without those that equal the preset.

    Args:
        experiment: The experiment.
        preset: Name of its preset.
        arguments: The words of the command line.

    Raises:
        ValueError: A setting is unknown, or a value is not allowed.
    """
    from engram.lab.config import dotted

    field_values: dict[str, Any] = {}
    for owner, words in _by_owner(experiment, arguments).items():
        options = _read(experiment, preset, owner, words)
        # Also those that equal the preset: `--plastic.steps` may undo for one arm what `--steps` changes for all.
        field_values |= {dotted(owner, name): value for name, value in _given(experiment, owner, words, options)}
    return experiment.changed(preset, field_values)


def values(experiment: Experiment, preset: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The remaining arguments as values of settings: lists (``--rate 0.1,0.2``), ranges (``--rate 0.1:1``) or flags.

    Args:
        experiment: The experiment.
        preset: Name of its preset.
        arguments: The words of the command line.

    Raises:
        ValueError: A setting is unknown, or a value or a range is not allowed.
    """
    from engram import checks
    from engram.lab import Range
    from engram.lab.config import dotted, fields

    setting_values: dict[str, Any] = {}
    for owner, owner_words in _by_owner(experiment, arguments).items():
        options_by_name = {
            option(name): (name, field.kind) for name, field in fields(experiment.settings(owner)).items()
        }
        words = list(owner_words)
        while words:
            name, equals, value = words.pop(0).partition("=")
            words = [value, *words] if equals else words
            if name not in options_by_name or not words or (words[0].startswith("--") and not equals):
                flag = [name, *(word for word in words[:1] if not word.startswith("--"))]
                options = _read(experiment, preset, owner, flag)
                given_values = _given(experiment, owner, flag, options)
                setting_values |= {dotted(owner, setting): [value] for setting, value in given_values}
                continue
            setting, kind = options_by_name[name]
            text, full_name = words.pop(0), dotted(owner, setting)
            if kind is bool:
                choices = [checks.choice(full_name, word.lower(), ("true", "false")) for word in text.split(",")]
                setting_values[full_name] = [word == "true" for word in choices]
                continue
            is_range = kind in (int, float) and ":" in text
            items = text.split(":" if is_range else ",")
            if is_range and len(items) != 2:
                raise ValueError(f"{full_name} = {text!r}: expected a range of two numbers, as in 0.1:1")
            given = [[f"{name}={part}"] if part.startswith("-") else [name, part] for part in items]
            parses = [_read(experiment, preset, owner, part) for part in given]
            numbers = [functools.reduce(getattr, setting.split("."), options) for options in parses]
            if is_range and not numbers[0] < numbers[1]:
                raise ValueError(f"{full_name} = {text!r}: expected a smaller number before a larger one, as in 0.1:1")
            setting_values[full_name] = Range(*numbers) if is_range else numbers
    return setting_values


def option(field: str) -> str:
    """The command-line option of a setting."""
    return "--" + field.replace("_", "-")


def rows(experiment: Experiment) -> tuple[list[str], Iterator[tuple[str, ...]]]:
    """The columns and rows of a table of the settings: allowed values, the value in each preset, meaning."""
    from engram.lab.config import dotted, fields

    def cells() -> Iterator[tuple[str, ...]]:
        for study in experiment.by_name:
            bases = [experiment.base(preset, study) for preset in experiment.presets]
            for name, field in fields(experiment.settings(study)).items():
                in_presets = (str(functools.reduce(getattr, name.split("."), base)) for base in bases)
                row = (option(dotted(study, name)), field.allowed, *in_presets, field.meaning)
                yield tuple(map(escape, row))

    return ["option", "allowed", *experiment.presets, "what it is"], cells()


def arm_rows(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """The arms, with the settings that each changes."""
    for study in experiment.by_name.values():
        for arm, changes in study.table.items():
            settings = (
                f"{name} = {'from the others' if callable(value) else value}" for name, value in changes.items()
            )
            yield escape(arm), escape(", ".join(settings))


def _by_owner(experiment: Experiment, arguments: Sequence[str]) -> dict[str, list[str]]:
    """The arguments grouped by the study or arm that their options name; this name is removed from the options."""
    split: dict[str, list[str]] = {}
    words: list[str] = []
    for argument in arguments:
        if not argument.startswith("--"):
            if not words and not split:
                raise ValueError(f"argument {argument!r}: expected an option, such as --steps 100")
            words.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        negated = "no-" if name.startswith("no-") else ""
        name = name.removeprefix("no-").replace("_", "-")
        owner = experiment.owner(name)
        words = split.setdefault(owner, [])
        inner = name[len(owner) :].removeprefix(".")
        name_parts = inner.rpartition(".")
        name = f"--{name_parts[0]}{name_parts[1]}{negated}{name_parts[2]}"
        # A value such as -x would be taken for an option if it were a word of its own.
        words += [f"{name}={value}"] if equals and value.startswith("-") else [name, *([value] if equals else [])]
    return split


def _read(experiment: Experiment, preset: str, owner: str, words: Sequence[str]) -> Any:
    """Parse the options of one study or arm; their types are checked, their ranges are not."""
    from engram.lab.config import dotted

    options = {option(name.removeprefix(f"{owner}.")) for name in experiment.fields(owner)}
    words = _without_booleans(experiment, owner, words)
    for word in (word.partition("=")[0] for word in words):
        negated = re.sub(r"^(--.*\.|--)no-", r"\1", word)
        if word.startswith("--") and not {word, negated} & options:
            experiment.check_field(dotted(owner, word.removeprefix("--").replace("-", "_")), owner)
    defaults = _options(experiment, preset, owner)
    return parsed(type(defaults), words, default=defaults, prog="engram run NAME")


def _without_booleans(experiment: Experiment, owner: str, words: Sequence[str]) -> list[str]:
    """The words with ``--flag`` or ``--no-flag`` in place of ``--flag True`` or ``--flag False``."""
    from engram.lab.config import fields

    flags = {option(name) for name, field in fields(experiment.settings(owner)).items() if field.kind is bool}
    short: list[str] = []
    for word in words:
        if short and short[-1] in flags and word.lower() in ("true", "false"):
            outer, dot, last = short[-1].removeprefix("--").rpartition(".")
            short[-1] = short[-1] if word.lower() == "true" else f"--{outer}{dot}no-{last}"
        else:
            short.append(word)
    return short


def _options(experiment: Experiment, preset: str, owner: str) -> Any:
    """The settings of a study or an arm as an object without validation, so that tyro can parse a partial config."""
    return _unvalidated(experiment.base(preset, owner))


def _unvalidated(config: Any) -> Any:
    from engram.lab.config import fields

    kind: Any = type(config)
    kinds = fields(kind)
    options = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        inner = dataclasses.is_dataclass(value)
        value = _unvalidated(value) if inner else value
        options.append((field.name, type(value) if inner else kinds[field.name].kind, value))
    return dataclasses.make_dataclass("Fields", options, frozen=True)()


def _given(experiment: Experiment, owner: str, words: Sequence[str], options: Any) -> Iterator[tuple[str, Any]]:
    """Yield the settings that the words name, with dotted names for nested configs, and their values."""
    from engram.lab.config import fields

    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    named |= {re.sub(r"^(--.*\.|--)no-", r"\1", word) for word in named}
    for name in fields(experiment.settings(owner)):
        if option(name) in named:
            yield name, functools.reduce(getattr, name.split("."), options)


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """The value given for an option."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == option:
            return value if equals else " ".join(arguments[index + 1 : index + 2])
    return ""


def arms_of(text: str | None) -> list[str] | None:
    """The names in an option that separates them by commas; None if it is not given."""
    return None if text is None else [name.strip() for name in text.split(",")]
