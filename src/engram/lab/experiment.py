"""The experiment contract: what one file under ``experiments/`` (or in another package) hands to the laboratory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engram.lab.claim import Claim

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from engram.lab.loop import Run
    from engram.lab.results import Results


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
        presets: ``"smoke"`` (seconds), ``"laptop"`` (minutes on 2 cores) and ``"paper"`` (as published).
        arms: What is compared: from the base config, arm name -> the config of its trials. Trials run in this order.
        trial: One arm, one seed: the whole training loop; returns its results as JSON values.
        claims: The published statements, made decidable.
        figure: The experiment's own figure of its results.
        seconds: How long one trial takes, in seconds on one core of a laptop; said before a run starts.
        threads: Threads that one trial computes with; fixed, because sums in another order are other numbers.
        headline: The metric whose learning curve stands first.
    """

    name: str
    summary: str
    paper: str
    presets: Mapping[str, Preset]
    arms: Callable[[Any], dict[str, Any]]
    trial: Callable[[Any, Run], dict[str, Any]]
    claims: Sequence[Claim]
    figure: Callable[[Results], go.Figure]
    seconds: Callable[[Any], float]
    threads: int = 1
    headline: str = "loss"

    def __post_init__(self) -> None:
        missing = {"smoke", "laptop", "paper"} - set(self.presets)
        if missing:
            raise ValueError(f"experiment {self.name!r} lacks the preset {', '.join(sorted(missing))}")
        ids = [claim.id for claim in self.claims]
        if len(set(ids)) < len(ids):
            raise ValueError(f"experiment {self.name!r} has two claims with the same id: {ids}")
        for preset in ("laptop", "paper"):
            arms = self.arms(self.presets[preset].config)
            for claim in self.claims:
                if preset in claim.presets and not set(claim.arms) <= set(arms):
                    raise ValueError(f"claim {claim.id!r} reads arms that preset {preset!r} lacks: {claim.arms}")
