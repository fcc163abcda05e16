"""Files that results rest on: their names, which stay valid where paths change, and digests of what they hold."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_of_runs: set[str] = set()  # the folders that runs of this process write to


def digest_on_disk(path: str | Path) -> str:
    """The SHA-256 of a file as it is now, or of the names and contents of all files in a folder; empty if it is gone.

    Hidden files, compiled code and what runs write do not count; folders that are linked do.
    """
    path = Path(path)
    with suppress(OSError, ValueError):
        if not path.is_dir():
            status = path.stat()
            return _digest_of(path, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        within = hashlib.sha256()
        for file in sorted(_files_in(path, frozenset())):
            within.update(f"{file.relative_to(path)}\0{digest_on_disk(file)}\0".encode(errors="surrogateescape"))
        return within.hexdigest()
    return ""


def leave_out(folder: Path) -> None:
    """Leave what runs write to a folder out of the digests of folders around it."""
    _of_runs.add(os.path.realpath(folder))


def _files_in(folder: Path, around: frozenset[str]) -> Iterator[Path]:
    """The files in a folder and in the folders in it, of which some may be links, even to one around them."""
    place = os.path.realpath(folder)
    if place in around or place in _of_runs:
        return
    with suppress(PermissionError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir():
                yield from _files_in(Path(entry.path), around | {place})
            elif entry.is_file():
                yield Path(entry.path)


@functools.cache
def _digest_of(path: Path, stamp: tuple[int, ...]) -> str:
    """The SHA-256 of a file, computed once for each of its stamps."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def name_of_file(path: str) -> str:
    """The name of a file in a provenance: its path, that below ``ENGRAM_DATA``, or ``./`` and a relative path.

    A relative path stays one, since it means another file once a program runs in another folder.

    Args:
        path: The path, absolute or relative.

    Raises:
        ValueError: The name is not UTF-8.
    """
    if not Path(path).is_absolute():
        return printable_name(f"./{path}")
    if data := os.environ.get("ENGRAM_DATA"):
        with suppress(ValueError):
            path = f"$ENGRAM_DATA/{Path(path).relative_to(Path(data).absolute())}"
    return printable_name(path)


def printable_name(name: str) -> str:
    """The name itself; ValueError if it is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the file {name!a} is in use: expected a name in UTF-8") from None
    return name


def path_of_file(name: str) -> str:
    """The path of a file from its name in a provenance."""
    if name[0] in "/$" or Path(name).is_absolute():
        return os.path.expandvars(name)
    if name.startswith("./"):
        return os.path.abspath(name)  # noqa: PTH100 - links stay
    spec = None
    top = name.partition("/")[0].removesuffix(".py")
    with suppress(ValueError, ImportError):
        spec = importlib.util.find_spec(top)
    places = [] if spec is None else [*(spec.submodule_search_locations or []), spec.origin or ""]
    return str(Path(places[0]).absolute().parent / name) if places and places[0] else name
