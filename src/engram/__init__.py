"""Brain-inspired learning for PyTorch: every part an ordinary object, every published claim a command.

Examples:
    >>> import engram
    >>> "pattern-completion" in engram.experiments()
    True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from engram.version import __version__

if TYPE_CHECKING:
    from engram import lab, plasticity, registry, tasks, testing
    from engram.lab import Results, load, run
    from engram.registry import experiments

__all__ = ["Results", "__version__", "experiments", "lab", "load", "plasticity", "registry", "run", "tasks", "testing"]

# PEP 562: `import engram` costs milliseconds; torch is loaded by the first part that is used.
_WHERE = {"Results": "engram.lab", "load": "engram.lab", "run": "engram.lab"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'engram' has no attribute {name!r}")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    return importlib.import_module(f"engram.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
