"""Where values lie: a mean or a difference of means, its standard error, and what Student's t says about them.

With few seeds a mean of skewed values misses the truth to one side: the t interval of exponential values excludes it on
that side in one case of ten instead of one of forty. ``guarded`` intervals and p-values also have to hold after Hall's
transformation, which corrects the t statistic for the skewness that the values show:

    h(t) = t + g t^2 / 3 + g^2 t^3 / 27 + g / 6,    g = third central moment of the estimate / error^3

Sources: Student (1908); Welch (1947); Hall (1992), "On the removal of skewness by transformation".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

FEW_SEEDS = 10  # below, the skewness of the values says little about that of what they are drawn from


class Location(NamedTuple):
    """An estimated mean, or difference of means.

    Attributes:
        value: The estimate.
        error: Its standard error.
        freedom: Degrees of freedom of the standard error.
        seeds: The number of values behind it; of two samples that of the smaller one.
        skewness: The skewness of the estimate, which falls with the square root of the number of values.
    """

    value: float
    error: float
    freedom: float
    seeds: int
    skewness: float = 0.0


def location_of(*samples: Float[np.ndarray, " _"]) -> Location:
    """The sum of the means of independent samples: of one the mean; of a and -b the difference of the means.

    With several samples the degrees of freedom are those of Welch and Satterthwaite.

    Args:
        *samples: The values of each, at least two.

    Examples:
        >>> location_of(np.array([1.0, 2.0, 3.0])).freedom
        2.0
    """
    value, variance, shares, third = 0.0, 0.0, 0.0, 0.0
    for sample in samples:
        n = len(sample)
        own = float(np.var(sample, ddof=1)) / n
        value, variance, shares = value + float(np.mean(sample)), variance + own, shares + own**2 / (n - 1)
        third += _third_moment(sample) / n**2
    seeds = min(len(sample) for sample in samples)
    freedom = float(len(samples[0]) - 1) if len(samples) == 1 else variance**2 / shares if shares else seeds - 1.0
    error = math.sqrt(variance)
    return Location(value, error, freedom, seeds, third / error**3 if error**3 > 0 else 0.0)


def ends(location: Location, critical: float, guard: float = 0.0) -> tuple[float, float]:
    """The interval of all thresholds whose statistic is at most critical, before and after Hall's transformation.

    Args:
        location: The estimate.
        critical: The largest statistic that does not decide; infinite where nothing can.
        guard: How many times the skewness of the values is corrected for; 0 for Student's interval.
    """
    value, error = location.value, location.error
    if math.isinf(critical):
        return -math.inf, math.inf
    low, high = value - critical * error, value + critical * error
    if guard and (skewness := guard * location.skewness):
        over, under = (_inverse(statistic, skewness) for statistic in (critical, -critical))
        low, high = min(low, value - over * error), max(high, value - under * error)
    return low, high


def statistic(location: Location, threshold: float, guard: float = 0.0) -> float:
    """The statistic of a threshold, of t and its transform the one nearer to 0; 0 if their signs differ.

    Args:
        location: The estimate, whose error is not 0.
        threshold: The value that is tested.
        guard: As for ``ends``.
    """
    t = (location.value - threshold) / location.error
    if not guard or not location.skewness:
        return t
    g = guard * location.skewness
    transformed = t + g * t * t / 3 + g * g * t**3 / 27 + g / 6
    return math.copysign(min(abs(t), abs(transformed)), t) if t * transformed > 0 else 0.0


def student_critical(freedom: float, error: float) -> float:
    """The two-sided critical value of Student's t for a probability of error."""
    return float(special.stdtrit(freedom, 1 - error / 2))


def student_p(t: float, freedom: float) -> float:
    """The two-sided p-value of a t statistic."""
    return float(2 * special.stdtr(freedom, -abs(t)))


def _inverse(transformed: float, g: float) -> float:
    """The t whose transform is given."""
    return 3 / g * (float(np.cbrt(1 + g * (transformed - g / 6))) - 1)


def _third_moment(sample: Float[np.ndarray, " _"]) -> float:
    """The unbiased third central moment."""
    n = len(sample)
    if n < 3:
        return 0.0
    centred = sample - np.mean(sample)
    return float(np.sum(centred * centred * centred)) * n / ((n - 1) * (n - 2))
