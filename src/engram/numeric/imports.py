"""The imports of a source file, read from its syntax tree without loading it; and imports deferred to first use."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any


def imports(nodes: Iterable[ast.AST], package: str) -> Iterator[tuple[str, str]]:
    """All imports in a source file: (module, name imported from it), or (module, "") for a whole module.

    Args:
        nodes: The nodes of its syntax tree, as ``ast.walk`` yields them.
        package: The package that contains the file, against which relative imports are resolved.

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
            ancestors = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*ancestors, *([node.module] if node.module else [])])
            yield from ((base, alias.name) for alias in node.names)


def deferred(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of a package that loads some of its parts on first use (PEP 562).

    The package also imports these parts for type checkers.

    Args:
        package: Name of the package.
        modules: The names of the parts to import from each module that is loaded on first use.

    Examples:
        >>> get, _ = deferred("engram", {"engram.numeric.jit": ["jit"]})
        >>> get("jit").__module__
        'engram.numeric.jit'
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(module_of[name]), name)

    return get, lambda: sorted(sys.modules[package].__all__)
