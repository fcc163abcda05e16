"""The code of the package as it was when a file was last committed."""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def older_code(path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Unpack the code of the last commit of a file into a temporary folder; yield it, and an environment that uses it.

    Args:
        path: The file, such as a record that this code wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["git", "log", "-1", "--format=%H", "--", str(path.relative_to(ROOT))]
        commit = subprocess.check_output(command, cwd=ROOT, text=True).strip()
        subprocess.run(["git", "archive", "-o", f"{folder}/code.tar", commit, "src"], cwd=ROOT, check=True)
        with tarfile.open(f"{folder}/code.tar") as code:
            code.extractall(folder, filter="data")
        yield Path(folder), os.environ | {"PYTHONPATH": f"{folder}/src"}
