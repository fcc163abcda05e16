"""Numba functions that are compiled once a machine: one process compiles, the others wait and load the result."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from filelock import FileLock, Timeout
from numba import njit

PATIENCE = 120.0  # seconds to wait for another process; then this one compiles as well

inline = njit(forceinline=True, error_model="numpy")
"""A function that becomes part of those that call it."""


def jit(function: Callable[..., None], **options: Any) -> Any:
    """Return a compiled function without the interpreter's lock, kept on disk.

    Numba looks at a function's own file when it decides whether what is on disk is still good; here it looks at all
    files of its folder ``kernels``, from which a kernel takes what it is made of. And where two processes need a
    function at once, the second waits for the first.

    Args:
        function: What is compiled at its first call, for every combination of types.
        **options: As of ``numba.njit``.

    Examples:
        >>> jit(lambda x: x + 1)(1)
        2
    """
    compiled = njit(function, cache=True, nogil=True, error_model="numpy", **options)
    file = getattr(compiled._cache, "_cache_file", None)
    if file is not None:  # nowhere to write: then numba keeps nothing, and there is nothing to wait for
        folder = Path(function.__code__.co_filename).resolve()
        kernels = next((parent for parent in folder.parents if parent.name == "kernels"), folder.parent)
        file._source_stamp = (file._source_stamp, _sources(kernels))
        compiled.compile = _alone(compiled.compile, Path(compiled._cache.cache_path) / f"{function.__qualname__}.lock")
    return compiled


@cache
def _sources(folder: Path) -> int:
    """Return what changes with any file of a folder."""
    return crc32(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py"))))


def _alone(compile_: Callable[[Any], Any], path: Path) -> Callable[[Any], Any]:
    """Return a compiler that first looks on disk, as what one process does at a time."""

    def call(signature: Any) -> Any:
        lock = FileLock(path)
        with suppress(Timeout, OSError):
            lock.acquire(timeout=PATIENCE)
        try:
            return compile_(signature)
        finally:
            lock.release()

    return call
