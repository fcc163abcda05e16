"""Which code a trial reaches: the sources of its modules as they were loaded, whatever was edited since."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Collection, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from engram import registry
from engram.numeric.imports import imports

_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OBJECT = re.compile(r"([A-Za-z_][\w.]*):[A-Za-z_]\w*")
_loaded: dict[str, bytes] = {}
reloaded: list[str] = []
"""Modules of which another source was loaded than before, in order: what other processes have loaded is stale."""


def code_digest(module: str, named: Collection[str] = ()) -> str:
    """Return a hash of the code that a trial can reach, so that no result is taken for that of other code.

    It covers the module that defines the trial, all modules of the same package and of engram that it imports,
    directly or through others, what it reaches by name (registered parts, worlds that ``gymnasium.make`` makes), and of
    the laboratory what makes a trial's numbers. Of a module that is loaded it takes the source that was loaded.

    Args:
        module: The module that defines the trial.
        named: What its config names: parts of other packages count where they are among these, so that a package
            that is installed beside leaves all other trials as they are.

    Raises:
        ValueError: The module has no source file, as in an interactive session.
    """
    packages = {module.partition(".")[0], "engram"}
    found: dict[str, bytes] = {}
    pending = [module, "engram.lab.loop"]
    while pending:
        name = pending.pop()
        if name in found or (name.startswith(("engram.lab", "engram.storage")) and name != "engram.lab.loop"):
            continue
        source = _source(name)
        if source is None:
            if name == module:
                raise ValueError(f"the trial's module {module!r} has no source file: write it into one")
            continue
        found[name] = source
        reads = _reads(name, _is_package(name), source)
        for part, registered in sorted({(e.name, e.module) for kind in reads.kinds for e in registry.entries(kind)}):
            if part in named:
                packages.add(registered.partition(".")[0])
            if registered.partition(".")[0] in packages:
                pending.append(registered)
        pending += [other for other in reads.named if other.partition(".")[0] in packages]
        pending += [
            within if taken and _source(within := f"{base}.{taken}") is not None else base
            for base, taken in reads.taken
            if base.partition(".")[0] in packages
        ]
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode() + found[name])
    return digest.hexdigest()[:16]


class _Reads(NamedTuple):
    """What a source reaches: as ``imports`` tells, modules named in strings, registered kinds.

    A string names a module as ``"module:object"``, as entry points do.
    """

    taken: tuple[tuple[str, str], ...]
    named: tuple[str, ...]
    kinds: frozenset[str]


@functools.lru_cache(maxsize=4096)
def _reads(module: str, is_package: bool, source: bytes) -> _Reads:
    package = module if is_package else module.rpartition(".")[0]
    nodes = list(ast.walk(ast.parse(source)))
    named: list[str] = []
    kinds: set[str] = set()
    for node in nodes:
        match node:
            case ast.Constant(value=str(text)) if (found := _OBJECT.fullmatch(text)) is not None:
                named.append(found[1])
            case ast.Call(func=ast.Attribute(attr="make" | "make_vec")):
                kinds.add("environments")
            case ast.Call(func=ast.Attribute(attr="get" | "names", value=owner), args=[kind, *_]):
                if "registry" in (getattr(owner, "id", ""), getattr(owner, "attr", "")):
                    kinds.update([str(kind.value)] if isinstance(kind, ast.Constant) else registry.KINDS)
    return _Reads(tuple(imports(nodes, package)), tuple(named), frozenset(kinds))


def _source(module: str) -> bytes | None:
    """Return a module's source; None where ``module`` is none (but, say, a function of one), or has no file."""
    if module in sys.modules and module in _loaded:
        return _loaded[module]
    path = _file(module)
    if path is None:
        return None
    source = path.read_bytes()
    if module in sys.modules and not _is_installed(path):
        _loaded[module] = source
    return source


def _file(module: str) -> Path | None:
    spec = _spec(module)
    origin = spec.origin if spec is not None else getattr(sys.modules.get(module), "__file__", None)
    return Path(origin) if origin is not None and origin.endswith(".py") and Path(origin).is_file() else None


def _spec(module: str) -> ModuleSpec | None:
    """Return where a module is, and load nothing for it, not even what it is in."""
    if module in sys.modules:
        return sys.modules[module].__spec__
    parent = module.rpartition(".")[0]
    if not parent:
        return importlib.util.find_spec(module)
    within = _spec(parent)
    places = None if within is None else within.submodule_search_locations
    return None if places is None else PathFinder.find_spec(module, list(places))


def _is_package(module: str) -> bool:
    path = _file(module)
    return path is not None and path.name == "__init__.py"


def _is_installed(path: Path | str) -> bool:
    """Return whether a file is one that nobody edits while a program runs."""
    return str(path).startswith(_INSTALLED)


class _Notes(MetaPathFinder):
    """Notes what is about to be loaded, again at a reload, and leaves it to others to find it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not all(map(_is_installed, path)):
            _note({fullname: PathFinder.find_spec(fullname, path)})
        return None


def _note(specs: dict[str, ModuleSpec | None]) -> None:
    for name, spec in specs.items():
        origin = None if spec is None else spec.origin
        if origin is not None and origin.endswith(".py") and not _is_installed(origin) and Path(origin).is_file():
            source = Path(origin).read_bytes()
            if _loaded.get(name, source) != source:
                reloaded.append(name)
            _loaded[name] = source


_note({name: getattr(loaded, "__spec__", None) for name, loaded in list(sys.modules.items())})
sys.meta_path.insert(0, _Notes())
