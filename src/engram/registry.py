"""What parts there are, by name: read from the entry points of engram and of every other installed package.

A part is registered by one line under ``[project.entry-points."engram.<kind>"]`` in a package's
``pyproject.toml``; engram's own parts are registered no other way. A part that is not registered is named by where it
is, ``"package.module:Name"`` or ``"folder/file.py:Name"``, wherever a registered name is expected.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

KINDS = (
    "plasticity_rules",
    "learning_rules",
    "synaptic_rules",
    "continual_methods",
    "modules",
    "tasks",
    "environments",
    "optimizers",
    "estimators",
    "experiments",
)
resolved: dict[tuple[str, str, str], str] = {}
"""What was loaded: by the module that asked, the kind and the name the object that it was registered as."""


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
    """Load one part.

    Args:
        kind: One of ``KINDS``.
        name: A name that ``names(kind)`` lists, or where the part is: ``"module:Name"`` or ``"file.py:Name"``.

    Raises:
        ValueError: No part has this name (the nearest one is suggested), two packages claim it, or nothing is there.

    Examples:
        >>> get("plasticity_rules", "hebb").__name__
        'Hebb'
        >>> get("plasticity_rules", "engram.plasticity:Hebb").__name__
        'Hebb'
    """
    check(kind, name)
    asked_by = sys._getframe(1).f_globals.get("__name__", "")
    if is_reference(name):
        part = _referenced(name)
        resolved[asked_by, kind, name] = _place(name)
        return part
    registered = {entry.value: entry for entry in entries(kind) if entry.name == name}
    if len(registered) > 1:
        raise ValueError(f"{_singular(kind)} {name!r} is registered more than once: {', '.join(registered)}")
    (value, entry) = next(iter(registered.items()))
    resolved[asked_by, kind, name] = value
    return entry.load()


def check(kind: str, name: str, argument: str = "") -> str:
    """Return the name of a part; raise ValueError, which suggests the nearest one, where there is none.

    What a reference to a place leads to is only seen when the part is loaded.

    Args:
        kind: One of ``KINDS``.
        name: The name.
        argument: What was given the name, for the message.
    """
    known_names = names(kind)
    if not is_reference(name) and name not in known_names:
        nearest = difflib.get_close_matches(name, known_names, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known_names) or 'none'}"
        said = (
            f"{argument} = {name!r}: expected a {_singular(kind)}"
            if argument
            else f"unknown {_singular(kind)} {name!r}"
        )
        raise ValueError(f"{said}; {hint}")
    return name


def is_reference(name: str) -> bool:
    """Whether a name says where a part is, as ``"module:Name"`` or ``"file.py:Name"`` do."""
    return ":" in name


def places(kind: str, name: str) -> set[str]:
    """Where the parts of a name are, as ``"module:Name"``; nothing is loaded for it."""
    return {_place(name)} if is_reference(name) else {entry.value for entry in entries(kind) if entry.name == name}


def forget_references() -> None:
    """Forget which parts that are named by where they are engram's own modules asked for: a trial asks for its own."""
    for asked in [key for key in resolved if is_reference(key[2]) and key[0].startswith("engram.")]:
        del resolved[asked]


def _place(reference: str) -> str:
    """A reference with the name of the module in the place of its file."""
    place, _, attribute = reference.rpartition(":")
    return f"{_module_name(Path(place)) if place.endswith('.py') else place}:{attribute}"


def _module_name(path: Path) -> str:
    """The name under which the module that a file is gets imported, which no other file has."""
    return f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"


def _referenced(reference: str) -> Any:
    """The part that a reference leads to."""
    place, _, attribute = reference.rpartition(":")
    try:
        module = _module_of_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise ValueError(f"{reference!r}: {error}; expected 'module:Name' or 'file.py:Name'") from error
    part = module
    for name in attribute.split("."):
        if not hasattr(part, name):
            defined = [known for known in vars(module) if not known.startswith("_")]
            nearest = difflib.get_close_matches(name, defined, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"{reference!r}: {place} has no {attribute!r}{hint}")
        part = getattr(part, name)
    return part


def _module_of_file(path: Path) -> ModuleType:
    """The module that a file is, imported once."""
    whole, name = path.resolve(), _module_name(path)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, whole)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        sys.path.append(str(whole.parent))  # what it imports may lie beside it
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def entries(kind: str) -> tuple[EntryPoint, ...]:
    """The entry points of a kind; they are read again where the path of Python, or a folder on it, changed."""
    folders = [Path(path) for path in sys.path]
    return _read(kind, tuple((str(folder), folder.stat().st_mtime_ns) for folder in folders if folder.exists()))


@lru_cache(maxsize=len(KINDS))
def _read(kind: str, stamps: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=f"engram.{kind}"))


def _singular(kind: str) -> str:
    return kind.removesuffix("s").replace("_", " ")


def experiments() -> list[str]:
    """The sorted names of all experiments, of engram and of other installed packages.

    Examples:
        >>> "pattern-completion" in experiments()
        True
    """
    return names("experiments")
