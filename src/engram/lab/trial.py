"""A trial, one arm with one seed, named by the hash of all that determines its result."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import threadpoolctl
import torch

from engram import checks
from engram.lab import config as configs
from engram.lab.experiment import Experiment
from engram.lab.loop import Run
from engram.lab.machine import versions


@dataclass(frozen=True)
class Trial:
    """One arm of an experiment with one seed, from which all randomness comes, on a device with a number of threads."""

    experiment: str
    arm: str
    function: Callable[[Any, Run], dict[str, Any]]
    config: Any
    seconds: float
    seed: int
    device: str
    threads: int

    def identity(self) -> dict[str, Any]:
        """Return all that determines the result: this trial, the code that it reaches and the versions under it."""
        found = versions()
        return {
            "experiment": self.experiment,
            "arm": self.arm,
            "trial": f"{self.function.__module__}:{self.function.__qualname__}",
            "config": configs.to_dict(self.config),
            "seed": self.seed,
            "device": self.device,
            "threads": self.threads,
            "code": code_digest(self.function.__module__),
            "versions": {package: found[package] for package in ("engram", "torch", "numpy", "numba")},
        }


def key(identity: dict[str, Any]) -> str:
    """Return the trial's name: 12 hexadecimal digits of the SHA-256 of its identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def trials(
    experiment: Experiment, config: Any, *, seeds: int, arms: list[str] | None = None, device: str = "cpu"
) -> list[Trial]:
    """Return all trials of a run with the seeds ``0 .. seeds - 1``, arm by arm, in the order in which they are started.

    Raises:
        ValueError: ``seeds`` is below 1, an arm is unknown, or an arm's config is out of range.
    """
    checks.size("seeds", seeds)
    known = {
        name: replace(arm, config=configs.from_dict(type(arm.config), configs.to_dict(arm.config)))
        for name, arm in experiment.arms(config).items()
    }
    for arm in arms or ():
        if arm not in known:
            raise ValueError(f"unknown arm {arm!r} of {experiment.name}; known: {', '.join(known)}")
    return [
        Trial(experiment.name, name, arm.trial, arm.config, arm.seconds, seed, device, experiment.threads)
        for name, arm in known.items()
        if arms is None or name in arms
        for seed in range(seeds)
    ]


@functools.cache
def code_digest(module: str) -> str:
    """Return a hash of the code that a trial can reach, so that no result is taken for that of other code.

    It covers the module that defines the trial, all modules of the same package and of engram that it imports,
    directly or through others, and of the laboratory what makes a trial's numbers.

    Raises:
        ValueError: The module has no source file, as in an interactive session.
    """
    packages = {module.partition(".")[0], "engram"}
    digest = hashlib.sha256()
    found: dict[str, Path] = {}
    pending = [module, "engram.lab.loop"]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        if name.startswith(("engram.lab", "engram.storage")) and name != "engram.lab.loop":
            continue
        path = _source(name)
        if path is None:
            if name == module:
                raise ValueError(f"the trial's module {module!r} has no source file: write it into one")
            continue
        found[name] = path
        pending += _imports(name, path, packages)
    for name in sorted(found):
        digest.update(name.encode() + found[name].read_bytes())
    return digest.hexdigest()[:16]


def _source(module: str) -> Path | None:
    """Return the file of a module; None where ``module`` is none (but, say, a function of one), or has no source."""
    loaded = sys.modules.get(module)
    try:
        spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return None
    origin = spec.origin if spec is not None else getattr(loaded, "__file__", None)
    return Path(origin) if origin is not None and Path(origin).is_file() else None


def _imports(module: str, path: Path, packages: Set[str]) -> list[str]:
    """Return what a module's source imports of some packages; where it takes modules of a package, only these."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names if alias.name.partition(".")[0] in packages]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            if base.partition(".")[0] in packages:
                within = (f"{base}.{alias.name}" for alias in node.names)
                names += [name if _source(name) is not None else base for name in within]
    return names


@contextmanager
def computing(trial: Trial) -> Iterator[None]:
    """Compute with the trial's number of threads, and leave the caller's threads and global generators as they were."""
    threads = torch.get_num_threads()
    cuda = trial.device == "cuda"
    deterministic = torch.are_deterministic_algorithms_enabled()
    devices = range(torch.cuda.device_count()) if cuda else ()
    with threadpoolctl.threadpool_limits(trial.threads), torch.random.fork_rng(devices):
        torch.set_num_threads(trial.threads)
        if cuda != deterministic:  # since to say so loads the compiler of PyTorch, which takes two seconds
            torch.use_deterministic_algorithms(cuda, warn_only=True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            if cuda != deterministic:
                torch.use_deterministic_algorithms(deterministic)
