"""What a result was made by: versions, registered parts and the user's own files; compared before it is reused.

Of the user's files those count whose modules the trial's modules name, or that were loaded while it ran, and those that
its settings name or that it declares, and the installed packages that these modules import. What is in use now is
compared with what was used then. A file that a program reads without declaring it is not seen.
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
from importlib.metadata import EntryPoint, PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from types import ModuleType
from typing import Any, NotRequired

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typing_extensions import TypedDict

from engram import registry
from engram.distribution import DISTRIBUTION
from engram.lab.trial.digest import digest_on_disk, name_of_file, path_of_file, printable_name
from engram.lab.trial.machine import COMPUTING, versions
from engram.numeric.imports import imports

OWN = Path(registry.__file__).parent
_PYTHON = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_INSTALLED = re.compile(r"/(site|dist)-packages/")
_STARTED = psutil.Process().create_time() + 1.0  # known only to whole seconds
_DATA = (int, float, complex, str, bytes, tuple, list, dict, set, frozenset)
WRITTEN = "written by the trial"
_counted: set[str] = set()  # installed packages that count as the user's, since trials start from them
_installed: dict[str, str] = {}  # digests of other installed packages, as they were when first looked at
_first_seen: dict[str, tuple[Any, str]] = {}  # by module: its spec, which a reload replaces, and the digest of its file
_looks: list[tuple[list[str], list[ModuleType], dict[str, str]]] = [([], [], {})]  # the last: modules, user's files
_late: dict[frozenset[str], set[str]] = {}  # modules loaded while trials ran, by the modules that these start from


class Provenance(TypedDict):
    """What a result was made by.

    ``versions`` are those of the packages that compute; that of engram has a digest of its sources unless it is
    installed. ``parts`` has the places of the loaded parts that other packages register, with their packages' versions.
    ``files`` has the SHA-256 of the user's files by name (``"mine/rule.py"``, ``"$ENGRAM_DATA/..."``, or a path): those
    of modules as they were loaded, empty if the file may have been edited since; ``WRITTEN`` if the trial made it.
    ``places`` has the folders of the modules that the trial starts from, and, without a name, the working directory.
    """

    versions: dict[str, str]
    parts: dict[str, str]
    files: dict[str, str]
    places: NotRequired[dict[str, str]]


def merged(*several: Provenance) -> Provenance:
    """Everything that several provenances name; of different values for one name the last."""
    merged: Provenance = {"versions": {}, "parts": {}, "files": {}}
    for each in several:
        merged["versions"] |= each["versions"]
        merged["parts"] |= each["parts"]
        merged["files"] |= each["files"]
        if "places" in each:
            merged["places"] = merged.get("places", {}) | each["places"]
    return merged


def written(before: Provenance, paths: Iterable[str]) -> list[str]:
    """The names of the files that were not there before, and of the folders that hold other files than before.

    Args:
        before: What a trial was known to use before it wrote anything.
        paths: Files and folders that its settings name.
    """
    names = []
    for path in paths:
        name = name_of_file(path)
        known = before["files"].get(name)
        # A file that was there is read: if it is not as it was, somebody may have edited it meanwhile.
        if known in (None, WRITTEN) or (os.path.isdir(path) and digest_on_disk(path) != known):  # noqa: PTH112
            names.append(name)
    return names


class Use:
    """A record of what a trial uses from now on.

    Args:
        roots: The modules that it starts from.
        paths: The files that it declares or that its settings name.
    """

    def __init__(self, roots: Collection[str], paths: Iterable[str | Path] = ()) -> None:
        self._roots = frozenset(roots) | {entry.module for entry in _loaded_parts()}
        _count_installed(self._roots)
        self._loaded_before = frozenset(user_modules())
        self._declared = {name_of_file(str(path)): digest_on_disk(path) for path in paths}
        self._last: tuple[tuple[int, int], Provenance] | None = None

    def declare(self, path: str | Path) -> None:
        """Add a file or a folder, as it is now."""
        self._declared.setdefault(name_of_file(str(path)), digest_on_disk(path))

    def starts_from(self) -> Provenance:
        """What the trial uses in any case, as it is now: what was declared, and the modules that it starts from."""
        users = user_modules()
        roots = {name: users[name] for name in self._roots if name in users}
        files = {_name_of_module(name, path): _digest_as_loaded(name, path) for name, path in roots.items()}
        return {"versions": {}, "parts": {}, "files": {**self._declared, **files}, "places": _places(roots)}

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
            files = {**self._declared, **files, **_installed_with(reached)}
            places = _places({name: reached[name] for name in self._roots if name in reached})
            made_by: Provenance = {"versions": dict(computing_versions()), "parts": parts, "files": files}
            self._last = state, {**made_by, "places": places}
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
        if old == WRITTEN:
            continue
        known = loaded if name in loaded else _installed
        now = known[name] if name in known else digest_on_disk(path_of_file(name))
        if now != old or not old:
            return f"{name} was edited" if now or name in loaded else f"{name} is gone"
    return ""


def strangeness(provenance: Provenance, now: Provenance) -> str:
    """Say what a trial uses now that was not used for a result, as after a copy or a move; empty if there is nothing.

    Args:
        provenance: What the result was made by.
        now: What the trial uses in any case, by ``Use.starts_from``.
    """
    stored = provenance["files"]
    lacking = {name: digest for name, digest in now["files"].items() if name not in stored}
    by_path = {os.path.realpath(path_of_file(name)): digest for name, digest in stored.items()} if lacking else {}
    for name, digest in lacking.items():
        if by_path.get(os.path.realpath(path_of_file(name))) not in (digest, WRITTEN) or not digest:
            return f"{name} is in use now"
    for module, place in provenance.get("places", {}).items():
        place_now = now.get("places", {}).get(module, place)
        if place_now == place:
            continue
        before, after = _tops(Path(place), Path(place_now))
        for name, digest in stored.items():
            if Path(name).is_absolute() and Path(name).is_relative_to(before) and digest != WRITTEN:
                moved = after / Path(name).relative_to(before)
                if moved.exists() and digest_on_disk(moved) != digest:
                    return f"{moved} is in use now"
    return ""


def _tops(before: Path, after: Path) -> tuple[Path, Path]:
    """Two folders without the last parts that they have in common: what was copied or moved as a whole."""
    while before.name == after.name and before.name:
        before, after = before.parent, after.parent
    return before, after


def _places(modules: Mapping[str, str]) -> dict[str, str]:
    """The folders of modules, given their files, and the working directory."""
    places = {name: os.path.dirname(os.path.realpath(path)) for name, path in modules.items()}  # noqa: PTH120
    with suppress(OSError):  # it was removed
        places[""] = os.getcwd()  # noqa: PTH109
    return places


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
        files_of_users = {
            name: file
            for name, file in files.items()
            if isinstance(file, str) and (_is_users(file) or (_top(name) in _counted and _is_installed(file)))
        }
        users = {name: str(Path(file).absolute()) for name, file in files_of_users.items()}
        _looks[-1] = [*loaded], [*loaded.values()], users
    return dict(users)


@functools.cache
def _is_users(path: str) -> bool:
    path = str(Path(path).absolute())
    apart = path.startswith((*_PYTHON, f"{OWN}/")) or _INSTALLED.search(path)
    return not apart and Path(path).is_file()


@functools.cache
def _is_installed(path: str) -> bool:
    path = str(Path(path).absolute())
    return bool(_INSTALLED.search(path)) and not path.startswith(f"{OWN}/") and Path(path).is_file()


def _top(name: str) -> str:
    return name.partition(".")[0]


def _file_of(name: str) -> str:
    file = getattr(sys.modules.get(name), "__file__", None)
    return file if isinstance(file, str) else ""


def _count_installed(roots: Iterable[str]) -> None:
    """Count the installed packages that a trial starts from as the user's: one may be installed again after an edit."""
    new = {_top(root) for root in roots if _is_installed(_file_of(root))} - {"__main__", *_counted}
    if new := new - _dependencies() if new else new:
        _counted.update(new)
        _looks[-1] = [], [], {}


def _installed_with(users: Mapping[str, str]) -> dict[str, str]:
    """Digests of the other installed packages that the user's modules import, as they were when first looked at."""
    imported = {_top(name) for user, path in users.items() for name in _imported_in(path, user, _changed(path))}
    tops = {top for top in imported - _counted if top in sys.modules and _is_installed(_file_of(top))}
    names = {}
    for top in tops - _dependencies() if tops else ():
        path = Path(_file_of(top))
        name = f"{top}/" if path.name == "__init__.py" else path.name
        if name not in _installed:
            _installed[name] = digest_on_disk(path.parent if path.name == "__init__.py" else path)
        names[name] = _installed[name]
    return names


@functools.cache
def _dependencies() -> frozenset[str]:
    """The top modules of the packages that engram depends on, directly or not, of which versions count."""
    found: set[str] = set()
    pending = [DISTRIBUTION]
    while pending:
        package = pending.pop()
        with suppress(PackageNotFoundError):
            for text in requires(package) or ():
                requirement = Requirement(text)
                name = canonicalize_name(requirement.name)
                is_asked = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
                if (is_asked or package == DISTRIBUTION) and name not in found:
                    found.add(name)
                    pending.append(name)
    packages = packages_distributions()
    return frozenset(top for top, names in packages.items() if {canonicalize_name(name) for name in names} & found)


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


def _name_of_module(name: str, path: str) -> str:
    """The name of a module's file, which stays valid if the folder on Python's path moves; else its path."""
    for ending in (f"{name.replace('.', '/')}.py", f"{name.replace('.', '/')}/__init__.py"):
        if path.endswith(f"/{ending}"):
            return printable_name(ending)
    return name_of_file(path)
