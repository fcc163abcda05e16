"""The imports of a source, read from its syntax without loading it; and imports that wait until they are needed."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any


def imports(nodes: Iterable[ast.AST], package: str) -> Iterator[tuple[str, str]]:
    """The imports of a source, wherever in it: (module, name imported from it), or (module, "") of a whole module.

    Args:
        nodes: Its syntax, as ``ast.walk`` goes through it.
        package: The package that it stands in, from which relative imports count.

    Examples:
        >>> tree = ast.parse("import numpy.linalg; from . import jit; from ..b import c")
        >>> list(imports(ast.walk(tree), "engram.a"))
        [('numpy.linalg', ''), ('engram.a', 'jit'), ('engram.b', 'c')]
    """
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((base, alias.name) for alias in node.names)


def deferred(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package that loads some of its parts on first use (PEP 562).

    The package imports them for type checkers too; from these imports ``engram.lab`` reads a part's dependencies.

    Args:
        package: Its name.
        modules: For each module that is loaded late, the names of the parts that are imported from it.

    Examples:
        >>> get, _ = deferred("engram", {"engram.numeric.jit": ["jit"]})
        >>> get("jit").__module__
        'engram.numeric.jit'
    """
    parts = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> Any:
        if name not in parts:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(parts[name]), name)

    return get, lambda: sorted(sys.modules[package].__all__)
