"""The settings of an experiment as options: read from arguments, and listed.

``--steps 100`` changes a setting of all arms that do not set it themselves, ``--lstm.steps 100`` that of one arm or
study.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import io
import itertools
import json
import re
import types
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

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
    if get_origin(kind) in (Union, types.UnionType):
        return any(map(_is_container, get_args(kind)))
    return dataclasses.is_dataclass(kind) or (get_origin(kind) or kind) in (list, tuple, dict, set, frozenset)


def _is_flat(kind: Any) -> bool:
    """Whether a container has no containers in it, so that its parts can be given as words."""
    return not dataclasses.is_dataclass(kind) and not any(map(_is_container, get_args(kind)))


def rows(experiment: Experiment) -> tuple[list[str], Iterator[tuple[str, ...]]]:
    """The columns and rows of a table of the settings: allowed values, the value in each preset, meaning."""
    from engram.lab.config import dotted, fields, plain, value_of

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
    from engram.lab.config import dotted, fields

    known = fields(experiment.settings(owner))
    names = {option(name): name for name in known}
    base = experiment.base(preset, owner)
    as_json: dict[str, Any] = {}
    parsable: list[str] = []
    parsed_names: list[str] = []
    for word, *more in _groups(_without_booleans(experiment, owner, words)):
        name, equals, text = word.partition("=")
        negated = re.sub(r"^(--.*\.|--)no-", r"\1", name)
        if not {name, negated} & names.keys():
            experiment.check_field(dotted(owner, name.removeprefix("--").replace("-", "_")), owner)
        setting = names.get(name) or names[negated]
        kind = known[setting].kind
        texts = [_member_name(kind, each) for each in ([text] if equals else more)]
        is_json = [each[:1] in "[{" for each in texts] == [True]
        if get_origin(kind) is dict and _is_flat(kind) and not is_json and len(texts) % 2 == 0:
            as_json[setting] = {key: _as_value(value) for key, value in zip(texts[::2], texts[1::2], strict=True)}
        elif _is_container(kind) and (not _is_flat(kind) or is_json or get_origin(kind) is dict):
            as_json[setting] = _from_json(dotted(owner, setting), " ".join(texts), known[setting].allowed)
        else:
            parsable += [f"{name}={texts[0]}"] if equals else [name, *texts]
            parsed_names.append(setting)
    options = _unvalidated(type(base), base, parsed_names)
    if parsable:
        options = parsed(type(options), parsable, default=options, prog="engram run NAME")
    return {
        name: as_json[name] if name in as_json else functools.reduce(getattr, name.split("."), options)
        for name in known
        if name in as_json or name in parsed_names
    }


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


def _member_name(kind: Any, text: str) -> str:
    """The name of the member of an enumeration that a text gives by its value; any other text as it is."""
    for part in (kind, *get_args(kind)):
        if isinstance(part, type) and issubclass(part, enum.Enum) and text not in part.__members__:
            return next((member.name for member in part if str(member.value) == text), text)
    return text


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


def _unvalidated(cls: Any, config: Any, names: Sequence[str]) -> Any:
    """Some settings of a study or an arm as an object without validation, so that tyro can parse a partial config."""
    from engram.lab.config import draft, fields, inner_class

    kinds = fields(cls)
    options = []
    for name in dict.fromkeys(name.partition(".")[0] for name in names):
        inner_names = [inner for outer, _, inner in (each.partition(".") for each in names) if outer == name and inner]
        value = getattr(config, name, None)
        if inner_names:
            kind = inner_class(cls, name)
            value = _unvalidated(kind, draft(kind) if value is None else value, inner_names)
            kind = type(value)
        else:
            kind = kinds[name].kind
        default = dataclasses.field(default_factory=functools.partial(lambda value: value, value))
        called = tyro.conf.arg(name=option(name).removeprefix("--"))
        options.append((name, Annotated[kind, called], default))
    return dataclasses.make_dataclass("Fields", options, frozen=True)()


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
