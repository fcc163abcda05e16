"""A trial, one arm with one seed, named by the hash of everything that determines its result."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import threadpoolctl
import torch

from engram import checks, registry
from engram.lab.trial import config as configs
from engram.lab.trial.contract import Run
from engram.lab.trial.experiment import Arm, Experiment


class Time(NamedTuple):
    """How long a trial takes.

    Attributes:
        seconds: Seconds of the processor, over all threads; NaN if unknown.
        how: How it is known, in words; empty if it is unknown.
    """

    seconds: float = math.nan
    how: str = ""

    @property
    def is_known(self) -> bool:
        """Whether there are seconds."""
        return not math.isnan(self.seconds)


UNKNOWN = Time()


def duration(seconds: float) -> str:
    """A duration in a suitable unit."""
    if math.isnan(seconds):
        return "unknown"
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


@dataclass(frozen=True)
class Trial:
    """One arm of an experiment with one seed (its only randomness), on a device, with a number of threads."""

    experiment: str
    revision: int
    arm: str
    function: Callable[[Any, Run], dict[str, Any]]
    config: Any
    seed: int
    device: str
    threads: int
    uses: tuple[Path, ...] = ()  # files that the experiment declares
    memory: float = 0.0  # bytes that it needs, if its study tells
    time: Time = UNKNOWN

    def identity(self) -> dict[str, Any]:
        """What names the trial; beside its result lies what it was made by."""
        return {
            "experiment": self.experiment,
            "revision": self.revision,
            "arm": self.arm,
            "config": configs.to_dict(self.config),
            "seed": self.seed,
            "device": self.device,
            "threads": self.threads,
        }

    @property
    def modules(self) -> set[str]:
        """The modules that it starts from: those of its function, the function's closure, and its config."""
        cells = [cell.cell_contents for cell in getattr(self.function, "__closure__", None) or ()]
        objects = [self.function, type(self.config), *cells]
        return {str(getattr(part, "__module__", "") or getattr(part, "__name__", "")) for part in objects}


def trials(
    experiment: Experiment,
    compared: Mapping[str, Arm],
    *,
    seeds: int,
    first: int = 0,
    arms: Sequence[str] | None = None,
    device: str = "cpu",
) -> list[Trial]:
    """All trials of a run, arm by arm.

    Args:
        experiment: The experiment.
        compared: Its arms, at the size to run.
        seeds: Number of seeds.
        first: The first of them.
        arms: Only these arms (default: all).
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: CUDA for the arms that use a GPU.

    Raises:
        TypeError, ValueError: ``seeds`` is not an int or below 1, or an arm is unknown.
    """
    checks.size("seeds", seeds)
    check_arms(experiment, compared, arms)
    selected_arms = {name: arm for name, arm in compared.items() if arms is None or name in arms}
    for module in {arm.trial.__module__ for arm in selected_arms.values()}:
        check_source(module)
    options = (experiment.threads, experiment.files())
    devices = {
        name: device if device != "auto" else "cuda" if arm.gpu else "cpu" for name, arm in selected_arms.items()
    }
    return [
        Trial(
            experiment.name, experiment.revision, name, arm.trial, arm.config, seed, devices[name], *options, arm.memory
        )
        for name, arm in selected_arms.items()
        for seed in range(first, first + seeds)
    ]


def check_arms(experiment: Experiment, compared: Mapping[str, Arm], arms: Sequence[str] | None) -> None:
    """Raise ValueError unless the arms that are asked for are some of an experiment, or None, which is all."""
    if isinstance(arms, str) or (arms is not None and not len(arms)):
        raise ValueError(f"arms = {arms!r}: expected a list of names")
    for name in arms or ():
        if name not in compared:
            raise ValueError(f"unknown arm {name!r} of {experiment.name}; {registry.suggestion(name, compared)}")


def check_source(module: str) -> None:
    """Raise ValueError if a trial's module has no file, as in an interactive session."""
    file = getattr(sys.modules[module], "__file__", None)
    if file is None or not Path(file).is_file():
        raise ValueError(f"the trial's module {module!r} has no source file: save it to a file")


@functools.lru_cache(maxsize=1)
def _pools(modules: int) -> threadpoolctl.ThreadpoolController:
    """The thread pools of the loaded libraries, cached by the number of modules, since searching for them is slow."""
    return threadpoolctl.ThreadpoolController()


@contextmanager
def computing(trial: Trial) -> Iterator[None]:
    """Compute with torch's initial settings and the trial's number of threads; restore the caller's afterwards.

    On CUDA the algorithms are deterministic.
    """
    cuda = trial.device == "cuda"
    state: list[tuple[Callable[[], Any], Callable[[Any], Any], Any]] = [
        (torch.get_num_threads, torch.set_num_threads, trial.threads),
        (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        (lambda: sys.float_info.min / 2 == 0, torch.set_flush_denormal, False),
        (_determinism, _set_determinism, (cuda, cuda)),
    ]
    with ExitStack() as undo:
        for get_value, set_value, new_value in state:
            if (old_value := get_value()) != new_value:  # setting it would load PyTorch's compiler, which takes 2 s
                undo.callback(set_value, old_value)
                set_value(new_value)
        if torch.get_default_device().type != "cpu":
            undo.enter_context(torch.device("cpu"))
        undo.enter_context(_pools(len(sys.modules)).limit(limits=trial.threads))
        undo.enter_context(torch.random.fork_rng(range(torch.cuda.device_count()) if cuda else ()))
        undo.enter_context(torch.inference_mode(False))
        undo.enter_context(torch.enable_grad())
        undo.enter_context(torch.autograd.set_detect_anomaly(False))
        for device in ("cpu", "cuda"):
            undo.enter_context(torch.autocast(device, enabled=False))
        if cuda:
            undo.enter_context(torch.backends.cudnn.flags(enabled=True))
        yield


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(state: tuple[bool, bool]) -> None:
    enabled, warn_only = state
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
