"""The command that installs an extra of engram, for errors about missing packages."""

from __future__ import annotations

import functools
import json
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from engram.distribution import DISTRIBUTION


@functools.cache
def install(extra: str) -> str:
    """The command that installs an extra from where engram itself came from: a folder, a URL or a package index.

    Args:
        extra: The name of the extra, such as ``lab`` in ``engram-torch[lab]``.
    """
    # The installer records the location of a folder, an archive or a repository (PEP 610).
    origin = json.loads(distribution(DISTRIBUTION).read_text("direct_url.json") or "{}")
    requirement = f"{DISTRIBUTION}[{extra}]"
    if "dir_info" in origin:
        editable = "--editable " if origin["dir_info"].get("editable") else ""
        return f"{_pip()} install {editable}'{url2pathname(urlsplit(origin['url']).path)}[{extra}]'"
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        return f"{_pip()} install '{requirement} @ {vcs['vcs']}+{origin['url']}@{vcs['commit_id']}'"
    return (
        f"{_pip()} install '{requirement} @ {origin['url']}'"
        if "url" in origin
        else f"{_pip()} install '{requirement}'"
    )


def missing(extra: str, what: str, error: ModuleNotFoundError) -> ImportError:
    """The error for a part that needs a missing module, with the command that installs it.

    Args:
        extra: The extra of engram that installs the module.
        what: The part's name, as the subject of the message.
        error: The error that the import raised.
    """
    if (error.name or "engram").partition(".")[0] == "engram":  # an error in engram, not a missing package
        return error
    message = f"{what} needs {error.name}, which is not installed: {install(extra)}"
    return ModuleNotFoundError(message, name=error.name)


def _pip() -> str:
    """The command that runs this Python's pip; another pip would install for another Python."""
    pip = shutil.which("pip")
    in_this_python = pip is not None and Path(pip).parent == Path(sys.executable).parent
    return "pip" if in_this_python else f"{sys.executable} -m pip"
