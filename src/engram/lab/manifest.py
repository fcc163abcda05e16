"""What a result depends on: the files, parts and packages that its trial used, as they were when they were loaded.

A file that was loaded before the trial counts if the trial's modules reach it by imports; a file that is loaded or
opened while the trial runs always counts.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from typing_extensions import TypedDict

from engram import registry
from engram.lab import loaded
from engram.lab.machine import versions
from engram.lab.reach import Reach, reach

_late: set[str] = set()  # modules loaded during a trial that its imports do not show


class Manifest(TypedDict):
    """The files, parts and packages that a result depends on.

    ``files`` has the SHA-256 of each file as loaded, empty if it is no longer known, by the name of the file
    (``"engram/registry.py"``, ``"$ENGRAM_DATA/..."``, or a path), and that of the names in each folder that was listed
    (``"mine/data/"``). ``parts`` has the registered objects by kind and name, ``packages`` the versions.
    """

    files: dict[str, str]
    parts: dict[str, str]
    packages: dict[str, str]


class Use:
    """A record of what a trial uses from now on.

    Args:
        roots: The modules that it starts from; the laboratory's own are added.
        main: The script that it was started from, if that is not the ``__main__`` of this process.
        texts: Strings of its settings, which may be paths of files.
    """

    def __init__(
        self, roots: Collection[str], main: Mapping[str, str] | None = None, texts: Collection[str] = ()
    ) -> None:
        self._texts = {str(Path(text).absolute()): min(roots, default="") for text in texts}
        self._before = frozenset(loaded.modules())
        self._main = dict(main or {})
        self._roots = frozenset(roots) | {"engram.lab.job"}
        if self._main:  # it was pickled by value, so its imports are unknown
            self._roots |= {name for name in self._before if not name.startswith(loaded.SHOWING)}
        loaded.lately.clear()
        loaded.written.clear()  # what an earlier trial wrote, this one reads as input
        registry.forget_references()
        self._reach()

    def manifest(self) -> Manifest:
        """Everything used so far."""
        reach_of_trial = self._reach()
        files = {**reach_of_trial.files, **self._main}
        for path, stamp in list(loaded.opened.items()):
            is_used = path in loaded.lately or loaded.openers[path] & reach_of_trial.modules
            if is_used and path not in loaded.sources and (current_stamp := loaded.stamp_of(path)):
                name = loaded.name_of_file(path, min(loaded.openers[path]))
                files[name] = loaded.digest_of(path, stamp) if current_stamp == stamp else ""
        for path in list(loaded.listed):
            is_used = path in loaded.lately or loaded.openers[path] & reach_of_trial.modules
            if is_used and (names := loaded.listing(path)):
                files[f"{loaded.name_of_file(path, min(loaded.openers[path]))}/"] = names
        return {"files": files, "parts": reach_of_trial.parts, "packages": reach_of_trial.packages}

    def _reach(self) -> Reach:
        resolved_parts = frozenset(registry.resolved.items())
        state = loaded.state()
        new_modules = {name for name in loaded.modules().keys() - self._before if not name.startswith(loaded.SHOWING)}
        _late.update(new_modules - reach(self._roots, state, resolved_parts).modules)
        reach_of_trial = reach(self._roots | _late | new_modules, state, resolved_parts)
        for pattern, module in {**reach_of_trial.texts, **self._texts}.items():
            # A library may open these files without Python's audit hook noticing.
            paths = glob.glob(pattern) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207
            for path in {*paths, pattern} - loaded.lately - loaded.written:
                if stamp := loaded.stamp_of(path):
                    loaded.opened[path] = stamp
                    loaded.lately.add(path)
                    loaded.named.add(path)
                    loaded.openers.setdefault(path, set()).add(module)
        return reach_of_trial


class Present:
    """The current state of files, parts and packages, each looked up once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def differs(self, manifest: Manifest) -> str:
        """Say what has changed since a manifest was written; the empty string if nothing has."""
        if not self._known:
            loaded.forget_modules()
            self._known |= {("files", name): digest for name, digest in loaded.digests().items()}
        for kind, recorded in manifest.items():
            for name, old in recorded.items():  # type: ignore[attr-defined]
                current = self._known.get((kind, name))
                if current is None:
                    current = self._known[kind, name] = _now(kind, name)
                if current != old or not old:
                    return f"{name} was edited" if kind == "files" else f"{name} is {current or 'gone'}, and was {old}"
        return ""


def _now(kind: str, name: str) -> str:
    if kind == "files":
        top = name.partition("/")[0].partition(".")[0]
        path = os.path.expandvars(name) if name[0] in "/$" else f"{loaded.place_of(top)}/{name}"
        return loaded.listing(path) if name.endswith("/") else loaded.digest_on_disk(path)
    if kind == "parts":
        part_kind, _, part_name = name.partition(" ")
        return " and ".join(registry.places(part_kind, part_name))
    with suppress(PackageNotFoundError):
        return versions().get(name) or version(name)
    return ""
