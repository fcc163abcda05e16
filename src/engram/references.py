"""References, which give a part by its place: ``"package.module:Name"`` or ``"folder/file.py:Name"``."""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from engram.errors import message_of

F = TypeVar("F", bound=Callable[..., Any])
MOVED = {"engram.experiments.": "engram.studies.experiments."}
"""Where modules are today that the settings of records and of earlier runs name as they were called then."""
_digests: dict[str, str] = {}  # of the files that were loaded as modules, by the names of these
_loading: list[str] = []  # the references that are being loaded, the innermost last
_caches: list[Any] = []


def is_reference(name: str) -> bool:
    """Whether a name is a reference to the place of a part."""
    return ":" in name


def place_of(reference: str) -> str:
    """A reference with the module's name in place of its file's path."""
    place, _, attribute = reference.rpartition(":")
    return f"{_module_name(Path(place)) if place.endswith('.py') else _name_today(place)}:{attribute}"


def files_of(modules: Iterable[str]) -> tuple[str, ...]:
    """The files of the modules that were loaded by their place, which another process can import in no other way."""
    files = ((name, getattr(sys.modules.get(name), "__file__", None) or "") for name in modules)
    return tuple(file for name, file in files if file.endswith(".py") and _module_name(Path(file)) == name)


def load(reference: str) -> Any:
    """Load the part that a reference names.

    Raises:
        ValueError: There is no such module, it has no such name, or its code raises an error.
    """
    place, _, attribute = reference.rpartition(":")
    _loading.append(reference)
    try:
        module = (
            _module_of_file(Path(place)) if place.endswith(".py") else pkgutil.resolve_name(f"{_name_today(place)}:")
        )
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        is_absent = place.endswith(".py") and not Path(place).exists()
        is_no_module = frames[-1].filename == pkgutil.__file__  # of a name that no module can have
        if is_absent or is_no_module or f"{place}.".startswith(f"{getattr(error, 'name', '')}."):
            raise ValueError(f"{reference!r}: {error}; expected 'module:Name' or 'file.py:Name'") from error
        innermost = [frame for frame in frames if frame.filename == str(Path(place).resolve())][-1:] or frames[-1:]
        location = "" if isinstance(error, SyntaxError) else f" ({innermost[0].filename}, line {innermost[0].lineno})"
        raise ValueError(f"{reference!r} cannot be loaded: {message_of(error)}{location}") from error
    finally:
        _loading.pop()
    part = module
    for name in attribute.split("."):
        if not hasattr(part, name):
            defined = [member for member in vars(module) if not member.startswith("_")]
            nearest = difflib.get_close_matches(name, defined, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"{reference!r}: {place} has no {attribute!r}{hint}")
        part = getattr(part, name)
    return part


def reload_edited(reference: str) -> None:
    """Load the file that a reference names again if it was edited since this process loaded it, as in a notebook.

    Only what starts something calls this, so that everything in it has one source. The modules that the file imports
    are not loaded again.
    """
    place = reference.rpartition(":")[0]
    path = Path(place).resolve()
    name = _module_name(path)
    if name in _digests and place.endswith(".py") and _digest(path) not in ("", _digests[name]):
        sys.modules.pop(name, None)
        # Python compares only the size of the source and the second of its last change.
        with suppress(OSError):
            Path(importlib.util.cache_from_source(str(path))).unlink()
        for function in _caches:
            function.cache_clear()
        load(reference)


def cached(function: F) -> F:
    """``functools.cache`` for a function of a reference, which forgets its values if a file is loaded again."""
    function_with_cache: Any = functools.cache(function)
    _caches.append(function_with_cache)
    return function_with_cache  # type: ignore[no-any-return]


def refuse_while_loading(function: str) -> None:
    """Raise ValueError if a file or module is being loaded, of which a script would start itself again and again.

    Args:
        function: The name of the function that was called.
    """
    if _loading:
        place = _loading[-1].rpartition(":")[0]
        raise ValueError(
            f"{place} calls {function} while it is imported, which every worker process does too; "
            "call it below: if __name__ == '__main__':"
        )


def _name_today(module: str) -> str:
    """The name of a module, of which an earlier one may be given."""
    return next((MOVED[old] + module.removeprefix(old) for old in MOVED if module.startswith(old)), module)


def _module_name(path: Path) -> str:
    """The unique name under which a file is imported as a module."""
    return f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"


def _module_of_file(path: Path) -> ModuleType:
    """A file as a module, imported once."""
    full_path, name = path.resolve(), _module_name(path)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, full_path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        _digests[name] = _digest(full_path)
        if str(full_path.parent) not in sys.path:
            sys.path.append(str(full_path.parent))  # it may import its neighbours
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _digest(path: Path) -> str:
    """The SHA-256 of a file; empty if it cannot be read."""
    with suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""
