"""Mutation testing: which small changes of a module's code do its tests not notice?

``make mutate MODULE='rules/*.py' SAMPLE=20`` draws from each module twenty of the changes that mutmut knows (of an
operator, number, argument, keyword or condition), runs on each the tests that reach the changed function, the quickest
first and up to the first that fails, and prints what survives and the share that was noticed. Tests are collected once;
a change is put into the imported function, in a fork of that process. So what is computed on import is not tried, nor
are compiled functions (numba's, Triton's), and programs that a test starts run the code as it is. What survives these
tests is tried by the calls that ``tests/contracts/test_bad_calls.py`` makes of the module, on a copy of the library.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import gc
import inspect
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import libcst as cst
import pytest
from libcst.metadata import QualifiedNameProvider
from mutmut.mutation.file_mutation import MutationVisitor, deep_replace
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import IgnoredCode

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "engram"
CONTRACTS = {
    "agents": ("agents", "curiosities"),
    "analysis": ("estimators", "similarity_measures"),
    "continual": ("continual_methods",),
    "memory": ("associative_memories", "estimators", "replacement_policies"),
    "nn": ("modules",),
    "optim": ("optimizers",),
    "plasticity": ("modules", "plasticity_rules"),
    "rules": ("estimators", "learning_rules", "synaptic_rules"),
    "tasks": ("environments", "tasks"),
}  # the contracts that the parts of a package keep, by their modules in tests/contracts
CONTRACTS_OF_ALL = ("bounds", "generators", "settings")


class Mutant(NamedTuple):
    function: str
    module: str  # its text


class Mutations(MutationVisitor):
    """mutmut's mutations, also of decorated functions, if they are not compiled."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef):
            return any(re.search("jit|inline", cst.Module([]).code_for_node(mark)) for mark in node.decorators)
        return super()._skip_node_and_children(node)


def mutants(path: Path, number: int | None, seed: int) -> list[Mutant]:
    """Return some mutants of the functions and methods of a module, drawn at random, in the order of the code."""
    visitor = Mutations(mutation_operators, IgnoredCode(set(), set(), set()))
    text = path.read_text()
    compiled = re.findall(r"\bjit\((\w+)", text)
    wrapper = cst.MetadataWrapper(cst.parse_module(text))
    module, names = wrapper.visit(visitor), wrapper.resolve(QualifiedNameProvider)
    in_functions = [x for x in visitor.mutations if isinstance(x.contained_by_top_level_function, cst.FunctionDef)]
    places = [x for x in in_functions if x.contained_by_top_level_function.name.value not in compiled]
    drawn = random.Random(seed).sample(range(len(places)), min(number or len(places), len(places)))
    return [
        Mutant(
            next(iter(names[places[i].contained_by_top_level_function]())).name,
            deep_replace(module, places[i].original_node, places[i].mutated_node).code,
        )
        for i in sorted(drawn)
    ]


def put(mutant: Mutant, functions: list[FunctionType]) -> None:
    """Give a function that is imported already the code and the literal defaults of the mutant."""
    for function in functions:
        path, line = function.__code__.co_filename, function.__code__.co_firstlineno
        made = sys.modules[function.__module__].__spec__.loader.source_to_code(mutant.module.encode(), path)
        function.__code__ = next(code for code in within(made) if code.co_firstlineno == line)
        for node in ast.walk(ast.parse(mutant.module)):
            if isinstance(node, ast.FunctionDef) and min(x.lineno for x in [node, *node.decorator_list]) == line:
                function.__defaults__ = tuple(map(literal, node.args.defaults, function.__defaults__ or ()))
                for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
                    if default:
                        function.__kwdefaults__[argument.arg] = literal(default, function.__kwdefaults__[argument.arg])


def within(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of all functions in some code, outer ones first."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from within(constant)


def literal(node: ast.expr, before: Any) -> Any:
    """Return the value of a default that is written as a literal, else the value that it has."""
    with suppress(ValueError):
        return ast.literal_eval(node)
    return before


def in_fork(seconds: float, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns in a fork of this process; None if it dies, or takes longer than given."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result")
        if not (child := os.fork()):
            os.setsid()
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
            signal.alarm(int(20 * seconds))  # for what only waits
            try:
                result.write_text(json.dumps(work(*arguments)))
            except BaseException:
                traceback.print_exc()
            os._exit(0)
        os.waitpid(child, 0)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it started
        return json.loads(result.read_text()) if result.exists() else None


def run(items: list[pytest.Item]) -> Iterator[bool]:
    """Run tests; yield for each whether it passed."""
    for item, following in zip(items, [*items, None][1:], strict=True):
        failures = item.session.testsfailed
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        yield item.session.testsfailed == failures


def reach(items: list[pytest.Item]) -> list[tuple[bool, float, list[str]]]:
    """Run tests; return for each if it passed, its seconds, and the functions it called or whose defaults it read."""
    called: set[tuple[str, str]] = set()
    reads = inspect._signature_from_function.__code__  # type: ignore[attr-defined]

    def trace(frame: FrameType, *_: Any) -> None:
        code = frame.f_locals["func"].__code__ if frame.f_code is reads else frame.f_code
        called.add((code.co_filename, code.co_qualname))

    rows, start = [], time.perf_counter()
    sys.settrace(trace)
    for passed in run(items):
        functions = [":".join(place) for place in tuple(called) if place[0].startswith(str(SOURCE))]
        rows.append((passed, time.perf_counter() - start, functions))
        called.clear()
        start = time.perf_counter()
    return rows


def survives(mutant: Mutant, functions: list[FunctionType], items: list[pytest.Item]) -> bool:
    """Put a mutant into this process and say whether the tests pass."""
    put(mutant, functions)
    return all(run(items))


CALLS_SECONDS = 300
CALLS = """
import sys, tempfile
import test_bad_calls
with tempfile.TemporaryDirectory() as folder:
    test_bad_calls.check_calls(test_bad_calls.defined_in(sys.argv[1]), folder)
"""


@functools.cache
def calls_pass(path: Path, text: str) -> bool:
    """Say whether calls of a module's functions, good ones and with an object for each argument, pass on its text."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, SOURCE.name)
        shutil.copytree(SOURCE, copy, copy_function=os.symlink)
        changed = copy / path.relative_to(SOURCE)
        changed.unlink()
        changed.write_text(text)
        module = ".".join(changed.relative_to(folder).with_suffix("").parts)
        environment = {**os.environ, "PYTHONPATH": folder}
        command = [sys.executable, "-W", "ignore", "-c", CALLS, module]
        options = {"cwd": ROOT / "tests" / "contracts", "env": environment, "capture_output": True}
        with suppress(subprocess.TimeoutExpired):
            return subprocess.run(command, timeout=CALLS_SECONDS, check=False, **options).returncode == 0
        return False


@dataclass
class Trials:
    """A plugin of pytest that runs the tests on mutants, each in a fork, in place of once."""

    drawn: dict[Path, list[Mutant]]

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        rows = in_fork(24 * 3600, reach, session.items)
        if failed := [item.nodeid for item, row in zip(session.items, rows, strict=True) if not row[0]]:
            raise pytest.UsageError(f"these tests fail without any change: {failed}")
        tests = sorted(zip(rows, session.items, strict=True), key=lambda test: test[0][1])
        gc.unfreeze()  # what is frozen is in no list
        functions = [part for part in gc.get_objects() if type(part) is FunctionType]
        gc.freeze()
        for path, drawn in self.drawn.items():
            before, noticed = path.read_text().splitlines(), 0
            for mutant in drawn:
                place = str(path), mutant.function
                changed = [f for f in functions if (f.__code__.co_filename, f.__code__.co_qualname) == place]
                mine = [(row[1], item) for row, item in tests if ":".join(place) in row[2]]
                seconds, items = sum(seconds for seconds, _ in mine), [item for _, item in mine]
                survived = in_fork(20 + 5 * seconds, survives, mutant, changed, items)
                if survived and not calls_pass(path, path.read_text()):
                    raise pytest.UsageError(f"calls of {path} fail without any change")
                if survived and calls_pass(path, mutant.module):
                    print(f"\n{mutant.function} survives {len(mine)} tests")
                    after = mutant.module.splitlines()
                    print(*difflib.unified_diff(before, after, str(path.relative_to(ROOT)), n=1, lineterm=""), sep="\n")
                else:
                    noticed += 1
            share = noticed / len(drawn)
            print(f"\n{path.relative_to(SOURCE)}: {noticed} of {len(drawn)} noticed, {share:.0%}", flush=True)
        return True


def main() -> None:
    """Draw mutants, run the tests on each, and print what survives and a row for each module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", help="under src/engram, such as analysis/decoding.py or 'rules/*.py'")
    parser.add_argument(
        "--tests", nargs="+", help="what to run (default: what mirrors the packages, their contracts, those of all)"
    )
    parser.add_argument("--sample", type=int, help="mutants to draw from each module (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    options = parser.parse_args()
    paths = sorted({path for module in options.modules for path in SOURCE.glob(module)})
    drawn = {path: some for path in paths if (some := mutants(path, options.sample, options.seed))}
    if not drawn:
        parser.error(f"modules = {options.modules}: expected files under src/engram with functions to change")
    packages = {path.relative_to(SOURCE).parts[0] for path in drawn}
    of_packages = {contract for package in packages for contract in CONTRACTS.get(package, ())}
    contracts = [*CONTRACTS_OF_ALL, *sorted(of_packages)]
    mirrors = sorted(f"tests/{package}" for package in packages)
    tests = options.tests or [
        *mirrors,
        "tests/test_state.py",
        *(f"tests/contracts/test_{contract}.py" for contract in contracts),
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-q", "-s", "-p", "no:cacheprovider", f"--basetemp={folder}/tests", *tests, *map(str, drawn)]
        sys.exit(pytest.main(arguments, [Trials(drawn)]))


if __name__ == "__main__":
    main()
