"""Mutation testing of one module: which small changes of its code do its tests not notice?

``make mutate MODULE=analysis/rsa.py`` lets Cosmic Ray change one operator, number or keyword at a time in a copy of the
sources, runs the module's tests each time, and prints the changes that survive, and the share that was noticed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPY = ROOT / ".mutants"
# Annotations are not evaluated, so a change of `int | None` changes nothing.
NO_CODE = ["core/ReplaceBinaryOperator_BitOr_.*"]
CONFIG = """
[cosmic-ray]
module-path = {module!r}
timeout = {timeout}
excluded-modules = []
test-command = {command!r}
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = {operators}
"""


def tests_of(module: Path) -> list[str]:
    """Return the tests of a module: its own file, else all of the folder that mirrors its package."""
    own = Path("tests") / module.parent / f"test_{module.name}"
    return [str(own if (ROOT / own).exists() else own.parent)]


def main() -> None:
    """Make the mutants of a module, run its tests on each, and print what survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", type=Path, help="path under src/engram, such as analysis/rsa.py")
    parser.add_argument("tests", nargs="*", help="what to run (default: its own test file, else its package's)")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds after which a mutant counts as noticed")
    options = parser.parse_args()
    module = Path("src/engram") / options.module
    if not (ROOT / module).is_file():
        parser.error(f"module = {options.module}: expected a file under src/engram")
    shutil.rmtree(COPY, ignore_errors=True)
    COPY.mkdir()
    for name in ("src", "tests", "docs", "results", "pyproject.toml", "README.md"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, COPY / name)
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    command = " ".join(["env", f"PYTHONPATH={COPY / 'src'}", *pytest, *(options.tests or tests_of(options.module))])
    config = CONFIG.format(module=str(module), timeout=options.timeout, command=command, operators=json.dumps(NO_CODE))
    (COPY / "config.toml").write_text(config)

    def ray(tool: str, *arguments: str) -> str:
        program = Path(sys.executable).parent / tool
        return subprocess.run([program, *arguments], cwd=COPY, check=True, capture_output=True, text=True).stdout

    subprocess.run(command.split(), cwd=COPY, check=True)  # else every mutant would count as noticed
    ray("cosmic-ray", "init", "config.toml", "session.sqlite")
    ray("cr-filter-operators", "session.sqlite", "config.toml")
    ray("cosmic-ray", "exec", "config.toml", "session.sqlite")
    print(ray("cr-report", "--surviving-only", "--show-diff", "session.sqlite"))
    print(f"{options.module}: {100 - float(ray('cr-rate', 'session.sqlite')):.1f} % of the mutants noticed")


if __name__ == "__main__":
    main()
