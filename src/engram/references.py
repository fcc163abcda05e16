"""References, which give a part by its place: ``"package.module:Name"`` or ``"folder/file.py:Name"``."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import pkgutil
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from engram.errors import message_of


def is_reference(name: str) -> bool:
    """Whether a name is a reference to the place of a part."""
    return ":" in name


def place_of(reference: str) -> str:
    """A reference with the module's name in place of its file's path."""
    place, _, attribute = reference.rpartition(":")
    return f"{_module_name(Path(place)) if place.endswith('.py') else place}:{attribute}"


def load(reference: str) -> Any:
    """Load the part that a reference names.

    Raises:
        ValueError: There is no such module, it has no such name, or its code raises an error.
    """
    place, _, attribute = reference.rpartition(":")
    try:
        module = _module_of_file(Path(place)) if place.endswith(".py") else pkgutil.resolve_name(f"{place}:")
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        is_absent = place.endswith(".py") and not Path(place).exists()
        is_no_module = frames[-1].filename == pkgutil.__file__  # of a name that no module can have
        if is_absent or is_no_module or f"{place}.".startswith(f"{getattr(error, 'name', '')}."):
            raise ValueError(f"{reference!r}: {error}; expected 'module:Name' or 'file.py:Name'") from error
        innermost = [frame for frame in frames if frame.filename == str(Path(place).resolve())][-1:] or frames[-1:]
        location = "" if isinstance(error, SyntaxError) else f" ({innermost[0].filename}, line {innermost[0].lineno})"
        raise ValueError(f"{reference!r} cannot be loaded: {message_of(error)}{location}") from error
    part = module
    for name in attribute.split("."):
        if not hasattr(part, name):
            defined = [member for member in vars(module) if not member.startswith("_")]
            nearest = difflib.get_close_matches(name, defined, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"{reference!r}: {place} has no {attribute!r}{hint}")
        part = getattr(part, name)
    return part


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
        sys.path.append(str(full_path.parent))  # it may import its neighbours
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
