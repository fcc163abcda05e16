"""The candidates of a comparison, which any process can load by name, and the check for forbidden imports."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from engram import references, registry
from engram.numeric.imports import imports
from engram.studies.standings.kinds import KINDS, kind_of

HELD_OUT = ("engram.studies.experiments", "engram.tasks", "sklearn.datasets", "torchvision.datasets")
"""Modules that contain test data: a candidate that imports them might read the answers."""


class Candidate(NamedTuple):
    """A part of the registry, or of a file, that is compared with others.

    Attributes:
        name: Its name in tables and figures.
        place: Its registered name, or the place where it is defined, as ``"file.py:Name"``.
        kind: Its kind, one of ``KINDS``.
        make: The callable that makes it.
    """

    name: str
    place: str
    kind: str
    make: Any

    @property
    def about(self) -> str:
        """The first sentence of its docstring, or else of its module's; empty without either."""
        maker = self.make.func if isinstance(self.make, partial) else self.make
        module_doc = getattr(sys.modules.get(getattr(maker, "__module__", "")), "__doc__", None)
        return registry.summary(getattr(maker, "__doc__", None) or module_doc or "").replace("`", "")


def find_candidate(given: Any, kind: str = "") -> Candidate:
    """Find a candidate by its name or its place, or from an object.

    Args:
        given: A registered name, ``"file.py:Name"``, ``"module:Name"``, or a class, object or function of a module.
        kind: Its kind (default: that of its class, or the only kind with this registered name).

    Raises:
        TypeError: Parts of its kind are not compared.
        ValueError: Nothing has this name, parts of several kinds have it, another process could not find it by a name
            in its module, or it imports test data.
    """
    place = given if isinstance(given, str) else place_of(given)
    if place.startswith("__main__:"):
        place = place_of(references.load(place))
    if references.is_reference(place):
        file_or_module, _, name = place.rpartition(":")
        place = f"{Path(file_or_module).resolve()}:{name}" if file_or_module.endswith(".py") else place
        references.reload_edited(place)
        make = references.load(place)
        check_honest(sys.modules[references.place_of(place).rpartition(":")[0]])
        return Candidate(name_at(place), place, kind or kind_of(make), make)
    kinds = [kind] if kind else [known_kind for known_kind in KINDS if place in registry.names(known_kind)]
    if len(kinds) != 1:
        hint = registry.suggestion(place, sorted({name for k in KINDS for name in registry.names(k)}))
        expected = f"its kind, {' or '.join(kinds)}," if kinds else f"a registered name ({hint})"
        raise ValueError(f"candidate = {place!r}: expected {expected} or its place, as 'file.py:Name'")
    return Candidate(place, place, kinds[0], registry.get(kinds[0], place))


def name_at(place: str) -> str:
    """The name of a candidate in tables: its registered name, or its name in its module."""
    return place.rpartition(":")[2]


def place_of(part: Any) -> str:
    """The place of a class, an object or a function of a module, as ``"file.py:Name"`` or ``"module:Name"``.

    Raises:
        ValueError: It has no name in its module, or no file, as what a notebook defines.
    """
    module_name = getattr(part, "__module__", None) or type(part).__module__
    module = sys.modules.get(module_name)
    names = [getattr(part, "__qualname__", "")]
    if module is not None:
        names += [name for name, value in vars(module).items() if value is part]
    for name in filter(None, names):
        value: Any = module
        for attribute in name.split("."):
            value = getattr(value, attribute, None)
        if value is part:
            if module_name != "__main__":
                return f"{module_name}:{name}"
            if (file := getattr(module, "__file__", None)) and Path(file).is_file():
                return f"{file}:{name}"
            raise ValueError(
                f"candidate = {part!r}: expected one of a file, which other processes can import; "
                f"save it to a file, and give its place, as 'file.py:{name}'"
            )
    raise ValueError(f"candidate = {part!r}: expected one with a name in its module, by which other processes find it")


def check_honest(module: ModuleType) -> None:
    """Raise ValueError if a module, or a module of its own package, imports the test data of the comparison.

    A candidate written to read the answers can still do so in other ways; this check detects the obvious ones.
    """
    pending, checked, python = [module.__name__], set(), sysconfig.get_path("stdlib")
    while pending:
        name = pending.pop()
        top = name.partition(".")[0]
        imported = sys.modules.get(name)
        file = getattr(imported, "__file__", None)
        if name in checked or top in ("engram", "torch") or file is None or not file.endswith(".py"):
            continue
        checked.add(name)
        is_installed = "site-packages" in file or file.startswith(python)
        if is_installed and top != module.__name__.partition(".")[0]:
            continue
        package = name if Path(file).name == "__init__.py" else name.rpartition(".")[0]
        for base, part in imports(_nodes(Path(file).read_bytes()), package):
            submodule = f"{base}.{part}"
            if base.startswith(HELD_OUT) or submodule.startswith(HELD_OUT):
                raise ValueError(
                    f"{file} imports {base if base.startswith(HELD_OUT) else submodule}, which contains the test data"
                )
            pending += [base, submodule]


def _nodes(source: bytes) -> Iterator[ast.AST]:
    """The syntax nodes of a source, without those that run only in a script."""
    for statement in ast.parse(source).body:
        if not (isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)):
            yield from ast.walk(statement)
