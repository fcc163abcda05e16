"""The learning rate of a trial, chosen by shorter trials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import polars as pl
from torch import Tensor

from engram.lab import Run

C = TypeVar("C")


def at_best_rate(
    config: C,
    run: Run,
    trial: Callable[[C, Run], dict[str, Any]],
    length: str,
    score: Callable[[dict[str, Any]], float],
    *,
    part: float,
) -> C:
    """The settings with the learning rate whose shorter trial scores best.

    The shorter trials draw from the generators of the run, so their initial weights and episodes differ from those of
    the trial itself.

    Args:
        config: The settings, with the candidates as ``rates``, and with ``learning_rate`` or an ``a2c`` that has one.
            If there are no candidates, they are returned unchanged.
        run: The run.
        trial: The function that runs a trial.
        length: Name of the setting for the number of training steps.
        score: Maps the results of a trial to a score; larger is better.
        part: The share of the training steps in a shorter trial.
    """
    rates: tuple[float, ...] = config.rates  # type: ignore[attr-defined]
    if not rates:
        return config
    shorter = replace(config, **{length: max(10, round(part * getattr(config, length)))})  # type: ignore[type-var]

    def score_of(rate: float) -> float:
        return score(trial(with_rate(shorter, rate), ShorterRun(run)))

    return with_rate(config, run.choose("learning_rate", rates, score_of, bounds=(0.0, 1.0)))


def with_rate(config: C, rate: float) -> C:
    """The settings with a fixed learning rate and no candidates."""
    a2c = getattr(config, "a2c", None)
    changed = {"learning_rate": rate} if a2c is None else {"a2c": replace(a2c, learning_rate=rate)}
    return replace(config, rates=(), **changed)  # type: ignore[type-var]


class ShorterRun(Run):
    """The run that a trial at a candidate rate is given, which shares the generators and writes nothing.

    Args:
        run: The run of the trial itself.
    """

    def __init__(self, run: Run) -> None:
        self.generator, self.rng, self.device = run.generator, run.rng, run.device
        self._rows: list[tuple[int, str, float]] = []

    def steps(self, total: int, /, **state: Any) -> Iterator[int]:
        """The steps of a training loop."""
        return iter(range(total))

    def log(self, step: int, /, *, every: Any = 1, **values: Any) -> dict[str, float]:
        """Keep metrics in memory."""
        for name, value in values.items():
            self._rows.append((step, name, float(value.detach() if isinstance(value, Tensor) else value)))
        return {}

    def keep(self, **parts: Any) -> None:
        """Save nothing."""

    def metrics(self) -> pl.DataFrame:
        """Everything added so far: columns step, metric and value."""
        return pl.DataFrame(self._rows, {"step": pl.Int64, "metric": pl.String, "value": pl.Float64}, orient="row")
