"""Claims: a published statement, our measure of it, and the inequality that decides, all fixed before the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

Verdict = Literal["reproduced", "reproduced at laptop scale", "not reproduced", "undecided", "not testable here"]
ResultsOfSeed = Mapping[str, Mapping[str, Any]]
"""The results of one seed: arm -> what its trial returned."""


@dataclass(frozen=True)
class Inequality:
    """One side of the number line, as ``at_most`` and ``at_least`` make it.

    Examples:
        >>> str(at_most(0.04)), at_most(0.04)(0.03)
        ('<= 0.04', True)
    """

    relation: Literal["<=", ">="]
    threshold: float

    def __call__(self, value: float) -> bool:
        """Return whether ``value`` is on this side (never for NaN)."""
        return value <= self.threshold if self.relation == "<=" else value >= self.threshold

    def __str__(self) -> str:
        return f"{self.relation} {self.threshold:g}"


def at_most(threshold: float) -> Inequality:
    """Return the inequality ``value <= threshold``."""
    return Inequality("<=", threshold)


def at_least(threshold: float) -> Inequality:
    """Return the inequality ``value >= threshold``."""
    return Inequality(">=", threshold)


@dataclass(frozen=True)
class Claim:
    """A published statement made decidable.

    Attributes:
        id: Short name, unique in its experiment.
        statement: What is claimed, in words.
        source: Where it is published (paper and section, or file).
        published: The published figure or, where there is none, the published words.
        metric: Computes our value from the results of one seed, ``{arm: result}``. A comparison between arms is
            a difference or a ratio against a threshold, paired by seed.
        holds: The inequality that our value must satisfy.
        arms: The arms that ``metric`` reads.
        threshold: Whose threshold it is: the ``"paper"``'s, or our own ``"laptop"``-size design.
        presets: The presets at whose size the claim means something.
        seeds: How many seeds a verdict needs at least.
        sameness: What our value has to share with the published one. ``"statistical"``: its mean over seeds, with
            a bootstrap interval. ``"numeric"``: every seed's value, give or take ``tolerance``. ``"bitwise"``:
            every seed's value, exactly.
        tolerance: Absolute tolerance of ``"numeric"``.
        confidence: Level of the interval.
    """

    id: str
    statement: str
    source: str
    published: str
    metric: Callable[[ResultsOfSeed], float]
    holds: Inequality
    arms: tuple[str, ...]
    threshold: Literal["paper", "laptop"]
    presets: tuple[str, ...] = ("laptop", "paper")
    seeds: int = 3
    sameness: Literal["statistical", "numeric", "bitwise"] = "statistical"
    tolerance: float = 0.0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.sameness == "statistical" and self.seeds < 2:
            raise ValueError(f"seeds = {self.seeds}: a statistical claim needs at least 2 seeds")
        if self.tolerance and self.sameness != "numeric":
            raise ValueError(f"tolerance = {self.tolerance}: only a numeric claim has one")


@dataclass(frozen=True)
class Judgement:
    """What a run says of a claim.

    Attributes:
        claim: The claim.
        values: Our value, seed by seed.
        ours: Their mean; NaN without values.
        low: Lower end of the interval; NaN without values.
        high: Upper end of the interval.
        verdict: One of the five.
        why: The reason, where the verdict is not decided by the interval.
    """

    claim: Claim
    values: Mapping[int, float]
    ours: float
    low: float
    high: float
    verdict: Verdict
    why: str = ""


def interval(claim: Claim, values: Sequence[float]) -> tuple[float, float]:
    """Return the interval in which the claim's value lies.

    For a statistical claim the percentile bootstrap of the mean over seeds (9999 resamples, fixed generator; its ends
    never leave the range of the data, which matters for few seeds); for the others the range over seeds, widened by
    the tolerance.

    Examples:
        >>> exact = Claim("c", "", "", "", min, at_most(1), (), "laptop", sameness="numeric", tolerance=0.5)
        >>> interval(exact, [1.0, 2.0])
        (0.5, 2.5)
    """
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan
    if claim.sameness != "statistical" or len(values) < 2 or len(set(values)) == 1:
        return min(values) - claim.tolerance, max(values) + claim.tolerance
    bootstrap = stats.bootstrap(
        (np.asarray(values),),
        np.mean,
        confidence_level=claim.confidence,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    # A mean of resampled values can leave their range by a rounding error.
    low, high = np.clip(bootstrap.confidence_interval, min(values), max(values))
    return float(low), float(high)


def judge(claim: Claim, results: Mapping[int, ResultsOfSeed], *, preset: str, why_not: str = "") -> Judgement:
    """Judge a claim.

    The whole interval on the right side of the threshold is *reproduced* (*at laptop scale*, unless the preset is
    ``paper``), the whole interval on the wrong side is *not reproduced*, and anything between is *undecided*.

    Args:
        claim: The claim.
        results: The finished trials: seed -> arm -> result.
        preset: The preset that was run.
        why_not: A reason known beforehand why this run cannot decide the claim.

    Returns:
        The judgement; our values are computed wherever the arms have results, also where they decide nothing.
    """
    complete = {seed: arms for seed, arms in results.items() if set(claim.arms) <= set(arms)}
    values = {seed: float(claim.metric(arms)) for seed, arms in sorted(complete.items())}
    numbers = list(values.values())
    ours = float(np.mean(numbers)) if numbers else math.nan
    low, high = interval(claim, numbers) if numbers else (math.nan, math.nan)

    def judged(verdict: Verdict, why: str = "") -> Judgement:
        return Judgement(claim, values, ours, low, high, verdict, why)

    if why_not:
        return judged("not testable here", why_not)
    if preset not in claim.presets:
        return judged("not testable here", f"needs preset {' or '.join(claim.presets)}")
    if not values:
        return judged("not testable here", f"no seed has results of all its arms: {', '.join(claim.arms)}")
    if not all(map(math.isfinite, numbers)):
        return judged("not reproduced", "a seed's value is not finite")
    if len(values) < claim.seeds:
        return judged("undecided", f"{len(values)} of the {claim.seeds} seeds that it needs")
    if claim.holds(low) and claim.holds(high):
        return judged("reproduced" if preset == "paper" else "reproduced at laptop scale")
    if not claim.holds(low) and not claim.holds(high):
        return judged("not reproduced")
    return judged("undecided", "the interval straddles the threshold")
