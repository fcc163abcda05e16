"""Inference from few seeds: confidence intervals, tests of a threshold, and sequential looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import special  # scipy.stats has the same, 15 to 60 times slower: simulations of coverage would take minutes

from engram.numeric.rounding import are_equal, difference

Form = Literal["mean", "median", "ratio", "share"]
CONFIDENCE, POWER = 0.95, 0.8
INTERIM_ERROR = 0.001
MAX_LOOKS = 49  # leave the last look more than an interim one


class Estimate(NamedTuple):
    """A value with the interval in which it lies, which is NaN if a seed's value is not finite.

    ``resolution`` is the smallest distance from a threshold that this number of seeds decides four times in five.
    """

    value: float
    low: float
    high: float
    resolution: float


def estimate(
    values: Sequence[float], form: Form = "mean", trials: Sequence[int] = (), confidence: float = CONFIDENCE
) -> Estimate:
    """The estimate of a value over seeds, with its interval.

    ``"mean"``: the mean, by Student's t. ``"ratio"``: the geometric mean, by Student's t of the logarithms, or the mean
    where a value is not positive. ``"share"``: the share of all trials, by Clopper and Pearson's exact interval; if a
    seed has several trials, which may succeed together, extended to cover Student's interval of the seeds' shares.
    Seeds that are all alike do not show whether their trials do: these are then taken as independent.
    ``"median"``: the median, by the exact interval of order statistics, which is unbounded for too few seeds.
    Except for shares and medians, the interval of values that are equal up to rounding is their median.

    Args:
        values: One for each seed; shares lie between 0 and 1.
        form: The estimated quantity.
        trials: For shares, the number of trials behind each (default: 1).
        confidence: The probability that the interval covers the truth.

    Raises:
        ValueError: A share times its number of trials is not an integer.

    Examples:
        >>> [round(end, 3) for end in estimate([1.0, 2.0, 3.0])]
        [2.0, -0.484, 4.484, 3.097]
        >>> [round(end, 3) for end in estimate([1.0, 1.0], "share", trials=[50, 50])]
        [1.0, 0.964, 1.0, 0.026]
    """
    if not all(map(math.isfinite, values)):
        return Estimate(float(np.mean(values)), math.nan, math.nan, math.nan)
    tail = (1 - confidence) / 2
    if form == "share":
        successes, n = successes_of(values, trials)
        low = special.betaincinv(successes, n - successes + 1, tail) if successes else 0.0
        high = special.betaincinv(successes + 1, n - successes, 1 - tail) if successes < n else 1.0
        if _is_clustered(values, trials):
            over_seeds = estimate(values, confidence=confidence)
            low, high = max(min(low, over_seeds.low), 0.0), min(max(high, over_seeds.high), 1.0)
        return _estimate(successes / n, float(low), float(high), n, confidence)
    if form == "median":
        n = len(values)
        outside = int(np.searchsorted(special.bdtr(np.arange(n), n, 0.5), tail, side="right"))
        ordered = [-math.inf, *sorted(values), math.inf]
        return _estimate(float(np.median(values)), ordered[outside], ordered[n + 1 - outside], n, confidence)
    if are_equal(values):
        values = [sorted(values)[len(values) // 2]] * len(values)
    if _logarithmic(values, form):
        of_logarithms = estimate(np.log(values).tolist(), confidence=confidence)
        value, low, high = map(exp_or_infinity, of_logarithms[:3])
        return _estimate(value, low, high, len(values), confidence)
    mean = float(np.mean(values))
    if len(set(values)) == 1:
        return Estimate(values[0], values[0], values[0], 0.0)
    half = float(np.std(values, ddof=1) / len(values) ** 0.5 * special.stdtrit(len(values) - 1, 1 - tail))
    return _estimate(mean, mean - half, mean + half, len(values), confidence)


def p_value(values: Sequence[float], threshold: float, form: Form = "mean", trials: Sequence[int] = ()) -> float:
    """The two-sided p-value of a threshold: below 5 % if ``estimate``'s interval excludes it.

    Values that equal the threshold up to rounding equal it.

    Args:
        values: One for each seed; shares lie between 0 and 1.
        threshold: The value that is tested.
        form: The estimated quantity.
        trials: For shares, the number of trials behind each (default: 1).

    Examples:
        >>> round(p_value([1.0, 2.0, 3.0], 0.0), 3)
        0.074
    """
    if form == "share":
        successes, n = successes_of(values, trials)
        if not 0 <= threshold <= 1:
            return 0.0
        at_most, at_least = special.bdtr(successes, n, threshold), special.bdtrc(successes - 1, n, threshold)
        exact = float(min(1.0, 2 * min(at_most, at_least if successes else 1.0)))
        return max(exact, p_value(values, threshold)) if _is_clustered(values, trials) else exact
    if form == "median":
        signs = [difference(value, threshold) for value in values]
        sides = sum(sign <= 0 for sign in signs), sum(sign >= 0 for sign in signs)
        return float(min(1.0, 2 * special.bdtr(min(sides), len(values), 0.5)))
    if are_equal(values):
        return float(are_equal([*values, threshold]))
    if _logarithmic(values, form):
        return p_value(np.log(values).tolist(), math.log(threshold)) if threshold > 0 else 0.0
    spread = np.std(values, ddof=1)
    if spread == 0:  # the squares of differences as small as 1e-200 are 0
        return float(np.mean(values) == threshold)
    t = (np.mean(values) - threshold) / (spread / len(values) ** 0.5)
    return float(2 * special.stdtr(len(values) - 1, -abs(t)))


def errors_at(looks: int) -> list[float]:
    """The probability of a false decision allowed at each of several looks; they add up to 5 %.

    It is 0.1 % at interim looks and the remainder at the last (Haybittle, 1971; Peto et al., 1976).

    Examples:
        >>> errors_at(3)
        [0.001, 0.001, 0.048]
    """
    return [INTERIM_ERROR] * (looks - 1) + [round(1 - CONFIDENCE - INTERIM_ERROR * (looks - 1), 9)]


def _logarithmic(values: Sequence[float], form: Form) -> bool:
    return form == "ratio" and min(values) > 0


def _is_clustered(values: Sequence[float], trials: Sequence[int]) -> bool:
    """Whether the spread between seeds shows how much the trials of a seed have in common."""
    return len(values) > 1 and max(trials, default=1) > 1


def successes_of(values: Sequence[float], trials: Sequence[int]) -> tuple[int, int]:
    """The total number of successes and of trials over all seeds."""
    counts = np.asarray(trials or [1] * len(values))
    successes = np.asarray(values) * counts
    if np.any(counts < 1):
        raise ValueError(f"trials = {counts.tolist()}: expected at least 1 for each seed")
    if np.any(np.abs(successes - np.round(successes)) > 0.2) or np.any((successes < 0) | (successes > counts)):
        raise ValueError(f"values = {list(values)}: expected shares of trials = {counts.tolist()}")
    return int(np.round(successes).sum()), int(counts.sum())


def exp_or_infinity(exponent: float) -> float:
    """The exponential, infinite where it overflows, as for the interval of few seeds orders of magnitude apart."""
    try:
        return math.exp(exponent)
    except OverflowError:
        return math.inf


def _estimate(value: float, low: float, high: float, n: int, confidence: float) -> Estimate:
    certain, likely = (special.stdtrit(max(n - 1, 1), level) for level in ((1 + confidence) / 2, POWER))
    return Estimate(value, low, high, float((high - low) / 2 * (1 + likely / certain)))
