"""What a result rests on: the files, parts and packages that its trial used, as they were when they were loaded.

Of what was loaded before a trial that counts which its modules reach by their imports; what is loaded or opened while
it runs counts in any case.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from typing_extensions import TypedDict

from engram import registry
from engram.lab import loaded
from engram.lab.machine import versions
from engram.lab.reach import Reach, reach

_late: set[str] = set()  # modules that came with a trial although none of its imports says so


class Manifest(TypedDict):
    """What a result rests on.

    ``files`` by name (``"engram/registry.py"``, ``"$ENGRAM_DATA/..."``, or a path) with the SHA-256 of what was loaded,
    empty where nobody knows that any more; ``parts`` by kind and name with the object registered as such; ``packages``
    with their versions.
    """

    files: dict[str, str]
    parts: dict[str, str]
    packages: dict[str, str]


class Use:
    """What a trial uses, from now on.

    Args:
        roots: The modules that it begins with; those of the laboratory that perform it come by themselves.
        main: The script that it was started from, where that is not the ``__main__`` of this process.
    """

    def __init__(self, roots: Collection[str], main: Mapping[str, str] | None = None) -> None:
        self._before = frozenset(loaded.modules())
        self._main = dict(main or {})
        self._roots = frozenset(roots) | {"engram.lab.job"}
        if self._main:  # it goes along by value, so that nobody sees what it imports
            self._roots |= {name for name in self._before if not name.startswith(loaded.SHOWING)}
        loaded.lately.clear()
        registry.forget_references()
        self._reach()

    def manifest(self) -> Manifest:
        """All that it has used so far."""
        reached = self._reach()
        files = {**reached.files, **self._main}
        for path, stamp in list(loaded.opened.items()):
            counts = path in loaded.lately or loaded.openers[path] & reached.modules
            if counts and path not in loaded.sources and (now := loaded.stamp_of(path)):
                name = loaded.name_of_file(path, min(loaded.openers[path]))
                files[name] = loaded.digest_of(path, stamp) if now == stamp else ""
        return {"files": files, "parts": reached.parts, "packages": reached.packages}

    def _reach(self) -> Reach:
        asked = frozenset(registry.resolved.items())
        state = loaded.state()
        came = {name for name in loaded.modules().keys() - self._before if not name.startswith(loaded.SHOWING)}
        _late.update(came - reach(self._roots, state, asked).modules)
        reached = reach(self._roots | _late | came, state, asked)
        for path, module in reached.texts.items():  # which may be loaded.opened by what Python does not hear
            if path not in loaded.lately | loaded.written and (stamp := loaded.stamp_of(path)):
                loaded.opened[path] = stamp
                loaded.lately.add(path)
                loaded.openers.setdefault(path, set()).add(module)
        return reached


class Present:
    """Files, parts and packages as a trial that began now would find them; each is looked at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def differs(self, manifest: Manifest) -> str:
        """Say what of a manifest is not what it was; nothing where all is."""
        if not self._known:
            loaded.forget_modules()
            self._known |= {("files", name): digest for name, digest in loaded.digests().items()}
        for kind, recorded in manifest.items():
            for name, was in recorded.items():  # type: ignore[attr-defined]
                now = self._known.get((kind, name))
                if now is None:
                    now = self._known[kind, name] = _now(kind, name)
                if now != was or not was:
                    return f"{name} was edited" if kind == "files" else f"{name} is {now or 'gone'}, and was {was}"
        return ""


def _now(kind: str, name: str) -> str:
    if kind == "files":
        top = name.partition("/")[0].partition(".")[0]
        return loaded.digest_on_disk(os.path.expandvars(name) if name[0] in "/$" else f"{loaded.place_of(top)}/{name}")
    if kind == "parts":
        of, _, registered = name.partition(" ")
        return " and ".join(registry.places(of, registered))
    with suppress(PackageNotFoundError):
        return versions().get(name) or version(name)
    return ""
