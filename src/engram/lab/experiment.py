"""The experiment contract: what one file under ``experiments/`` (or in another package) hands to the laboratory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from engram.lab.claim import Claim

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from engram.lab.loop import Run
    from engram.lab.results import Results

C = TypeVar("C")
_NAME = re.compile(r"[\w+=-][\w.+= -]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Arm:
    """One of the things that an experiment compares: a training loop, and the config that it is given.

    Arms of one experiment may differ in both: each study has a loop and a small config class of its own.

    Attributes:
        trial: One seed: the whole training loop; returns its results as JSON values.
        config: The config, a frozen dataclass.
        seconds: How long one trial takes on one core of a laptop; shown before a run starts.
    """

    trial: Callable[[Any, Run], dict[str, Any]]
    config: Any
    seconds: float = field(compare=False)


def arms_of(
    trial: Callable[[C, Run], dict[str, Any]], configs: Mapping[str, C], seconds: Callable[[C], float]
) -> dict[str, Arm]:
    """Return the arms that share a training loop, one for each config, with the seconds that each config takes."""
    return {name: Arm(trial, config, seconds(config)) for name, config in configs.items()}


@dataclass(frozen=True)
class Preset:
    """A size at which an experiment runs: its config and how many seeds."""

    config: Any
    seeds: int


@dataclass(frozen=True)
class Experiment:
    """A published system made runnable.

    Attributes:
        name: Its name in the registry and on the command line.
        summary: One line: what is learned, by what.
        paper: Authors, title, venue, year.
        presets: ``"smoke"`` (seconds), ``"laptop"`` (minutes on 2 cores) and ``"paper"`` (as published); any other is
            a part of what was published, at its size.
        arms: What is compared: from the base config, arm name -> arm. Trials run in this order.
        claims: The published statements, made decidable.
        figure: The experiment's own figure of its results.
        threads: Threads that one trial computes with; fixed, because sums in another order are other numbers.
        headline: The metric whose learning curve stands first; empty where nothing is learned, which has no curves.
        ready: Called with the config of each arm before a trial of it begins; raises an error that says what to do
            where data or a package is missing.
    """

    name: str
    summary: str
    paper: str
    presets: Mapping[str, Preset]
    arms: Callable[[Any], dict[str, Arm]]
    claims: Sequence[Claim]
    figure: Callable[[Results], go.Figure]
    threads: int = 1
    headline: str = "loss"
    ready: Callable[[Any], object] = lambda config: None

    def __post_init__(self) -> None:
        missing = {"smoke", "laptop", "paper"} - set(self.presets)
        if missing:
            raise ValueError(f"experiment {self.name!r} lacks the preset {', '.join(sorted(missing))}")
        for name in [self.name, *(name for preset in self.presets.values() for name in self.arms(preset.config))]:
            if not _NAME.fullmatch(name):
                expected = "letters, digits and _ . + = - and spaces, as it names folders"
                raise ValueError(f"name = {name!r} in experiment {self.name!r}: expected {expected}")
        ids = [claim.id for claim in self.claims]
        for id_ in ids:
            if not _NAME.fullmatch(id_):
                raise ValueError(f"claim {id_!r} of experiment {self.name!r}: expected letters, digits and _ . + = -")
        if len(set(ids)) < len(ids):
            raise ValueError(f"experiment {self.name!r} has two claims with the same id: {ids}")
        for preset in set(self.presets) - {"smoke"}:
            arms = self.arms(self.presets[preset].config)
            for claim in self.claims:
                if preset in claim.presets and not set(claim.arms) <= set(arms):
                    raise ValueError(f"claim {claim.id!r} reads arms that preset {preset!r} lacks: {claim.arms}")

    def expected_seconds(self, preset: str) -> float:
        """Return how long a preset is estimated to compute on one core, without the first compilation of kernels."""
        chosen = self.presets[preset]
        return chosen.seeds * sum(arm.seconds for arm in self.arms(chosen.config).values())
