"""The files of the data sets: located, fetched, and verified by their checksums at each use."""

from __future__ import annotations

import hashlib
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_cache_path

from engram import extras
from engram.storage.locks import held

_SECONDS_WITHOUT_A_BYTE = 30
_OWNER = "its owner: the title of the data set has its origin"

Source = Literal["ENGRAM_DATA", "cache"]
Locate = Callable[[str], Path]


class DataError(OSError):
    """A file of a data set is absent, cannot be fetched, or is not what it should be."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        path: Path below ``ENGRAM_DATA`` and below the cache, with ``/`` between its parts.
        url: Canonical source; None if there is none, so that the user has to put the file in place.
        checksum: ``"sha256:..."``, in hexadecimal.
        size: Size in bytes.
        mirrors: Other addresses of the same file, in the order in which they are tried after ``url``.
        instead: A file with the same contents and more, which is taken, and fetched, where this one is absent.
    """

    path: str
    url: str | None
    checksum: str
    size: int
    mirrors: tuple[str, ...] = ()
    instead: DataFile | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Args:
        name: The name that ``load`` takes.
        title: One line of description.
        licence: Terms of use.
        citation: The work to cite.
        files: Its files.
        read: Called as ``read(locate, **options)``, where ``locate`` maps the ``path`` of a file to its verified path
            on disk, fetching it if necessary. A reader locates only the files that its options need.
        original: Name of the public data set of which this one is a copy that has no public address.
    """

    name: str
    title: str
    licence: str
    citation: str
    files: tuple[DataFile, ...]
    read: Callable[..., Any]
    original: str = ""


@dataclass(frozen=True)
class FileStatus:
    """The path of one file, the folder that contains it, and its size in bytes; None or False if it is absent."""

    file: DataFile
    path: Path | None
    source: Source | None
    size: int | None
    verified: bool


@dataclass(frozen=True)
class SetStatus:
    """The status of the files of a data set, in their order."""

    dataset: DataSet
    files: tuple[FileStatus, ...]

    @property
    def complete(self) -> bool:
        """Whether every file is present and verified."""
        return all(file.verified for file in self.files)


def cache_folder() -> Path:
    """The folder for fetched files: ``ENGRAM_CACHE``, or else the user's cache folder."""
    folder = os.environ.get("ENGRAM_CACHE")
    return Path(folder).expanduser().absolute() if folder else user_cache_path("engram") / "data"


def data_folder() -> Path | None:
    """The folder ``ENGRAM_DATA``, or None if it is not set; raise DataError if it is not a folder."""
    setting = os.environ.get("ENGRAM_DATA")
    if not setting:
        return None
    folder = Path(setting).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"ENGRAM_DATA = {setting!r}: expected a folder; correct or unset the variable")
    return folder


@contextmanager
def reading(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """A context that raises DataError when reading a file fails.

    Args:
        path: The file.
        kind: Its expected format, for the message.
        *errors: Errors that the reader raises, besides EOFError, OSError and zlib.error.
    """
    expected: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, *errors)
    try:
        yield
    except DataError:
        raise
    except expected as error:
        raise DataError(f"cannot read {path} as {kind}: {error}") from error


def examine(file: DataFile) -> FileStatus:
    """The path of a file, and whether its checksum is right; nothing is fetched or changed."""
    if (location := _find(file)) is None and file.instead is not None:
        return examine(file.instead)
    if location is None:
        return FileStatus(file, None, None, None, False)
    return FileStatus(file, *location, location[0].stat().st_size, _checksum(location[0], file) == file.checksum)


def locate(file: DataFile) -> Path:
    """The verified path of a file, which is fetched into the cache if it is absent, or that of the one to take instead.

    A file in the cache with the wrong checksum is renamed, with a warning, and fetched again. Processes that need the
    same file wait for the first of them; a fetch that fails leaves no incomplete file.

    Raises:
        DataError: The file under ``ENGRAM_DATA`` has the wrong checksum, or a file cannot be fetched.
    """
    if (location := _find(file)) is None and file.instead is not None:
        return locate(file.instead)
    if location is not None:
        path, source = location
        actual = _checksum(path, file)
        if actual == file.checksum:
            return path
        if source == "ENGRAM_DATA":
            right = f"file at {file.url}" if file.url else "right file"
            raise DataError(
                f"{path} has checksum {actual}, expected {file.checksum}; "
                f"replace it by the {right}, or take it out of ENGRAM_DATA"
            )

    target = cache_folder() / file.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with held(target.with_name(f"{target.name}.lock")):
            if target.is_file():  # another process fetched it meanwhile, or it is the wrong file
                actual = _checksum(target, file)
                if actual == file.checksum:
                    return target
                aside = target.with_name(f"{target.name}.{actual.partition(':')[2][:8]}.wrong")
                target.replace(aside)
                checksums = f"{target} has checksum {actual}, expected {file.checksum}"
                warnings.warn(f"{checksums}; kept aside as {aside.name} and fetched again", stacklevel=3)
            _fetch(file, target)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot write {target}: {error}; ENGRAM_CACHE can be set to another folder") from error
    return target


def _find(file: DataFile) -> tuple[Path, Source] | None:
    folder = data_folder()
    if folder is not None and (folder / file.path).is_file():
        return folder / file.path, "ENGRAM_DATA"
    cached = cache_folder() / file.path
    return (cached, "cache") if cached.is_file() else None


def _checksum(path: Path, file: DataFile) -> str:
    algorithm = file.checksum.partition(":")[0]
    try:
        with path.open("rb") as content:
            return f"{algorithm}:{hashlib.file_digest(content, algorithm).hexdigest()}"
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _fetch(file: DataFile, target: Path) -> None:
    """Fetch with pooch, into a temporary file next to the target, which is renamed if its checksum is right."""
    by_hand = _by_hand(file, target)
    if file.url is None:
        raise DataError(f"{file.path} is absent, and has no public address\n{by_hand}")
    try:
        import pooch
        from requests import RequestException
    except ModuleNotFoundError as error:
        raise extras.missing("lab", "Fetching a data set", error) from error
    failures = []
    for url in (file.url, *file.mirrors):
        try:
            pooch.retrieve(
                url,
                known_hash=file.checksum,
                fname=target.name,
                path=target.parent,
                downloader=pooch.HTTPDownloader(timeout=_SECONDS_WITHOUT_A_BYTE, chunk_size=1 << 16),
            )
            return
        except (RequestException, ValueError) as error:  # pooch raises ValueError for a wrong checksum
            failures.append(f"{url}: {error}")
    raise DataError(f"{file.path} is absent and could not be fetched: {'; '.join(failures)}\n{by_hand}")


def _by_hand(file: DataFile, target: Path) -> str:
    """Instructions to put a file in place by hand."""
    folder = data_folder()
    destination = folder / file.path if folder else f"{target}, or to the same path under a folder ENGRAM_DATA"
    instruction = "Get it" if file.url is None else "Fetch it where there is a connection"
    return (
        f"{instruction} and put it in place by hand:\n"
        f"  from      {' or '.join((file.url, *file.mirrors)) if file.url else _OWNER}\n"
        f"  to        {destination}\n"
        f"  checksum  {file.checksum} ({file.size} bytes)"
    )
