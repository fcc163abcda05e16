"""Numba functions that are cached on disk, and recompiled when any of their source files changes."""

from __future__ import annotations

import ast
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numba
from numba.core.event import Event, Listener, install_listener, register
from numba.core.registry import CPUDispatcher

from engram.numeric.imports import imports


class _Inlined(CPUDispatcher):
    """A function for kernels, with no entry for callers in Python; if there is one after all, it is compiled anew."""

    @cached_property
    def _entry(self) -> CPUDispatcher:
        return CPUDispatcher(self.py_func, targetoptions={**self.targetoptions, "no_cpython_wrapper": False})

    def __call__(self, *args: Any) -> Any:
        return self._entry(*args)


def inline(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """A function that is compiled into the kernels that call it, and not at once for callers in Python and in C too.

    Without such entries a kernel of many functions takes a fifth less time to compile.

    Args:
        function: The function; None: a decorator with these options is returned.
        **options: Further options of ``numba.njit``; without ``forceinline`` LLVM decides whether it is worth it.
    """
    if function is None:
        return partial(inline, **options)
    fixed = {"nopython": True, "boundscheck": None, "forceinline": True, "error_model": "numpy"}
    return _Inlined(function, targetoptions={**fixed, "no_cfunc_wrapper": True, "no_cpython_wrapper": True, **options})


@inline
def copy(source, target):  # type: ignore[no-untyped-def]
    """Copy a vector; ``target[:] = source`` would take numba two seconds more to compile, mostly its error message."""
    for i in range(source.size):
        target[i] = source[i]


def njit(function: Callable[..., Any] | None = None, *, cache: bool = False, **options: Any) -> Any:
    """``numba.njit``, whose functions are compiled anew in each process where nothing can be written for a cache.

    Args:
        function: The function; None: a decorator with these options is returned.
        cache: Whether compiled versions are cached on disk, where a folder for them can be written.
        **options: Further options of ``numba.njit``.
    """
    if function is None:
        return partial(njit, cache=cache, **options)
    compiled = numba.njit(function, **options)
    if cache:
        with suppress(RuntimeError, OSError):  # a read-only installation and home, as in many containers
            compiled.enable_caching()
            save = compiled._cache.save_overload

            def save_if_possible(*arguments: Any) -> None:
                with suppress(OSError):  # the disk is full, or was made read-only since
                    save(*arguments)

            compiled._cache.save_overload = save_if_possible
    return compiled


def cache_folder() -> Path | None:
    """The folder of compiled functions; None if none can be written."""
    return Path(path) if (path := getattr(njit(_nothing, cache=True)._cache, "cache_path", None)) else None


def _nothing() -> None: ...


def jit(function: Callable[..., None], **options: Any) -> Any:
    """A compiled function that releases the global interpreter lock and is cached on disk.

    numba considers a cached version up to date while the function's own file is unchanged; here it also depends on all
    files of the package that the file imports, since the kernel depends on them.

    Args:
        function: The function, compiled at its first call with each combination of argument types.
        **options: Further options of ``numba.njit``.
    """
    fixed = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}  # C calls none of them
    compiled = njit(function, **{**fixed, **options})
    file = getattr(compiled._cache, "_cache_file", None)  # None if no folder is writable
    if file is not None:
        path = Path(function.__code__.co_filename).resolve()
        file._source_stamp = (file._source_stamp, _sources(path))
    return compiled


def is_any_compiled() -> bool:
    """Whether an earlier process of this version of Python left a compiled function on disk."""
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or Path(__file__).parents[1])
    return any(folder.rglob(f"*.py{sys.version_info.major}{sys.version_info.minor}*.nbi"))


@contextmanager
def on_compile(callback: Callable[[], None]) -> Iterator[None]:
    """A context in which ``callback`` is called whenever the compilation of a function begins."""

    class CompileListener(Listener):
        def on_start(self, event: Event) -> None:
            callback()

        def on_end(self, event: Event) -> None: ...

    _Told.by_others += 1
    try:
        with install_listener("numba:compile", CompileListener()):
            yield
    finally:
        _Told.by_others -= 1


class _Told(Listener):
    """Says once in a process that kernels are compiled, unless ``on_compile`` tells somebody already."""

    by_others = 0
    is_done = False

    def on_start(self, event: Event) -> None:
        function = getattr(event.data.get("dispatcher"), "py_func", None)
        if _Told.is_done or _Told.by_others or not str(getattr(function, "__module__", "")).startswith("engram."):
            return
        _Told.is_done = True
        later = "find them" if cache_folder() else "compile them again, since no folder for them can be written"
        logging.getLogger("engram").warning(
            f"engram compiles kernels for this processor, which takes up to half a minute; later processes {later}"
        )

    def on_end(self, event: Event) -> None: ...


register("numba:compile", _Told())  # type: ignore[no-untyped-call]


@cache
def _sources(file: Path) -> int:
    """A checksum of a file and of all files of its package that it imports, directly or through other kernels."""
    root = next(parent for parent in file.parents if not (parent / "__init__.py").exists())
    contents: dict[Path, bytes] = {}
    pending = [file]
    while pending:
        path = pending.pop()
        if path not in contents:
            contents[path] = path.read_bytes()
            if b"jit" in contents[path]:  # a file without jit only defines constants; what it imports does not matter
                pending += _imported(root, path, contents[path])
    return crc32(b"".join(contents[path] for path in sorted(contents)))


def _imported(root: Path, path: Path, source: bytes) -> list[Path]:
    """The files below ``root`` that a source imports."""
    package = ".".join(path.relative_to(root).parts[:-1])
    nodes = ast.walk(ast.parse(source))
    imported = [(root.joinpath(*module.split(".")), name) for module, name in imports(nodes, package)]
    files = [(_file(base / name) if name else None) or _file(base) for base, name in imported]
    return [file for file in files if file is not None]


def _file(module: Path) -> Path | None:
    choices = (module.with_name(f"{module.name}.py"), module / "__init__.py")
    return next((file for file in choices if file.is_file()), None)
