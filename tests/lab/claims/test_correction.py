"""Verdicts are counted so that at most one in twenty of those that are decided is expected to be false."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from engram.lab import Claim, judge_claim, metric
from engram.lab.claims.correction import Family, correct, family_of, family_of_claims
from engram.studies.recording import tables
from engram.verdicts import BAD, GOOD, recorded_verdicts

X = metric("x")("a")


def judged(*values: float, looks: tuple[int, ...] = (), **fields: object):
    claim = Claim(**{"id": "c", "statement": "s", "condition": X <= 1.0, **fields})
    results = {seed: {"a": {"x": value}} for seed, value in enumerate(values)}
    return judge_claim(claim, results, preset="laptop", looks=looks)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_what_is_rejected_is_what_scipy_rejects(p_values):
    adjusted = false_discovery_control(p_values, method="bh")
    near = np.isclose(adjusted, 0.05, rtol=1e-12)
    rejected = np.array(p_values) <= family_of(p_values).largest
    assert np.array_equal(rejected[~near], (adjusted <= 0.05)[~near])
    assert family_of(p_values) == (len(p_values), max(np.array(p_values)[rejected], default=0.0), 0.05)


def test_one_in_twenty_of_what_is_decided_is_false():
    rng = np.random.default_rng(3)
    shares = []
    for _ in range(2000):
        effects = np.repeat([0.0, 3.0], [30, 10])
        p_values = 2 * (1 - _normal(abs(rng.normal(effects))))
        rejected = p_values <= family_of(p_values.tolist()).largest
        shares.append(rejected[:30].sum() / max(rejected.sum(), 1))
    assert np.mean(shares) == pytest.approx(0.05 * 30 / 40, abs=3 * np.std(shares) / len(shares) ** 0.5)


def _normal(z):
    return np.vectorize(lambda value: 0.5 * (1 + math.erf(value / 2**0.5)))(z)


def test_extended_plans_raise_the_share_that_may_be_false():
    """Nulls whose plan is extended while they are open are wrong more often, and the bound covers that."""
    rng, looks = np.random.default_rng(4), (5, 10, 20)
    shares, bounds = [], []
    for _ in range(60):
        claims = []
        for mean in (*[1.0] * 12, *[-1.0] * 4):
            values = rng.normal(mean, size=20)
            plans = [judged(*values[:last], looks=looks[: number + 1]) for number, last in enumerate(looks)]
            used = next((number for number, plan in enumerate(plans) if plan.verdict != "undecided"), len(plans) - 1)
            claims.append(replace(plans[used], plans=used + 1))
        counted = correct(claims)
        decided = [one.corrected != "undecided" for one in counted]
        shares.append(sum(decided[:12]) / max(sum(decided), 1))
        bounds.append(family_of_claims(claims).rate)
    assert 0.05 < np.mean(bounds) < 0.15
    assert np.mean(shares) <= np.mean(bounds) + 3 * np.std(shares) / len(shares) ** 0.5


def test_only_looks_beyond_the_first_plan_extend_it():
    family = family_of([0.01, 0.2, math.nan, 0.5], [1, 2, 9, 3])
    assert family.rate == pytest.approx(0.05 * 2)
    for name, preset in (("map-induction", "laptop"), ("pattern-completion", "laptop")):
        run = tables.recorded(name)[preset]
        for one in run.claims():
            beyond = [look for look in run.looks if run.planned < look <= len(one.values)]
            assert one.plans == 1 + len(beyond)
    assert {one.plans for one in tables.recorded("pattern-completion")["laptop"].claims()} == {1}
    assert max(one.plans for one in tables.recorded("map-induction")["laptop"].claims()) > 2


def test_without_tests_nothing_is_decided_by_one():
    assert family_of([]) == family_of([math.nan]) == Family(0, 0.0)


def test_a_claim_that_falls_short_counts_as_undecided_and_says_what_it_lacks():
    sure, bare = judged(0.1, 0.11, 0.12), judged(0.84, 0.88, 0.93)
    noise, exact = judged(0.5, 1.0, 1.6), judged(0.5, 0.5, 0.5, sameness="numeric")
    assert [one.corrected for one in correct([bare])] == ["holds"]
    counted = correct([sure, bare, noise, noise, exact])
    assert [one.verdict for one in counted] == ["holds", "holds", "undecided", "undecided", "holds"]
    assert [one.corrected for one in counted] == ["holds", "undecided", "undecided", "undecided", "holds"]
    assert [bool(one.lacks) for one in counted] == [False, True, False, False, False]
    assert [one.lacks for one in correct(counted, family=Family(5, 0.05))] == [0] * 5, "it is corrected anew"


def test_the_seeds_that_a_claim_lacks_would_decide_it():
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    values = 0.7 + 0.9 * (values - values.mean()) / values.std(ddof=1)
    short = judged(*values)
    assert 0.03 < short.p < 0.05
    (short,) = correct([short], family=Family(100, 0.001))
    assert short.corrected == "undecided"
    more = np.tile(values, 10)[: 40 + short.lacks]  # the same mean, nearly the same spread
    assert judged(*more).p == pytest.approx(0.001, rel=0.5)
    at_look = replace(short, look=1, confidence=0.999, p=0.049)
    (at_look,) = correct([at_look], looks=(40, 80, 160), family=Family(100, 0.04))
    assert at_look.lacks == 40, "the next look"


def test_further_looks_make_a_decided_claim_more_certain_but_change_no_verdict():
    early = judged(0.1, 0.3, 0.2, 0.35, 0.15, looks=(5, 10, 20))
    values = (0.1, 0.3, 0.2, 0.35, 0.15, 0.1, 0.3, 0.2, 0.35, 0.15)
    late = judged(*values, looks=(5, 10, 20))
    assert (early.look, late.look) == (1, 1)
    assert (early.low, early.high) == (late.low, late.high)
    assert late.p < early.p
    other_side = judged(*values[:5], *[9.0, 8.0, 9.5, 8.5, 9.0], looks=(5, 10))
    assert (other_side.verdict, other_side.p) == ("holds", early.p), "what lies on the other side adds nothing"


def test_the_records_are_corrected_together():
    stored = recorded_verdicts()
    runs = {
        (name, preset): run.claims()
        for name in tables.registry.experiments()
        for preset, run in tables.recorded(name).items()
    }
    assert set(stored) == {(*of, one.claim.id) for of, claims in runs.items() for one in claims}
    flat = [(of, one) for of, claims in runs.items() for one in claims]
    tested = [(of, one) for of, one in flat if not math.isnan(one.p)]
    rejected = false_discovery_control([one.p for _, one in tested], method="bh") <= 0.05
    significant = {(*of, one.claim.id): bool(yes) for (of, one), yes in zip(tested, rejected, strict=True)}
    for of, one in flat:
        name = (*of, one.claim.id)
        expected = one.verdict
        if one.verdict in (*GOOD, *BAD) and not significant.get(name, True):
            expected = "undecided"
        assert (stored[name].verdict, stored[name].corrected) == (one.verdict, expected)
        assert (one.corrected, one.lacks) == (expected, stored[name].lacks)
        assert bool(one.lacks) == (expected != one.verdict)
