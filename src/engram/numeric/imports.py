"""What a source imports, read from its syntax: nothing is loaded for it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator


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
