"""The headlines of papers name what exists, and say how they were tried."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram import registry
from engram.studies.papers import Headline, caveat, find, judgement, limits, papers
from engram.studies.papers.headlines import read
from engram.verdicts import Judgement, recorded_verdicts

SYSTEMS = [
    "Differentiable plasticity",
    "Backpropamine",
    "Meta-task space",
    "Evolved plastic networks",
    "Hebbian CNN",
    "DHP-Softmax",
    "Learning rules",
    "ANML",
    "Multi-task teacher",
    "QSS and D3G",
    "FOP",
    "Learning to remember",
    "BLUR",
    "NOODL",
    "Episodic control",
    "Expander memory",
    "FARMap",
    "FARCuriosity",
    "Map induction",
    "Diffusion that composes",
    "GGS",
    "DSA",
    "Generalisation difficulty",
    "Align rules",
    "Input regions",
]
ALL = [(paper, headline) for paper in papers() for headline in paper.headlines]
MINIMAL = {"says": "It works", "tried": "reduced", "how": "half", "claims": ("a/b",)}


def test_every_paper_is_there_with_its_headlines():
    names = [paper.name for paper in papers()]
    assert set(SYSTEMS) <= set(names)
    assert len(set(names)) == len(names)
    assert all(paper.headlines and paper.title and paper.source for paper in papers())
    said = [headline.says for _, headline in ALL]
    assert len(set(said)) == len(said)
    assert not [text for text in said if text.endswith(".")]


def test_a_headline_names_claims_and_presets_that_exist():
    for paper, headline in ALL:
        for claim in headline.cited:
            name, _, claim_id = claim.partition("/")
            claims = {of.id: of for of in registry.get("experiments", name).claims}
            assert claim_id in claims, f"{paper.name}: {claim}"
            if claim not in headline.limits:
                assert headline.preset in registry.get("experiments", name).presets, f"{paper.name}: {claim}"
                assert claims[claim_id].is_judged_at(headline.preset), f"{claim} is not judged at {headline.preset}"


def test_what_was_tried_was_judged_and_nothing_else():
    for paper, headline in ALL:
        claims = (*headline.claims, *headline.against)
        judged = [judgement(headline, claim, recorded_verdicts()) for claim in claims]
        verdicts = {row.corrected for row in judged if row is not None}
        is_tested = bool(verdicts - {"identity"})
        assert is_tested == (headline.tried != "not tried"), f"{paper.name}: {headline.says}: {verdicts}"
        presets = [registry.get("experiments", claim.partition("/")[0]).presets[headline.preset] for claim in claims]
        if headline.tried == "published settings":
            assert all(preset.published for preset in presets), f"{paper.name}: {headline.says}: settings of ours"
        else:
            assert not {"reproduced", "not reproduced"} & verdicts, f"{paper.name}: {headline.says}"


def test_what_limits_a_result_says_what_the_records_say():
    index = recorded_verdicts()
    for paper, headline in ALL:
        assert bool(headline.limits) == bool(headline.but), f"{paper.name}: {headline.but!r} cites no claim"
        assert list(limits(headline, index)) == [*headline.limits], "each is judged"
        for claim, row in limits(headline, index).items():
            presets = (headline.preset, *registry.get("experiments", claim.partition("/")[0]).presets)
            rows = [judgement(replace(headline, preset=preset), claim, index) for preset in presets]
            assert row == next(row for row in rows if row is not None)


def test_a_caveat_turns_with_the_verdict_that_it_cites():
    headline = Headline(**MINIMAL, but="It does without {e/c}, at a cost of {e/c:0.0}")
    row = Judgement("e", "laptop", "c", "s", ">= 0", "", 1.04, 0.9, 1.2, 5, "agrees", "agrees", 0)
    for verdict, word in (("agrees", "holds"), ("disagrees", "fails"), ("undecided", "is open")):
        found = {("e", "laptop", "c"): row._replace(corrected=verdict)}
        assert caveat(headline, found) == f"It does without [c: {word}], at a cost of 1.0"
    assert caveat(headline, {}) == "It does without [c: is not judged], at a cost of (not judged)"
    large = row._replace(preset="large", corrected="fails")
    assert limits(headline, {large[:3]: large, row[:3]: row}) == {"e/c": row}, "that of the headline's preset counts"
    assert limits(replace(headline, preset="large"), {large[:3]: large, row[:3]: row}) == {"e/c": large}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tried": "almost"}, "tried = 'almost'"),
        ({"claims": ("anml",)}, "claim 'anml'.*expected experiment/claim-id"),
        ({"claims": ()}, r"claims = \[\]"),
        ({"how": ""}, "how = ''.*expected what is smaller"),
        ({"tried": "not tried"}, "why_not = ''.*expected a reason"),
        ({"but": "Not {so}"}, "claim 'so'.*expected experiment/claim-id"),
        ({"but": "Not {a/b:x}"}, "{a/b:x}: expected a pattern of digits"),
        ({"but": "Not {a/b"}, "expected a claim in each pair of braces"),
        ({"why_not": "no time"}, "why_not = 'no time'.*expected to begin with theory"),
    ],
)
def test_a_headline_that_leaves_something_open_is_refused(changes, match):
    Headline(**MINIMAL)
    with pytest.raises(ValueError, match=match):
        Headline(**{**MINIMAL, **changes})


def test_a_file_with_an_unknown_field_is_refused():
    text = "[[paper]]\nname='A'\ntitle='B'\nsource='C'\n{}[[paper.headline]]\nsays='D'\n{}"
    row = "tried='reduced'\nhow='half'\nclaims=['a/b']\n"
    (paper,) = read(text.format("", row))
    assert (paper.slug, paper.experiments, paper.headlines[0].claims) == ("a", ("a",), ("a/b",))
    with pytest.raises(ValueError, match="paper A has an unknown field: venue"):
        read(text.format("venue='X'\n", row))
    with pytest.raises(ValueError, match="headline of A has an unknown field: verdict"):
        read(text.format("", row + "verdict='reproduced'\n"))
    with pytest.raises(ValueError, match=r"headline of A lacks a field: .*tried"):
        read(text.format("", ""))
    with pytest.raises(ValueError, match="two papers are named a"):
        read(text.format("", row) + text.format("", row))


@pytest.mark.parametrize(
    ("name", "systems"),
    [
        ("ANML", ["ANML"]),
        ("differentiable-plasticity", ["Differentiable plasticity"]),
        ("pattern-completion", ["Differentiable plasticity"]),
        ("plastic-treebank", ["Backpropamine"]),
        ("rambhatla", ["NOODL"]),
        ("2002.09571", ["ANML"]),
    ],
)
def test_a_paper_is_found_by_system_experiment_author_or_number(name, systems):
    assert [paper.name for paper in find(name)] == systems


def test_an_unknown_paper_is_suggested():
    with pytest.raises(ValueError, match=r"unknown paper 'ANLM'; did you mean: .*ANML"):
        find("ANLM")
    with pytest.raises(ValueError, match="unknown paper ''"):
        find("")
