"""The registry of parts by name, read from the entry points of engram and of all other installed packages.

A part is registered by one line under ``[project.entry-points."engram.<kind>"]`` in a package's ``pyproject.toml``;
engram's own parts are registered in the same way. Wherever a registered name is expected, a part that is not registered
can be given by its place, ``"package.module:Name"`` or ``"folder/file.py:Name"``.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import io
import os
import re
import sys
import tokenize
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engram import references

KINDS = (
    "plasticity_rules",
    "learning_rules",
    "synaptic_rules",
    "continual_methods",
    "modules",
    "tasks",
    "environments",
    "optimizers",
    "replacement_policies",
    "agents",
    "associative_memories",
    "similarity_measures",
    "curiosities",
    "estimators",
    "experiments",
)
# Suggestions: how similar two words must be, how many names to suggest at most, and how many known names to list.
LIKE, FEW, MANY = 0.75, 3, 8


def names(kind: str) -> list[str]:
    """The sorted names of the registered parts of one kind.

    Args:
        kind: One of ``KINDS``.

    Raises:
        ValueError: The kind is unknown.

    Examples:
        >>> names("plasticity_rules")
        ['clipped-hebb', 'hebb', 'instar', 'modulated', 'oja', 'retroactive']
    """
    if kind not in KINDS:
        raise ValueError(f"kind = {kind!r}: expected one of {', '.join(KINDS)}")
    return sorted({entry.name for entry in entries(kind)})


def get(kind: str, name: str) -> Any:
    """The part of a kind with a given name, imported if necessary.

    Args:
        kind: One of ``KINDS``.
        name: A name that ``names(kind)`` lists, or the part's place: ``"module:Name"`` or ``"file.py:Name"``.

    Raises:
        ValueError: No part has this name (the nearest is suggested), two packages register it, or the place is empty.
        TypeError: The name is not a string.

    Examples:
        >>> get("plasticity_rules", "hebb").__name__
        'Hebb'
        >>> get("plasticity_rules", "engram.plasticity:Hebb").__name__
        'Hebb'
    """
    check(kind, name)
    if references.is_reference(name):
        return references.load(name)
    registered = {entry.value: entry for entry in entries(kind) if entry.name == name}
    if len(registered) > 1:
        raise ValueError(f"{_singular(kind)} {name!r} is registered more than once: {', '.join(registered)}")
    (place, entry) = next(iter(registered.items()))
    try:
        return entry.load()
    except Exception as error:
        package = "" if entry.dist is None else f" of the package {entry.dist.name}"
        error.add_note(f"{_singular(kind)} {name!r} is registered as {place!r}{package}")
        raise


def check(kind: str, name: str, argument: str = "") -> str:
    """Check that a part of this name is registered, and return the name; raise ValueError with a suggestion if not.

    A reference to a place is not checked until the part is loaded.

    Args:
        kind: One of ``KINDS``.
        name: The name.
        argument: The name of the argument, for the error; empty: an error about an unknown name does not name it.

    Raises:
        ValueError: The kind or the name is unknown.
        TypeError: The name is not a string.
    """
    known_names = names(kind)
    if not isinstance(name, str):
        raise TypeError(f"{argument or 'name'} = {name!r}: expected the name of a part")
    if not references.is_reference(name) and name not in known_names:
        kind = _singular(kind)
        article = "an" if kind[0] in "aeiou" else "a"
        problem = f"{argument} = {name!r}: expected {article} {kind}" if argument else f"unknown {kind} {name!r}"
        raise ValueError(f"{problem}; {suggestion(name, known_names)}")
    return name


def entries(kind: str) -> tuple[EntryPoint, ...]:
    """The entry points of a kind; read again if Python's path, or a folder on it, has changed."""
    return _read(_stamps()).get(kind, ())


def foreign_entries() -> tuple[EntryPoint, ...]:
    """The entry points of all kinds that other packages register; read again as by ``entries``."""
    return _foreign(_stamps())


def _stamps() -> tuple[tuple[str, int], ...]:
    stamps = []
    for folder in sys.path:
        with suppress(OSError):
            stamps.append((folder, os.stat(folder or ".").st_mtime_ns))  # noqa: PTH116 - a Path takes twice as long
    return tuple(stamps)


@lru_cache(maxsize=1)
def _read(stamps: tuple[tuple[str, int], ...]) -> dict[str, tuple[EntryPoint, ...]]:
    of_all_groups = entry_points()  # once for all kinds: it reads a file of every installed package
    return {kind: tuple(of_all_groups.select(group=f"engram.{kind}")) for kind in KINDS}


@lru_cache(maxsize=1)
def _foreign(stamps: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry for of_kind in _read(stamps).values() for entry in of_kind if not _is_own(entry))


def _is_own(entry: EntryPoint) -> bool:
    return entry.module.startswith("engram.")


def _singular(kind: str) -> str:
    singular = f"{kind[:-3]}y" if kind.endswith("ies") else kind.removesuffix("s")
    return singular.replace("_", " ")


def experiments() -> list[str]:
    """The sorted names of all experiments, of engram and of other installed packages.

    Examples:
        >>> "pattern-completion" in experiments()
        True
    """
    return names("experiments")


def suggestion(name: str, known: Collection[str], *, called: Mapping[str, str] | None = None) -> str:
    """A hint for an unknown name: the name that it abbreviates, the nearest name, or names with a similar word.

    If there is none, the hint lists the known names, at most eight of them.

    Args:
        name: The unknown name.
        known: All known names.
        called: The names that users may type, each with its known name; None: only the known names.

    Examples:
        >>> suggestion("lr", ["steps", "learning_rate"])
        "did you mean 'learning_rate'?"
        >>> suggestion("rulez", ["learning-rules", "tasks", "synaptic-rules"])
        "did you mean 'learning-rules' or 'synaptic-rules'?"
    """
    called = {alias.lower(): full_name for alias, full_name in (called or dict(zip(known, known, strict=True))).items()}
    name = name.lower()
    initials = {"".join(word[:1] for word in alias.replace("-", "_").split("_")): alias for alias in called}
    words = {word for alias in called for word in re.split("[-_]", alias)}
    similar = difflib.get_close_matches(name, words, n=1, cutoff=LIKE)
    with_word = [alias for alias in called for word in similar if word in re.split("[-_]", alias)]
    nearest = [initials[name]] if name in initials else difflib.get_close_matches(name, called, n=1) or with_word[:FEW]
    if nearest:
        return f"did you mean {' or '.join(repr(called[alias]) for alias in nearest)}?"
    omitted = f", and {len(known) - MANY} more" if len(known) > MANY else ""
    return f"known: {', '.join([*known][:MANY]) or 'none'}{omitted}"


def summary(about: str) -> str:
    """The first paragraph of an experiment's documentation, up to its reference and without its full stop."""
    return " ".join(about.strip().partition("\n\n")[0].split()).removesuffix(".").partition(" (")[0]


def documentation(name: str) -> str | None:
    """The module docstring of one of engram's experiments, read without loading it; None for any other."""
    (entry, *more) = {entry.value: entry for entry in entries("experiments") if entry.name == name}.values()
    spec = None if more or not entry.module.startswith("engram.") else importlib.util.find_spec(entry.module)
    if spec is None:
        return None
    tokens = tokenize.generate_tokens(io.StringIO(spec.loader.get_source(entry.module)).readline)  # type: ignore[union-attr]
    first_token = next(token for token in tokens if token.type not in (tokenize.COMMENT, tokenize.NL))
    return ast.literal_eval(first_token.string) if first_token.type == tokenize.STRING else None
