"""The comparison of two fitted rules on the same data, session by session."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from engram.learned.inference.fitting import Data


class Lead(NamedTuple):
    """By how much one rule predicts data better than another.

    Attributes:
        log_likelihood: The difference of log-likelihoods, summed over all sessions.
        low, high: The 95 % interval of this sum, by Student's t over groups; infinite with one.
        groups: Number of groups of sessions.
    """

    log_likelihood: float
    low: float
    high: float
    groups: int


def lead(
    differences: Float[np.ndarray, " session"], groups: Int[np.ndarray, " session"], confidence: float = 0.95
) -> Lead:
    """The sum of differences, and its interval.

    Args:
        differences: Of log-likelihoods, of each session.
        groups: The group of each session.
        confidence: How often the interval should contain the expected sum.

    Examples:
        >>> found = lead(np.array([1.0, 2.0, 3.0]), np.arange(3))
        >>> found.log_likelihood, round(found.low, 2), round(found.high, 2)
        (6.0, -1.45, 13.45)
    """
    sums = np.bincount(groups, differences)
    count, total = len(sums), float(sums.sum())
    if count < 2 or not np.isfinite(total):
        return Lead(total, -np.inf, np.inf, count)
    reach = float(stats.t.ppf((1 + confidence) / 2, count - 1) * sums.std(ddof=1) * np.sqrt(count))
    return Lead(total, total - reach, total + reach, count)


def log_likelihoods(
    data: Data, predicted: Float[np.ndarray, "row step"], noise: Float[np.ndarray, " unit"]
) -> Float[np.ndarray, " session"]:
    """The log-likelihood of each session; minus infinity where a run diverges.

    Args:
        data: What was recorded.
        predicted: The prediction of each recorded number; of choices, the log odds.
        noise: The standard deviation of each unit.
    """
    if data.binary:
        each = data.observed * predicted - np.logaddexp(0, predicted)
    else:
        each = stats.norm.logpdf(data.observed, predicted, noise[data.unit, None])
    each = np.where(np.isnan(predicted), -np.inf, each)
    return np.bincount(data.session, np.nansum(each, axis=1), minlength=len(data.rows.inputs))
