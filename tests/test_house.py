"""The source stays within its budgets, and what counts it counts right."""

from __future__ import annotations

import ast
import builtins
import dis
import doctest
import importlib
import importlib.util
import inspect
import re
import subprocess
from collections import defaultdict
from functools import cache
from pathlib import Path
from types import CodeType

import pytest
import ruff

spec = importlib.util.spec_from_file_location("house", Path(__file__).parents[1] / "docs" / "house.py")
house = importlib.util.module_from_spec(spec)
spec.loader.exec_module(house)
# What is checked though no code of its module names it: what a module, space or rule returns, or what a caller has.
RETURNED = ("activity", "input", "neuromodulator", "observation", "rewards", "state_dict")


@cache
def nodes(path):
    """All nodes of a module; two tests look at them."""
    return [*ast.walk(ast.parse(path.read_text()))]


def test_lines_are_code_or_docstrings_or_neither():
    text = '"""One line."""\n\n# Why.\nx = [\n    1,  # beside code\n]\n\n\ndef f():\n    """Two\n    lines."""\n'
    text += '    return """\n    text"""\n'
    assert house.size(text) == (13, 6, 3)


def test_no_file_is_too_long_to_be_read():
    sizes = {
        str(path.relative_to(house.SOURCE)): house.size(path.read_text()).code for path in house.SOURCE.rglob("*.py")
    }
    assert {name: code for name, code in sizes.items() if code > house.MOST_CODE} == {}


def test_the_page_counts_every_file():
    rows = [row.split("|")[1:-1] for row in house.house().splitlines() if row.startswith("| ")][1:]
    packages = [row for row in rows if len(row) == 6]
    *parts, whole = ([int(cell) for cell in row[1:5]] for row in packages)
    assert [sum(column) for column in zip(*parts, strict=True)] == whole
    assert whole[1] == house.lines(house.SOURCE.rglob("*.py"))


def test_no_class_is_named_that_is_not_there():
    """The names of axes in the shapes of tensors look undefined to a linter, so that it is told to let such pass."""
    command = [ruff.find_ruff_bin(), "check", "--select", "F821", "--output-format", "concise", "--no-cache", "."]
    said = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False).stdout
    assert "F821" in said
    assert [line for line in said.splitlines() if re.search("F821 Undefined name `_?[A-Z]", line)] == []


def test_examples_seed_what_they_draw():
    draws = re.compile(r"(torch|np\.random)\.(randn?|randint|randperm|normal|bernoulli|multinomial|permutation)\(")
    unseeded = {}
    for path in house.SOURCE.rglob("*.py"):
        for docstring in re.findall(r'"""(.*?)"""', path.read_text(), flags=re.DOTALL):
            source = "".join(example.source for example in doctest.DocTestParser().get_examples(docstring))
            lines = [line for line in source.splitlines() if draws.search(line) and "generator=" not in line]
            if lines and "manual_seed" not in source:
                unseeded[str(path.relative_to(house.SOURCE))] = lines
    assert unseeded == {}


def test_estimators_of_sklearn_never_draw_from_the_global_generator():
    solvers = {"Ridge", "RidgeClassifier", "LogisticRegression"}  # whose default solvers draw nothing
    drawing = []
    for path in sorted(house.SOURCE.rglob("*.py")):
        if "sklearn" not in path.read_text():
            continue
        imports = [n for n in nodes(path) if isinstance(n, ast.ImportFrom) and str(n.module).startswith("sklearn")]
        parts_of_sklearn = {
            alias.asname or alias.name: getattr(importlib.import_module(node.module), alias.name, None)
            for node in imports
            for alias in node.names
        }
        for call in (n for n in nodes(path) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)):
            part, given = parts_of_sklearn.get(call.func.id), {keyword.arg for keyword in call.keywords}
            if not hasattr(part, "get_params") or "random_state" not in inspect.signature(part).parameters:
                continue
            if not given & {"random_state", "svd_solver"} and part.__name__ not in solvers:
                drawing.append(f"{path.relative_to(house.SOURCE)}:{call.lineno}: {part.__name__}")
    assert drawing == []


def parts(code):
    """A code object and all that it contains."""
    return [code, *(part for inner in code.co_consts if isinstance(inner, CodeType) for part in parts(inner))]


@pytest.mark.parametrize("folder", ["src", pytest.param("tests", marks=pytest.mark.soak), "benchmarks", "docs"])
def test_what_runs_loads_no_name_that_is_not_there(folder):
    """For the same reason no linter tells this of functions; annotations are not in the code that runs."""
    undefined = {}
    for path in (Path(__file__).parents[1] / folder).rglob("*.py"):
        names = {part: defaultdict(set) for part in parts(compile(path.read_text(), str(path), "exec"))}
        for part, of in names.items():
            for step in dis.get_instructions(part):
                of[step.opname].add(step.argval)
        module = next(iter(names.values()))["STORE_NAME"] | {*vars(builtins)}
        module |= {"__file__", "__annotations__"}.union(*(of["STORE_GLOBAL"] for of in names.values()))
        missing = [of["LOAD_GLOBAL"] | of["LOAD_NAME"] - of["STORE_NAME"] for of in names.values()]
        if names := set().union(*missing) - module:
            undefined[str(path)] = names
    assert undefined == {}


def identifiers(parts_of_code):
    """The names in a piece of code: of variables, parameters, attributes and items."""
    for part in parts_of_code:
        match part:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=name):
                yield name
            case ast.Subscript(slice=ast.Constant(value=name)):
                yield name


def test_errors_name_what_is_there():
    """The name that a check gives to an argument occurs in the module around it, not only in the text of an error."""
    strange = []
    for path in house.SOURCE.rglob("*.py"):
        if "checks." not in path.read_text():
            continue
        known = {*RETURNED, *identifiers(nodes(path))}
        for call in nodes(path):
            function = call.func if isinstance(call, ast.Call) and call.args else None
            if isinstance(function, ast.Attribute) and getattr(function.value, "id", "") == "checks":
                name = call.args[-1 if function.attr == "generator" else 0]
                literals = [part for part in getattr(name, "values", [name]) if isinstance(part, ast.Constant)]
                words = re.findall(r"[a-zA-Z_]\w*", " ".join(str(part.value) for part in literals))
                if words and known.isdisjoint(words):
                    strange.append((str(path.relative_to(house.SOURCE)), ast.unparse(name)))
    assert strange == []


@pytest.mark.parametrize(
    "word", ["addaudithook", "_getframe", "currentframe", "inspect.stack", "settrace", "setprofile"]
)
def test_nothing_hooks_the_interpreter_or_looks_at_its_callers_but_the_checks(word):
    source = Path(__file__).parents[1] / "src" / "engram"
    found = {str(path.relative_to(source)) for path in source.rglob("*.py") if word in path.read_text()}
    assert found <= ({"checks.py"} if word == "_getframe" else set())
