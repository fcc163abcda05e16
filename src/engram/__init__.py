"""Brain-inspired learning for PyTorch: every part an ordinary object, what papers say as claims to run.

Examples:
    >>> import engram
    >>> "pattern-completion" in engram.experiments()
    True
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from engram.distribution import REPAIR, other_engram
from engram.version import __version__

if TYPE_CHECKING:
    from engram import (
        agents,
        analysis,
        continual,
        generative,
        lab,
        learned,
        memory,
        meta,
        nn,
        numeric,
        optim,
        plasticity,
        registry,
        rules,
        spatial,
        tasks,
        testing,
        verify,
    )
    from engram.lab import Results, judge, load, recorded, run, sweep
    from engram.registry import experiments
    from engram.studies.standings import compare

__all__ = [
    "Results",
    "__version__",
    "agents",
    "analysis",
    "compare",
    "continual",
    "experiments",
    "generative",
    "judge",
    "lab",
    "learned",
    "load",
    "memory",
    "meta",
    "nn",
    "numeric",
    "optim",
    "plasticity",
    "recorded",
    "registry",
    "rules",
    "run",
    "spatial",
    "sweep",
    "tasks",
    "testing",
    "verify",
]

if _other := other_engram():
    warnings.warn(f"{_other} is another project, installed over the same files as engram-torch: {REPAIR}", stacklevel=2)

# PEP 562: `import engram` costs milliseconds; torch is loaded by the first part that is used.
_WHERE = {
    **dict.fromkeys(("Results", "judge", "load", "recorded", "run", "sweep"), "engram.lab"),
    "compare": "engram.studies.standings",
    "experiments": "engram.registry",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'engram' has no attribute {name!r}")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    return importlib.import_module(f"engram.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
