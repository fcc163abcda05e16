"""The published systems as experiments, a file or a folder each; calling the package lists them, and others' with them.

The registry looks an experiment up by name. Only experiments import from another one, and from ``reinforcement``.
"""

import sys
from types import ModuleType

from engram import registry


class _Listing(ModuleType):
    """A package that can be called, since ``engram.experiments()`` and this package share their name."""

    def __call__(self) -> list[str]:
        return registry.experiments()


sys.modules[__name__].__class__ = _Listing
