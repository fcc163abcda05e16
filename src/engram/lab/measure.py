"""What a claim measures: a number made of the results of one seed, which knows the arms that it reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from engram.lab.claim import Claim, Criterion, ResultsOfSeed, at_least, at_most, within
from engram.lab.inference import Form


class Condition(NamedTuple):
    """A measure and the criterion that it must meet, as ``measure <= 0.1`` makes it."""

    metric: Measure
    holds: Criterion


@dataclass(frozen=True)
class Measure:
    """A number of one seed's results; measures can be subtracted, divided and held against thresholds.

    Attributes:
        compute: From the results of one seed, ``{arm: result}``, to the number.
        arms: The arms that it reads.
        form: How seeds are put together: by their ``"mean"``; as a quotient of measures is, by the geometric mean of
            their ``"ratio"``s; or as the ``"share"`` of all trials.
        trials: Of a share, in how many trials a seed found it.

    Examples:
        >>> lead = value("fast", "error") - value("slow", "error")
        >>> lead.arms, lead({"fast": {"error": 3.0}, "slow": {"error": 1.0}})
        (('fast', 'slow'), 2.0)
    """

    compute: Callable[[ResultsOfSeed], float]
    arms: tuple[str, ...]
    form: Form = "mean"
    trials: Callable[[ResultsOfSeed], int] = lambda results: 1

    def __call__(self, results: ResultsOfSeed) -> float:
        """Return the number."""
        return self.compute(results)

    def __sub__(self, other: Measure) -> Measure:
        return Measure(lambda results: self(results) - other(results), self._and(other))

    def __truediv__(self, other: Measure) -> Measure:
        return Measure(lambda results: self(results) / other(results), self._and(other), "ratio")

    def __le__(self, threshold: float) -> Condition:
        return Condition(self, at_most(threshold))

    def __ge__(self, threshold: float) -> Condition:
        return Condition(self, at_least(threshold))

    def within(self, target: float, tolerance: float) -> Condition:
        """Return the condition ``|self - target| <= tolerance``."""
        return Condition(self, within(target, tolerance))

    def _and(self, other: Measure) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.arms + other.arms))


def value(arm: str, key: str) -> Measure:
    """Return what an arm's trial returned under a key."""
    return Measure(lambda results: float(results[arm][key]), (arm,))


def share(arm: str, key: str, trials: str = "") -> Measure:
    """Return a share that an arm's trial returned under a key, of as many trials as it returned under another.

    Without the latter each seed is one trial, whose result is 0 or 1.
    """

    def counted(results: ResultsOfSeed) -> int:
        return int(results[arm][trials]) if trials else 1

    return Measure(lambda results: float(results[arm][key]), (arm,), "share", counted)


def smallest(key: str, *arms: str) -> Measure:
    """Return the smallest of what some arms' trials returned under a key."""
    return least(*(value(arm, key) for arm in arms))


def least(*measures: Measure) -> Measure:
    """Return the smallest of some measures."""
    arms = tuple(dict.fromkeys(arm for measure in measures for arm in measure.arms))
    return Measure(lambda results: min(measure(results) for measure in measures), arms)


def largest(key: str, *arms: str) -> Measure:
    """Return the largest of what some arms' trials returned under a key."""
    return most(*(value(arm, key) for arm in arms))


def most(*measures: Measure) -> Measure:
    """Return the largest of some measures."""
    arms = tuple(dict.fromkeys(arm for measure in measures for arm in measure.arms))
    return Measure(lambda results: max(measure(results) for measure in measures), arms)


def claimed(name: str, statement: str, condition: Condition, **about: Any) -> Claim:
    """Return the claim that a condition decides; ``about`` holds the further fields of ``Claim``.

    Examples:
        >>> claimed("small", "The error is small", value("main", "error") <= 0.1, source="", published="").arms
        ('main',)
    """
    return Claim(name, statement, metric=condition.metric, holds=condition.holds, **about)
