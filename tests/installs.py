"""Installs the wheel where nothing else is, with the oldest and the newest dependencies allowed, and runs the programs.

``python tests/installs.py dist/engram-*.whl`` goes through CPython 3.11, 3.12 and 3.13, each with both; ``--python 3.13
--resolution highest`` takes one of them. The programs are those of README and guides. Needs uv.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = ("lowest-direct", "highest")
TESTING = ("pytest>=8.3", "hatchling>=1.25")


def uv(*arguments: str) -> None:
    """Run uv, as it is installed beside this Python."""
    subprocess.run([sys.executable, "-m", "uv", *arguments], check=True)


def try_install(wheel: Path, python: str, resolution: str, folder: Path) -> str:
    """Install a wheel and run the programs; return what failed, empty where nothing did.

    Args:
        wheel: The wheel.
        python: Version of CPython.
        resolution: Which versions of the dependencies, in uv's words.
        folder: An empty folder outside the repository.
    """
    binaries = folder / "env" / "bin"
    uv("venv", "--quiet", "--seed", "--python", python, str(folder / "env"))
    options = ["--quiet", "--python", str(binaries / "python"), "--resolution", resolution]
    uv("pip", "install", *options, f"engram[lab] @ {wheel.resolve().as_uri()}", *TESTING)
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_programs.py", folder / "tests")
    shutil.copy(ROOT / "README.md", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for command in (
        ["engram", "list"],
        ["engram", "run", "property-verification", "--preset", "smoke", "--jobs", "1"],
        ["pytest", "--quiet", "-p", "no:cacheprovider", "tests/test_programs.py"],
    ):
        done = subprocess.run([str(binaries / command[0]), *command[1:]], cwd=folder, env=environment, check=False)
        if done.returncode:
            return f"{' '.join(command)} ended with {done.returncode}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", choices=PYTHONS)
    parser.add_argument("--resolution", choices=RESOLUTIONS)
    arguments = parser.parse_args()
    pythons = [arguments.python] if arguments.python else PYTHONS
    resolutions = [arguments.resolution] if arguments.resolution else RESOLUTIONS
    failures = []
    for python, resolution in itertools.product(pythons, resolutions):
        with tempfile.TemporaryDirectory() as folder:
            failure = try_install(arguments.wheel, python, resolution, Path(folder))
        print(f"CPython {python}, {resolution}: {failure or 'all programs run'}", flush=True)
        failures += [failure] * bool(failure)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
