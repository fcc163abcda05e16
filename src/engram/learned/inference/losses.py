"""What is compared with the data: activity, by a Gaussian of each unit, or choices, by a Bernoulli distribution."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float


class Quadratic(NamedTuple):
    """A loss to second order in each prediction: its slope, and a curvature that is never negative; 0 where unseen."""

    slope: Float[np.ndarray, "row step"]
    curvature: Float[np.ndarray, "row step"]


@runtime_checkable
class Loss(Protocol):
    """Minus the logarithm of a likelihood, up to a constant, as a function of the predictions of all rows."""

    def value(self, predicted: Float[np.ndarray, "row step"]) -> float:
        """The loss, summed over all entries that were observed."""

    def quadratic(self, predicted: Float[np.ndarray, "row step"], kept: slice) -> Quadratic:
        """Its derivatives by the predictions of the rows ``kept``."""


class Gaussian(NamedTuple):
    """Half the sum of squared errors, each divided by the variance of the noise of its row.

    Attributes:
        observed: Activity, (row, step), NaN where it was not recorded.
        variance: Of each row.
    """

    observed: Float[np.ndarray, "row step"]
    variance: Float[np.ndarray, " row"]

    def value(self, predicted: Float[np.ndarray, "row step"]) -> float:
        """The loss."""
        errors = np.nan_to_num(self.observed - predicted)
        return float((errors**2 / self.variance[:, None]).sum() / 2)

    def quadratic(self, predicted: Float[np.ndarray, "row step"], kept: slice) -> Quadratic:
        """Its derivatives.

        Args:
            predicted: Predictions of the rows ``kept``.
            kept: The rows.
        """
        observed, variance = self.observed[kept], self.variance[kept, None]
        seen = ~np.isnan(observed)
        return Quadratic(np.where(seen, predicted - observed, 0.0) / variance, seen / variance)


class Bernoulli(NamedTuple):
    """The sum over choices c of log(1 + exp(l)) - c l, for the logit l of choice 1.

    Attributes:
        observed: Choices, (row, step): 0, 1 or NaN.
    """

    observed: Float[np.ndarray, "row step"]

    def value(self, predicted: Float[np.ndarray, "row step"]) -> float:
        """The loss."""
        seen = ~np.isnan(self.observed)
        logit, choice = predicted[seen], self.observed[seen]
        return float((np.logaddexp(0, logit) - choice * logit).sum())

    def quadratic(self, predicted: Float[np.ndarray, "row step"], kept: slice) -> Quadratic:
        """Its derivatives.

        Args:
            predicted: Logits of the rows ``kept``.
            kept: The rows.
        """
        observed = self.observed[kept]
        seen = ~np.isnan(observed)
        p = 0.5 * (1 + np.tanh(0.5 * predicted))
        return Quadratic(np.where(seen, p - observed, 0.0), np.where(seen, p * (1 - p), 0.0))
