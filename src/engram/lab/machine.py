"""What a trial ran on: versions, processor, memory, accelerator."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import psutil

PACKAGES = (
    "engram",
    "torch",
    "numpy",
    "scipy",
    "numba",
    "scikit-learn",
    "gymnasium",
    "joblib",
    "polars",
    "plotly",
)
EXTRAS = {
    "rl": ("ale_py", "minigrid"),
    "ray": ("ray",),
    "tensorboard": ("tensorboard",),
    "docs": ("mkdocs", "material", "mkdocstrings"),
    "dev": ("beartype", "hypothesis", "importlinter", "mypy", "playwright", "pytest"),
}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can bear on a result.

    Examples:
        >>> "torch" in versions()
        True
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@functools.cache
def hardware() -> dict[str, str | int | float]:
    """Return system, processor, cores, memory (GiB) and accelerator of this machine.

    Examples:
        >>> hardware()["cores"] >= 1
        True
    """
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def cores() -> int:
    """Return how many cores this process may use.

    Examples:
        >>> cores() >= 1
        True
    """
    import joblib

    return int(joblib.cpu_count())


def missing_extras() -> dict[str, list[str]]:
    """Return the extras of engram that are not wholly installed, with the modules that are missing."""
    missing = {
        extra: [module for module in modules if importlib.util.find_spec(module) is None]
        for extra, modules in EXTRAS.items()
    }
    return {extra: modules for extra, modules in missing.items() if modules}


def _processor() -> str:
    if platform.system() == "Linux" and os.path.exists("/proc/cpuinfo"):  # noqa: PTH110
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
