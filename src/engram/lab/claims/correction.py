"""Correction for many tests, by which claims are counted, so that few of the decided ones are expected to be wrong.

A claim is decided by its own interval, which is wrong one time in twenty; among hundreds of claims some of the decided
ones therefore are. Wherever claims are counted, their p-values are corrected by the method of Benjamini and Hochberg
(1995), which bounds the expected share of false verdicts: for the records over the claims of all records together, for
a user's own run over the claims of this run. Identities, claims that cannot be tested here, and exact numbers, which
have no p-value, are no tests, and keep their verdict.

The bound is 5 % if all looks were planned before a result was known. If a plan was extended when its results were
known, a null claim that is judged by the k-th plan has a p-value of at most t with a probability of up to k t, since
each plan allows t. The sum in the proof of Benjamini and Hochberg is then that of the k instead of their number, so
that the bound is 5 % times the mean number of plans of a test.

``JudgedClaim.corrected`` is the verdict that counts, and ``JudgedClaim.lacks`` an estimate of the seeds that a claim
lacks which falls short. For what ships with engram, ``engram.verdicts.recorded_verdicts()`` gives both by experiment,
preset and claim, from the index, without reading the records.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from scipy import special

from engram.lab.claims.claim import JudgedClaim
from engram.lab.claims.inference import CONFIDENCE
from engram.verdicts import BAD, GOOD, Verdict, index_in

RATE = 0.05  # expected share of false verdicts among those that are decided, if every test had one plan


class Family(NamedTuple):
    """The tests over which verdicts are corrected.

    Attributes:
        tests: Their number.
        largest: The largest p-value that decides; 0 if none does.
        rate: The largest expected share of false verdicts among those that are decided.
    """

    tests: int
    largest: float
    rate: float = RATE


def family_of(p_values: Sequence[float], plans: Sequence[int] = ()) -> Family:
    """The family that several tests make.

    With m tests the significant p-values are the k smallest, for the largest k whose p-value is at most 0.05 k / m
    (Benjamini and Hochberg, 1995).

    Args:
        p_values: Those of the tests; NaN where nothing was tested.
        plans: The number of plans of looks by which each was judged (default: one).

    Examples:
        >>> family_of([0.04, 0.01, 0.03, 0.9])
        Family(tests=4, largest=0.01, rate=0.05)
        >>> family_of([0.04, 0.01, 0.03], plans=[1, 3, 2])
        Family(tests=3, largest=0.04, rate=0.1)
    """
    tested = sorted(p for p in p_values if not math.isnan(p))
    significant = [p for rank, p in enumerate(tested, 1) if p <= RATE * rank / len(tested)]
    of_tests = [number for p, number in zip(p_values, plans or [1] * len(p_values), strict=True) if not math.isnan(p)]
    rate = RATE * sum(of_tests) / len(of_tests) if of_tests else RATE
    return Family(len(tested), significant[-1] if significant else 0.0, round(rate, 6))


def family_of_claims(claims: Sequence[JudgedClaim]) -> Family:
    """The family that the tests of several judged claims make.

    Args:
        claims: The claims.
    """
    return family_of([judged.p for judged in claims], [judged.plans for judged in claims])


def correct(
    claims: Sequence[JudgedClaim], looks: Sequence[int] = (), family: Family | None = None
) -> list[JudgedClaim]:
    """Judged claims with the verdicts that count.

    Args:
        claims: The claims of a run.
        looks: The numbers of seeds at which they are judged; empty for a fixed number.
        family: The tests over which they are corrected (default: those of these claims).
    """
    family = family_of_claims(claims) if family is None else family
    undecided: Verdict = "undecided"
    return [
        replace(judged, corrected=undecided, lacks=lacking(judged, looks, family))
        if judged.verdict in (*GOOD, *BAD) and judged.p > family.largest
        else replace(judged, corrected=judged.verdict, lacks=0)
        for judged in claims
    ]


def lacking(judged: JudgedClaim, looks: Sequence[int], family: Family) -> int:
    """An estimate of the further seeds that a claim needs for a smaller p-value, if our value is right.

    The distance from the threshold in standard errors grows with the square root of the number of seeds.

    Args:
        judged: The claim, which its interval decides.
        looks: The numbers of seeds at which it is judged; the estimate is then raised to the next one.
        family: The tests over which it is corrected.
    """
    share = (1 - judged.confidence) / (1 - CONFIDENCE)  # of the error, which this look has
    now, needed = (-special.ndtri(p * share / 2) for p in (judged.p, max(family.largest, RATE / family.tests)))
    seeds = max(len(judged.values) + 1, math.ceil(len(judged.values) * (needed / now) ** 2))
    return next((look for look in looks if look >= seeds), seeds) - len(judged.values)


def recorded_family(record: Path | None) -> Family | None:
    """The tests of all records in the folder of one, from their index; None if it has no index.

    Args:
        record: The JSON file of the record; None if there is none.
    """
    index = None if record is None else index_in(record.parent)
    return None if index is None else Family(index.tests, index.largest, index.rate)
