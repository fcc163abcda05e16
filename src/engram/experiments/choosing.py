"""Choices by validation that several experiments share; all of them end in ``run.choose``.

- ``at_best_rate``: shorter trials choose the learning rate of the trial itself.
- ``best_of_rates``: the whole trial is run at each rate, and the results at the best one are returned.
- ``judged``: each candidate is trained once, and the very model that validation chose is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
from jaxtyping import Float
from torch import Tensor

from engram.lab import Run

C = TypeVar("C")


@dataclass
class Trained:
    """What the training of each candidate gave, or what else a loop finds, as a state that a run can save.

    Attributes:
        results: The results, by candidate or by name.
        curves: Metrics as rows of step, metric and value, by candidate.
    """

    results: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, str, float]]] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """The results and curves."""
        return {"results": dict(self.results), "curves": dict(self.curves)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the results and curves."""
        self.results, self.curves = dict(state["results"]), dict(state["curves"])


def judged(
    run: Run, name: str, candidates: Sequence[float], train: Callable[[float], tuple[float, Sequence[float]]]
) -> tuple[float, dict[float, Float[np.ndarray, " results"]]]:
    """Choose a candidate by ``run.choose`` and evaluate the very model that was validated: a retrained one may fail.

    Args:
        run: The run.
        name: The name of the choice.
        candidates: Values to choose from.
        train: Maps a candidate to its score and its results on other data.

    Returns:
        The chosen candidate, and the results of all candidates that produced any.
    """
    trained = Trained()

    def score(candidate: float) -> float:
        validated, results = train(candidate)
        trained.results[str(candidate)] = np.array(results, dtype=float)
        return validated

    chosen = run.choose(name, candidates, score, trained=trained)
    return chosen, {float(candidate): results for candidate, results in trained.results.items()}


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
        return score(trial(with_rate(shorter, rate), CandidateRun(run)))

    return with_rate(config, run.choose("learning_rate", rates, score_of, bounds=(0.0, 1.0)))


def best_of_rates(
    config: C,
    run: Run,
    trial: Callable[[C, Run], dict[str, Any]],
    score: Callable[[dict[str, Any]], float],
    *,
    margin: float,
) -> dict[str, Any]:
    """Run the whole trial at each learning rate; log the metrics and return the results at the one that scores best.

    This is for tasks on which networks stay at chance for much of training, so that shorter trials say nothing. The
    score must come from training or validation and the results that are compared from other data; otherwise the best of
    several scores is biased upwards. Each trial draws new initial weights from the generators of the run.

    Args:
        config: The settings, with the candidates as ``rates``, and with ``learning_rate`` or an ``a2c`` that has one.
        run: The run.
        trial: The function that runs a trial, at the rate of its settings if these have no candidates.
        score: Maps the results of a trial to a score; larger is better.
        margin: The smallest difference that matters. Scores are rounded to it, so that noise does not decide between
            networks at chance; of the rates with equal scores, the middle one is chosen.
    """
    trained = Trained()

    def score_of(rate: float) -> float:
        candidate_run = CandidateRun(run)
        trained.results[str(rate)] = trial(with_rate(config, rate), candidate_run)
        trained.curves[str(rate)] = candidate_run.metrics().rows()
        exact = score(trained.results[str(rate)])
        return margin * round(exact / margin) if math.isfinite(exact) else math.nan

    rates: tuple[float, ...] = config.rates  # type: ignore[attr-defined]
    best = str(run.choose("learning_rate", rates, score_of, bounds=(0.0, 1.0), trained=trained))
    for step, metric, value in trained.curves[best]:
        run.log(step, **{metric: value})
    return trained.results[best]  # type: ignore[no-any-return]


def with_rate(config: C, rate: float) -> C:
    """The settings with a fixed learning rate and no candidates."""
    a2c = getattr(config, "a2c", None)
    changed = {"learning_rate": rate} if a2c is None else {"a2c": replace(a2c, learning_rate=rate)}
    return replace(config, rates=(), **changed)  # type: ignore[type-var]


class CandidateRun(Run):
    """The run that a trial at a candidate rate is given, which shares the generators and writes nothing.

    Args:
        run: The run of the trial itself.
    """

    _outer: Run | None = None

    def __init__(self, run: Run) -> None:
        self.generator, self.rng, self.device = run.generator, run.rng, run.device
        self._rows: list[tuple[int, str, float]] = []
        self._outer = run

    def steps(self, total: int, /, **state: Any) -> Iterator[int]:
        """The steps of a training loop, of which the trial itself tells; between them it may be stopped."""
        for step in range(total):
            yield step
            self.beat(f"candidate: {(step + 1) / total:.0%}")

    def beat(self, text: str = "", /) -> None:
        """Let the trial itself show how far the candidate is, and stop if it is to."""
        if self._outer is not None:
            self._outer.beat(text)

    def note(self, text: str, /) -> None:
        """Say nothing: the trial itself tells how far the candidate is."""

    def uses(self, path: str | Path, /) -> Path:
        """Declare a file that the candidate reads, as the trial itself does."""
        return Path(path) if self._outer is None else self._outer.uses(path)

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
