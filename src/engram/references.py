"""Parts that are named by where they are, as ``"package.module:Name"`` or ``"folder/file.py:Name"``."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def is_reference(name: str) -> bool:
    """Whether a name says where a part is."""
    return ":" in name


def place_of(reference: str) -> str:
    """A reference with the name of the module in the place of its file."""
    place, _, attribute = reference.rpartition(":")
    return f"{_module_name(Path(place)) if place.endswith('.py') else place}:{attribute}"


def load(reference: str) -> Any:
    """The part that a reference leads to.

    Raises:
        ValueError: There is no such module, or it has no such name.
    """
    place, _, attribute = reference.rpartition(":")
    try:  # by `resolve_name`, since what `import_module` may load is all, to whoever reads what a trial rests on
        module = _module_of_file(Path(place)) if place.endswith(".py") else pkgutil.resolve_name(f"{place}:")
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise ValueError(f"{reference!r}: {error}; expected 'module:Name' or 'file.py:Name'") from error
    part = module
    for name in attribute.split("."):
        if not hasattr(part, name):
            defined = [known for known in vars(module) if not known.startswith("_")]
            nearest = difflib.get_close_matches(name, defined, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"{reference!r}: {place} has no {attribute!r}{hint}")
        part = getattr(part, name)
    return part


def _module_name(path: Path) -> str:
    """The name under which the module that a file is gets imported, which no other file has."""
    return f"{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"


def _module_of_file(path: Path) -> ModuleType:
    """The module that a file is, imported once."""
    whole, name = path.resolve(), _module_name(path)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, whole)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        sys.path.append(str(whole.parent))  # what it imports may lie beside it
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
