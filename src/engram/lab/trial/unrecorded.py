"""Runs that write nothing: of a trial at a candidate rate within another trial, or of a network without a trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from engram.lab.trial import choice
from engram.lab.trial.contract import Run
from engram.lab.trial.metrics import SCHEMA, ends


class UnrecordedRun:
    """A run that keeps its metrics and choices in memory, and that cannot be resumed.

    Args:
        generator, rng: Its random generators.
        device: Where to compute.
    """

    def __init__(
        self, generator: torch.Generator, rng: np.random.Generator, device: str | torch.device = "cpu"
    ) -> None:
        self.generator, self.rng, self.device = generator, rng, torch.device(device)
        self.choices: dict[str, choice.Choice] = {}
        self._rows: list[tuple[int, str, float]] = []

    def steps(self, total: int, /, **state: Any) -> Iterator[int]:
        """The steps of a training loop; between them the run in which this one is may be stopped."""
        for step in range(total):
            yield step
            self.beat(f"candidate: {(step + 1) / total:.0%}")

    def choose(
        self,
        name: str,
        candidates: Sequence[float],
        score: Callable[[float], float],
        /,
        *,
        accept: Callable[[float], bool] | None = None,
        extend: bool = True,
        bounds: tuple[float, float] = (0.0, math.inf),
        **state: Any,
    ) -> float:
        """Choose the candidate that scores best."""
        choice.check_grid(name, candidates, bounds, self.choices)
        options: dict[str, Any] = {"accept": accept, "extend": extend, "bounds": bounds, "state": state}
        self.choices[name] = choice.choose(self.steps, name, candidates, score, **options)
        return self.choices[name]["chosen"]

    def log(self, step: int, /, *, every: float | torch.Tensor = 1, **values: float | torch.Tensor) -> dict[str, float]:
        """Keep metrics in memory, those of each call without averaging."""
        for name, value in values.items():
            self._rows.append((step, name, float(value.detach() if isinstance(value, torch.Tensor) else value)))
        return {}

    def keep(self, **parts: Any) -> None:
        """Save nothing."""

    def uses(self, path: str | Path, /) -> Path:
        """The path of a file that is read."""
        return Path(path)

    def note(self, text: str, /) -> None:
        """Say nothing."""

    def beat(self, text: str = "", /) -> None:
        """Go on: there is nobody to tell."""

    def metrics(self) -> pl.DataFrame:
        """Everything added so far: columns step, metric and value."""
        return pl.DataFrame(self._rows, SCHEMA, orient="row")

    def ends(self, metric: str, parts: int = 10) -> tuple[float, float]:
        """The means of a metric over the first and the last of some parts of its rows."""
        return ends(self.metrics(), metric, parts)


class CandidateRun(UnrecordedRun):
    """The run that a trial at a candidate rate is given: it shares the generators of the trial's own run.

    Args:
        run: The run of the trial itself, which tells how far the candidate is, and stops it.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run.generator, run.rng, run.device)
        self._outer = run

    def uses(self, path: str | Path, /) -> Path:
        """Declare a file that the candidate reads, as the trial itself does."""
        return self._outer.uses(path)

    def beat(self, text: str = "", /) -> None:
        """Let the trial itself show how far the candidate is, and stop if it is to."""
        self._outer.beat(text)
