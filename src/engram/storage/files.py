"""Files that are complete or absent: atomic writing, and the handling of corrupt files."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import pydantic

Shape = TypeVar("Shape")


class CorruptFileError(ValueError):
    """The error for a stored file that is truncated or altered; ``path`` is the file."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is corrupt: {why}")
        self.path = path


class CannotWriteError(OSError):
    """The error for a file or folder that cannot be written: no permission, no space, no such disk."""


def runs_folder(runs: str | Path | None = None) -> Path:
    """The folder of all runs: the argument, else ``ENGRAM_RUNS``, else ``runs`` in the working directory."""
    if runs is not None and not isinstance(runs, str | os.PathLike):
        raise TypeError(f"runs = {runs!r}: expected the path of a folder")
    return Path(runs or os.environ.get("ENGRAM_RUNS") or "runs").expanduser().absolute()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any OSError inside into a ``CannotWriteError`` that names the path and the reason."""
    try:
        yield
    except OSError as error:
        raise CannotWriteError(f"cannot write {path}: {error.strerror or error}") from error


def write_atomic(path: Path, content: bytes, *, durable: bool = True, named: bool = True) -> None:
    """Write a file atomically: at any moment, even after a crash, it has either the old or the new content.

    Args:
        path: The file.
        content: Its new content.
        durable: Wait until the content is on the disk, so that it survives a power failure too.
        named: With ``durable``, also wait until the names of this file and of all earlier ones in the folder are on
            the disk. Not needed if a later file in the folder, without which this one is useless, waits for its name.

    Raises:
        CannotWriteError: The file cannot be written; it is unchanged, and nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        # Exclusive creation, so that no existing file or target of a link is written to.
        with writing(path), temporary.open("xb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        with writing(path):
            temporary.replace(path)
            if durable and named:
                folder = os.open(path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Mapping[str, Any], *, durable: bool = True, named: bool = True) -> None:
    """Write values to a JSON file atomically; ``durable`` and ``named`` as in ``write_atomic``."""
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode(), durable=durable, named=named)


def read_json(path: Path, shape: type[Shape]) -> Shape:
    """The content of a JSON file, validated against a dataclass or a ``TypedDict``.

    Raises:
        FileNotFoundError: There is no such file.
        CorruptFileError: The file cannot be read, holds no JSON, or its content has another shape.
    """
    return cast(Shape, _validated(path, _adapter(cast(Hashable, shape)).validate_json, read_bytes(path)))


def write_sealed(path: Path, content: Mapping[str, Any], *, named: bool = True) -> None:
    """Write a JSON file atomically, with a checksum of its content; ``named`` as in ``write_atomic``."""
    as_read = json.loads(json.dumps(content))  # JSON turns keys into strings, and the digest sorts them as strings
    write_json(path, {**as_read, "sha256": _digest(as_read)}, named=named)


def read_sealed(path: Path, shape: type[Shape]) -> Shape:
    """The content written by ``write_sealed``, validated as by ``read_json``; CorruptFileError if it was altered."""
    text = read_bytes(path)
    validated = _validated(path, _adapter(cast(Hashable, shape)).validate_json, text)
    content = json.loads(text)
    if content.pop("sha256", None) != _digest(content):
        raise CorruptFileError(path, "its checksum differs")
    return cast(Shape, validated)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def in_shape(path: Path, shape: type[Shape], content: Any) -> Shape:
    """The content of a file, validated; CorruptFileError if it has another shape.

    Args:
        path: The file, for the error message.
        shape: A dataclass or ``TypedDict``.
        content: The content to validate.
    """
    return cast(Shape, _validated(path, _adapter(cast(Hashable, shape)).validate_python, content))


def _validated(path: Path, validate: Callable[..., Any], content: Any) -> Any:
    try:
        return validate(content, strict=True)
    except pydantic.ValidationError as error:
        first_error = error.errors()[0]
        raise CorruptFileError(path, ": ".join([*map(str, first_error["loc"]), first_error["msg"]])) from None


def read_bytes(path: Path) -> bytes:
    """The content of a file; FileNotFoundError where there is none, CorruptFileError where it cannot be read."""
    try:
        check_regular(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptFileError(path, error.strerror or str(error)) from None


def check_regular(path: Path) -> None:
    """Raise CorruptFileError if a path is a folder, a device or a pipe, where reading might block for ever."""
    if path.exists() and not path.is_file():
        raise CorruptFileError(path, "it is not a regular file")


@cache
def _adapter(shape: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(shape)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed writers left in a folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def keep_aside(path: Path) -> Path:
    """Rename a corrupt file to the first free ``<name>.corrupt-<n>``, and return that path."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.corrupt-{number}")):
        number += 1
    return path.rename(aside)


def finite_or_none(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not have, by None.

    Examples:
        >>> finite_or_none({"low": float("nan"), "values": [1.0]})
        {'low': None, 'values': [1.0]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    return value
