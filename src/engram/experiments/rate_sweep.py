"""Training at several learning rates, of which validation chooses the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engram.experiments.learning_rate import ShorterRun, with_rate
from engram.lab import Run

C = TypeVar("C")


@dataclass
class Trained:
    """The results of training at each rate, as a state that a run can save.

    Attributes:
        results: The results of the trial, by rate.
        curves: Its metrics as rows of step, metric and value, by rate.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    curves: dict[str, list[tuple[int, str, float]]] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        """The results and curves."""
        return {"results": dict(self.results), "curves": dict(self.curves)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the results and curves."""
        self.results, self.curves = dict(state["results"]), dict(state["curves"])


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
        candidate_run = ShorterRun(run)
        trained.results[str(rate)] = trial(with_rate(config, rate), candidate_run)
        trained.curves[str(rate)] = candidate_run.metrics().rows()
        return margin * round(score(trained.results[str(rate)]) / margin)

    rates: tuple[float, ...] = config.rates  # type: ignore[attr-defined]
    best = str(run.choose("learning_rate", rates, score_of, bounds=(0.0, 1.0), trained=trained))
    for step, metric, value in trained.curves[best]:
        run.log(step, **{metric: value})
    return trained.results[best]
