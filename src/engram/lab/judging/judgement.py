"""The judge of any table of results: a claim as text, the runs that test it, and a verdict with what it rests on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from engram import checks
from engram.lab.claims.inference import MAX_LOOKS, errors_at
from engram.lab.claims.measure import Criterion
from engram.lab.judging.assess import ALPHA, LEAST, ONCE, Assessment, Rule, assess, detectable, lacking
from engram.lab.judging.columns import Names, check_role, runs_of, with_pairs
from engram.lab.judging.doubts import doubts_of
from engram.lab.judging.grammar import ParsedClaim, parse
from engram.lab.judging.ledger import Ledger, Line, continued, digest_of, open_ledger, said_of, units_of
from engram.lab.judging.result import Answer, Judgement
from engram.lab.judging.sample import Sample, sample_of
from engram.lab.judging.tables import as_frame
from engram.storage.files import finite_or_none


def judge(
    frame: Any,
    claim: str,
    *,
    pair: str | None = None,
    cluster: str | None = None,
    arm: str | None = None,
    seed: str | None = None,
    step: str | None = None,
    at: str = "last",
    looks: Sequence[int] = (),
    ledger: str | Path | None = None,
) -> Judgement:
    """Judge whether a table of results shows what a claim says, beyond the noise between seeds.

    The claim holds if the whole interval of its measure meets the criterion, and fails if the whole interval violates
    it. Means and differences are judged by Student's t (of independent arms by Welch's), ratios in their logarithms,
    shares and medians exactly; the interval of a mean of one arm also allows for the skewness that its values show
    (Hall, 1992).

    Args:
        frame: The table: a polars or pandas frame, a dict of columns, or a path as ``engram judge`` takes it. A row for
            each run, or each step of it; a column a metric, or columns metric and value.
        claim: The claim, as in ``accuracy(new) - accuracy(old) >= 0.01``.
        pair: The column whose equal values belong together, as ``"seed"`` (default: runs of different arms are
            independent).
        cluster: A column, such as the task, whose runs have something in common; each of its values counts once.
        arm: The column of the arm (default: guessed, which the result says).
        seed: The column of the seed (default: likewise).
        step: The column of the step (default: likewise).
        at: Which value of a curve counts: the ``"last"``, the ``"best"``, or ``"mean:N"`` of the last N.
        looks: The numbers of units at which the claim may be decided, fixed before the first of them; their errors add
            up to 5 %.
        ledger: The file in which every judgement is written down, and by which the errors of all of them together are
            held to 5 %; without looks, the interval then holds over all numbers of seeds.

    Returns:
        The judgement, a frozen dataclass; ``print`` shows its sentence and its table.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The claim cannot be read; the table has no such arm, metric or column, a value that is not finite, a
            text where a number should be, or a run twice; nothing can be paired.
        CorruptFileError: The file is damaged, or lines of the ledger were altered or deleted.

    Examples:
        >>> table = {"method": ["new"] * 4 + ["old"] * 4, "seed": [0, 1, 2, 3] * 2,
        ...          "accuracy": [0.95, 0.94, 0.96, 0.95, 0.90, 0.91, 0.91, 0.89]}
        >>> judged = judge(table, "accuracy(new) - accuracy(old) >= 0.01", pair="seed")
        >>> judged.verdict, round(judged.effect, 3), round(judged.low, 3), judged.exit_code
        ('holds', 0.047, 0.027, 0)
    """
    for name, value in (("pair", pair), ("cluster", cluster), ("arm", arm), ("seed", seed), ("step", step)):
        check_role(name, value)
    parsed, planned = parse(claim), check_looks(looks)
    table = as_frame(frame)
    expression = parsed.expression
    is_larger_better = expression.rises == math.isfinite(parsed.criterion.low)
    names, is_paired = with_pairs(table, Names(arm, seed, step, cluster, pair))
    runs = runs_of(table, names, expression.metrics, parsed.measure.arms, at, is_larger_better=is_larger_better)
    sample = sample_of(parsed, runs, is_paired=is_paired)
    said = (*runs.said, *sample.said)
    doubts = tuple(doubts_of(sample, parsed.criterion, runs, expression.metrics, at))
    if ledger is None:
        judged = verdict_of(parsed.text, sample, parsed.criterion, planned)
    else:
        with open_ledger(ledger) as book:
            judged = _in_ledger(book, parsed, sample, planned, key_of(parsed.formula, names, at, planned))
    return replace(judged, assumed=(*said, *judged.assumed), doubts=(*doubts, *judged.doubts))


def check_looks(looks: Sequence[int]) -> tuple[int, ...]:
    """Planned looks as a tuple; TypeError or ValueError unless they are increasing numbers of at least 3."""
    if isinstance(looks, str) or not isinstance(looks, Sequence):
        raise TypeError(f"looks = {looks!r}: expected a list of numbers of seeds, as in [5, 10, 20]")
    numbers = tuple(checks.size("looks", look) for look in looks)
    if any(b <= a for a, b in pairwise(numbers)) or (numbers and numbers[0] < LEAST):
        raise ValueError(f"looks = {list(looks)}: expected increasing numbers of at least {LEAST}")
    if len(numbers) > MAX_LOOKS:
        raise ValueError(f"looks = {len(numbers)} numbers: expected at most {MAX_LOOKS}")
    return numbers


def key_of(formula: str, names: Names, at: str, looks: Sequence[int]) -> str:
    """The digest of what makes two judgements looks at the same claim."""
    return hashlib.sha256(repr((formula, names.pair, names.cluster, at, tuple(looks))).encode()).hexdigest()[:16]


def verdict_of(
    claim: str,
    sample: Sample,
    criterion: Criterion,
    looks: Sequence[int] = (),
    rule: Rule = ONCE,
) -> Judgement:
    """The verdict on a sample, at its planned looks, once, or at any time.

    Args:
        claim: The claim, for the result.
        sample: The sample.
        criterion: The criterion.
        looks: The planned looks.
        rule: What the test is held to; with planned looks its error is shared out over them.
    """
    level = rule.error
    if not looks:
        ours = assess(sample, criterion, rule)
        verdict = side_of(ours, criterion)
        more = 0 if verdict != "undecided" else lacking(sample, criterion, rule)
        more = more - sample.size if more else more
        ours = ours._replace(resolution=detectable(sample, ours, rule))
        return _judgement((claim, verdict), ours, sample, level, more)
    allowed = [error * level / ALPHA for error in errors_at(len(looks))]
    stages = [stage for stage in zip(range(1, len(looks) + 1), looks, allowed, strict=True) if stage[1] <= sample.size]
    if not stages:
        ours = Assessment(assess(sample, criterion, rule).effect, -math.inf, math.inf, math.nan,
                          why=f"{sample.size} of the {looks[0]} {sample.unit}s of the first planned look")  # fmt: skip
        return _judgement((claim, "undecided"), ours, sample, level, looks[0] - sample.size)
    p, judged = math.inf, None
    for look, count, error in stages:
        ours = assess(sample.first(count), criterion, Rule(error))
        p = min(p, ours.p * level / error) if not math.isnan(ours.p) else p
        verdict = side_of(ours, criterion)
        resolution = detectable(sample.first(count), ours, Rule(error))
        ours = ours._replace(p=min(p, 1.0), resolution=resolution)
        judged = _judgement((claim, verdict), ours, sample.first(count), level, 0)
        judged = replace(judged, look=look, confidence=1 - error)
        if verdict != "undecided":
            return judged
    assert judged is not None
    if look == len(looks):
        return replace(
            judged, more=None, why=judged.why or "the last planned look is made, and more seeds are no part of the plan"
        )
    needed = lacking(sample.first(count), criterion, Rule(allowed[-1]))
    reached = next((later for later in looks[look:] if needed is not None and later >= needed), None)
    return replace(judged, more=None if reached is None else reached - sample.size)


def side_of(ours: Assessment, criterion: Criterion) -> Answer:
    """The verdict of an interval."""
    if criterion.low <= ours.low and ours.high <= criterion.high:
        return "holds"
    return "fails" if ours.high < criterion.low or criterion.high < ours.low else "undecided"


def _judgement(said: tuple[str, Answer], ours: Assessment, sample: Sample, level: float, more: int | None) -> Judgement:
    claim, verdict = said
    return Judgement(
        claim, verdict, ours.effect, ours.low, ours.high, 1 - level, ours.p, sample.size, sample.unit, ours.resolution,
        more, ours.why if verdict == "undecided" else "", (), (), level=level,
    )  # fmt: skip


def _in_ledger(book: Ledger, parsed: ParsedClaim, sample: Sample, looks: Sequence[int], key: str) -> Judgement:
    """Judge a claim by what the ledger leaves it, and write it down."""
    earlier, doubts = book.of(key), []
    if earlier:
        if (ordered := continued(sample, earlier[-1])) is None:
            doubts.append("runs that were judged before have changed or are gone, so this counts as a new claim")
            earlier = []
        else:
            sample = ordered
    test, level = (earlier[0]["test"], earlier[0]["level"]) if earlier else book.next_level()
    judged = verdict_of(parsed.text, sample, parsed.criterion, looks, Rule(level, at_any_time=not looks))
    judged = settled(judged, earlier, doubts)
    table = digest_of(sample)
    if earlier and earlier[-1]["table"] == table:  # the same command again
        return replace(judged, line=earlier[-1]["line"], assumed=said_of(book.lines, test, level, looks))
    line = book.append(entry_of(judged, test, key, table, units_of(sample)))
    return replace(judged, line=line["line"], assumed=said_of(book.lines, test, level, looks))


def settled(judged: Judgement, earlier: Sequence[Line], doubts: Sequence[str]) -> Judgement:
    """A judgement after earlier ones of the same claim: once decided it stays so, and its p-value is the smallest.

    Args:
        judged: The judgement.
        earlier: The lines of the earlier ones.
        doubts: Further doubts.
    """
    p_values = [judged.p * ALPHA / judged.level, *(line["p"] for line in earlier if line["p"] is not None)]
    known = [p for p in p_values if not math.isnan(p)]
    judged = replace(judged, p=min([1.0, *known]) if known else math.nan, doubts=tuple(doubts))
    for line in earlier:
        verdict = line["verdict"]
        if verdict in ("holds", "fails") and judged.verdict != verdict:
            why = f"decided in line {line['line']} with {line['seeds']} {judged.unit}s"
            return replace(judged, verdict=verdict, more=0, why=why)  # type: ignore[arg-type]
    return judged


def entry_of(judged: Judgement, test: int, key: str, table: str, units: list[list[str]] | None) -> dict[str, Any]:
    """A judgement as a line of the ledger."""
    numbers = finite_or_none({name: getattr(judged, name) for name in ("effect", "low", "high", "p")})
    return {
        "test": test,
        "level": judged.level,
        "claim": judged.claim,
        "key": key,
        "table": table,
        "units": units,
        "seeds": judged.seeds,
        "verdict": judged.verdict,
        **numbers,
    }
