"""What a trial ran on: versions, processor, memory, accelerator."""

from __future__ import annotations

import functools
import os
import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path, PurePosixPath

import llvmlite.binding
import psutil
from packaging.requirements import Requirement
from threadpoolctl import threadpool_info

from engram.distribution import DISTRIBUTION

COMPUTING = ("python", "engram", "torch", "numpy", "scipy", "numba", "scikit-learn", "gymnasium")
"""Packages that compute: another version may give other numbers."""
PACKAGES = ("engram", "torch", "numpy", "scipy", "numba", "scikit-learn", "gymnasium", "joblib", "polars", "plotly")


@functools.cache
def versions() -> dict[str, str]:
    """The versions of Python and of the packages that can affect a result."""
    names = {package: DISTRIBUTION if package == "engram" else package for package in PACKAGES}
    package_versions = {
        package: version(name) if _installed(name) else "not installed" for package, name in names.items()
    }
    return {"python": platform.python_version(), **package_versions}


@functools.cache
def hardware() -> dict[str, str | int | float]:
    """System, processor, cores, memory (GiB), accelerator, and the targets of kernels and BLAS."""
    import torch

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "kernels": llvmlite.binding.get_host_cpu_name(),
        "blas": ", ".join(
            sorted({str(pool.get("architecture")) for pool in threadpool_info() if "architecture" in pool})
        ),
    }


def cores() -> int:
    """The number of cores that this process may use."""
    import joblib

    return int(joblib.cpu_count())


def memory() -> float:
    """The bytes of memory that this process may use: the machine's, or a smaller limit of its container or batch job.

    Such a limit is one of a control group of Linux that the process is in, or of a group around it.
    """
    own = Path("/proc/self/cgroup")
    files = limit_files(own.read_text(encoding="utf-8")) if own.exists() else []
    texts = [path.read_text(encoding="ascii").strip() for path in files if path.exists()]
    return float(min([psutil.virtual_memory().total, *(int(text) for text in texts if text.isdigit())]))


def limit_files(groups: str) -> list[Path]:
    """Where the limits of memory of a process's control groups stand, of which not all need exist.

    Args:
        groups: The text of ``/proc/self/cgroup``: a line for each group, as ``number:controllers:path``; no controllers
            mean version 2.

    Examples:
        >>> [str(path) for path in limit_files("0::/job")]
        ['/sys/fs/cgroup/job/memory.max', '/sys/fs/cgroup/memory.max']
    """
    files = []
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup/memory" if controllers else "/sys/fs/cgroup")
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        # In a container the path may be that of the host, which is not there; the group's own limit is in the root.
        group = PurePosixPath(path.lstrip("/"))
        files += [root / around / name for around in (group, *group.parents)]
    return files


def gpu_places(device: str = "cuda", share: float = 1.0) -> list[str]:
    """The places for trials on the GPUs that this process may use, each as a value of ``CUDA_VISIBLE_DEVICES``.

    Args:
        device: ``"cuda"``, or one of the GPUs, as in ``"cuda:1"``.
        share: The number of GPUs that a trial needs: a whole number, or a fraction, if several trials share one.

    Examples:
        Two GPUs, on each of which two trials run: ``["0", "1", "0", "1"]``.
    """
    import torch

    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = shown.split(",") if shown else [str(number) for number in range(torch.cuda.device_count())]
    if ":" in device:
        names = [names[int(device.partition(":")[2])]]
    size = max(int(share), 1)
    several = [",".join(names[first : first + size]) for first in range(0, len(names) - size + 1, size)]
    return several * max(int(1 / share), 1)


def missing_extras() -> dict[str, list[str]]:
    """The extras of engram that are not fully installed, with the missing packages."""
    packages_by_extra: dict[str, list[str]] = {}
    requirements = [Requirement(text) for text in requires(DISTRIBUTION) or ()]
    for extra in metadata(DISTRIBUTION).get_all("Provides-Extra") or ():
        for requirement in requirements:
            marker = requirement.marker
            if marker is not None and marker.evaluate({"extra": extra}) and not _installed(requirement.name):
                packages_by_extra.setdefault(extra, []).append(requirement.name)
    return packages_by_extra


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")  # on Linux
    for line in cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
