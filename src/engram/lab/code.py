"""What a result rests on: the files, parts and packages that its trial used, as they were when they were loaded.

An audit hook hears what is loaded and opened. Of what was loaded before a trial that counts which its modules reach by
their imports; what is loaded or opened while it runs counts in any case.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import os
import re
import stat
import struct
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from typing_extensions import TypedDict

from engram import registry
from engram.lab.machine import COMPUTING, versions
from engram.numeric.imports import imports

DECLARING = frozenset(f"engram.lab.{name}" for name in ("claim", "experiment", "figures", "measure", "results"))
"""What an experiment is declared with, around its trials: no trial computes with it."""
_SHOWING = ("engram.lab.", "engram.cli")  # what these open are the folders of runs, and what is shown of them
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_APART = re.compile(
    r"^(<|$)|/(site|dist)-packages/(?!engram/)|\.(dist|egg)-info/|^/(proc|sys|dev)/|__pycache__/[^/]*(?<!\.pyc)$"
)
_TARGET = re.compile(r"([A-Za-z_][\w.]*):\S+")
_FILE = re.compile(r"[^\s*?]{1,200}\.\w{1,12}")
_STARTED = psutil.Process().create_time() + 1.0  # it is told in whole seconds
Stamp = tuple[int, ...]


class Manifest(TypedDict):
    """What a result rests on.

    ``files`` by name (``"engram/registry.py"``, ``"$ENGRAM_DATA/..."``, or a path) with the SHA-256 of what was loaded,
    empty where nobody knows that any more; ``parts`` by kind and name with the object registered as such; ``packages``
    with their versions.
    """

    files: dict[str, str]
    parts: dict[str, str]
    packages: dict[str, str]


class _Source(NamedTuple):
    """What was loaded, and its SHA-256, empty where the file may have been edited since."""

    text: bytes
    digest: str


_sources: dict[str, _Source] = {}  # by path
_opened: dict[str, Stamp] = {}  # what was open for reading, as it was
_openers: dict[str, set[str]] = {}  # and the modules that opened it
_lately: set[str] = set()  # since a trial began
_written: set[str] = set()
_late: set[str] = set()  # modules that came with a trial although none of its imports says so
_loads: list[str] = []  # the paths of sources, each time they were loaded


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event in ("open", "ctypes.dlopen") and isinstance(args[0], str | bytes) and args[0]:
        with suppress(OSError, ValueError):
            _hear_open(str(Path(os.fsdecode(args[0])).absolute()), args[2] if event == "open" else os.O_RDONLY)


def _hear_open(path: str, flags: int) -> None:
    if _is_apart(path):
        return
    frame: Any = sys._getframe(2)
    if frame.f_code.co_filename == "<frozen importlib._bootstrap_external>" and path.endswith((".py", ".pyc")):
        compiled, path = path, importlib.util.source_from_cache(path) if path.endswith(".pyc") else path
        # Python takes what was compiled for that of an edit within the same second that left the size as it was.
        is_current = Path(compiled).stat().st_mtime_ns >= Path(path).stat().st_mtime_ns
        text = Path(path).read_bytes()
        _sources[path] = _Source(text, hashlib.sha256(text).hexdigest() if is_current else "")
        _loads.append(path)
        return
    while frame is not None and (_is_apart(frame.f_code.co_filename) or _module(frame).startswith("engram.storage")):
        frame = frame.f_back
    opener = _module(frame) if frame is not None else ""
    if opener.startswith(_SHOWING) or path.endswith(".pyc"):
        return
    if flags & (os.O_WRONLY | os.O_TRUNC):
        _written.add(path)
    elif path not in _written and (stamp := _stamp(path)):
        if path not in _lately:  # what changes while a trial reads it is not what it was
            _opened[path] = stamp
        _lately.add(path)
        _openers.setdefault(path, set()).add(opener)


def _module(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", ""))


@functools.cache
def _is_apart(path: str) -> bool:
    """Whether a file is the interpreter's, an installed package's or the machine's, or none."""
    return (path.startswith(_STANDARD) and "-packages" not in path) or _APART.search(path) is not None


def _stamp(path: str) -> Stamp:
    """What changes with a file, without reading it; empty where there is none."""
    with suppress(OSError, ValueError):
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode):
            return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return ()


@functools.cache
def _digest(path: str, stamp: Stamp) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _on_disk(path: str) -> str:
    stamp = _stamp(path)
    return _digest(path, stamp) if stamp else ""


def _state() -> tuple[int, int]:
    """What changes with the loaded modules."""
    return len(_loads), len(sys.modules)


@functools.lru_cache(maxsize=1)
def _modules(state: tuple[int, int]) -> dict[str, str]:
    """The paths of the loaded modules of engram, of the user and of packages that register parts, by name."""
    registering = {entry.module.partition(".")[0] for kind in registry.KINDS for entry in registry.entries(kind)}
    return _seen(registering)


def _seen(packages: Collection[str]) -> dict[str, str]:
    """The paths of the loaded modules of engram, the user and these packages; takes what was loaded unheard."""
    modules = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and (not _is_apart(file) or name.partition(".")[0] in packages):
            path = str(Path(file).absolute())
            if path not in _sources and _stamp(path):
                text = Path(path).read_bytes()
                _sources[path] = _Source(text, hashlib.sha256(text).hexdigest() if _is_as_loaded(path) else "")
            if path in _sources:
                modules[name] = path
    return modules


def _is_as_loaded(path: str) -> bool:
    """Whether a file is as it was when Python loaded it: it is older than the process, or than what was made of it."""
    status = Path(path).stat()
    if status.st_ctime <= _STARTED:
        return True
    with suppress(OSError, NotImplementedError):
        compiled = Path(importlib.util.cache_from_source(path))
        made_of = struct.pack("<II", int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
        return compiled.read_bytes()[8:16] == made_of and compiled.stat().st_mtime_ns >= status.st_mtime_ns
    return False


def _place(top: str) -> str | None:
    """The folder that a package, or module in none, is in; nothing is loaded for it."""
    spec = None
    with suppress(ValueError, ImportError):
        spec = importlib.util.find_spec(top)
    paths = [] if spec is None else [*(spec.submodule_search_locations or []), spec.origin or ""]
    return str(Path(paths[0]).absolute().parent) if paths and paths[0] else None


@functools.cache
def _name(path: str, module: str) -> str:
    """How a manifest calls a file of a module, or one that it opened: so that it is found after a move too."""
    top = module.partition(".")[0]
    place = _place(top)
    if place is not None and path.startswith((f"{place}/{top}/", f"{place}/{top}.py")):
        return str(Path(path).relative_to(place))
    if data := os.environ.get("ENGRAM_DATA"):
        with suppress(ValueError):
            return f"$ENGRAM_DATA/{Path(path).relative_to(Path(data).absolute())}"
    return path


class _Reads(NamedTuple):
    """What a source reaches.

    ``imported`` as ``imports`` tells, without what is for type checkers; ``executed`` are the names that are used where
    it does something when it is loaded; ``modules`` are patterns of the names of modules that it imports by name;
    ``texts`` may be names of files, and ``makes`` says that it makes environments.
    """

    imported: tuple[tuple[str, str], ...]
    executed: frozenset[str]
    modules: tuple[str, ...]
    texts: tuple[str, ...]
    makes: bool


@functools.cache
def _reads(module: str, is_package: bool, text: bytes) -> _Reads:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # compiled: it can reach what is beside it
        return _Reads((), frozenset(), (re.escape(module.partition(".")[0]) + r"(\..*)?",), (), False)
    nodes = list(_walk(tree))
    found = tuple(imports(nodes, module if is_package else module.rpartition(".")[0]))
    declaring = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.AnnAssign)
    acting = [
        statement
        for statement in tree.body
        if not isinstance(statement, declaring)
        and not (
            isinstance(statement, ast.Assign) and all(isinstance(target, ast.Name) for target in statement.targets)
        )
    ]
    executed = {node.id for statement in acting for node in _walk(statement) if isinstance(node, ast.Name)}
    named, texts, resolved, makes = [], [], set(), ("gymnasium", "make") in found
    for node in nodes:
        match node:
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[what, *_]) if called in _LOADING:
                resolved.add(id(node.func))
                named.append(_pattern(what))
            case ast.Name(id=called) | ast.Attribute(attr=called) if called in _LOADING and id(node) not in resolved:
                named.append(".*")
            case ast.Attribute(attr="make" | "make_vec"):
                makes = True
            case ast.Constant(value=str(constant)):
                if (target := _TARGET.fullmatch(constant)) is not None:
                    named.append(re.escape(target[1]))
                if _FILE.fullmatch(constant):
                    texts.append(constant)
    return _Reads(found, frozenset(executed), tuple(named), tuple(texts), makes)


_LOADING = ("import_module", "__import__")


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a source, but for what only type checkers read."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        test = getattr(node, "test", None) if isinstance(node, ast.If) else None
        typing = "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))
        pending += node.orelse if typing else ast.iter_child_nodes(node)  # type: ignore[attr-defined]


def _pattern(name: ast.expr) -> str:
    match name:
        case ast.Constant(value=str(text)) if not text.startswith("."):
            return re.escape(text)
        case ast.JoinedStr(values=[ast.Constant(), *_] as parts):
            return "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in parts)
    return ".*"


class _Reach(NamedTuple):
    modules: frozenset[str]
    files: dict[str, str]
    parts: dict[str, str]
    packages: dict[str, str]
    texts: dict[str, str]


@functools.lru_cache(maxsize=256)
def _reach(roots: frozenset[str], state: tuple[int, int], asked: frozenset[tuple[tuple[str, str, str], str]]) -> _Reach:
    """What modules reach among those that are loaded.

    Of packages of engram, in which nothing is registered by being imported, that counts which is asked for; of others
    all that they import.
    """
    modules = _modules(state)
    own = {name.partition(".")[0] for name in modules}
    reach = _Reach(frozenset(), {}, {}, {name: versions()[name] for name in COMPUTING}, {})
    reached: set[str] = set()
    pending = [(root, "") for root in roots]
    known: set[tuple[str, str]] = set()
    while pending:
        name, part = pending.pop()
        if (name, part) in known or name not in modules or (name in DECLARING and name not in roots):
            continue
        known.add((name, part))
        reached.add(name)
        path = modules[name]
        reach.files[_name(path, name)] = _sources[path].digest
        top, is_package = name.partition(".")[0], Path(path).name == "__init__.py"
        reads = _reads(name, is_package, _sources[path].text)
        found = reads.imported
        if top == "engram" and is_package and (part == "." or any(of == part for _, of in found)):
            pending += [_target(modules, *pair) for pair in found if pair[1] in (part, "", *reads.executed)]
            pending.append((name.rpartition(".")[0], "."))
            continue
        pending += [_target(modules, *pair) for pair in found]
        pending.append((name.rpartition(".")[0], "."))
        everything = [r"engram\..*" if pattern == ".*" and top == "engram" else pattern for pattern in reads.modules]
        pending += [(other, "") for pattern in everything for other in modules if re.fullmatch(pattern, other)]
        if reads.makes:
            pending += [(other, "") for other in _environments()]
        for (caller, kind, registered), value in asked:
            if caller == name:
                reach.parts[f"{kind} {registered}"] = value
                pending.append((value.partition(":")[0], ""))
        if top != "engram":
            reach.texts.update(
                {str(place / text): name for text in reads.texts for place in (Path(path).parent, Path.cwd())}
            )
        if not name.startswith(("engram.lab", "engram.storage")):
            tops = {base.partition(".")[0] for base, _ in found} & sys.modules.keys() - sys.stdlib_module_names
            reach.packages.update({found: version(found) for found in map(_distribution, tops - own) if found})
    return reach._replace(modules=frozenset(reached))


def _target(modules: Collection[str], base: str, part: str) -> tuple[str, str]:
    """The module that an import is of, and what it asks of it; nothing: all."""
    within = f"{base}.{part}"
    return (within, "") if part and within in modules else (base, part.replace("*", ""))


def _environments() -> set[str]:
    """The modules of the environments that are registered with Gymnasium."""
    specs = sys.modules["gymnasium"].registry.values() if "gymnasium" in sys.modules else ()
    made = [entry for spec in specs for entry in (spec.entry_point, spec.vector_entry_point)]
    return {entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "") for entry in made}


@functools.cache
def _distribution(top: str) -> str:
    """The distribution that an importable package comes from; empty where there is none."""
    with suppress(PackageNotFoundError):
        return top if version(top) else ""
    return packages_distributions().get(top, [""])[0]


class Use:
    """What a trial uses, from now on.

    Args:
        roots: The modules that it begins with; those of the laboratory that perform it come by themselves.
        main: The script that it was started from, where that is not the ``__main__`` of this process.
    """

    def __init__(self, roots: Collection[str], main: Mapping[str, str] | None = None) -> None:
        self._before = frozenset(_modules(_state()))
        self._main = dict(main or {})
        self._roots = frozenset(roots) | {"engram.lab.job"}
        if self._main:  # it goes along by value, so that nobody sees what it imports
            self._roots |= {name for name in self._before if not name.startswith(_SHOWING)}
        _lately.clear()
        self._reach()

    def manifest(self) -> Manifest:
        """All that it has used so far."""
        reach = self._reach()
        files = {**reach.files, **self._main}
        for path, stamp in list(_opened.items()):
            if (path in _lately or _openers[path] & reach.modules) and path not in _sources and (now := _stamp(path)):
                files[_name(path, min(_openers[path]))] = _digest(path, stamp) if now == stamp else ""
        return {"files": files, "parts": reach.parts, "packages": reach.packages}

    def _reach(self) -> _Reach:
        asked = frozenset(registry.resolved.items())
        came = {name for name in _modules(_state()).keys() - self._before if not name.startswith(_SHOWING)}
        _late.update(came - _reach(self._roots, _state(), asked).modules)
        reach = _reach(self._roots | _late | came, _state(), asked)
        for path, module in reach.texts.items():  # which may be opened by what Python does not hear
            if path not in _lately | _written and (stamp := _stamp(path)):
                _opened[path] = stamp
                _lately.add(path)
                _openers.setdefault(path, set()).add(module)
        return reach


def main() -> dict[str, str]:
    """The SHA-256 of the script that this process runs, by its name."""
    modules = _modules(_state())
    path = modules.get("__main__")
    return {} if path is None else {_name(path, "__main__"): _sources[path].digest}


def loaded() -> dict[str, str]:
    """The SHA-256 of what this process has loaded, by the name of the file."""
    return {_name(path, name): _sources[path].digest for name, path in _modules(_state()).items()}


def on_disk() -> dict[str, str]:
    """The SHA-256 of the files that this process has loaded, as they are now, by name."""
    return {_name(path, name): _on_disk(path) for name, path in _modules(_state()).items()}


class Present:
    """Files, parts and packages as a trial that began now would find them; each is looked at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def differs(self, manifest: Manifest) -> str:
        """Say what of a manifest is not what it was; nothing where all is."""
        if not self._known:
            _modules.cache_clear()
            self._known |= {("files", name): digest for name, digest in loaded().items()}
        for kind, recorded in manifest.items():
            for name, was in recorded.items():  # type: ignore[attr-defined]
                now = self._known.get((kind, name))
                if now is None:
                    now = self._known[kind, name] = _now(kind, name)
                if now != was or not was:
                    return f"{name} was edited" if kind == "files" else f"{name} is {now or 'gone'}, and was {was}"
        return ""


def _now(kind: str, name: str) -> str:
    if kind == "files":
        top = name.partition("/")[0].partition(".")[0]
        return _on_disk(os.path.expandvars(name) if name[0] in "/$" else f"{_place(top)}/{name}")
    if kind == "parts":
        of, _, registered = name.partition(" ")
        return " and ".join({entry.value for entry in registry.entries(of) if entry.name == registered})
    with suppress(PackageNotFoundError):
        return versions().get(name) or version(name)
    return ""


def check_source(module: str) -> None:
    """Raise ValueError where a trial's module has no file, as in an interactive session."""
    path = getattr(sys.modules[module], "__file__", None)
    if path is None or not _stamp(path):
        raise ValueError(f"the trial's module {module!r} has no source file: write it into one")


_seen(())
sys.addaudithook(_hear)
