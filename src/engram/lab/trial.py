"""A trial, one arm with one seed, named by the hash of all that determines its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import threadpoolctl
import torch

from engram import checks, registry
from engram.lab import config as configs
from engram.lab.code import code_digest
from engram.lab.experiment import Arm, Experiment
from engram.lab.loop import Run
from engram.lab.machine import COMPUTING, versions

MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Trial:
    """One arm of an experiment with one seed, from which all randomness comes, on a device with a number of threads.

    ``code`` is the ``code_digest`` of the function's module.
    """

    experiment: str
    arm: str
    function: Callable[[Any, Run], dict[str, Any]]
    config: Any
    seconds: float
    seed: int
    device: str
    threads: int
    code: str

    def identity(self) -> dict[str, Any]:
        """All that determines the result: this trial, the code that it reaches and the versions under it."""
        installed = versions()
        return {
            "experiment": self.experiment,
            "arm": self.arm,
            "trial": f"{self.function.__module__}:{self.function.__qualname__}",
            "config": configs.to_dict(self.config),
            "seed": self.seed,
            "device": self.device,
            "threads": self.threads,
            "code": self.code,
            "versions": {package: installed[package] for package in COMPUTING},
        }


def key(identity: dict[str, Any]) -> str:
    """The trial's name: 12 hexadecimal digits of the SHA-256 of its identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def trials(
    experiment: Experiment,
    compared: Mapping[str, Arm],
    *,
    seeds: int,
    first: int = 0,
    arms: Sequence[str] | None = None,
    device: str = "cpu",
) -> list[Trial]:
    """All trials of a run, arm by arm, in the order of their beginning.

    Args:
        experiment: The experiment.
        compared: Its arms at the size that is run.
        seeds: How many seeds.
        first: The first of them.
        arms: Only these arms (default: all).
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        ValueError: ``seeds`` is below 1, or an arm is unknown.
        TypeError: ``seeds`` is no int.
    """
    if isinstance(seeds, Sequence):
        raise TypeError(f"seeds = {seeds!r}: expected how many seeds, an int; they begin at {first}")
    checks.size("seeds", seeds, maximum=MOST_SEEDS)
    if isinstance(arms, str):
        raise ValueError(f"arms = {arms!r}: expected a list of names")
    for name in arms or ():
        if name not in compared:
            raise ValueError(f"unknown arm {name!r} of {experiment.name}; known: {', '.join(compared)}")
    chosen = {name: arm for name, arm in compared.items() if not arms or name in arms}
    digests: dict[tuple[str, frozenset[str]], str] = {}
    code = {}
    for name, arm in chosen.items():
        reached = arm.trial.__module__, names_in(arm.config)
        code[name] = digests[reached] = digests.get(reached) or code_digest(*reached)
    options = (device, experiment.threads)
    return [
        Trial(experiment.name, name, arm.trial, arm.config, arm.seconds, seed, *options, code[name])
        for name, arm in chosen.items()
        for seed in range(first, first + seeds)
    ]


def names_in(config: Any) -> frozenset[str]:
    """The registered parts of other packages that a config names."""
    texts = {text for value in configs.leaves(config).values() if isinstance(value, str) for text in value.split(",")}
    parts = [entry for kind in registry.KINDS for entry in registry.entries(kind)]
    return frozenset(texts & {entry.name for entry in parts if not entry.module.startswith("engram.")})


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
