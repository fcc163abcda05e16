"""Claims: a published statement, our measure of it, and the criterion that decides."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from engram import checks
from engram.claim_rows import Cell, Row, as_html
from engram.errors import message_of
from engram.lab.claims.inference import CONFIDENCE, Estimate, Form, errors_at, estimate, p_value, successes_of
from engram.lab.claims.measure import Condition, Criterion, Measure, ResultsOfSeed
from engram.numeric.rounding import FEW, are_equal
from engram.verdicts import Verdict, counted

Threshold = Literal["paper", "ours"]
Sameness = Literal["statistical", "numeric", "bitwise", "identity"]
OWNERS = {"paper": "the paper's", "ours": "ours"}


@dataclass(frozen=True)
class Claim:
    """A published statement with a criterion that decides it.

    Attributes:
        id: Short name, unique in its experiment.
        statement: The claim in words, without the number in the criterion.
        condition: Our measure of it, computed from the results of one seed (comparisons of arms are paired by seed),
            and the criterion that it must meet, as in ``error("plastic") <= 0.04``.
        source: Where it is published.
        published: The published figure or, if there is none, the published words. Empty if nothing was published.
        threshold: Whose criterion it is: the published statement or figure itself (``"paper"``), or our own, such as a
            comparison with controls (``"ours"``).
        presets: The presets at which it is judged (default: all but ``"smoke"``).
        seeds: The smallest number of seeds for a verdict; one seed is never enough.
        sameness: The values that have to meet the criterion. ``"statistical"``: the mean over seeds, with an interval
            that depends on the form of the measure (such as a ratio, or a share of trials). ``"numeric"``: the value
            of every seed. ``"bitwise"``: the value of every seed, and all are equal. ``"identity"``: the value of every
            seed, by construction; this tests the code, and is not a claim.
        untestable: The reason why no run here can decide it, if there is one; the verdict is *not testable here*.
        revised: What its criterion was before, if it was changed when the record was known.

    Raises:
        TypeError: ``condition`` is not a condition, ``presets`` is a single string, or ``seeds`` is not an integer.
        ValueError: ``threshold`` or ``sameness`` is none of these words, or ``seeds`` is less than 2.
    """

    id: str
    statement: str
    condition: Condition
    source: str = ""
    published: str = ""
    threshold: Threshold = "ours"
    presets: tuple[str, ...] = ()
    seeds: int = 3
    sameness: Sameness = "statistical"
    untestable: str = ""
    revised: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.condition, Condition):
            raise TypeError(
                f"condition of claim {self.id!r} = {checks.shown(self.condition)}: expected a measure compared with a "
                "number, as in error('plastic') <= 0.04"
            )
        if isinstance(self.presets, str):
            raise TypeError(f"presets = {self.presets!r}: expected a tuple of names, as in ({self.presets!r},)")
        checks.choice("threshold", self.threshold, get_args(Threshold))
        checks.choice("sameness", self.sameness, get_args(Sameness))
        if checks.size("seeds", self.seeds) < 2:
            raise ValueError(f"seeds = {self.seeds}: expected at least 2, since one seed cannot decide a claim")

    @property
    def measure(self) -> Measure:
        """The measured quantity."""
        return self.condition.measure

    @property
    def criterion(self) -> Criterion:
        """The criterion that our value must meet."""
        return self.condition.criterion

    def is_judged_at(self, preset: str) -> bool:
        """Whether a preset of this name judges it."""
        return preset in self.presets if self.presets else preset != "smoke"

    def words(self, is_published: bool) -> tuple[Verdict, Verdict]:
        """The verdicts if the criterion is met, and if it is not.

        Args:
            is_published: Whether the settings are the published ones.
        """
        if not self.published:
            return "holds", "fails"
        if is_published and self.threshold == "paper":
            return "reproduced", "not reproduced"
        return "agrees", "disagrees"

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that the measure reads."""
        return self.measure.arms


def claims_from(source: str, **common: Any) -> Callable[..., Claim]:
    """A factory for claims from one source: ``claim(id, statement, condition)``.

    Args:
        source: Where they are published.
        **common: Further fields of ``Claim`` that they share; a claim may override them.

    Examples:
        >>> from engram.lab import metric
        >>> claim = claims_from("table 2", published="0.9")
        >>> claim("small", "The error is small", metric("error")("main") <= 0.1).arms
        ('main',)
    """

    def claim(id: str, statement: str, condition: Condition, **fields: Any) -> Claim:  # noqa: A002
        return Claim(id, statement, condition, **{"source": source, **common, **fields})

    return claim


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its estimate and verdict in a run.

    Attributes:
        claim: The claim.
        values: Our value by seed.
        ours, low, high: Our value and its interval; all NaN without values. The interval of a statistical claim is NaN
            with a single seed, unless that is a share of several trials.
        verdict: The verdict.
        why: The reason, if the interval does not decide the verdict.
        resolution: Distance of our value from the threshold at which this number of seeds decides four times in five;
            NaN unless the claim is statistical.
        p: The p-value of the threshold, over all looks that have been made; below 5 % if the interval decides; NaN if
            nothing was tested.
        corrected: The verdict that counts, corrected for many tests as ``engram.lab.claims.correction`` says.
        lacks: Estimated number of further seeds that the claim needs to count as its interval decides it; 0 if it does.
        look: The look, counted from 1, that decided it or is the last so far; 0 if all seeds are judged at once.
        confidence: Probability that the interval covers the truth.
        plans: The number of plans of looks by which it was judged, each made when the results of the one before were
            known; 1 if no plan was extended for it.
        is_open: Whether further looks, with more seeds, may decide it.
        is_tried: Whether any seed has finished the trials that it reads; if not, nothing is said about it yet.
    """

    claim: Claim
    values: Mapping[int, float]
    ours: float
    low: float
    high: float
    verdict: Verdict
    why: str = ""
    resolution: float = math.nan
    p: float = math.nan
    corrected: Verdict = "undecided"
    lacks: int = 0
    look: int = 0
    confidence: float = CONFIDENCE
    plans: int = 1
    is_open: bool = False
    is_tried: bool = True

    def bounds(self, digits: str = ".3g") -> str:
        """The interval in words: ``[low, high]``, or a note that one seed has no interval.

        Args:
            digits: Format of its ends.
        """
        if len(self.values) == 1 and math.isnan(self.low):
            return "(one seed)"
        return f"[{self.low:{digits}}, {self.high:{digits}}]"

    def row(self, digits: str = ".4g", **more: str) -> Row:
        """The claim as a row of a table.

        Args:
            digits: Format of our value.
            **more: Further fields of the row.
        """
        ours, interval = (f"{self.ours:{digits}}", self.bounds()) if self.values else ("", "")
        why = f" ({self.why})" if self.why else ""
        criterion, seeds = str(self.claim.criterion), len(self.values)
        return Row(self.claim.statement, criterion, ours, interval, seeds, self.verdict, **{"why": why, **more})

    def _repr_html_(self) -> str:
        return table([self])


def tally(judged: Sequence[JudgedClaim]) -> dict[str, int]:
    """How many of the claims that were tried have each verdict that counts, the best first.

    Args:
        judged: The claims.
    """
    counts = Counter(each.corrected for each in judged if each.is_tried)
    return {verdict: counts[verdict] for verdict in get_args(Verdict) if counts[verdict]}


def counted_claims(judged: Sequence[JudgedClaim]) -> str:
    """The number of claims that hold, in words; those that were not tried are told apart.

    Args:
        judged: The claims.
    """
    return counted(tally(judged), sum(not each.is_tried for each in judged))


def table(judged: Sequence[JudgedClaim]) -> str:
    """Verdicts as a table for notebooks.

    Args:
        judged: The claims.
    """
    names: tuple[Cell, ...] = ("claim", "criterion", "ours", "interval", "seeds", "verdict")
    return as_html([each.row() for each in judged], {name: name for name in names})


def interval(
    measure: Measure,
    values: Mapping[int, float],
    trials: Mapping[int, int],
    confidence: float = CONFIDENCE,
    sameness: Sameness = "statistical",
) -> Estimate:
    """Our value and the interval in which it lies: that of ``estimate``, or the range over seeds.

    One seed's value has neither interval nor resolution, unless it is a share of several trials.

    Args:
        measure: What is measured.
        values: Its values, by seed.
        trials: The number of trials behind each of these values.
        confidence: The probability that the interval covers the truth.
        sameness: The values that have to meet the criterion, as of a claim.
    """
    numbers = list(values.values())
    if not numbers:
        return Estimate(math.nan, math.nan, math.nan, math.nan)
    if sameness == "statistical":
        if len(numbers) == 1 and (measure.form != "share" or sum(trials.values()) == 1):
            return Estimate(numbers[0], math.nan, math.nan, math.nan)
        return estimate(numbers, _form(measure, numbers), [trials[seed] for seed in values], confidence)
    low, high = (min(numbers), max(numbers)) if all(map(math.isfinite, numbers)) else (math.nan, math.nan)
    return Estimate(math.fsum(numbers) / len(numbers), low, high, math.nan)


def judge_claim(
    claim: Claim,
    results: Mapping[int, ResultsOfSeed],
    *,
    preset: str,
    is_published: bool = False,
    seeds: int = 0,
    why_not: str = "",
    asked: Collection[str] = (),
    looks: Sequence[int] = (),
) -> JudgedClaim:
    """Judge a claim.

    The claim is decided if the whole interval meets the criterion, or the whole interval violates it; otherwise it is
    *undecided*. At published settings, by the paper's own criterion, it is *reproduced* or *not reproduced*; with other
    settings or a criterion of ours, our value *agrees* or *disagrees* with what was published. A claim about which
    nothing was published *holds* or *fails*.

    Args:
        claim: The claim.
        results: The finished trials: seed -> arm -> result.
        preset: The preset that was run.
        is_published: Whether its settings are the published ones.
        seeds: Number of seeds requested; if one of them is missing, nothing is decided, since the failed seeds may
            be the ones that matter.
        why_not: Why this run cannot decide the claim, if that is known beforehand.
        asked: The arms of the run; if they include all that the claim reads, it waits for their results.
        looks: Number of the first seeds that each look uses, until a look decides; they have the error probabilities of
            ``errors_at`` (default: one look at all seeds).
    """
    complete = {seed: arms for seed, arms in sorted(results.items()) if set(claim.arms) <= set(arms)}
    values: dict[int, float] = {}
    trials: dict[int, int] = {}
    failure = ""
    for seed, arms in complete.items():
        try:
            if claim.sameness == "bitwise":
                values[seed] = float(claim.measure.exactly(arms))
            else:
                values[seed] = claim.criterion.end_near(float(claim.measure(arms)))
            trials[seed] = claim.measure.trials(arms)
            if claim.measure.form == "share" and claim.sameness == "statistical" and math.isfinite(values[seed]):
                successes_of([values[seed]], [trials[seed]])
        except Exception as error:
            values.pop(seed, None)
            failure = f"no value for seed {seed}: {message_of(error)}"
    stages = [(0, len(values), 1 - CONFIDENCE)]
    is_sequential = bool(looks) and claim.sameness == "statistical"
    if is_sequential:
        complete_looks = zip(range(1, len(looks) + 1), looks, errors_at(len(looks)), strict=True)
        stages = [stage for stage in complete_looks if claim.seeds <= stage[1] and values.keys() >= {*range(stage[1])}]
    estimated = interval(claim.measure, values, trials, sameness=claim.sameness)
    seeds_needed = max(claim.seeds, seeds)
    holds, fails = claim.words(is_published)

    def judged(verdict: Verdict, why: str = "", **more: Any) -> JudgedClaim:
        ours, low, high, resolution = estimated
        return JudgedClaim(claim, values, ours, low, high, verdict, why, resolution, corrected=verdict, **more)

    if why_not or claim.untestable:
        return judged("not testable here", why_not or claim.untestable)
    if not claim.is_judged_at(preset):  # a value of another size would be read as one of the claim's
        values, estimated = {}, Estimate(math.nan, math.nan, math.nan, math.nan)
        return judged("not testable here", f"needs preset {' or '.join(claim.presets) or 'laptop'}")
    if not complete:
        is_waiting = set(claim.arms) <= set(asked)
        why = f"no seed has results of all its arms{' yet' if is_waiting else ''}: {', '.join(claim.arms)}"
        return judged("undecided" if is_waiting else "not testable here", why, is_tried=not is_waiting)
    if failure and not (is_sequential and stages):
        return judged("undecided", failure)
    if len(values) < seeds_needed or not stages:
        seeds_needed = max(seeds_needed, next((count for count in looks if count >= claim.seeds), 0))
        return judged("undecided", f"{len(values)} of the {seeds_needed} seeds that it needs", is_open=bool(looks))
    if not is_sequential and not all(map(math.isfinite, values.values())):
        return judged(fails, "a seed's value is not finite")
    if claim.sameness == "bitwise" and len(set(values.values())) > 1:
        return judged(fails, "the seeds differ")
    if claim.sameness == "identity":
        is_identity = claim.criterion.low <= estimated.low and estimated.high <= claim.criterion.high
        return (
            judged("identity")
            if is_identity
            else judged(fails, "the identity does not hold, which is an error in engram")
        )
    p, every_value = math.inf, values
    of_look: dict[str, Any] = {}
    for number, (look, count, allowed) in enumerate(stages):
        values = dict(list(every_value.items())[:count])
        estimated = interval(claim.measure, values, trials, 1 - allowed, claim.sameness)
        if not all(map(math.isfinite, values.values())):
            return judged(fails, "a seed's value is not finite", look=look, confidence=1 - allowed)
        p = min(p, _weighted(_p_value(claim, estimated.value, values, trials), allowed))
        of_look = {"p": min(p, 1.0) if p < math.inf else math.nan, "look": look, "confidence": 1 - allowed}
        for verdict, is_so in (
            (holds, claim.criterion.low <= estimated.low and estimated.high <= claim.criterion.high),
            (fails, estimated.high < claim.criterion.low or claim.criterion.high < estimated.low),
        ):
            if is_so:
                later = _later_p_values(
                    claim, list(every_value.items()), trials, stages[number + 1 :], verdict == holds
                )
                return judged(verdict, **of_look | {"p": min([of_look["p"], *later])})
    if failure:
        return judged("undecided", failure, **of_look)
    is_open = 0 < look < len(looks)
    if math.isinf(estimated.low) and _form(claim.measure, [*values.values()]) == "median":  # also that of equal values
        bounded = math.ceil(1 - math.log2(allowed))
        why = f"the exact interval of a median is bounded from {bounded} seeds on{' at this analysis' if look else ''}"
        return judged("undecided", why, **of_look, is_open=is_open)
    if claim.sameness != "statistical":  # whose range does not shrink with more seeds
        return judged("undecided", "the seeds lie on both sides of the threshold", **of_look, is_open=is_open)
    enough = math.inf if is_open else _seeds_to_decide(claim, estimated, len(values))
    advice = f"; about {enough:,.0f} seeds would decide it, if our value is right" if enough < math.inf else ""
    return judged("undecided", "the interval straddles the threshold" + advice, **of_look, is_open=is_open)


def _weighted(p: float, allowed: float) -> float:
    """The p-value of a look in units of the error over all looks, as Bonferroni's correction allows.

    Args:
        p: The p-value of the values at this look alone.
        allowed: The probability of a false decision allowed at this look.
    """
    return p * (1 - CONFIDENCE) / allowed


def _later_p_values(
    claim: Claim,
    values: Sequence[tuple[int, float]],
    trials: Mapping[int, int],
    stages: Sequence[tuple[int, int, float]],
    is_met: bool,
) -> list[float]:
    """The p-values of looks after the one that decided, as far as their values lie on the same side."""
    p_values = []
    for _, count, allowed in stages:
        by_seed = dict(values[:count])
        if all(map(math.isfinite, by_seed.values())):
            ours = interval(claim.measure, by_seed, trials, 1 - allowed).value
            if (claim.criterion.low <= ours <= claim.criterion.high) == is_met:
                p_values.append(_weighted(_p_value(claim, ours, by_seed, trials), allowed))
    return p_values


def _form(measure: Measure, values: Sequence[float]) -> Form:
    """The quantity that is estimated: of values equal up to rounding the median, since their mean has no spread."""
    form = measure.form
    return "median" if are_equal(values) and form != "share" else form


def _seeds_to_decide(claim: Claim, estimated: Estimate, seeds: int) -> float:
    """The number of seeds that would give an interval ending at the threshold; infinite if it is not known.

    An interval shrinks with the square root of the number of seeds; that of a ratio does so in its logarithm.
    """
    is_ratio = claim.measure.form == "ratio" and estimated.low > 0
    scale: Callable[[float], float] = math.log if is_ratio else float
    ours, low, high = map(scale, estimated[:3])
    shrinks = [1.0]
    for threshold in vars(claim.criterion).values():
        if estimated.low <= threshold <= estimated.high:
            distance = scale(threshold) - ours
            end = high if distance > 0 else low
            shrinks.append(abs((end - ours) / distance) if distance else math.inf)
    factor = max(shrinks) ** 2
    return float(f"{seeds * factor:.2g}") if math.isfinite(factor) else math.inf


def beyond(end: float, sign: int, form: Form) -> float:
    """The next number outside a range; of medians one that no value at the end equals up to rounding."""
    return end + sign * 2 * FEW * math.ulp(end) if end and form == "median" else math.nextafter(end, sign * math.inf)


def p_of_criterion(criterion: Criterion, ours: float, p_beyond: Callable[[float, int], float]) -> float:
    """The p-value of a criterion: a range holds if both ends are excluded, and fails if one is.

    A value at an end meets the criterion, so the numbers just outside it are tested.

    Args:
        criterion: The range.
        ours: Our value.
        p_beyond: The p-value of the threshold beyond an end, on the side -1 or 1.
    """
    ends = (criterion.low, -1), (criterion.high, 1)
    low, high = (0.0 if math.isinf(end) else p_beyond(end, outside) for end, outside in ends)
    if ours < criterion.low:
        return low
    return high if ours > criterion.high else max(low, high)


def _p_value(claim: Claim, ours: float, by_seed: Mapping[int, float], trials_of: Mapping[int, int]) -> float:
    """The p-value of the criterion's threshold."""
    values, trials = list(by_seed.values()), [trials_of[seed] for seed in by_seed]
    form = _form(claim.measure, values)
    if claim.sameness != "statistical":
        return math.nan
    return p_of_criterion(
        claim.criterion, ours, lambda end, outside: p_value(values, beyond(end, outside, form), form, trials)
    )
