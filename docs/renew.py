"""Keep the standings that ship with engram after an edit that changes no number.

A shipped result counts as stale as soon as a file that its trial used was edited. ``python docs/renew.py KIND...
[--jobs N]`` compares each of these files with the commit that wrote the results. If their code is the same but for
names, docstrings, comments and layout, the results stay as they are. All others are run again for their first seed
(``engram.standings.renew``), and those that are the same stay, as do those that differ from what another machine gave
but are what the older code gives on this one.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engram.standings import kinds, recorded, renew
from engram.standings.comparison import events
from engram.storage.files import write_json

ROOT = Path(__file__).parents[1]
OLDER = """
import json, sys
from engram.standings.comparison import first_values
kind, task, jobs, runs = sys.argv[1:]
print(json.dumps(first_values(kind, task, jobs=int(jobs), runs=runs)))
"""
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class Renaming(dict[str, str]):
    """A one-to-one mapping of the names in one source to those in another."""

    def pairs(self, before: str, after: str) -> bool:
        """Whether a pair of names agrees with all earlier pairs; it is added to them."""
        is_new = before not in self and after not in self.values()
        return self.setdefault(before, after) == after if is_new or before in self else False


def is_same_code(before: str, after: str) -> bool:
    """Whether two sources are the same up to layout, comments, docstrings, and names that were changed throughout.

    Names are changed throughout a function or, of attributes and keywords, throughout the file.
    """
    return _are_same(_without_docstrings(before), _without_docstrings(after), Renaming(), Renaming())


def _without_docstrings(source: str) -> ast.AST:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(node, clean=False) is not None
            node.body = node.body[1:] if has_docstring else node.body
    return tree


def _are_same(before: Any, after: Any, names: Renaming, attributes: Renaming) -> bool:
    if type(before) is not type(after):
        return False
    if isinstance(before, list):
        pairs = zip(before, after, strict=False)
        return len(before) == len(after) and all(_are_same(*pair, names, attributes) for pair in pairs)
    if not isinstance(before, ast.AST):
        return bool(before == after)
    # A function at the top has names of its own; those within it share them.
    inner = Renaming() if isinstance(before, FUNCTIONS) and names.get("") is None else names
    if inner is not names:
        inner[""] = ""
    for field in before._fields:
        values = getattr(before, field), getattr(after, field)
        if (isinstance(before, ast.alias) and field == "name") or isinstance(before, ast.Constant | ast.ImportFrom):
            same = field == "kind" or _are_same(*values, inner, attributes)
        elif all(isinstance(value, str) for value in values):
            is_attribute = isinstance(before, ast.Attribute | ast.keyword)
            same = (attributes if is_attribute else inner).pairs(*values)
        elif isinstance(before, ast.Global | ast.Nonlocal):
            same = len(values[0]) == len(values[1]) and all(map(inner.pairs, *values))
        else:
            same = _are_same(*values, inner, attributes)
        if not same:
            return False
    return True


def _commit() -> str:
    """The commit that wrote the results."""
    command = ["git", "log", "-1", "--format=%H", "--", str(recorded.TABLE.relative_to(ROOT))]
    return subprocess.check_output(command, cwd=ROOT, text=True).strip()


def renew_digests(experiment: str) -> list[str]:
    """Renew the digests of a shipped record if no code has changed since; return the files whose code has."""
    record = recorded.all_records()[experiment]
    commit = _commit()
    changed, digests = [], dict(record["manifest"]["files"])
    for name, digest in digests.items():
        path = ROOT / "src" / name
        content = path.read_bytes() if path.is_file() else b""
        digests[name] = hashlib.sha256(content).hexdigest()
        if digests[name] == digest:
            continue
        shown = subprocess.run(["git", "show", f"{commit}:src/{name}"], cwd=ROOT, capture_output=True, check=False)
        is_old = hashlib.sha256(shown.stdout).hexdigest() == digest
        if not (is_old and content and is_same_code(shown.stdout.decode(), content.decode())):
            changed.append(name)
    if not changed:
        record["manifest"]["files"] = digests
        write_json(recorded.TABLE, recorded.all_records())
    return changed


def with_older_code(kind: str, source: Path | None, jobs: int | None) -> Callable[[str], dict[str, float]]:
    """Return a function that runs the first seeds of a task with older code, and returns their values by method.

    Args:
        kind: The kind of parts.
        source: Folder of the package; None: the code of the commit that wrote the results.
        jobs: How many trials at once.
    """

    def previous(task: str) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            if source is None:
                subprocess.run(["git", "archive", "-o", f"{folder}/code.tar", _commit(), "src"], cwd=ROOT, check=True)
                with tarfile.open(f"{folder}/code.tar") as code:
                    code.extractall(folder, filter="data")
            arguments = [kind, task, str(jobs or 1), f"{folder}/runs"]
            environment = os.environ | {"PYTHONPATH": str(source or f"{folder}/src")}
            output = subprocess.check_output([sys.executable, "-c", OLDER, *arguments], env=environment, text=True)
            return dict(json.loads(output.splitlines()[-1]))

    return previous


def main() -> None:
    """Renew the standings of the kinds named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(kinds.KINDS))
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--older", type=Path, help="folder of the package before the edit (default: from its commit)")
    options = parser.parse_args()
    for kind in options.kinds:
        experiments = {event.experiment.name for event in events(kind)} & {*recorded.all_records()}
        changed = {name: files for name in sorted(experiments) if (files := renew_digests(name))}
        for name, files in changed.items():
            print(f"{name}: the code of {len(files)} files has changed: {', '.join(files[:5])}", flush=True)
        if changed:
            previous = with_older_code(kind, options.older, options.jobs)
            print(kind, "differ:", renew(kind, jobs=options.jobs, previous=previous), flush=True)


if __name__ == "__main__":
    main()
