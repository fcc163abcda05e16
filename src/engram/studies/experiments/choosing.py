"""Choices by validation that several experiments share; all of them end in ``run.choose``.

- ``at_best_rate``: shorter trials choose the learning rate of the trial itself.
- ``best_of_rates``: the whole trial is run at each rate, and the results at the best one are returned.
- ``judged``: each candidate is trained once, and the very model that validation chose is evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from engram.lab import Run
from engram.lab.trial.unrecorded import CandidateRun

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


def evaluate_chosen(
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
