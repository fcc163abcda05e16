"""The size of the source: lines by file and by package, for the page that shows it and the test that limits it."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE, TESTS = ROOT / "src" / "engram", ROOT / "tests"
MOST_CODE = 400  # lines of code in a file


class Size(NamedTuple):
    """Counts of lines: all lines, and of these code and docstrings; the rest are comments and blank lines."""

    lines: int = 0
    code: int = 0
    docstrings: int = 0


@cache
def size(text: str) -> Size:
    """Count the lines of one file; code has neither blank lines nor comments, not even those within strings."""
    all_lines = text.splitlines()
    code = {number for number, line in enumerate(all_lines, 1) if line.strip() and not line.lstrip().startswith("#")}
    docstrings: set[int] = set()
    pending: list[ast.AST] = [ast.parse(text)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, False) is not None:
            docstrings.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
        # Expressions, which are most nodes, have no docstrings.
        pending += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]
    return Size(len(all_lines), len(code - docstrings), len(docstrings))


def total(paths: list[Path]) -> Size:
    """Count the lines of several files."""
    sizes = [size(path.read_text()) for path in paths]
    return Size(*(sum(column) for column in zip(*sizes, strict=True))) if sizes else Size()


def lines(paths: Iterable[Path]) -> int:
    """Count all lines of several files, whatever they contain."""
    return sum(len(path.read_text().splitlines()) for path in paths)


def house() -> str:
    """Return the page of lines by package, as Markdown."""
    rows = ["| Package | Files | Lines | Code | Docstrings | Tests |", "|---|---|---|---|---|---|"]
    everything = sorted(SOURCE.rglob("*.py"))
    packages = sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists())
    groups = {name: [path for path in everything if path.is_relative_to(SOURCE / name)] for name in packages}
    groups["modules beside them"] = [path for path in everything if path.parent == SOURCE]
    for name, paths in groups.items():
        sizes = total(paths)
        tests = lines((TESTS / name).rglob("*.py") if name in packages else TESTS.glob("*.py"))
        rows.append(f"| {name} | {len(paths)} | {sizes.lines} | {sizes.code} | {sizes.docstrings} | {tests} |")
    sizes, tests = total(everything), lines(TESTS.rglob("*.py"))
    rows.append(f"| **all** | {len(everything)} | {sizes.lines} | {sizes.code} | {sizes.docstrings} | {tests} |")
    largest_files = sorted(everything, key=lambda path: -size(path.read_text()).code)[:10]
    files = [f"| `{path.relative_to(SOURCE)}` | {size(path.read_text()).code} |" for path in largest_files]
    return "\n".join(
        [
            "# The house",
            "",
            "This page counts the lines of source by package, at the time when this site was built. The last column "
            f"counts the lines of the tests of the package. A file has at most {MOST_CODE} lines of code, a function "
            "at most 60 statements. A new system should need about 2,000 lines of source and 700 lines of tests.",
            "",
            *rows,
            "",
            "The largest files, in lines of code:",
            "",
            "| File | Code |",
            "|---|---|",
            *files,
            "",
        ]
    )
