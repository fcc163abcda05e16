"""The files that this process has loaded and opened, and the folders it has listed, recorded by an audit hook."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
import stat
import struct
import sys
import sysconfig
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from engram import registry

SHOWING = ("engram.lab.", "engram.cli")
"""Modules that only read and show the folders of runs: no trial computes with them."""
_OWN = ("engram.lab", "engram.cli", "engram.storage", "engram.registry", "engram.numeric")
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_APART = re.compile(
    r"^(<|$)|/(site|dist)-packages/(?!engram/)|\.(dist|egg)-info/|^/(proc|sys|dev)/|__pycache__/[^/]*(?<!\.pyc)$"
)
_STARTED = psutil.Process().create_time() + 1.0  # known only to whole seconds
Stamp = tuple[int, ...]


class Source(NamedTuple):
    """A source as it was loaded, and its SHA-256, which is empty if the file may have been edited since."""

    text: bytes
    digest: str


# All keyed by path.
sources: dict[str, Source] = {}
opened: dict[str, Stamp] = {}  # files opened for reading, with their stamps at the time
listed: set[str] = set()  # folders whose content was listed
openers: dict[str, set[str]] = {}  # the modules that opened each file or listed each folder
lately: set[str] = set()  # files opened and folders listed since a trial began
named: set[str] = set()  # files that a string of a module or setting names, and that nothing has opened for reading
written: set[str] = set()
_loads: list[str] = []  # the paths of sources, each time they were loaded


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if event not in _HEARD or not args:
        return
    paths_in_arguments = _paths_in_command(*args) if event == "subprocess.Popen" else args[:1]
    for argument in paths_in_arguments:
        if isinstance(argument, str | bytes | os.PathLike) and argument:
            path = str(Path(os.fsdecode(argument)).absolute())
            with suppress(OSError, ValueError):
                if event in _LISTING:
                    _hear_listing(path)
                else:
                    _hear_open(path, args[2] if event == "open" else os.O_RDONLY)


_LISTING = ("os.listdir", "os.scandir")
_HEARD = {"open", "ctypes.dlopen", "sqlite3.connect", "subprocess.Popen", *_LISTING}


_SYSTEM = ("/bin/", "/usr/", sys.prefix)


def _paths_in_command(program: Any, arguments: Any, folder: Any, _: Any) -> list[str]:
    """The paths that a command line may name, relative to its working directory; without those of system programs."""
    words = [arguments] if isinstance(arguments, str | bytes | os.PathLike) else [*arguments]
    try:
        paths = [os.path.join(os.fsdecode(folder or ""), os.fsdecode(word)) for word in words]  # noqa: PTH118
    except TypeError:
        return []
    return [path for path in paths if not path.startswith(_SYSTEM)]


def _hear_listing(path: str) -> None:
    """Record a folder that a module lists, by itself or through the standard library."""
    frame: Any = sys._getframe(2)
    if frame.f_code.co_filename.startswith("<frozen importlib") or _is_apart(f"{path}/"):
        return
    while frame is not None and _is_standard(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None or _is_apart(frame.f_code.co_filename) or (opener := _module(frame)).startswith(_OWN):
        return
    listed.add(path)
    lately.add(path)
    openers.setdefault(path, set()).add(opener)


def listing(path: str) -> str:
    """The SHA-256 of the names in a folder, without hidden ones and compiled code; empty if there is no folder."""
    with suppress(OSError):
        names = sorted(name for name in os.listdir(path) if name[0] != "." and name != "__pycache__")  # noqa: PTH208
        return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
    return ""


def _hear_open(path: str, flags: int) -> None:
    if _is_apart(path):
        return
    frame: Any = sys._getframe(2)
    if frame.f_code.co_filename == "<frozen importlib._bootstrap_external>" and path.endswith((".py", ".pyc")):
        compiled, path = path, importlib.util.source_from_cache(path) if path.endswith(".pyc") else path
        # If an edit within the same second left the size unchanged, Python mistakes the old .pyc file for current.
        is_current = Path(compiled).stat().st_mtime_ns >= Path(path).stat().st_mtime_ns
        text = Path(path).read_bytes()
        sources[path] = Source(text, hashlib.sha256(text).hexdigest() if is_current else "")
        _loads.append(path)
        return
    while frame is not None and (_is_apart(frame.f_code.co_filename) or _module(frame).startswith("engram.storage")):
        frame = frame.f_back
    opener = _module(frame) if frame is not None else ""
    if opener.startswith(SHOWING) or path.endswith(".pyc"):
        return
    if flags & (os.O_WRONLY | os.O_TRUNC):
        written.add(path)
        if path in named:  # an output that exists already
            named.discard(path)
            lately.discard(path)
            opened.pop(path, None)
    elif path not in written and (stamp := stamp_of(path)):
        named.discard(path)
        if path not in lately:  # keep the first stamp, so that a change while a trial reads the file is noticed
            opened[path] = stamp
        lately.add(path)
        openers.setdefault(path, set()).add(opener)


def _module(frame: Any) -> str:
    return str(frame.f_globals.get("__name__", ""))


@functools.cache
def _is_standard(path: str) -> bool:
    """Whether a source belongs to the standard library."""
    return path.startswith(("<frozen", *_STANDARD)) and "-packages" not in path


@functools.cache
def _is_apart(path: str) -> bool:
    """Whether a path is not a file, or belongs to the interpreter, an installed package or the operating system."""
    return _is_standard(path) or _APART.search(path) is not None


def stamp_of(path: str) -> Stamp:
    """A stamp that changes whenever a file does, without reading it; empty if there is no file."""
    with suppress(OSError, ValueError):
        status = Path(path).stat()
        if stat.S_ISREG(status.st_mode):
            return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return ()


@functools.cache
def digest_of(path: str, stamp: Stamp) -> str:
    """The SHA-256 of a file, computed once for each of its stamps."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_on_disk(path: str) -> str:
    """The SHA-256 of a file as it is now; empty if there is no file."""
    stamp = stamp_of(path)
    return digest_of(path, stamp) if stamp else ""


def state() -> tuple[int, int]:
    """A key that changes whenever a module is loaded."""
    return len(_loads), len(sys.modules)


def modules() -> dict[str, str]:
    """The paths of the loaded modules of engram, of the user and of packages that register parts, by name."""
    return _modules(state())


def forget_modules() -> None:
    """Look at the loaded modules again, even if their number has not changed."""
    _modules.cache_clear()


@functools.lru_cache(maxsize=1)
def _modules(state: tuple[int, int]) -> dict[str, str]:
    registering = {entry.module.partition(".")[0] for kind in registry.KINDS for entry in registry.entries(kind)}
    return _module_paths(registering)


def _module_paths(packages: Collection[str]) -> dict[str, str]:
    """The paths of the loaded modules of engram, the user and these packages; reads sources that the hook missed."""
    modules = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and (not _is_apart(file) or name.partition(".")[0] in packages):
            path = str(Path(file).absolute())
            if path not in sources and stamp_of(path):
                text = Path(path).read_bytes()
                sources[path] = Source(text, hashlib.sha256(text).hexdigest() if _is_as_loaded(path) else "")
            if path in sources:
                modules[name] = path
    return modules


def _is_as_loaded(path: str) -> bool:
    """Whether a file is unchanged since Python loaded it: it is older than the process, or than its .pyc file."""
    status = Path(path).stat()
    if status.st_ctime <= _STARTED:
        return True
    with suppress(OSError, NotImplementedError):
        compiled = Path(importlib.util.cache_from_source(path))
        source_header = struct.pack("<II", int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
        return compiled.read_bytes()[8:16] == source_header and compiled.stat().st_mtime_ns >= status.st_mtime_ns
    return False


def place_of(top: str) -> str | None:
    """The folder that contains a top-level package or module, found without loading it; None if there is none."""
    spec = None
    with suppress(ValueError, ImportError):
        spec = importlib.util.find_spec(top)
    paths = [] if spec is None else [*(spec.submodule_search_locations or []), spec.origin or ""]
    return str(Path(paths[0]).absolute().parent) if paths and paths[0] else None


@functools.cache
def name_of_file(path: str, module: str) -> str:
    """The name in a manifest of a module's file, or of a file that it opened; it stays valid if the folder moves.

    Raises:
        ValueError: The name is not UTF-8.
    """
    top = module.partition(".")[0]
    folder, name = place_of(top), path
    if folder is not None and path.startswith((f"{folder}/{top}/", f"{folder}/{top}.py")):
        name = str(Path(path).relative_to(folder))
    elif data := os.environ.get("ENGRAM_DATA"):
        with suppress(ValueError):
            name = f"$ENGRAM_DATA/{Path(path).relative_to(Path(data).absolute())}"
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the file {path!a} is in use: expected a name in UTF-8") from None
    return name


def script() -> dict[str, str]:
    """The SHA-256 of the script that this process runs, by name."""
    path = modules().get("__main__")
    return {} if path is None else {name_of_file(path, "__main__"): sources[path].digest}


def digests() -> dict[str, str]:
    """The SHA-256 of the files that this process has loaded, by name."""
    return {name_of_file(path, name): sources[path].digest for name, path in modules().items()}


def digests_on_disk() -> dict[str, str]:
    """The current SHA-256 of the files that this process has loaded, by name."""
    return {name_of_file(path, name): digest_on_disk(path) for name, path in modules().items()}


def check_source(module: str) -> None:
    """Raise ValueError if a trial's module has no file, as in an interactive session."""
    path = getattr(sys.modules[module], "__file__", None)
    if path is None or not stamp_of(path):
        raise ValueError(f"the trial's module {module!r} has no source file: save it to a file")


_module_paths(())
sys.addaudithook(_hear)
