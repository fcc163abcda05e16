"""What a result was made by: versions, registered parts and the user's own files; compared before it is reused.

Of the user's files those count whose modules the trial's modules name, or that were loaded while it ran, and those that
its settings name or that it declares. A file that a program reads without declaring it is not seen.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import os
import re
import struct
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
from typing_extensions import TypedDict

from engram import registry
from engram.lab.machine import COMPUTING, versions
from engram.numeric.imports import imports

OWN = Path(__file__).parents[1]
_PYTHON = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_INSTALLED = re.compile(r"/(site|dist)-packages/")
_STARTED = psutil.Process().create_time() + 1.0  # known only to whole seconds
_DATA = (int, float, complex, str, bytes, tuple, list, dict, set, frozenset)
_first_seen: dict[str, tuple[Any, str]] = {}  # by module: its spec, which a reload replaces, and the digest of its file
_looks: list[tuple[list[str], list[ModuleType], dict[str, str]]] = [([], [], {})]  # the last: modules, user's files
_late: dict[frozenset[str], set[str]] = {}  # modules loaded while trials ran, by the modules that these start from


class Provenance(TypedDict):
    """What a result was made by.

    ``versions`` are those of the packages that compute; that of engram has a digest of its sources unless it is
    installed. ``parts`` has the places of the loaded parts that other packages register, with their packages' versions.
    ``files`` has the SHA-256 of the user's files by name (``"mine/rule.py"``, ``"$ENGRAM_DATA/..."``, or a path): those
    of modules as they were loaded, empty if the file may have been edited since.
    """

    versions: dict[str, str]
    parts: dict[str, str]
    files: dict[str, str]


def merged(*several: Provenance) -> Provenance:
    """Everything that several provenances name; of different values for one name the last."""
    merged: Provenance = {"versions": {}, "parts": {}, "files": {}}
    for each in several:
        merged["versions"] |= each["versions"]
        merged["parts"] |= each["parts"]
        merged["files"] |= each["files"]
    return merged


class Use:
    """A record of what a trial uses from now on.

    Args:
        roots: The modules that it starts from.
        paths: The files that it declares or that its settings name.
    """

    def __init__(self, roots: Collection[str], paths: Iterable[str | Path] = ()) -> None:
        self._roots = frozenset(roots) | {entry.module for entry in _loaded_parts()}
        self._loaded_before = frozenset(user_modules())
        self._declared = {name_of_file(str(Path(path).absolute())): digest_on_disk(path) for path in paths}
        self._last: tuple[tuple[int, int], Provenance] | None = None

    def declare(self, path: str | Path) -> None:
        """Add a file or a folder, as it is now."""
        self._declared.setdefault(name_of_file(str(Path(path).absolute())), digest_on_disk(path))

    def provenance(self) -> Provenance:
        """Everything used so far; looked up again once a module was loaded or a file declared."""
        state = len(sys.modules), len(self._declared)
        if self._last is None or self._last[0] != state:
            users = user_modules()
            late = _late.setdefault(self._roots, set())
            late |= users.keys() - self._loaded_before
            reached = {name: users[name] for name in _reached(self._roots | late, users)}
            files = {_name_of_module(name, path): _digest_as_loaded(name, path) for name, path in reached.items()}
            parts = {_title(entry): _place(entry) for entry in _loaded_parts()}
            versions_now = dict(computing_versions())
            self._last = state, {"versions": versions_now, "parts": parts, "files": {**self._declared, **files}}
        return self._last[1]


def difference(provenance: Provenance, loaded: Mapping[str, str]) -> str:
    """Say what has changed since a result was made; the empty string if nothing has.

    Args:
        provenance: What it was made by.
        loaded: ``digests()``: an edit of a file that is loaded counts once it is loaded again.
    """
    current_versions = computing_versions()
    for name, old in provenance["versions"].items():
        if (now := current_versions.get(name, "")) != old:
            edited = name == "engram" and now.partition("+")[0] == old.partition("+")[0]
            return "engram was edited" if edited else f"{name} is {now or 'gone'}, and was {old}"
    for name, old in provenance["parts"].items():
        kind, _, part = name.partition(" ")
        now = " and ".join(_place(entry) for entry in registry.entries(kind) if entry.name == part)
        if now != old:
            return f"{name} is {now or 'gone'}, and was {old}"
    for name, old in provenance["files"].items():
        now = loaded[name] if name in loaded else digest_on_disk(path_of_file(name))
        if now != old or not old:
            return f"{name} was edited" if now or name in loaded else f"{name} is gone"
    return ""


@functools.cache
def computing_versions() -> Mapping[str, str]:
    """The versions of Python and of the packages that compute.

    To engram's own version a digest of all its sources is added unless they lie among the installed packages: in a
    checkout any edit makes the results of earlier runs stale.
    """
    found = {name: versions()[name] for name in COMPUTING}
    if _INSTALLED.search(f"{OWN}/"):
        return found
    sources = hashlib.sha256()
    for path in sorted(OWN.rglob("*.py")):
        sources.update(f"{path.relative_to(OWN)}\0".encode() + path.read_bytes())
    return {**found, "engram": f"{found['engram']}+{sources.hexdigest()[:12]}"}


def user_modules() -> dict[str, str]:
    """The paths of the loaded modules that belong neither to Python, nor to installed packages, nor to engram."""
    names, modules = [*sys.modules], [*sys.modules.values()]
    names_before, modules_before, users = _looks[-1]
    if names != names_before or modules != modules_before:  # several thousand are looked at
        loaded = dict(sys.modules)
        files = {name: getattr(module, "__file__", None) for name, module in loaded.items()}
        files_of_users = {name: file for name, file in files.items() if isinstance(file, str) and _is_users(file)}
        users = {name: str(Path(file).absolute()) for name, file in files_of_users.items()}
        _looks[-1] = [*loaded], [*loaded.values()], users
    return dict(users)


@functools.cache
def _is_users(path: str) -> bool:
    path = str(Path(path).absolute())
    apart = path.startswith((*_PYTHON, f"{OWN}/")) or _INSTALLED.search(path)
    return not apart and Path(path).is_file()


def _reached(roots: Iterable[str], users: Mapping[str, str]) -> set[str]:
    """The user's modules that some modules reach: by names in them, by their imports, and the packages around them."""
    reached: set[str] = set()
    pending = [*roots]
    while pending:
        name = pending.pop()
        if name in users and name not in reached:
            reached.add(name)
            pending += [name.rpartition(".")[0], *_named_in(sys.modules[name], users.keys() - reached)]
            pending += _imported_in(users[name], name, _changed(users[name]))
    return reached


def _named_in(module: ModuleType, others: Collection[str]) -> Iterator[str]:
    """The modules that the values of a module are, or come from; of plain data, those with the same under its name."""
    for name, value in list(vars(module).items()):
        if isinstance(value, _DATA) and not name.startswith("__"):
            yield from (other for other in others if vars(sys.modules[other]).get(name) is value)
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        for item in (value, *(() if name.startswith("__") else items)):
            yield from (item.__name__,) if isinstance(item, ModuleType) else ()
            for part in (item, type(item), _attribute(item, "func")):
                origin = _attribute(part, "__module__")
                yield from (origin,) if isinstance(origin, str) else ()


def _attribute(value: object, name: str) -> object:
    """An attribute, or None; a stand-in for a package that is imported later, or is missing, may raise anything."""
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def _changed(path: str) -> int:
    """When a file was last changed; 0 if it is gone."""
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


@functools.cache
def _imported_in(path: str, module: str, mtime: int) -> Collection[str]:
    """The names that a source file imports anywhere, also within functions.

    Args:
        path: The file.
        module: Its module.
        mtime: When it was last changed.
    """
    package = module if Path(path).name == "__init__.py" else module.rpartition(".")[0]
    try:
        nodes = ast.walk(ast.parse(Path(path).read_bytes()))
    except (OSError, SyntaxError, ValueError):  # no source, as of a compiled module
        return ()
    return {name for base, part in imports(nodes, package) for name in (base, f"{base}.{part}")}


def _loaded_parts() -> list[EntryPoint]:
    """The parts that other packages register and whose modules are loaded."""
    return [entry for entry in registry.foreign_entries() if entry.module in sys.modules]


def _title(entry: EntryPoint) -> str:
    return f"{entry.group.removeprefix('engram.')} {entry.name}"


def _place(entry: EntryPoint) -> str:
    return f"{entry.value} ({entry.dist.name} {entry.dist.version})" if entry.dist is not None else entry.value


def digests() -> dict[str, str]:
    """The SHA-256 of the user's loaded modules, as they were loaded, by the names of their files."""
    return {_name_of_module(name, path): _digest_as_loaded(name, path) for name, path in user_modules().items()}


def _digest_as_loaded(name: str, path: str) -> str:
    spec = getattr(sys.modules[name], "__spec__", None)
    if name not in _first_seen or _first_seen[name][0] is not spec:
        _first_seen[name] = spec, digest_on_disk(path) if _is_as_loaded(path) else ""
    return _first_seen[name][1]


def _is_as_loaded(path: str) -> bool:
    """Whether a file is, as far as can be known, what Python loaded: older than the process, or than its .pyc file."""
    try:
        status = Path(path).stat()
    except OSError:  # it was deleted since
        return False
    if status.st_ctime <= _STARTED:
        return True
    with suppress(OSError, NotImplementedError):
        compiled = Path(importlib.util.cache_from_source(path))
        source_header = struct.pack("<II", int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
        return compiled.read_bytes()[8:16] == source_header and compiled.stat().st_mtime_ns >= status.st_mtime_ns
    return True


def digest_on_disk(path: str | Path) -> str:
    """The SHA-256 of a file as it is now, or of the names and contents of all files in a folder; empty if it is gone.

    Hidden files and compiled code do not count.
    """
    path = Path(path)
    with suppress(OSError, ValueError):
        if not path.is_dir():
            status = path.stat()
            return _digest_of(path, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        within = hashlib.sha256()
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            name = file.relative_to(path)
            if not any(part.startswith(".") or part == "__pycache__" for part in name.parts):
                within.update(f"{name}\0{digest_on_disk(file)}\0".encode(errors="surrogateescape"))
        return within.hexdigest()
    return ""


@functools.cache
def _digest_of(path: Path, stamp: tuple[int, ...]) -> str:
    """The SHA-256 of a file, computed once for each of its stamps."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name_of_module(name: str, path: str) -> str:
    """The name of a module's file, which stays valid if the folder on Python's path moves; else its path."""
    for ending in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
        if path.endswith(f"/{ending}"):
            return printable_name(ending)
    return name_of_file(path)


def name_of_file(path: str) -> str:
    """The name of a file in a provenance: its path, or that below ``ENGRAM_DATA``.

    Raises:
        ValueError: The name is not UTF-8.
    """
    if data := os.environ.get("ENGRAM_DATA"):
        with suppress(ValueError):
            path = f"$ENGRAM_DATA/{Path(path).relative_to(Path(data).absolute())}"
    return printable_name(path)


def printable_name(name: str) -> str:
    """The name itself; ValueError if it is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the file {name!a} is in use: expected a name in UTF-8") from None
    return name


def path_of_file(name: str) -> str:
    """The path of a file from its name in a provenance."""
    if name[0] in "/$" or Path(name).is_absolute():
        return os.path.expandvars(name)
    spec = None
    top = name.partition("/")[0].removesuffix(".py")
    with suppress(ValueError, ImportError):
        spec = importlib.util.find_spec(top)
    places = [] if spec is None else [*(spec.submodule_search_locations or []), spec.origin or ""]
    return str(Path(places[0]).absolute().parent / name) if places and places[0] else name
