"""Claims: a published statement, our measure of it, and the criterion that decides, all fixed before the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Verdict = Literal["reproduced", "reproduced at laptop scale", "not reproduced", "undecided", "not testable here"]
CONFIDENCE = 0.95
OWNERS = {"paper": "the paper's", "laptop": "our laptop design"}
ResultsOfSeed = Mapping[str, Mapping[str, Any]]
"""The results of one seed: arm -> what its trial returned."""


@dataclass(frozen=True)
class Criterion:
    """A range that our value must lie in, ends included, as ``at_most``, ``at_least`` and ``within`` make it."""

    low: float
    high: float

    def __str__(self) -> str:
        if math.isinf(self.low):
            return f"<= {self.high:g}"
        return f">= {self.low:g}" if math.isinf(self.high) else f"{self.low:g} .. {self.high:g}"


def at_most(threshold: float) -> Criterion:
    """Return the criterion ``value <= threshold``."""
    return Criterion(-math.inf, threshold)


def at_least(threshold: float) -> Criterion:
    """Return the criterion ``value >= threshold``."""
    return Criterion(threshold, math.inf)


def within(target: float, tolerance: float = 0.0) -> Criterion:
    """Return the criterion ``|value - target| <= tolerance``."""
    return Criterion(target - tolerance, target + tolerance)


@dataclass(frozen=True)
class Claim:
    """A published statement made decidable.

    Attributes:
        id: Short name, unique in its experiment.
        statement: What is claimed, in words.
        source: Where it is published.
        published: The published figure or, where there is none, the published words.
        metric: Computes our value from the results of one seed, ``{arm: result}``. A comparison between arms is
            a difference or a ratio against a threshold, paired by seed.
        holds: The criterion that our value must meet.
        arms: The arms that ``metric`` reads; of a ``Measure`` they need not be said.
        threshold: Whose criterion it is: the ``"paper"``'s, or our own ``"laptop"``-size design.
        presets: The presets at whose size the claim means something.
        seeds: How many seeds a verdict needs at least; one seed decides nothing.
        sameness: What has to meet the criterion. ``"statistical"``: the mean over seeds, with a bootstrap interval.
            ``"numeric"``: every seed's value. ``"bitwise"``: every seed's value, all of them equal.
    """

    id: str
    statement: str
    source: str
    published: str
    metric: Callable[[ResultsOfSeed], float]
    holds: Criterion
    arms: tuple[str, ...] = ()
    threshold: Literal["paper", "laptop"] = "laptop"
    presets: tuple[str, ...] = ("laptop", "paper")
    seeds: int = 3
    sameness: Literal["statistical", "numeric", "bitwise"] = "statistical"

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"seeds = {self.seeds}: expected at least 2, since one seed decides nothing")
        if not self.arms:
            object.__setattr__(self, "arms", getattr(self.metric, "arms", ()))


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with what a run found: our value by seed, its mean, the interval (NaN without values), and the verdict.

    ``why`` is the reason, where the verdict is not decided by the interval.
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

    For a statistical claim the 95 % percentile bootstrap of the mean over seeds (9999 resamples, fixed generator; its
    ends never leave the range of the data, which matters for few seeds); for the others the range over seeds.
    """
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan
    if claim.sameness != "statistical" or len(set(values)) == 1:
        return min(values), max(values)
    from scipy import stats  # takes a second to import, and no worker needs it

    data, rng = (np.asarray(values),), np.random.default_rng(0)
    bootstrap = stats.bootstrap(data, np.mean, confidence_level=CONFIDENCE, method="percentile", rng=rng)
    # A mean of resampled values can leave their range by a rounding error.
    low, high = np.clip(bootstrap.confidence_interval, min(values), max(values))
    return float(low), float(high)


def judge(
    claim: Claim, results: Mapping[int, ResultsOfSeed], *, preset: str, seeds: int = 0, why_not: str = ""
) -> JudgedClaim:
    """Judge a claim.

    The whole interval within the criterion is *reproduced* (*at laptop scale*, unless the preset is ``paper``), the
    whole interval outside is *not reproduced*, and anything between is *undecided*.

    Args:
        claim: The claim.
        results: The finished trials: seed -> arm -> result.
        preset: The preset that was run.
        seeds: How many seeds were asked for; where one of them is missing, nothing is decided, since those that fail
            may be those that would tell.
        why_not: A reason known beforehand why this run cannot decide the claim.
    """
    complete = {seed: arms for seed, arms in sorted(results.items()) if set(claim.arms) <= set(arms)}
    values: dict[int, float] = {}
    broken = ""
    for seed, arms in complete.items():
        try:
            values[seed] = float(claim.metric(arms))
        except Exception as error:
            broken = f"no value for seed {seed}: {type(error).__name__}: {error}"
    numbers = list(values.values())
    ours = float(np.mean(numbers)) if numbers else math.nan
    low, high = interval(claim, numbers) if numbers else (math.nan, math.nan)
    needed = max(claim.seeds, seeds)

    def judged(verdict: Verdict, why: str = "") -> JudgedClaim:
        return JudgedClaim(claim, values, ours, low, high, verdict, why)

    if why_not:
        return judged("not testable here", why_not)
    if preset not in claim.presets:
        return judged("not testable here", f"needs preset {' or '.join(claim.presets)}")
    if not complete:
        return judged("not testable here", f"no seed has results of all its arms: {', '.join(claim.arms)}")
    if broken:
        return judged("undecided", broken)
    if len(values) < needed:
        return judged("undecided", f"{len(values)} of the {needed} seeds that it needs")
    if not all(map(math.isfinite, numbers)):
        return judged("not reproduced", "a seed's value is not finite")
    if claim.sameness == "bitwise" and len(set(numbers)) > 1:
        return judged("not reproduced", "the seeds differ")
    if claim.holds.low <= low and high <= claim.holds.high:
        return judged("reproduced" if preset == "paper" else "reproduced at laptop scale")
    if high < claim.holds.low or claim.holds.high < low:
        return judged("not reproduced")
    return judged("undecided", "the interval straddles the threshold")
