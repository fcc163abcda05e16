"""The settings of an experiment as options: read from arguments, and listed.

``--steps 100`` changes a setting of all arms that do not set it themselves, ``--lstm.steps 100`` that of one arm or
study.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import itertools
import json
import re
import types
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import pydantic
from rich.markup import escape

if TYPE_CHECKING:
    from engram.lab import Experiment
    from engram.lab.trial.config import Field


def changes(experiment: Experiment, preset: str, arguments: Sequence[str]) -> dict[str, Any]:
    """The remaining arguments as changes of settings by dotted name, without those that equal the preset.

    Args:
        experiment: The experiment.
        preset: Name of its preset.
        arguments: The words of the command line.

    Raises:
        ValueError: A setting is unknown, or a value is not allowed.
    """
    from engram.lab.trial.config import dotted

    field_values: dict[str, Any] = {}
    for owner, words in _by_owner(experiment, arguments).items():
        # Also those that equal the preset: `--plastic.steps` may undo for one arm what `--steps` changes for all.
        field_values |= {dotted(owner, name): value for name, value in _given(experiment, preset, owner, words).items()}
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
    from engram.lab.trial.config import dotted, fields

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
                given_values = _given(experiment, preset, owner, flag)
                setting_values |= {dotted(owner, setting): [value] for setting, value in given_values.items()}
                continue
            setting, kind = options_by_name[name]
            text, full_name = words.pop(0), dotted(owner, setting)
            if kind is bool:
                choices = [checks.choice(full_name, word.lower(), ("true", "false")) for word in text.split(",")]
                setting_values[full_name] = [word == "true" for word in choices]
                continue
            is_range = kind in (int, float) and ":" in text
            items = text.split(":") if is_range else _separated(text, kind)
            if is_range and len(items) != 2:
                raise ValueError(f"{full_name} = {text!r}: expected a range of two numbers, as in 0.1:1")
            given = [_with_value(name, part, kind) for part in items]
            numbers = [_given(experiment, preset, owner, part)[setting] for part in given]
            if is_range and not numbers[0] < numbers[1]:
                raise ValueError(f"{full_name} = {text!r}: expected a smaller number before a larger one, as in 0.1:1")
            setting_values[full_name] = Range(*numbers) if is_range else numbers
    return setting_values


def option(field: str) -> str:
    """The command-line option of a setting, as ``--lambda`` of ``lambda_``."""
    return "--" + ".".join(part.rstrip("_") or part for part in field.split(".")).replace("_", "-")


def _separated(text: str, kind: Any) -> list[str]:
    """The values that commas separate; of lists and dictionaries, those of JSON too."""
    if _is_container(kind) and re.search(r"[\[{]", text):
        with contextlib.suppress(ValueError):
            return [json.dumps(item) for item in json.loads(f"[{text}]")]
    return text.split(",")


def _with_value(name: str, text: str, kind: Any) -> list[str]:
    """The words that give an option a value; those of a list are separated by spaces."""
    if _is_container(kind) and not text.startswith(("[", "{")):
        return [name, *text.split()]
    return [f"{name}={text}"] if text.startswith("-") else [name, text]


def _is_container(kind: Any) -> bool:
    """Whether values of a kind have several parts, which may be given as JSON."""
    if _is_union(kind):
        return any(map(_is_container, get_args(kind)))
    return dataclasses.is_dataclass(kind) or (get_origin(kind) or kind) in (list, tuple, dict, set, frozenset)


def _is_flat(kind: Any) -> bool:
    """Whether a container has no containers in it, so that its parts can be given as words."""
    return not dataclasses.is_dataclass(kind) and not any(map(_is_container, get_args(kind)))


def rows(experiment: Experiment) -> tuple[list[str], Iterator[tuple[str, ...]]]:
    """The columns and rows of a table of the settings: allowed values, the value in each preset, meaning."""
    from engram.lab.trial.config import dotted, fields, plain, value_of

    def cells() -> Iterator[tuple[str, ...]]:
        for study in experiment.by_name:
            bases = [experiment.base(preset, study) for preset in experiment.presets]
            for name, field in fields(experiment.settings(study)).items():
                in_presets = (str(plain(value_of(base, name))) for base in bases)
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
        inner = _known(experiment, owner, name[len(owner) :].removeprefix("."))
        name_parts = inner.rpartition(".")
        name = f"--{name_parts[0]}{name_parts[1]}{negated}{name_parts[2]}"
        # A value such as -x would be taken for an option if it were a word of its own.
        words += [f"{name}={value}"] if equals and value.startswith("-") else [name, *([value] if equals else [])]
    return split


def _known(experiment: Experiment, owner: str, name: str) -> str:
    """The option of the setting that a name with dashes means, without ``--``; the name itself if it is none.

    Underscores at the end of a setting's name, as in ``lambda_``, may be given or not.
    """
    options = {option(field).removeprefix("--") for field in experiment.fields(owner)} if owner else set()
    if not owner:
        options = {option(field).removeprefix("--") for field in experiment.fields()}
    short = ".".join(part.rstrip("-") for part in name.split("."))
    return short if name not in options and short in options else name


def _given(experiment: Experiment, preset: str, owner: str, words: Sequence[str]) -> dict[str, Any]:
    """The settings of one study or arm that the words name, and their values; types are checked, ranges are not."""
    from engram.lab.trial.config import dotted, fields

    known = fields(experiment.settings(owner))
    names = {option(name): name for name in known}
    given: dict[str, Any] = {}
    for word, *more in _groups(words):
        name, equals, text = word.partition("=")
        negated = re.sub(r"^(--.*\.|--)no-", r"\1", name)
        if not {name, negated} & names.keys():
            experiment.check_field(dotted(owner, name.removeprefix("--").replace("-", "_")), owner)
        setting = names.get(name) or names[negated]
        texts = [text, *more] if equals else more
        if known[setting].kind is bool and not texts:
            texts = [str(name in names)]
        given[setting] = _read(dotted(owner, setting), known[setting], texts)
    return {setting: given[setting] for setting in known if setting in given}


def _read(name: str, field: Field, texts: Sequence[str]) -> Any:
    """The value of a setting that some words give, or a text in JSON; its type is checked, its range is not.

    Args:
        name: Its full name, for the error.
        field: Its declaration.
        texts: The words.
    """
    kind, text = field.kind, " ".join(texts)
    is_json = [each[:1] in "[{" for each in texts] == [True]
    if get_origin(kind) is dict and _is_flat(kind) and not is_json and len(texts) % 2 == 0:
        return {key: _as_value(value) for key, value in zip(texts[::2], texts[1::2], strict=True)}
    if _is_container(kind) and (not _is_flat(kind) or is_json or get_origin(kind) is dict):
        return _from_json(name, text, field.allowed)
    if type(None) in get_args(kind) and text == "None":
        return None
    values = [_choice(kind, each) for each in texts]
    if not _is_container(kind):
        if len(values) != 1:
            raise ValueError(f"{name} = {text!r}: expected one value, {field.allowed}")
        values = values[0]
    parts: Sequence[Any] = get_args(kind) if _is_union(kind) else [kind]
    for part in parts:  # of a union, the first that fits
        with contextlib.suppress(pydantic.ValidationError):
            return pydantic.TypeAdapter(part).validate_python(values)
    raise ValueError(f"{name} = {text!r}: expected {field.allowed}")


def _groups(words: Sequence[str]) -> Iterator[list[str]]:
    """The words of each option, with those of its value."""
    starts = [index for index, word in enumerate(words) if word.startswith("--")]
    for start, stop in itertools.pairwise([*starts, len(words)]):
        yield list(words[start:stop])


def _from_json(name: str, text: str, allowed: str) -> Any:
    """A value given as JSON, or as ``None``."""
    try:
        return None if text == "None" else json.loads(text)
    except ValueError:
        raise ValueError(f"{name} = {text!r}: expected {allowed}, as JSON") from None


def _as_value(text: str) -> Any:
    """A number, a truth value or None from its word; any other text as it is."""
    try:
        return None if text == "None" else json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


def _choice(kind: Any, text: str) -> Any:
    """What a text means where a kind lists its values: a member of an enumeration by its name or value; else itself."""
    for part in (kind, *get_args(kind)):
        if get_origin(part) is Literal:
            return next((choice for choice in get_args(part) if str(choice) == text), text)
        if isinstance(part, type) and issubclass(part, enum.Enum):
            return next((member for member in part if text in (member.name, str(member.value))), text)
    return text


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)
