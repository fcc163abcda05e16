"""The options of a run, one value from the command line or ``engram.run`` to its trials, checked where it is made.

This file stands apart from the laboratory, so that the command line can tell them before torch is loaded.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

MOST_SEEDS = 100_000
UNITS = {"s": 1, "m": 60, "h": 3600}


def read_seconds(text: str) -> float:
    """The seconds of a time such as 90s, 60m or 2h.

    Examples:
        >>> read_seconds("2h")
        7200.0
    """
    if (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)) is None:
        raise ValueError("expected a time such as 90s, 60m or 2h")
    return float(match[1]) * UNITS[match[2]]


def read_names(text: str) -> tuple[str, ...]:
    """The names in an option that separates them by commas."""
    return tuple(name.strip() for name in text.split(","))


def read_by(read: Callable[[str], Any]) -> PrimitiveConstructorSpec[Any]:
    """Let the command line read the one word of an option by a function."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="TEXT",
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(value)],
    )


Flag = tyro.conf.FlagCreatePairsOff[bool]
Count = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Text = Annotated[str | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint="")]
Folder = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
Separated = Annotated[Sequence[str] | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint=""), read_by(read_names)]
Seconds = Annotated[float | None, tyro.conf.arg(metavar="TEXT", help_behavior_hint=""), read_by(read_seconds)]


@dataclass(frozen=True)
class RunOptions:
    """What every run takes, beside the experiment and its settings.

    Raises:
        TypeError, ValueError: An option is not as described. What depends on the experiment, as the names of presets
            and arms, ``Request`` checks.
    """

    preset: str = "laptop"
    """Size: smoke (seconds), laptop (minutes on 2 cores), or another that `engram show NAME` lists."""
    seeds: Count = None
    """How many seeds (default: the preset's)."""
    until_decided: Flag = False
    """Judge the claims at the interim analyses of the preset, mostly after 5, 10, 20 and 40 seeds, and run more seeds
    of the arms that undecided claims read."""
    at_most: Seconds = None
    """Time limit, such as 90s, 60m or 2h; five seconds later, steps that have not ended are lost."""
    arms: Separated = None
    """Only these arms, separated by commas."""
    reuse: Flag = False
    """Take finished trials although engram or a file of yours was edited since; the report says so."""
    jobs: Count = None
    """How many trials at once (default: as many as fit on the cores or GPUs and in memory; 1 if all take seconds)."""
    engine: Literal["loky", "ray"] = "loky"
    """Worker processes on this machine, or tasks of a Ray cluster, one a trial."""
    address: Text = None
    """Address of an existing Ray cluster; its workers need access to the folder of runs."""
    runs: Annotated[str | Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint=""), read_by(Path)] = None
    """Folder of all runs (default: ENGRAM_RUNS, else runs)."""
    device: str = "auto"
    """Where to compute: cpu, cuda, one GPU such as cuda:1, or auto (a GPU if there is one and the study uses it)."""
    gpus_per_trial: float = 1.0
    """How many GPUs each trial sees, or the fraction of one that it needs."""
    checkpoint_seconds: float = 10.0
    """Time between checkpoints."""
    tensorboard: Flag = False
    """Also write TensorBoard event files into the folders of the trials."""
    keep_state: Flag = True
    """Do not save the trained networks, which otherwise become state.safetensors next to each result."""

    def __post_init__(self) -> None:
        from engram import checks, extras
        from engram.numeric.parallel import check_backend
        from engram.storage.files import runs_folder

        if isinstance(self.seeds, Sequence):
            raise TypeError(f"seeds = {self.seeds!r}: expected the number of seeds, an int, and not the seeds")
        if self.seeds is not None:
            checks.size("seeds", self.seeds, maximum=MOST_SEEDS)
        if self.seeds is not None and self.until_decided:
            raise ValueError(f"seeds = {self.seeds}: expected None with until_decided, which has seeds of its own")
        if self.at_most is not None:
            checks.number("at_most", self.at_most, above=0)
        if self.jobs is not None:
            checks.size("jobs", self.jobs)
        check_backend(self.engine, "engine")
        if self.address is not None and self.engine != "ray":
            raise ValueError(f"address = {self.address!r}: expected only with engine 'ray'")
        runs_folder(self.runs)
        check_device(self.device)
        if self.engine == "ray" and ":" in self.device:
            expected = "expected 'auto', 'cpu' or 'cuda' with engine 'ray', which chooses the GPU of each trial"
            raise ValueError(f"device = {self.device!r}: {expected}")
        checks.number("gpus_per_trial", self.gpus_per_trial, above=0)
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ValueError(f"gpus_per_trial = {self.gpus_per_trial}: expected a whole number, or a fraction of one")
        checks.number("checkpoint_seconds", self.checkpoint_seconds, minimum=0)
        if self.tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise ValueError(f"tensorboard = True: it is not installed: {extras.install('tensorboard')}")

    @property
    def gpu(self) -> str:
        """The GPU that is asked for; CUDA's current one if none is named."""
        return self.device if ":" in self.device else "cuda"


def check_device(device: Any) -> None:
    """Raise ValueError unless a device has one of the names that a run takes; whether it is there, ``device_of`` says.

    Args:
        device: ``"cpu"``, ``"cuda"``, one GPU such as ``"cuda:1"``, or ``"auto"``.
    """
    kind, colon, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in ("auto", "cpu", "cuda") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise ValueError(f"device = {device!r}: expected 'auto', 'cpu', 'cuda', or one GPU, as in 'cuda:1'")
