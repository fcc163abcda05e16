"""What modules reach by their imports among loaded code: files, parts of the registry, packages."""

from __future__ import annotations

import ast
import functools
import glob
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import NamedTuple

from engram import registry
from engram.lab import loaded
from engram.lab.machine import COMPUTING, versions
from engram.numeric import jit
from engram.numeric.imports import deferred, imports

DECLARING = frozenset(f"engram.lab.{name}" for name in ("claim", "experiment", "figures", "measure", "results"))
"""Modules with which an experiment is declared: no trial computes with them."""
_TARGET = re.compile(r"([A-Za-z_][\w.]*):(?!:)\S+")  # not an operator of torch, "engram::run"
_DEFERRED = re.compile(rb"\bdeferred\(\s*__name__")
_KERNEL = re.compile(rb"^\s*@(partial\()?jit\b|= jit\(|\bcache=True", re.MULTILINE)
_SOURCE = Path(__file__).parents[2]
_FILE = re.compile(r"(?=.*\w)\S{1,200}\.(\w{1,12}|\*)")  # may have wildcards


class _Reads(NamedTuple):
    """The imports and files that a source file names.

    ``imported`` is what ``imports`` returns, without imports for type checkers; ``executed`` are the names used in code
    that runs on import; ``modules`` are regular expressions for the modules that it imports by a string; ``texts`` are
    strings that may be file names, or glob patterns of them; ``makes`` says whether it makes environments.
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
    except (SyntaxError, ValueError):  # not Python, so it may reach anything in its package
        return _Reads((), frozenset(), (re.escape(module.partition(".")[0]) + r"(\..*)?",), (), False)
    # A package that imports some parts lazily repeats these imports for type checkers.
    nodes = list(_walk(tree, typed=is_package and _DEFERRED.search(text) is not None))
    imported = tuple(imports(nodes, module if is_package else module.rpartition(".")[0]))
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
    imported_patterns, texts, resolved, makes = [], [], set(), ("gymnasium", "make") in imported
    loading = () if module == deferred.__module__ else _LOADING  # its callers declare what it loads
    for node in nodes:
        match node:
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[what, *_]) if called in loading:
                resolved.add(id(node.func))
                imported_patterns.append(_pattern(what))
            case ast.Name(id=called) | ast.Attribute(attr=called) if called in loading and id(node) not in resolved:
                imported_patterns.append(".*")
            case ast.Attribute(attr="make" | "make_vec"):
                makes = True
            case ast.JoinedStr() | ast.BinOp(op=ast.Div()) if _FILE.fullmatch(pattern := _text(node)):
                texts.append(pattern)
            case ast.Constant(value=str(constant)):
                if (target := _TARGET.fullmatch(constant)) is not None:
                    imported_patterns.append(re.escape(target[1]))
                if _FILE.fullmatch(constant):
                    texts.append(constant)
    return _Reads(imported, frozenset(executed), tuple(imported_patterns), tuple(texts), makes)


_LOADING = ("import_module", "__import__")


def _walk(tree: ast.AST, *, typed: bool = False) -> Iterator[ast.AST]:
    """The nodes of a source, without code for type checkers unless ``typed``."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        test = getattr(node, "test", None) if isinstance(node, ast.If) else None
        typing = not typed and "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))
        pending += node.orelse if typing else ast.iter_child_nodes(node)  # type: ignore[attr-defined]


def _text(node: ast.AST) -> str:
    """The glob pattern of an f-string, or of strings joined to a path by ``/``."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(glob.escape(str(part.value)) if isinstance(part, ast.Constant) else "*" for part in parts)
        case ast.BinOp(op=ast.Div(), left=folder, right=name):
            return f"{_text(folder)}/{_text(name)}".removeprefix("/")
    return ""


def _pattern(name: ast.expr) -> str:
    match name:
        case ast.Constant(value=str(text)) if not text.startswith("."):
            return re.escape(text)
        case ast.JoinedStr(values=[ast.Constant(), *_] as parts):
            return "".join(re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in parts)
    return ".*"


class Reach(NamedTuple):
    """All that modules reach, as in a manifest; ``texts`` are patterns of paths named in a source, with its module."""

    modules: frozenset[str]
    files: dict[str, str]
    parts: dict[str, str]
    packages: dict[str, str]
    texts: dict[str, str]


@functools.lru_cache(maxsize=256)
def reach(roots: frozenset[str], state: tuple[int, int], asked: frozenset[tuple[tuple[str, str, str], str]]) -> Reach:
    """All that modules reach among the loaded ones.

    For engram's own packages, which register nothing on import, only the names that are used count; for other packages,
    everything that they import counts. The cache's key contains what is loaded and registered.

    Args:
        roots: Names of the modules to start from.
        state: ``loaded.state()``.
        asked: ``registry.resolved``: which module asked for which part, and the object it got.
    """
    modules = loaded.modules()
    own_packages = {name.partition(".")[0] for name in modules}
    reach = Reach(frozenset(), {}, {}, {name: versions()[name] for name in COMPUTING}, {})
    reached: set[str] = set()
    pending = [(root, "") for root in roots]
    visited: set[tuple[str, str]] = set()
    tops: set[str] = set()
    while pending:
        name, part = pending.pop()
        if (name, part) in visited or name not in modules or (name in DECLARING and name not in roots):
            continue
        visited.add((name, part))
        reached.add(name)
        path = modules[name]
        reach.files[loaded.name_of_file(path, name)] = loaded.sources[path].digest
        top, is_package = name.partition(".")[0], Path(path).name == "__init__.py"
        reads = _reads(name, is_package, loaded.sources[path].text)
        if top == "engram" and is_package and part and part in (".", *(symbol for _, symbol in reads.imported)):
            pending += [_target(modules, *pair) for pair in reads.imported if pair[1] in (part, "", *reads.executed)]
            pending.append((name.rpartition(".")[0], "."))
            continue
        pending += [_target(modules, *pair) for pair in reads.imported]
        pending.append((name.rpartition(".")[0], "."))
        patterns = [r"engram\..*" if pattern == ".*" and top == "engram" else pattern for pattern in reads.modules]
        pending += [(module, "") for pattern in patterns for module in modules if re.fullmatch(pattern, module)]
        if reads.makes:
            pending += [(module, "") for module in _environments()]
        for (caller, kind, registered), value in asked:
            if caller == name:
                reach.parts[f"{kind} {registered}"] = value
                pending.append((value.partition(":")[0], ""))
        if top != "engram":
            reach.texts.update(
                {str(folder / text): name for text in reads.texts for folder in (Path(path).parent, Path.cwd())}
            )
        if not name.startswith(("engram.lab", "engram.storage")):
            tops.update(base.partition(".")[0] for base, _ in reads.imported)
    # Python parses a package's metadata each time its version is asked for: about a millisecond.
    foreign = (tops & sys.modules.keys()) - sys.stdlib_module_names - own_packages
    reach.packages.update({package: version(package) for package in map(_distribution, foreign) if package})
    return reach._replace(modules=frozenset(reached))


def uncompiled(roots: frozenset[str]) -> set[str]:
    """The modules, loaded or not, that some modules reach and whose kernels are not compiled yet.

    Imports inside functions of loaded modules count. Packages that are not loaded are skipped, since they import more
    than their users need.

    Args:
        roots: Names of the modules to start from.
    """
    pending = set(reach(roots, loaded.state(), frozenset(registry.resolved.items())).modules)
    visited: set[str] = set()
    uncompiled_modules = set()
    while pending:
        name = pending.pop()
        path = _SOURCE.joinpath(*name.split(".")).with_suffix(".py")
        if name in visited or not name.startswith("engram.") or name.startswith("engram.lab") or not path.is_file():
            continue
        visited.add(name)
        text = path.read_bytes()
        reads = _reads(name, False, text)
        pending.update(module for base, part in reads.imported for module in (base, f"{base}.{part}"))
        for pattern in (pattern for pattern in reads.modules if pattern.startswith(r"engram\.")):
            pending.update(filter(re.compile(pattern).fullmatch, _engrams()))
        if name != jit.__name__ and _KERNEL.search(text) and not jit.is_cached(path):
            uncompiled_modules.add(name)
    return uncompiled_modules


@functools.cache
def _engrams() -> tuple[str, ...]:
    """The names of engram's own modules, loaded or not."""
    paths = (path.relative_to(_SOURCE).with_suffix("") for path in _SOURCE.glob("engram/**/*.py"))
    return tuple(".".join(path.parts) for path in paths)


def _target(modules: Collection[str], base: str, part: str) -> tuple[str, str]:
    """The module of an import, and the name imported from it; an empty name stands for everything."""
    within = f"{base}.{part}"
    return (within, "") if part and within in modules else (base, part.replace("*", ""))


def _environments() -> set[str]:
    """The modules of the environments that are registered with Gymnasium."""
    specs = sys.modules["gymnasium"].registry.values() if "gymnasium" in sys.modules else ()
    entry_points = [entry for spec in specs for entry in (spec.entry_point, spec.vector_entry_point)]
    return {
        entry.partition(":")[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
        for entry in entry_points
    }


@functools.cache
def _distribution(top: str) -> str:
    """The distribution that an importable package comes from; empty where there is none."""
    with suppress(PackageNotFoundError):
        return top if version(top) else ""
    return packages_distributions().get(top, [""])[0]
