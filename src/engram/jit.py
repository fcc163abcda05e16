"""Numba functions that are kept on disk, and made anew when any file changes of which they are made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from numba import njit
from numba.core.event import Event, Listener, install_listener

inline = njit(forceinline=True, error_model="numpy")
"""A function that becomes part of those that call it."""


def jit(function: Callable[..., None], **options: Any) -> Any:
    """Return a compiled function that holds no lock of the interpreter, and is kept on disk.

    Whether what is on disk is still good numba decides by a function's own file; here it is by all files of its folder
    ``kernels``, and by ``engram.simd``, from which a kernel takes what it is made of.

    Args:
        function: What is compiled at its first call, for every combination of types.
        **options: As of ``numba.njit``.
    """
    compiled = njit(function, cache=True, nogil=True, error_model="numpy", **options)
    file = getattr(compiled._cache, "_cache_file", None)  # none where there is nowhere to write
    if file is not None:
        own = Path(function.__code__.co_filename).resolve()
        folder = next((parent for parent in own.parents if parent.name == "kernels"), own.parent)
        file._source_stamp = (file._source_stamp, _sources(folder))
    return compiled


def are_kept() -> bool:
    """Return whether any compiled function is on disk yet, where an earlier process left it."""
    return any(Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parent).rglob("*.nbi"))


@contextmanager
def telling(tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell`` when a function begins to be compiled within the block."""

    class Teller(Listener):
        def on_start(self, event: Event) -> None:
            tell()

        def on_end(self, event: Event) -> None: ...

    with install_listener("numba:compile", Teller()):
        yield


@cache
def _sources(folder: Path) -> int:
    """Return what changes with any file of a folder."""
    vectors = Path(__file__).with_name("simd.py")
    return crc32(b"".join(path.read_bytes() for path in (vectors, *sorted(folder.rglob("*.py")))))
