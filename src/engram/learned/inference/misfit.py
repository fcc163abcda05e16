"""Whether errors show that the model is wrong: their dependence on the size of what is predicted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats

from engram.learned.inference.arrowhead import inverse
from engram.learned.inference.diagnostics import Alike
from engram.learned.inference.feed_forward import Path, Rows
from engram.learned.inference.fitting import Data, Fit, loss_of
from engram.learned.inference.levenberg_marquardt import Problem
from engram.learned.inference.model import Model
from engram.plasticity import PlasticityRule

MISFIT = 5.0  # standard errors: one right model in two million
ROUNDING = 1e-12  # variance of errors, as a share of that of what was recorded, below which they are those of numbers
POWERS = (2, 3)


class Bent(NamedTuple):
    """Whether errors depend on the size of the prediction, as they do where the nonlinearity is not right.

    Attributes:
        statistic: Of the score test, chi-squared with two degrees of freedom for a right model.
        deviations: The standard errors of a normal number that is as rare.
    """

    statistic: float
    deviations: float


class Curved(NamedTuple):
    """A model whose predictions p are p + sum over k of gamma_k (p - mean)^k / sd^k, with the numbers (theta, gamma).

    Attributes:
        model: The model.
        mean, deviation: Of its predictions, where gamma is zero.
    """

    model: Model
    mean: float
    deviation: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the numbers."""
        return (*self.model.names, *(f"power {k}" for k in POWERS))

    @property
    def start(self) -> Float[np.ndarray, " free"]:
        """No curve."""
        return np.concatenate([self.model.start, np.zeros(len(POWERS))])

    def rule(self, theta: Float[np.ndarray, " free"]) -> PlasticityRule:
        """The rule."""
        return self.model.rule(theta[: -len(POWERS)])

    def run(self, theta: Float[np.ndarray, " free"], rows: Rows, *, keep_weights: bool = False) -> Path | None:
        """See ``Model.run``.

        Args:
            theta: The coefficients and gamma.
            rows: The units.
            keep_weights: Whether to return the weights too.
        """
        path = self.model.run(theta[: -len(POWERS)], rows, keep_weights=keep_weights)
        if path is None:
            return None
        bent = path.activity + self._powers(path.activity) @ theta[-len(POWERS) :]
        return path._replace(activity=bent)

    def linearise(
        self, theta: Float[np.ndarray, " free"], rows: Rows, *, by_initial: bool
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """See ``Model.linearise``; gamma must be zero.

        Args:
            theta: The coefficients and gamma.
            rows: The units.
            by_initial: Whether the parameters include the first weights.
        """
        parts = len(theta) - len(POWERS)
        for kept, predicted, J in self.model.linearise(theta[:parts], rows, by_initial=by_initial):
            yield kept, predicted, np.concatenate([J[:, :, :parts], self._powers(predicted), J[:, :, parts:]], axis=2)

    def _powers(self, predicted: np.ndarray) -> Float[np.ndarray, "row step power"]:
        standard = (predicted - self.mean) / self.deviation
        return np.stack([standard**k for k in POWERS], axis=2)


def bent(model: Model, data: Data, fit: Fit) -> Bent:
    """The score test of whether predictions should be bent: by their squares and cubes, all else being fitted again.

    Args:
        model: The model.
        data: What was fitted.
        fit: The fit.

    Source: Ramsey, "Tests for specification errors in classical linear least-squares regression analysis" (1969); for
    choices Pregibon, "Goodness of link tests for generalized linear models" (1980).
    """
    path = model.run(fit.theta, data.rows._replace(initial=fit.initial))
    assert path is not None  # it is where a search ended
    seen = path.activity[~np.isnan(data.observed)]
    if not seen.std() > 0 or are_rounding(data, fit):
        return Bent(0.0, 0.0)
    curved = Curved(model, float(seen.mean()), float(seen.std()))
    problem = Problem(curved, data.rows, loss_of(data, fit.variance), data.block, data.size)
    information, slope = problem.equations(np.append(fit.theta, np.zeros(len(POWERS))), fit.initial).reduced()
    statistic = float(slope @ inverse(information, np.sqrt(np.diag(information))) @ slope)
    # By the asymptote where the probability itself is no number.
    rare = float(stats.chi2.logsf(statistic, len(POWERS)))
    deviations = float(stats.norm.isf(np.exp(rare) / 2)) if rare > -600 else float(np.sqrt(-2 * rare))
    return Bent(statistic, deviations)


def are_rounding(data: Data, fit: Fit) -> bool:
    """Whether errors are so small that they are those of numbers, not of a model.

    Args:
        data: What was fitted.
        fit: The fit.
    """
    return not data.binary and bool(fit.variance.mean() <= ROUNDING * np.nanvar(data.observed))


def is_misfit(data: Data, fit: Fit, correlation: Alike, curve: Bent) -> bool:
    """Whether errors resemble their predecessors, or follow predictions, by more than five standard errors.

    Args:
        data: What was fitted.
        fit: The fit.
        correlation: Of successive errors.
        curve: The dependence on the prediction.
    """
    found = max(abs(correlation.deviations), curve.deviations)
    return bool(found > MISFIT) and not are_rounding(data, fit)


def advice_on_misfit(curve: Bent) -> list[str]:
    """A line of advice where errors follow predictions.

    Args:
        curve: The dependence of errors on the prediction.
    """
    if curve.deviations <= MISFIT:
        return []
    return [
        f"errors depend on the size of the prediction, by {curve.deviations:.0f} standard errors: nonlinearity or "
        "terms are not right; fit others, and compare them on sessions that none has seen"
    ]
