"""The name under which engram is installed, and the other project that overwrites its files."""

from __future__ import annotations

import os

DISTRIBUTION = "engram-torch"
"""The name of the installed package; `engram` on the package index is another project, with the same import name."""
REPAIR = "pip uninstall engram engram-torch, then install engram-torch again"


def other_engram(folder: str = os.path.join(__file__, "..", "..")) -> str:  # noqa: PTH118 - pathlib is slow to import
    """The other project named engram that is installed in the same folder, as ``"engram 0.1.0a1"``; empty if none is.

    It reads only the names in the folder, which takes less than a millisecond.

    Args:
        folder: The folder of installed packages (default: the one that contains this package).
    """
    names = os.listdir(os.path.normpath(folder))  # noqa: PTH208
    infos = [name for name in names if name.startswith("engram-") and name.endswith(".dist-info")]
    return infos[0].removesuffix(".dist-info").replace("-", " ") if infos else ""
