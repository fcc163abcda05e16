"""Installs what is published where nothing else is, with the oldest and the newest dependencies, and runs the programs.

``python tests/installs.py dist/*.whl dist/*.tar.gz`` goes through CPython 3.11, 3.12 and 3.13, each with both;
``--python 3.13 --resolution highest`` takes one of them. The programs are those of README and guides, and the commands
that work without a clone. Needs uv.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
RESOLUTIONS = ("lowest-direct", "highest")
TESTING = ("pytest>=8.3", "hatchling>=1.25")
LISTING = ("engram", "list")
REPORTING = ("engram", "report", "pattern-completion", "--recorded", "--out", "recorded.html")
PROGRAMS = (
    LISTING,
    REPORTING,
    ("engram", "compare", "signed_error.py:SignedError", "--preset", "smoke", "--seeds", "2"),
    ("engram", "demo"),
    ("pytest", "--quiet", "-p", "no:cacheprovider", "tests/test_programs.py"),
)


def uv(*arguments: str) -> None:
    """Run uv, as it is installed beside this Python."""
    subprocess.run([sys.executable, "-m", "uv", *arguments], check=True)


def own_method() -> str:
    """The file with a method of one's own that the guide on comparisons writes."""
    guide = (ROOT / "docs" / "compare.md").read_text()
    (source,) = re.findall(r'Path\("signed_error.py"\).write_text\((\'\'\'.*?\'\'\')\)', guide, flags=re.DOTALL)
    return str(ast.literal_eval(source))


def try_install(wheel: Path, sdist: Path, python: str, resolution: str, folder: Path) -> str:
    """Install a wheel and run the programs, then the source distribution; return what failed, empty where nothing did.

    Args:
        wheel: The wheel.
        sdist: The source distribution.
        python: Version of CPython.
        resolution: Which versions of the dependencies, in uv's words.
        folder: An empty folder outside the repository.
    """
    binaries = folder / "env" / "bin"
    options = ["--quiet", "--python", str(binaries / "python")]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "ENGRAM_RUNS")}

    def failure(*command: str) -> str:
        begin = time.monotonic()
        code = subprocess.call([str(binaries / command[0]), *command[1:]], cwd=folder, env=environment)
        print(f"{' '.join(command)}: {time.monotonic() - begin:.0f} s", flush=True)
        return f"{' '.join(command)} ended with {code}" if code else ""

    uv("venv", "--quiet", "--seed", "--python", python, str(folder / "env"))
    # For uv, the dependencies of what is installed are not direct: only those that it is given.
    direct = ["--requirements", str(ROOT / "pyproject.toml"), "--extra", "lab", *TESTING]
    what = f"engram-torch[lab] @ {wheel.resolve().as_uri()}"
    uv("pip", "install", *options, "--resolution", resolution, *direct, what)
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_programs.py", folder / "tests")
    shutil.copy(ROOT / "README.md", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    (folder / "signed_error.py").write_text(own_method())
    for command in PROGRAMS:
        if failed := failure(*command):
            return failed
    uv("pip", "install", *options, "--no-deps", "--reinstall-package", "engram-torch", str(sdist.resolve()))
    return failure(*LISTING) or failure(*REPORTING)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("sdist", type=Path)
    parser.add_argument("--python", choices=PYTHONS)
    parser.add_argument("--resolution", choices=RESOLUTIONS)
    arguments = parser.parse_args()
    pythons = [arguments.python] if arguments.python else PYTHONS
    resolutions = [arguments.resolution] if arguments.resolution else RESOLUTIONS
    failures = []
    for python, resolution in itertools.product(pythons, resolutions):
        with tempfile.TemporaryDirectory() as folder:
            failure = try_install(arguments.wheel, arguments.sdist, python, resolution, Path(folder))
        print(f"CPython {python}, {resolution}: {failure or 'all programs run'}", flush=True)
        failures += [failure] * bool(failure)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
