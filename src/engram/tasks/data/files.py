"""Where the files of the data sets lie, and how they get there; their checksums are compared each time."""

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

from filelock import FileLock
from platformdirs import user_cache_path

from engram import extras

_SECONDS_WITHOUT_A_BYTE = 30

Source = Literal["ENGRAM_DATA", "cache"]
Locate = Callable[[str], Path]


class DataError(OSError):
    """A file of a data set is absent, cannot be fetched, or is not what it should be."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Args:
        path: Path below ``ENGRAM_DATA`` and below the cache, with ``/`` between its parts.
        url: Canonical source; None if this very file has none, so that the user has to put it in place.
        checksum: ``"md5:..."`` or ``"sha256:..."``, in hexadecimal.
        size: Size in bytes.
    """

    path: str
    url: str | None
    checksum: str
    size: int


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Args:
        name: The name that ``load`` takes.
        title: One line that says what it is.
        licence: Under what terms it may be used.
        citation: Whom to cite.
        files: Its files.
        read: Called as ``read(locate, **options)``, where ``locate`` returns where the file of a given ``path`` lies,
            verified, fetching it if need be. A reader locates only the files that its options ask for.
    """

    name: str
    title: str
    licence: str
    citation: str
    files: tuple[DataFile, ...]
    read: Callable[..., Any]


@dataclass(frozen=True)
class FileStatus:
    """Where one file was found, in which of the two folders, of how many bytes; None or False where it is absent."""

    file: DataFile
    found: Path | None
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
        """Whether every file is at hand and verified."""
        return all(file.verified for file in self.files)


def cache_folder() -> Path:
    """The folder that fetched files are kept in: ``ENGRAM_CACHE``, or else the user's cache folder."""
    chosen = os.environ.get("ENGRAM_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("engram") / "data"


def data_folder() -> Path | None:
    """The folder that ``ENGRAM_DATA`` names, or None if it is not set; raise DataError if it is none."""
    chosen = os.environ.get("ENGRAM_DATA")
    if not chosen:
        return None
    folder = Path(chosen).expanduser().absolute()
    if not folder.is_dir():
        raise DataError(f"ENGRAM_DATA = {chosen!r}: expected a folder; correct or unset the variable")
    return folder


@contextmanager
def reading(path: Path, kind: str, *errors: type[Exception]) -> Iterator[None]:
    """Raise DataError where the block fails to read ``path`` as ``kind``, also by one of the ``errors``."""
    expected: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, *errors)
    try:
        yield
    except DataError:
        raise
    except expected as error:
        raise DataError(f"cannot read {path} as {kind}: {error}") from error


def examine(file: DataFile) -> FileStatus:
    """Where a file lies and whether its checksum is right; fetch and change nothing."""
    if (place := _find(file)) is None:
        return FileStatus(file, None, None, None, False)
    return FileStatus(file, *place, place[0].stat().st_size, _checksum(place[0], file) == file.checksum)


def locate(file: DataFile) -> Path:
    """Where a file lies, verified; fetch it into the cache if it is at hand nowhere.

    A file of the cache that has the wrong checksum is kept aside, with a warning, and fetched again. Processes that
    want the same file wait for the first of them; a fetch that breaks off leaves nothing that could be taken for it.

    Raises:
        DataError: That under ``ENGRAM_DATA`` has the wrong checksum, or there is none and it cannot be fetched.
    """
    if (place := _find(file)) is not None:
        found, source = place
        actual = _checksum(found, file)
        if actual == file.checksum:
            return found
        if source == "ENGRAM_DATA":
            right = f"file at {file.url}" if file.url else "right file"
            raise DataError(
                f"{found} has checksum {actual}, expected {file.checksum}; "
                f"replace it by the {right}, or take it out of ENGRAM_DATA"
            )

    target = cache_folder() / file.path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.is_file():  # another process fetched it meanwhile, or it is the wrong file
                actual = _checksum(target, file)
                if actual == file.checksum:
                    return target
                aside = target.with_name(f"{target.name}.{actual.partition(':')[2][:8]}.wrong")
                target.replace(aside)
                told = f"{target} has checksum {actual}, expected {file.checksum}; kept aside as {aside.name}"
                warnings.warn(f"{told} and fetched again", stacklevel=3)
            _fetch(file, target)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"cannot keep {target}: {error}; ENGRAM_CACHE can name another folder") from error
    return target


def _find(file: DataFile) -> tuple[Path, Source] | None:
    given = data_folder()
    if given is not None and (given / file.path).is_file():
        return given / file.path, "ENGRAM_DATA"
    kept = cache_folder() / file.path
    return (kept, "cache") if kept.is_file() else None


def _checksum(path: Path, file: DataFile) -> str:
    algorithm = file.checksum.partition(":")[0]
    try:
        with path.open("rb") as content:
            return f"{algorithm}:{hashlib.file_digest(content, algorithm).hexdigest()}"
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _fetch(file: DataFile, target: Path) -> None:
    """Fetch into a temporary file beside the target, compare the checksum, then rename: all pooch's doing."""
    by_hand = _by_hand(file, target)
    if file.url is None:
        raise DataError(f"{file.path} is not at hand, and there is no public address of it\n{by_hand}")
    try:
        import pooch
        from requests import RequestException
    except ModuleNotFoundError as error:
        raise extras.missing("lab", "Fetching a data set", error) from error
    try:
        pooch.retrieve(
            file.url,
            known_hash=file.checksum,
            fname=target.name,
            path=target.parent,
            downloader=pooch.HTTPDownloader(timeout=_SECONDS_WITHOUT_A_BYTE, chunk_size=1 << 16),
        )
    except (RequestException, ValueError) as error:  # pooch tells a wrong checksum by ValueError
        raise DataError(f"{file.path} is not at hand and could not be fetched: {error}\n{by_hand}") from error


def _by_hand(file: DataFile, target: Path) -> str:
    """In words how a user puts a file in place."""
    given = data_folder()
    place = given / file.path if given else f"{target}, or to the same path under a folder that ENGRAM_DATA names"
    where = "Get it" if file.url is None else "Fetch it where there is a connection"
    return (
        f"{where} and put it in place by hand:\n"
        f"  from      {file.url or 'whoever has it: the data set says what it is made of'}\n"
        f"  to        {place}\n"
        f"  checksum  {file.checksum} ({file.size} bytes)"
    )
