"""What a sample says: an estimate with its interval and p-value, at one look or at any time, and the seeds it lacks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import special

from engram.lab.claims import anytime
from engram.lab.claims.claim import beyond, p_of_criterion
from engram.lab.claims.inference import CONFIDENCE, estimate, p_value
from engram.lab.claims.location import (
    FEW_SEEDS,
    Location,
    ends,
    location_of,
    statistic,
    student_critical,
    student_p,
)
from engram.lab.claims.measure import Criterion
from engram.lab.claims.power import MOST_SIMULATED, guarded_power, seeds_needed, share_power, smallest_distance, t_power
from engram.lab.judging.sample import Sample
from engram.numeric.rounding import are_equal

ALPHA = round(1 - CONFIDENCE, 9)
LEAST = 3  # seeds for a verdict
KEPT = 0.4  # the share of the error that one arm with few seeds may use
INVERSIONS = 30
DRAWN = 200  # tables for the power of a difference of shares


class Rule(NamedTuple):
    """What an interval is held to.

    Attributes:
        error: The probability that it does not cover the truth.
        at_any_time: Whether that holds over all numbers of units together.
    """

    error: float = ALPHA
    at_any_time: bool = False


ONCE = Rule()


class Assessment(NamedTuple):
    """What a sample says about a criterion.

    Attributes:
        effect: The estimate.
        low, high: Its interval; infinite where there is none.
        p: The p-value of the criterion.
        resolution: The smallest distance from the threshold that so many seeds decide four times in five.
        why: Why nothing can be decided, if that is so.
    """

    effect: float
    low: float
    high: float
    p: float
    resolution: float = math.nan
    why: str = ""


def assess(sample: Sample, criterion: Criterion, rule: Rule = ONCE) -> Assessment:
    """What a sample says about a criterion.

    Args:
        sample: The sample.
        criterion: The range that the effect must lie in.
        rule: What the interval is held to.
    """
    if sample.size < LEAST and sample.form != "share":
        return _too_few(sample)
    if sample.form == "share":
        return _of_share(sample, criterion, rule)
    if sample.form == "median":
        return _of_median(sample, criterion, rule)
    if sample.is_binary:
        return _of_two_shares(sample, criterion, rule)
    if all(are_equal(part) for part in sample.parts):
        effect = _effect(sample)
        why = f"the values of all {sample.size} {sample.unit}s are equal, so nothing shows how far another one may lie"
        return Assessment(effect, -math.inf, math.inf, 1.0, why=why)
    return _of_location(sample, criterion, rule)


def lacking(sample: Sample, criterion: Criterion, rule: Rule = ONCE) -> int | None:
    """How many units decide the claim four times in five, if the truth is what the sample says; None beyond reason.

    Args:
        sample: The sample.
        criterion: The range that the effect must lie in.
        rule: What the interval is held to.
    """
    power = power_of_number(sample, criterion, rule)
    return None if power is None else seeds_needed(power, sample.size)


def _too_few(sample: Sample) -> Assessment:
    count = sample.size
    why = f"one {sample.unit} shows no spread, so nothing is shown" if count == 1 else (
        f"{count} {sample.unit}s: at least {LEAST} are needed"
    )  # fmt: skip
    return Assessment(_effect(sample), -math.inf, math.inf, math.nan, why=why)


def _effect(sample: Sample) -> float:
    if sample.form == "median":
        return float(np.median(sample.parts[0]))
    if sample.form == "ratio" and all(bool(np.all(part > 0)) for part in sample.parts):
        return math.exp(sum(float(np.mean(np.log(part))) for part in sample.parts))
    return sum(float(np.mean(part)) for part in sample.parts)


# Means, differences of means, and ratios in their logarithms.


def _scaled(sample: Sample) -> tuple[tuple[np.ndarray, ...], bool]:
    """The numbers on the scale that their mean is judged on, and whether that is logarithmic."""
    is_log = sample.form == "ratio" and all(bool(np.all(part > 0)) for part in sample.parts)
    return tuple(np.log(part) if is_log else part for part in sample.parts), is_log


def _guard(sample: Sample, count: int) -> tuple[float, float]:
    """How many times skewness is corrected for, and the share of the error that may be used.

    The skewness of two arms cancels where their values are distributed alike, that of one arm does not; of few seeds it
    is not seen either, so that most of the error is kept back: then exponential values of one arm, of three seeds or
    more, give no more than 5 % false verdicts.
    """
    if sample.kind != "one arm":
        return 0.0, 1.0
    return 1.0, 1.0 if count >= FEW_SEEDS else KEPT


def _location(sample: Sample, rule: Rule) -> tuple[Location, bool]:
    parts, is_log = _scaled(sample)
    if rule.at_any_time and len(parts) > 1:  # of one sequence of numbers, in the order of the seeds
        parts = (np.sum([part[: sample.size] for part in parts], axis=0),)
    return location_of(*parts), is_log


def _critical(sample: Sample, count: int, freedom: float, rule: Rule) -> float:
    allowed = rule.error * _guard(sample, count)[1]
    return anytime.critical(count, allowed) if rule.at_any_time else student_critical(freedom, allowed)


def _of_location(sample: Sample, criterion: Criterion, rule: Rule) -> Assessment:
    location, is_log = _location(sample, rule)
    count = location.seeds
    guard, used = _guard(sample, count)
    if location.error == 0:
        return Assessment(_effect(sample), -math.inf, math.inf, 1.0, why="the values have no spread")
    critical = _critical(sample, count, location.freedom, rule)
    low, high = ends(location, critical, guard)
    scale: Callable[[float], float] = _log if is_log else float
    back: Callable[[float], float] = _exp if is_log else float

    def p_beyond(end: float, outside: int) -> float:
        t = statistic(location, scale(end), guard) if math.isfinite(scale(end)) else math.inf
        p = anytime.p_of_t(t, count) if rule.at_any_time else student_p(t, location.freedom)
        return min(1.0, p / used)

    p = p_of_criterion(_on(criterion, scale), location.value, lambda end, outside: p_beyond(back(end), outside))
    effect, why = back(location.value), ""
    if math.isinf(critical):
        why = f"{count} {sample.unit}s are too few for an interval that holds over all numbers of them"
    return Assessment(effect, back(low), back(high), p, why=why)


def detectable(sample: Sample, ours: Assessment, rule: Rule = ONCE) -> float:
    """The smallest distance from the threshold that so many units decide four times in five.

    Args:
        sample: The sample.
        ours: What ``assess`` gave.
        rule: What its interval is held to.
    """
    if (
        not math.isnan(ours.resolution)
        or math.isinf(ours.low)
        or sample.form in ("share", "median")
        or sample.is_binary
    ):
        return ours.resolution
    location, is_log = _location(sample, rule)
    distance = smallest_distance(lambda shift: _power(sample, location, (shift, location.seeds), rule), location.error)
    return ours.effect * (_exp(distance) - 1) if is_log else distance


def _power(sample: Sample, location: Location, of: tuple[float, int], rule: Rule) -> float:
    """The power at a distance in standard errors of a number of units."""
    shift, count = of
    freedom = location.freedom * (count - 1) / (location.seeds - 1)
    critical = _critical(sample, count, freedom, rule)
    guard = _guard(sample, count)[0]
    is_one = rule.at_any_time or len(sample.parts) == 1
    if not guard or count > MOST_SIMULATED:
        return t_power(shift, freedom, critical)
    return guarded_power(shift, count, critical, guard, 1 if is_one else 2)


def _on(criterion: Criterion, scale: Callable[[float], float]) -> Criterion:
    return Criterion(*(end if math.isinf(end) else scale(end) for end in (criterion.low, criterion.high)))


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0)) if value < math.inf else math.inf


# Shares of successes.


def _of_share(sample: Sample, criterion: Criterion, rule: Rule) -> Assessment:
    assert sample.trials is not None
    values, trials = sample.parts[0], sample.trials.astype(int)
    n, k = int(trials.sum()), int(np.rint(values * trials).sum())
    is_clustered = int(trials.max()) > 1
    if is_clustered and sample.size < LEAST:
        return _too_few(sample)
    if n < LEAST:
        return _too_few(sample)
    as_list = [int(count) for count in trials]
    if rule.at_any_time:
        low, high = anytime.share_ends(k, n, rule.error)
        p = p_of_criterion(
            criterion, k / n, lambda end, outside: anytime.p_of_share(k, n, beyond(end, outside, "share"))
        )
        resolution = (high - low) / 2
    else:
        ours = estimate(values.tolist(), "share", as_list, 1 - rule.error)
        low, high, resolution = ours.low, ours.high, ours.resolution
        p = p_of_criterion(
            criterion, ours.value,
            lambda end, outside: p_value(values.tolist(), beyond(end, outside, "share"), "share", as_list),
        )  # fmt: skip
    if is_clustered and rule.at_any_time and not are_equal(values):  # the trials of a seed may succeed together
        spread = _of_location(_as_means(sample), criterion, rule)
        low, high, p = min(low, spread.low), max(high, spread.high), max(p, spread.p)
    return Assessment(k / n, max(low, 0.0), min(high, 1.0), p, resolution)


def _as_means(sample: Sample) -> Sample:
    return Sample(sample.kind, "mean", sample.parts, sample.names, sample.unit)


def _share_interval(k: int, n: int, rule: Rule) -> tuple[float, float]:
    if rule.at_any_time:
        return anytime.share_ends(k, n, rule.error)
    return estimate([k / n], "share", [n], 1 - rule.error)[1:3]


def _two_shares(sample: Sample) -> tuple[tuple[int, int], tuple[int, int]]:
    """The successes and trials of two shares to subtract: of pairs those that differ in one sense and in the other."""
    if sample.kind == "paired":
        of_pairs = sample.parts[0]
        return (int(np.sum(of_pairs > 0)), len(of_pairs)), (int(np.sum(of_pairs < 0)), len(of_pairs))
    first, second = ((int(np.rint(np.abs(part).sum())), len(part)) for part in sample.parts)
    return first, second


def _two_share_ends(sample: Sample, rule: Rule) -> tuple[float, float]:
    """The interval of a difference of two shares, each within its own interval.

    Of independent arms the intervals are combined as by Newcombe (1998); pairs that differ in one sense and in the
    other depend on each other, and both have to lie in intervals of half the error.
    """
    is_joint = sample.kind == "paired" or rule.at_any_time
    each = rule._replace(error=rule.error / 2 if is_joint else rule.error)
    (k, n), (other, m) = _two_shares(sample)
    (low, high), (least, most) = _share_interval(k, n, each), _share_interval(other, m, each)
    if is_joint:
        return max(low - most, -1.0), min(high - least, 1.0)
    below, above = math.hypot(k / n - low, most - other / m), math.hypot(high - k / n, other / m - least)
    return k / n - other / m - below, k / n - other / m + above


def _of_two_shares(sample: Sample, criterion: Criterion, rule: Rule) -> Assessment:
    """A difference of two shares; its p-value is the error at which the interval ends at the threshold."""
    (k, n), (other, m) = _two_shares(sample)

    def p_beyond(end: float, outside: int) -> float:
        small, large = math.log(1e-12), -1e-6
        for _ in range(INVERSIONS):
            middle = (small + large) / 2
            low, high = _two_share_ends(sample, rule._replace(error=math.exp(middle)))
            small, large = (small, middle) if not low <= end <= high else (middle, large)
        return math.exp(large)

    low, high = _two_share_ends(sample, rule)
    effect = k / n - other / m
    return Assessment(effect, low, high, p_of_criterion(criterion, effect, p_beyond), (high - low) / 2)


def _power_of_two_shares(sample: Sample, end: float, count: int, rule: Rule) -> float:
    """The share of tables, drawn from the units of the sample, that decide on its side of a threshold."""
    rng = np.random.default_rng(count)
    is_above = _effect(sample) > end
    decided = 0
    for _ in range(DRAWN):
        parts = tuple(rng.choice(part, count) for part in sample.parts)
        low, high = _two_share_ends(replace(sample, parts=parts), rule)
        decided += low > end if is_above else high < end
    return decided / DRAWN


# Medians.


def _of_median(sample: Sample, criterion: Criterion, rule: Rule) -> Assessment:
    values = sample.parts[0].tolist()
    n, ours = len(values), float(np.median(values))
    if rule.at_any_time:
        outside = anytime.median_outside(n, rule.error)
        ordered = [-math.inf, *sorted(values), math.inf]
        low, high = ordered[min(outside, (n + 1) // 2)], ordered[n + 1 - min(outside, (n + 1) // 2)]

        def p_beyond(end: float, side: int) -> float:
            threshold = beyond(end, side, "median")
            few = min(sum(value <= threshold for value in values), sum(value >= threshold for value in values))
            return anytime.p_of_share(few, n, 0.5) if few <= n / 2 else 1.0

        p, resolution = p_of_criterion(criterion, ours, p_beyond), math.nan
    else:
        found = estimate(values, "median", confidence=1 - rule.error)
        low, high, resolution = found.low, found.high, found.resolution
        p = p_of_criterion(
            criterion, ours, lambda end, outside: p_value(values, beyond(end, outside, "median"), "median")
        )
    why = ""
    if math.isinf(low) and math.isinf(high):
        why = f"the exact interval of a median is unbounded for {n} {sample.unit}s"
    return Assessment(ours, low, high, p, resolution, why)


# How many more.


def power_of_number(sample: Sample, criterion: Criterion, rule: Rule = ONCE) -> Callable[[int], float] | None:
    """The power of a number of units, if the truth is what the sample says; None if that decides nothing.

    Args:
        sample: The sample.
        criterion: The range that the effect must lie in.
        rule: What the interval is held to.
    """
    effect = _effect(sample) if sample.form != "share" else float(
        np.average(sample.parts[0], weights=sample.trials)
    )  # fmt: skip
    end = _end_of(criterion, effect)
    if end == effect or math.isnan(effect):
        return None
    if sample.form == "share" and sample.trials is not None and int(sample.trials.max()) == 1:
        return lambda n: share_power(effect, n, lambda k, of: _share_decides((k, of), end, effect, rule))
    if sample.form == "median":
        values = sample.parts[0]
        on_side = float(np.mean(values > end) if effect > end else np.mean(values < end))
        if on_side <= 0.5:
            return None
        return lambda n: share_power(on_side, n, lambda k, of: _share_decides((k, of), 0.5, on_side, rule))
    if sample.is_binary:
        return lambda n: _power_of_two_shares(sample, end, n, rule)
    if sample.size < 2:
        return None
    own = _as_means(sample) if sample.form == "share" else sample
    location, is_log = _location(own, rule)
    distance = abs(location.value - (_log(end) if is_log else end))
    if location.error == 0 or not math.isfinite(distance) or distance == 0:
        return None

    def power(n: int) -> float:
        shift = distance / location.error * math.sqrt(n / location.seeds)
        return _power(own, location, (shift, n), rule) if n >= LEAST else 0.0

    return power


def _end_of(criterion: Criterion, effect: float) -> float:
    """The end of the range that decides."""
    finite = [end for end in (criterion.low, criterion.high) if math.isfinite(end)]
    return min(finite, key=lambda end: abs(end - effect))


def _share_decides(counts: tuple[int, int], threshold: float, share: float, rule: Rule) -> bool:
    """Whether successes of trials decide on the side of a threshold on which the share lies."""
    k, n = counts
    if rule.at_any_time:
        return (k / n > threshold) == (share > threshold) and anytime.p_of_share(k, n, threshold) <= rule.error
    if share > threshold:
        return k > 0 and float(special.bdtrc(k - 1, n, threshold)) <= rule.error / 2
    return float(special.bdtr(k, n, threshold)) <= rule.error / 2
