"""Mutation testing of one module: which small changes of its code do its tests not notice?

``make mutate MODULE=analysis/decoding.py`` lets mutmut change one operator, number, argument or keyword at a time in a
copy of the sources, runs the module's tests each time, and prints what survives and the share that was noticed.
Compiled functions (numba's, Triton's) are left out, as mutmut changes nothing that is decorated.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / ".mutants"
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = [{module}]
also_copy = ["conftest.py", "docs", "results", "README.md"]
pytest_add_cli_args = ["-W", "ignore", "-p", "no:cacheprovider"]
pytest_add_cli_args_test_selection = {tests}
process_isolation = "forkserver"
mutate_only_covered_lines = false
timeout_constant = 30.0
"""


def tests_of(module: Path) -> list[str]:
    """Return the tests of a module: its own file, else all of the folder that mirrors its package."""
    own = Path("tests") / module.parent / f"test_{module.name}"
    return [str(own if (ROOT / own).exists() else own.parent)]


def main() -> None:
    """Make the mutants of a module, run its tests on each, and print what survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", type=Path, help="path under src/engram, such as analysis/decoding.py")
    parser.add_argument("tests", nargs="*", help="what to run (default: its own test file, else its package's)")
    options = parser.parse_args()
    module = Path("src/engram") / options.module
    if not (ROOT / module).is_file():
        parser.error(f"module = {options.module}: expected a file under src/engram")
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir()
    for name in ("src", "tests", "conftest.py", "docs", "results", "README.md"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, COPY / name)
    tests = options.tests or tests_of(options.module)
    # Shapes are checked by code that must come before the first import, and is there already in a forked process.
    settings = re.sub(r'"--jaxtyping-packages=[^"]*", ', "", (ROOT / "pyproject.toml").read_text())
    settings += CONFIG.format(module=json.dumps(str(module)), tests=json.dumps(tests))
    (COPY / "pyproject.toml").write_text(settings)

    def mutmut(*arguments: str) -> str:
        command = [sys.executable, "-m", "mutmut", *arguments]
        return subprocess.run(command, cwd=COPY, check=True, stdout=subprocess.PIPE, text=True).stdout

    mutmut("run", "--max-children", "2")
    found = dict(re.findall(r"^\s*(\S+): (.+)$", mutmut("results", "--all", "true"), flags=re.MULTILINE))
    for mutant, state in found.items():
        if state in ("survived", "no tests"):
            print(f"--- {state}\n{mutmut('show', mutant)}")
    states = Counter(found.values())
    noticed = len(found) - states["survived"] - states["no tests"]
    print(f"{options.module}: {noticed} of {len(found)} mutants noticed, {noticed / len(found):.1%} {dict(states)}")


if __name__ == "__main__":
    main()
