"""What parts there are, by name: read from the entry points of engram and of every other installed package.

A part is registered by one line under ``[project.entry-points."engram.<kind>"]`` in a package's
``pyproject.toml``; engram's own parts are registered no other way.
"""

from __future__ import annotations

import difflib
import sys
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
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
    """Load one registered part.

    Args:
        kind: One of ``KINDS``.
        name: A name that ``names(kind)`` lists.

    Raises:
        ValueError: No part has this name (the nearest one is suggested), or two packages claim it.

    Examples:
        >>> get("plasticity_rules", "hebb").__name__
        'Hebb'
    """
    known_names = names(kind)
    if name not in known_names:
        nearest = difflib.get_close_matches(name, known_names, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known_names) or 'none'}"
        raise ValueError(f"unknown {_singular(kind)} {name!r}; {hint}")
    registered = {entry.value: entry for entry in entries(kind) if entry.name == name}
    if len(registered) > 1:
        raise ValueError(f"{_singular(kind)} {name!r} is registered more than once: {', '.join(registered)}")
    (value, entry) = next(iter(registered.items()))
    resolved[sys._getframe(1).f_globals.get("__name__", ""), kind, name] = value
    return entry.load()


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
