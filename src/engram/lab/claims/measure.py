"""The measure of a claim: a number computed from the results of one seed, with the arms whose results it reads."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from joblib.externals.loky.cloudpickle_wrapper import dumps, loads

from engram import checks
from engram.lab.claims.inference import Form
from engram.numeric.rounding import difference

ResultsOfSeed = Mapping[str, Mapping[str, Any]]
"""The results of one seed: arm -> what its trial returned."""


@dataclass(frozen=True)
class Criterion:
    """A range that our value must lie in, ends included.

    Attributes:
        low: The smallest value that meets it.
        high: The largest value that meets it.
    """

    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"<= {self.high:g}"
        return f">= {self.low:g}" if math.isinf(self.high) else f"{self.low:g} .. {self.high:g}"

    def end_near(self, value: float) -> float:
        """A value, or the end of the range that it equals up to rounding; of an array element by element.

        Examples:
            >>> Criterion(high=0.3).end_near(0.1 + 0.2), Criterion(high=0.3).end_near(0.2)
            (0.3, 0.2)
        """
        if isinstance(value, np.ndarray):
            near_low = np.where(difference(value, np.float64(self.low)) == 0, self.low, value)
            return np.where(difference(near_low, np.float64(self.high)) == 0, self.high, near_low)
        ends = (end for end in (self.low, self.high) if difference(value, end) == 0 and end != value)
        return float(next(ends, value))

    @property
    def refuted(self) -> str:
        """The outcome that refutes a claim with this criterion, in words."""
        ends = [f"below {self.low:g}"] * math.isfinite(self.low) + [f"above {self.high:g}"] * math.isfinite(self.high)
        return f"an interval entirely {' or '.join(ends)}"


class Condition(NamedTuple):
    """A measure and the criterion that it must meet, as ``measure <= 0.1`` makes it."""

    measure: Measure
    criterion: Criterion

    def __bool__(self) -> bool:
        raise TypeError(
            "a condition is judged over seeds, so it is neither true nor false: instead of low <= measure <= high, "
            "write measure.within(target, tolerance)"
        )


@dataclass(frozen=True)
class Measure:
    """A number computed from one seed's results; combine measures with ``+ - * /`` and compare them with thresholds.

    Results may also be arrays with one element a seed; all are then computed at once.

    Attributes:
        compute: The function from the results of one seed, ``{arm: result}``, to the number.
        arms: The arms that it reads.
        form: How seeds are combined: by ``"mean"`` or ``"median"``; by the geometric mean, for a quotient of measures
            (``"ratio"``); or as the ``"share"`` of all trials.
        trials: For a share, the number of trials of a seed.
        formula: The formula, as ``1 - (error(fast) / error(slow))``; empty if a function computes it.
        exact: The same function without levelled rounding, for bitwise comparisons (default: ``compute``).

    Examples:
        >>> error = metric("error")
        >>> lead = 1 - error("fast") / error("slow")
        >>> lead.formula
        '1 - (error(fast) / error(slow))'
        >>> lead.arms, lead({"fast": {"error": 1.0}, "slow": {"error": 4.0}})
        (('fast', 'slow'), 0.75)
    """

    compute: Callable[[ResultsOfSeed], float]
    arms: tuple[str, ...]
    form: Form = "mean"
    trials: Callable[[ResultsOfSeed], int] = lambda results: 1
    formula: str = ""
    exact: Callable[[ResultsOfSeed], float] | None = None

    def __call__(self, results: ResultsOfSeed) -> float:
        """The number."""
        return self.compute(results)

    def exactly(self, results: ResultsOfSeed) -> float:
        """The number, in which sums and differences keep what is rounding alone."""
        return (self.exact or self.compute)(results)

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and other processes: its functions may be closures, which ``pickle`` alone refuses."""
        return _measure_of, (dumps(vars(self)),)

    def __add__(self, other: Measure | float) -> Measure:
        return _combined("{} + {}", lambda a, b: difference(a, -b), self, other, exact=operator.add)

    def __radd__(self, other: float) -> Measure:
        return _combined("{} + {}", lambda a, b: difference(a, -b), other, self, exact=operator.add)

    def __sub__(self, other: Measure | float) -> Measure:
        return _combined("{} - {}", difference, self, other, exact=operator.sub)

    def __rsub__(self, other: float) -> Measure:
        return _combined("{} - {}", difference, other, self, exact=operator.sub)

    def __mul__(self, other: Measure | float) -> Measure:
        return _scaled(_combined("{} * {}", lambda a, b: a * b, self, other), self, other)

    def __rmul__(self, other: float) -> Measure:
        return _scaled(_combined("{} * {}", lambda a, b: a * b, other, self), self, other)

    def __truediv__(self, other: Measure | float) -> Measure:
        quotient = _combined("{} / {}", lambda a, b: a / b, self, other)
        return _as_ratio(quotient) if isinstance(other, Measure) else _scaled(quotient, self, other)

    def __rtruediv__(self, other: float) -> Measure:
        return _as_ratio(_combined("{} / {}", lambda a, b: a / b, other, self))

    def __abs__(self) -> Measure:
        return _combined("|{}|", abs, self)

    def __le__(self, threshold: float) -> Condition:
        return Condition(self, Criterion(high=_threshold(threshold)))

    def __ge__(self, threshold: float) -> Condition:
        return Condition(self, Criterion(low=_threshold(threshold)))

    def within(self, target: float, tolerance: float) -> Condition:
        """The condition ``|self - target| <= tolerance``."""
        checks.number("target", target)
        checks.number("tolerance", tolerance, minimum=0)
        return Condition(self, Criterion(target - tolerance, target + tolerance))

    def averaged(self) -> Measure:
        """The same ratio, averaged over seeds by the arithmetic mean; raise ValueError if it is not a ratio."""
        if self.form != "ratio":
            raise ValueError(f"averaged: expected a ratio, and {self.formula or 'the measure'} is a {self.form}")
        return replace(self, form="mean")

    def median(self) -> Measure:
        """The same number, combined over seeds by the median, for one that spreads over orders of magnitude."""
        return replace(self, form="median")


def _measure_of(fields: bytes) -> Measure:
    return Measure(**loads(fields))


def metric(*keys: str | int) -> Callable[[str], Measure]:
    """A number of the results, as a function from an arm to its measure.

    With ``error = metric("error")``, the measure of an arm is ``error("plastic")``.

    Args:
        *keys: Its key; or the path of keys and list indices that leads to it.
    """

    def measure(arm: str) -> Measure:
        name = ".".join(map(str, keys))
        return Measure(lambda results: _at(results[arm], keys), (arm,), formula=f"{name}({arm})")

    return measure


def share(key: str, trials: str = "") -> Callable[[str], Measure]:
    """A share that trials return, as a function from an arm to its measure.

    Args:
        key: Its key.
        trials: The key of the number of trials that it is a share of (default: each seed is one trial, 0 or 1).
    """

    def measure(arm: str) -> Measure:
        trial_count = (lambda results: int(results[arm][trials])) if trials else (lambda results: 1)
        return Measure(lambda results: _at(results[arm], (key,)), (arm,), "share", trial_count, f"{key}({arm})")

    return measure


def met(condition: Condition) -> Measure:
    """Whether a seed meets a condition, combined over seeds as the share that do.

    Examples:
        >>> solved = met(metric("error")("main") <= 0.1)
        >>> solved({"main": {"error": 0.2}}), solved.form
        (0.0, 'share')
    """
    measure, criterion = condition
    low, high = criterion.low, criterion.high
    formula = measure.formula and f"share of seeds with {measure.formula} {condition.criterion}"

    def is_met(results: ResultsOfSeed) -> float:
        value = criterion.end_near(measure(results))
        if isinstance(value, np.ndarray):
            return ((low <= value) & (value <= high)).astype(np.float64)
        return float(low <= value <= high)

    return Measure(is_met, measure.arms, "share", formula=formula)


def minimum(*measures: Measure | float) -> Measure:
    """The smallest of some measures; NaN if one of them is."""
    return _combined("min({})", lambda *values: np.min(np.broadcast_arrays(*values), axis=0)[()], *measures)


def maximum(*measures: Measure | float) -> Measure:
    """The largest of some measures; NaN if one of them is."""
    return _combined("max({})", lambda *values: np.max(np.broadcast_arrays(*values), axis=0)[()], *measures)


def _combined(
    template: str,
    function: Callable[..., float],
    *terms: Measure | float,
    exact: Callable[..., float] | None = None,
) -> Measure:
    """Combine measures and numbers by a function; the result reads the arms of all of them, and has a formula.

    It is combined over seeds by the median if all these measures are, otherwise by the mean.
    """
    measures = [term for term in terms if isinstance(term, Measure)]
    arms = tuple(dict.fromkeys(arm for measure in measures for arm in measure.arms))
    form: Form = "median" if measures and all(measure.form == "median" for measure in measures) else "mean"
    formulas = [term.formula if isinstance(term, Measure) else f"{term:g}" for term in terms]
    if template.count("{}") < len(formulas):
        formulas = [", ".join(formulas)] * all(formulas)
    elif len(formulas) > 1:
        formulas = [f"({formula})" if " " in formula else formula for formula in formulas]
    formula = template.format(*formulas) if formulas and all(formulas) else ""
    exact_function = exact or function

    def compute(results: ResultsOfSeed) -> float:
        return function(*(term(results) if isinstance(term, Measure) else term for term in terms))

    def compute_exactly(results: ResultsOfSeed) -> float:
        return exact_function(*(term.exactly(results) if isinstance(term, Measure) else term for term in terms))

    return Measure(compute, arms, form, formula=formula, exact=compute_exactly)


def _threshold(value: Any) -> float:
    if isinstance(value, Measure):
        raise TypeError(
            f"threshold = {value.formula or 'a measure'}: expected a number; write a - b <= margin for a <= b"
        )
    return checks.number("threshold", value)


def _scaled(product: Measure, measure: Measure, factor: Measure | float) -> Measure:
    """A measure times a number: a ratio stays a ratio, a share does not stay a share."""
    return _as_ratio(product) if measure.form == "ratio" and not isinstance(factor, Measure) else product


def _as_ratio(quotient: Measure) -> Measure:
    """A quotient, combined over seeds by the geometric mean unless it is by the median."""
    return quotient if quotient.form == "median" else replace(quotient, form="ratio")


def _at(result: Any, keys: tuple[str | int, ...]) -> float:
    for key in keys:
        result = result[key]
    return result if isinstance(result, np.ndarray) else float(result)  # type: ignore[return-value]
