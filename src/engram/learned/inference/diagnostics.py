"""What would make an answer firmer, in words, and whether the errors of a fit look like noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from engram.learned.inference.fitting import Data, Fit
from engram.learned.inference.model import Model

MANY = 100.0  # times as many sessions are no advice


class Alike(NamedTuple):
    """Whether successive errors resemble each other, as they do where the form of the model is not right.

    Attributes:
        correlation: Of the errors of successive steps.
        deviations: The same in standard errors of that of independent ones.
    """

    correlation: float
    deviations: float


def alike(errors: Float[np.ndarray, "row step"], seen: Bool[np.ndarray, "row step"]) -> Alike:
    """The correlation of successive errors.

    Args:
        errors: Errors divided by their standard deviation.
        seen: Which of them there are.

    Examples:
        >>> alike(np.array([[1.0, 1.0, -1.0, -1.0]]), np.ones((1, 4), bool)).correlation
        0.3333333333333333
    """
    pairs = seen[:, 1:] & seen[:, :-1]
    count = int(pairs.sum())
    if not count:
        return Alike(0.0, 0.0)
    products = (errors[:, 1:] * errors[:, :-1])[pairs]
    square = float((errors[seen] ** 2).mean())
    correlation = float(products.mean() / square) if square > 0 else 0.0
    return Alike(correlation, correlation * np.sqrt(count))


def alike_of(model: Model, data: Data, fit: Fit) -> Alike:
    """The correlation of successive errors of a fit, those of choices divided by their standard deviation too."""
    path = model.run(fit.theta, data.rows._replace(initial=fit.initial))
    assert path is not None  # it is where a search ended
    if data.binary:
        predicted = 0.5 * (1 + np.tanh(0.5 * path.activity))
        deviation = np.sqrt(np.maximum(predicted * (1 - predicted), 1e-12))
    else:
        predicted, deviation = path.activity, np.sqrt(fit.variance[data.unit, None])
    return alike((data.observed - predicted) / deviation, ~np.isnan(data.observed))


def advice(
    coefficients: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    identifiable: Mapping[str, bool],
    equivalent: Sequence[Sequence[str]],
    sessions: Int[np.ndarray, " session"],
    *,
    drawn: bool,
    errors: Alike,
) -> list[str]:
    """Lines of advice, the most needed first.

    Args:
        coefficients: theta by name.
        intervals: (low, high) of each.
        identifiable: Whether the data determine each.
        equivalent: Groups of terms that the inputs cannot tell apart.
        sessions: The sessions that were recorded.
        drawn: Whether the intervals come from sessions drawn again.
        errors: See ``alike``.
    """
    lines = []
    if errors.deviations > 4 and errors.correlation > 0.02:  # 4 standard errors: once in 30,000 fits of a right model
        lines.append(
            f"errors of successive steps correlate by {errors.correlation:.2f}: terms, nonlinearity or first weights "
            "are not right, or something else changes the weights; intervals are then too narrow"
        )
    loose = [name for name, known in identifiable.items() if not known]
    if loose:
        lines.append(
            f"not determined: {', '.join(loose)}; inputs of larger variance or more recorded units would tell, or "
            "fewer terms (select='bic')"
        )
    for name, theta in coefficients.items():
        low, high = intervals[name]
        if identifiable[name] and low < 0 < high and np.isfinite(high - low) and theta:
            times = ((high - low) / 2 / theta) ** 2
            if times < MANY:
                more = max(2, int(np.ceil(times)))
                lines.append(
                    f"{name}: zero is inside its interval; {more} times as many sessions might leave it outside"
                )
    lines += [
        f"{', '.join(group)}: one of them can be fitted; mixtures of the inputs, or other sizes, may tell them apart"
        for group in equivalent
    ]
    if len(sessions) == 1:
        lines.append("one session tells nothing about how others differ from it: record more")
    elif not drawn:
        lines.append("n_bootstrap=200 gives intervals that hold, too, where sessions or animals differ")
    return lines
