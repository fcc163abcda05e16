"""A trial, one arm with one seed, named by the hash of all that determines its result."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import engram
from engram.lab import config as configs
from engram.lab.experiment import Experiment
from engram.lab.machine import versions


@dataclass(frozen=True)
class Trial:
    """One arm of an experiment with one seed.

    Attributes:
        experiment: Name of the experiment.
        version: The experiment's version.
        arm: Name of the arm.
        config: The arm's config, resolved.
        seed: The seed from which all randomness comes.
        device: ``"cpu"`` or ``"cuda"``.
        threads: Threads that it computes with.
    """

    experiment: str
    version: int
    arm: str
    config: Any
    seed: int
    device: str
    threads: int

    def identity(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return all that determines the result: this trial, the code of ``function`` and the versions under it."""
        found = versions()
        return {
            "experiment": self.experiment,
            "version": self.version,
            "arm": self.arm,
            "config": configs.to_dict(self.config),
            "seed": self.seed,
            "device": self.device,
            "threads": self.threads,
            "code": code_digest(function.__module__),
            "versions": {package: found[package] for package in ("engram", "torch", "numpy", "numba")},
        }


def key(identity: dict[str, Any]) -> str:
    """Return the trial's name: 12 hexadecimal digits of the SHA-256 of its identity.

    Examples:
        >>> len(key({"seed": 0})), key({"seed": 0}) == key({"seed": 1})
        (12, False)
    """
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def trials(
    experiment: Experiment, config: Any, *, seeds: int, arms: list[str] | None = None, device: str = "cpu"
) -> list[Trial]:
    """Return all trials of a run, arm by arm, in the order in which they are started.

    Args:
        experiment: The experiment.
        config: Its base config.
        seeds: How many seeds; they are ``0 .. seeds - 1``.
        arms: Only these arms (default: all).
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        ValueError: ``seeds`` is below 1 or an arm is unknown.
    """
    if seeds < 1:
        raise ValueError(f"seeds = {seeds}: expected at least 1")
    known = experiment.arms(config)
    for arm in arms or ():
        if arm not in known:
            raise ValueError(f"unknown arm {arm!r} of {experiment.name}; known: {', '.join(known)}")
    return [
        Trial(experiment.name, experiment.version, arm, known[arm], seed, device, experiment.threads)
        for arm in known
        if arms is None or arm in arms
        for seed in range(seeds)
    ]


@functools.cache
def code_digest(module: str) -> str:
    """Return a hash of the code that a trial can reach: its own module, and engram without its other experiments.

    A result is never taken for that of code which has changed since.
    """
    root = Path(engram.__file__).parent
    beside = {root / "cli.py", root / "registry.py"}
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if path not in beside and path.relative_to(root).parts[0] not in ("experiments", "testing")
    ]
    own = inspect.getsourcefile(sys.modules[module]) if module in sys.modules else None
    digest = hashlib.sha256()
    for path in [*files, *([Path(own)] if own else [])]:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
