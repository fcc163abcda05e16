"""Many methods against one baseline: which are truly better, corrected over all that were tried."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engram import checks
from engram.lab.claims.correction import family_of
from engram.lab.judging.assess import ALPHA, LEAST, ONCE, Rule, assess
from engram.lab.judging.columns import ARM, Names, check_role, runs_of, with_pairs
from engram.lab.judging.doubts import doubts_of
from engram.lab.judging.grammar import ParsedClaim, parse
from engram.lab.judging.judgement import check_looks, entry_of, key_of, side_of, verdict_of
from engram.lab.judging.ledger import Line, continued, digest_of, open_ledger, said_of, units_of
from engram.lab.judging.result import Answer, BestOf, Compared, Judgement
from engram.lab.judging.sample import Sample, sample_of
from engram.lab.judging.tables import as_frame


def best_of(
    frame: Any,
    metric: str,
    baseline: str,
    *,
    margin: float = 0.0,
    is_lower_better: bool = False,
    pair: str | None = None,
    cluster: str | None = None,
    arm: str | None = None,
    seed: str | None = None,
    step: str | None = None,
    at: str = "last",
    looks: Sequence[int] = (),
    ledger: str | Path | None = None,
) -> BestOf:
    """Judge which of the methods in a table are better than a baseline.

    Their p-values are corrected together by the method of Benjamini and Hochberg (1995), so that at most 5 % of those
    found better, or not better, are expected to be wrong, however many were tried.

    Args:
        frame: The table, as for ``judge``.
        metric: The metric.
        baseline: The method that all others are compared with.
        margin: The least gain that counts.
        is_lower_better: Whether a smaller value is better, as of a loss.
        pair: As for ``judge``.
        cluster: As for ``judge``.
        arm: The column of the methods (default: guessed, which the result says).
        seed: As for ``judge``.
        step: As for ``judge``.
        at: As for ``judge``.
        looks: As for ``judge``.
        ledger: As for ``judge``; all methods together are one claim of the ledger.

    Returns:
        The methods, the best first.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: As ``judge``; or there is no other method.

    Examples:
        >>> table = {"method": ["old"] * 4 + ["a"] * 4 + ["b"] * 4, "seed": [0, 1, 2, 3] * 3,
        ...          "score": [1.0, 1.1, 0.9, 1.0, 2.0, 2.2, 1.8, 2.1, 1.0, 1.2, 0.9, 1.1]}
        >>> [(row.arm, row.verdict) for row in best_of(table, "score", "old").rows]
        [('a', 'holds'), ('b', 'undecided')]
    """
    for name, value in (("pair", pair), ("cluster", cluster), ("arm", arm), ("seed", seed), ("step", step)):
        check_role(name, value)
    for name, value in (("metric", metric), ("baseline", baseline)):
        if not isinstance(value, str):
            raise TypeError(f"{name} = {value!r}: expected a text")
    checks.number("margin", margin, minimum=0)
    planned = check_looks(looks)
    table = as_frame(frame)
    names, is_paired = with_pairs(table, Names(arm, seed, step, cluster, pair))
    if arm is not None and arm in table.columns:
        arms = [str(value) for value in table[arm].cast(str).unique().sort().drop_nulls()]
        if baseline not in arms:
            runs_of(table, names, (metric,), (baseline,), at)  # which names the nearest
    whole = runs_of(table, names, (metric,), None if arm is not None else _arms(table, names, metric, baseline, at), at,
                    is_larger_better=not is_lower_better)  # fmt: skip
    others = [name for name in whole.frame[ARM].unique(maintain_order=True) if name != baseline]
    if not others:
        raise ValueError(f"baseline = {baseline!r}: expected other methods too, and the table has only this one")
    claims = {other: _claim(metric, other, baseline, margin, is_lower_better) for other in others}
    samples = {
        other: sample_of(claim, replace(whole, frame=whole.frame.filter(whole.frame[ARM].is_in([other, baseline]))),
                         is_paired=is_paired)
        for other, claim in claims.items()
    }  # fmt: skip
    doubts = _shared(doubts_of(samples[o], claims[o].criterion, replace(whole, table=whole.table.filter(
        whole.table[ARM].is_in([o, baseline]))), (metric,), at) for o in others)  # fmt: skip
    said = (*whole.said, *samples[others[0]].said, "p-values are corrected together (Benjamini and Hochberg)")
    if ledger is None:
        rows = _rows(claims, samples, planned, ONCE)
        return BestOf(metric, baseline, rows, said, doubts)
    formula = f"best of {others} by {metric} than {baseline} by {margin!r} {is_lower_better}"
    key = key_of(formula, names, at, planned)
    with open_ledger(ledger) as book:
        joined = _joined(samples.values())
        earlier = book.of(key)
        if earlier and continued(joined, earlier[-1]) is None:
            doubts = (*doubts, "runs that were judged before have changed or are gone, so this counts as a new claim")
            earlier = []
        test, level = (earlier[0]["test"], earlier[0]["level"]) if earlier else book.next_level()
        rows = _rows(claims, samples, planned, Rule(level, not planned))
        found = BestOf(metric, baseline, rows, (*said, *said_of(book.lines, test, level, planned)), doubts)
        line = _write(book.lines, earlier, digest_of(joined))
        if line == 0:
            first = verdict_of(formula, samples[rows[0].arm], claims[rows[0].arm].criterion, planned, Rule(level))
            entry = entry_of(
                replace(first, verdict=found.verdict, p=rows[0].p), test, key, digest_of(joined), units_of(joined)
            )
            line = book.append({**entry, "claim": f"best of {len(others)} by {metric} than {baseline}"})["line"]
        return replace(found, line=line)


def _write(lines: Sequence[Line], earlier: Sequence[Line], digest: str) -> int:
    """The line that already has this judgement; 0 if none has."""
    return earlier[-1]["line"] if earlier and earlier[-1]["table"] == digest and lines else 0


def _arms(table: Any, names: Names, metric: str, baseline: str, at: str) -> list[str]:
    """All arms in the column that has the baseline."""
    found = runs_of(table, names, (metric,), (baseline,), at)
    column = next((name for name in table.columns if name in found.used and baseline in
                   {str(value) for value in table[name].cast(str, strict=False).unique()}), None)  # fmt: skip
    if column is None:  # read from the names of runs
        return []
    return [str(value) for value in table[column].cast(str).unique().drop_nulls()]


def _claim(metric: str, other: str, baseline: str, margin: float, is_lower_better: bool) -> ParsedClaim:
    """The claim that a method is better than the baseline."""
    first, second = (baseline, other) if is_lower_better else (other, baseline)
    quoted = [f"'{metric}'(\"{name}\")" if '"' not in name else f"'{metric}'('{name}')" for name in (first, second)]
    return parse(f"{quoted[0]} - {quoted[1]} >= {margin!r}")


def _rows(
    claims: dict[str, ParsedClaim], samples: dict[str, Sample], looks: Sequence[int], rule: Rule
) -> tuple[Compared, ...]:
    """Each method by its p-value, corrected; the interval is that of as many as are decided."""
    level = rule.error
    judged: dict[str, Judgement] = {
        arm: verdict_of(claim.text, samples[arm], claim.criterion, looks, rule) for arm, claim in claims.items()
    }
    family = family_of([each.p * ALPHA / level for each in judged.values()])
    decided = sum(each.p * ALPHA / level <= family.largest for each in judged.values())
    allowed = level * max(decided, 1) / len(judged)
    rows = []
    for arm, each in judged.items():
        criterion = claims[arm].criterion
        sample = samples[arm].first(each.seeds) if looks and each.seeds >= LEAST else samples[arm]
        error = allowed * (1 - each.confidence) / level if looks else allowed
        ours = assess(sample, criterion, Rule(error, rule.at_any_time))
        is_decided = not math.isnan(each.p) and each.p * ALPHA / level <= family.largest
        verdict: Answer = "undecided"
        if is_decided and each.verdict != "undecided":
            verdict = side_of(ours, criterion)
        rows.append(Compared(arm, verdict, ours.effect, ours.low, ours.high, each.p, each.seeds, each.unit, each.more))
    order = {"holds": 0, "undecided": 1, "fails": 2}
    return tuple(sorted(rows, key=lambda row: (order[row.verdict], -row.effect)))


def _joined(samples: Iterable[Sample]) -> Sample:
    """All samples as the parts of one, for the ledger's digests."""
    first, *_ = samples = list(samples)
    parts = tuple(part for sample in samples for part in sample.parts)
    return replace(first, kind="two arms", parts=parts, names=tuple(n for sample in samples for n in sample.names))


def _shared(doubts: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The doubts about any method, once each."""
    return tuple(dict.fromkeys(doubt for of_one in doubts for doubt in of_one))
