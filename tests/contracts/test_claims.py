"""Every claim on the record that ships with its experiment, and on the opposite of it: nothing is invented.

What this finds: a claim that no longer gives what the index tells of it, as after an exchange of two of its arms, a
reversed criterion, or another key; an arm that does not matter to a claim; a criterion that is met whatever comes out;
a criterion that equal arms meet although the statement says that one of them is ahead, which is how a reversed one
looks; a published figure that misses the criterion for it; a quantity that gives no number.

What it cannot find: a claim that was written with two arms exchanged before the index was made, since then the index
tells of the wrong claim. Only who reads its verdict beside its statement, in ``results/index.json``, finds that. The
same is true of a criterion that was reversed then, but where one of several arms is said to be ahead.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest

from engram import registry
from engram.lab import judge_claim
from engram.studies.recording import tables
from engram.verdicts import BAD, GOOD, recorded_verdicts

EXPERIMENTS = [name for name in registry.names("experiments") if name != "toy"]
TIE = re.compile(
    r"\b(no|not|neither|nor|never|near|nearly|about|little|hardly|close|as \w+ .*\bas|most|least)\b", re.IGNORECASE
)


@cache
def recorded_claims(name):
    """The claims of an experiment that its records decide, each with a run and its row in the index."""
    return [
        (claim, run, row)
        for run in tables.recorded(name).values()
        for claim in run.claimed
        if claim.sameness != "identity"
        and (row := recorded_verdicts()[name, run.preset, claim.id]).verdict in (*GOOD, *BAD, "undecided")
    ]


def verdict(claim, run, by_seed):
    options = {"preset": run.preset, "is_published": run.is_published, "asked": run.arms, "looks": run.looks}
    return judge_claim(claim, by_seed, seeds=run._seeds_for(claim), **options)


def with_arms(by_seed, given):
    """The results in which each arm has those of another one, in the seeds that have all of them."""
    needed = {*given.values()}
    return {
        seed: {arm: arms[of] for arm, of in given.items()} for seed, arms in by_seed.items() if needed <= arms.keys()
    }


def turns(claim, run, given, arm, other):
    """Whether a claim that holds with given results no longer does if two arms exchange theirs, or cannot know that."""
    before = verdict(claim, run, with_arms(run.by_seed, given))
    after = verdict(claim, run, with_arms(run.by_seed, {**given, arm: given[other], other: given[arm]}))
    return before.verdict in GOOD and (after.verdict not in GOOD or after.ours == pytest.approx(before.ours, rel=1e-9))


def mirrored(claim, ours):
    """The claim with each value on the other side of the end of its criterion that is nearest to ours."""
    low, high = claim.criterion.low, claim.criterion.high
    is_met, is_share = low <= ours <= high, claim.measure.form == "share"
    end = low if abs(ours - low) <= abs(ours - high) else high

    def compute(results):
        if is_share:  # all of a seed's trials, or none
            return float(is_met == (end == high))
        value = claim.measure(results)
        across = end * end / value if claim.measure.form == "ratio" and end > 0 and value > 0 else 2 * end - value
        return across if is_met else min(max(across, low), high)

    return replace(
        claim, condition=claim.condition._replace(measure=replace(claim.measure, compute=compute, exact=None))
    )


def values_of_ties(claim, by_seed):
    """The values of a comparison if all arms have the results of one of them."""
    complete = next(arms for arms in by_seed.values() if {*claim.arms} <= {*arms})
    values = []
    for arm in claim.arms:
        try:
            values.append(float(claim.measure(dict.fromkeys(claim.arms, complete[arm]))))
        except (LookupError, ArithmeticError):  # only another arm has what the measure reads
            continue
    return values


def ties_meet(claim, by_seed):
    values = values_of_ties(claim, by_seed)
    return bool(values) and all(claim.criterion.low <= value <= claim.criterion.high for value in values)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_statement_stands_alone(name):
    leaning = re.compile(r"[a-z]|(Nor|So|It|Its|They|Their|There|These|Those) ")
    experiment = registry.get("experiments", name)
    said = [each.statement for each in (*experiment.claims, *experiment.quantities)]
    assert [statement for statement in said if leaning.match(statement)] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_published_are_figures_that_meet_the_criterion_or_words_and_not_that_there_are_none(name):
    none = re.compile(r"(not (read|stated|compared)|no (figure|such)|none[;,]|stated\b|-)")
    for claim in registry.get("experiments", name).claims:
        assert not none.match(claim.published), claim.id
        if re.fullmatch(r"[\d.]+", claim.published):
            assert claim.criterion.low <= float(claim.published) <= claim.criterion.high, claim.id


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_record_has_a_number_for_each_quantity(name):
    measured = [of for run in tables.recorded(name).values() for of in run.quantities() if math.isfinite(of.ours)]
    assert {of.quantity.id for of in measured} == {of.id for of in registry.get("experiments", name).quantities}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_record_gives_a_claim_the_verdict_of_the_index(name):
    for claim, run, row in recorded_claims(name):
        judged = verdict(claim, run, run.by_seed)
        assert (claim.id, judged.verdict, str(claim.criterion)) == (claim.id, row.verdict, row.criterion)
        assert judged.ours == pytest.approx(row.ours, rel=1e-4), claim.id


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_exchange_of_arms_turns_a_comparison_that_holds(name):
    for claim, run, row in recorded_claims(name):
        if row.verdict not in GOOD or len(claim.arms) < 2 or ties_meet(claim, run.by_seed):
            continue
        as_it_is = {arm: arm for arm in claim.arms}
        pairs = [*combinations(claim.arms, 2)]
        told_apart = {arm for pair in pairs if turns(claim, run, as_it_is, *pair) for arm in pair}
        for arm in set(claim.arms) - told_apart:  # it may be one of several rivals, of which one is enough
            worlds = {other: {**dict.fromkeys(claim.arms, other), arm: arm} for other in claim.arms if other != arm}
            assert any(turns(claim, run, world, arm, other) for other, world in worlds.items()), (
                f"{claim.id} holds whichever of its arms gave the results of {arm}"
            )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_values_on_the_other_side_of_the_criterion_turn_a_claim(name):
    for claim, run, row in recorded_claims(name):
        judged = verdict(mirrored(claim, row.ours), run, run.by_seed)
        for verdicts in (GOOD, BAD):
            assert row.verdict not in verdicts or judged.verdict not in verdicts, (claim.id, judged.ours)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_equal_arms_meet_a_criterion_only_if_the_statement_says_so(name):
    for claim, run, _ in recorded_claims(name):
        ties = values_of_ties(claim, run.by_seed) if len(claim.arms) > 1 and claim.measure.form != "share" else []
        if ties and set(ties) <= {0.0, 1.0} and ties_meet(claim, run.by_seed):
            assert TIE.search(claim.statement), f"{claim.id} ({claim.criterion}): {claim.statement}"
