"""Every claim on invented results: it holds as it is stated, and fails where the opposite was found.

``claims/EXPERIMENT.toml`` has a table for each claim: ``holds`` and ``fails``, the results of one seed by arm and key
as somebody would invent them who has read the statement alone. Where a claim compares arms, to exchange an arm's
results with another's has to make it fail, unless both have the same part in it: a claim whose arms were swapped by
mistake does not pass.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from engram import registry
from engram.lab import judge_claim

ENOUGH = 6  # seeds from which equal values decide
TABLES = Path(__file__).with_name("claims")
EXPERIMENTS = [name for name in registry.names("experiments") if name != "toy"]


def table(name):
    path = TABLES / f"{name}.toml"
    return tomllib.loads(path.read_text()) if path.exists() else {}


def claims(name):
    return [claim for claim in registry.get("experiments", name).claims if claim.sameness != "identity"]


def meets(claim, results):
    return claim.criterion.low <= claim.measure(results) <= claim.criterion.high


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_table_has_the_claims_of_its_experiment(name):
    assert sorted(table(name)) == sorted(claim.id for claim in claims(name))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_statement_stands_alone(name):
    leaning = re.compile(r"[a-z]|(Nor|So|It|Its|They|Their|There|These|Those) ")
    assert [claim.statement for claim in claims(name) if leaning.match(claim.statement)] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_published_are_figures_or_words_and_not_that_there_are_none(name):
    none = re.compile(r"(not (read|stated|compared)|no (figure|such)|none[;,]|stated\b|-)")
    assert [claim.id for claim in claims(name) if none.match(claim.published)] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_claim_holds_as_stated_and_fails_otherwise(name):
    for claim in claims(name):
        invented = table(name)[claim.id]
        assert set(invented) == {"holds", "fails"}, claim.id
        assert set(invented["holds"]) == set(invented["fails"]) == set(claim.arms), claim.id
        assert meets(claim, invented["holds"]), f"{claim.id}: {claim.criterion}"
        assert not meets(claim, invented["fails"]), f"{claim.id}: {claim.criterion}"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_claim_fails_with_its_arms_swapped(name):
    for claim in claims(name):
        holds = table(name)[claim.id]["holds"]
        told_apart = set()
        for arm, other in combinations(claim.arms, 2):
            swapped = {**holds, arm: holds[other], other: holds[arm]}
            symmetric = holds[arm] != holds[other] and claim.measure(swapped) == claim.measure(holds)
            if symmetric or not meets(claim, swapped):
                told_apart |= {arm, other}
        if len(claim.arms) > 1:
            alike = set(claim.arms) - told_apart
            assert not alike, f"{claim.id} holds whichever of its arms gave the results of {sorted(alike)}"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_claim_is_judged_from_invented_seeds(name):
    for claim in claims(name):
        preset = [*claim.presets, "laptop"][0]
        for case, expected in zip(("holds", "fails"), claim.words(is_published=False), strict=True):
            seeds = dict.fromkeys(range(max(claim.seeds, ENOUGH)), table(name)[claim.id][case])
            verdict = judge_claim(replace(claim, untestable=""), seeds, preset=preset).verdict
            shared = claim.measure.form == "share"  # of so few trials nothing is decided
            assert shared or verdict == expected, (claim.id, case, verdict)
