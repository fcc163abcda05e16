"""Several verdicts make one."""

from __future__ import annotations

import pytest

from engram.claim_rows import row_of
from engram.studies.papers import Headline, outcome, rows_of, statement_and_criterion
from engram.studies.papers.overview import in_words, results
from engram.verdicts import Judgement, Judgements, Verdict

SIGNS = {"+": "agrees", "-": "disagrees", "?": "undecided", "i": "identity", "n": "not testable here"}
SIGNS |= {"R": "reproduced", "N": "not reproduced", "h": "holds", "f": "fails"}


def row(claim: str, preset: str, verdict: Verdict, corrected: Verdict, *interval: float | None) -> Judgements:
    """The index of a record that judges a claim."""
    found = Judgement("e", preset, claim, "s", ">= 0", "", 1.0, *interval, 5, verdict, corrected, 0)
    return {found[:3]: found}


def judged(verdicts: str, against: str = "", preset: str = "laptop"):
    """The outcome of a headline whose claims have these verdicts, in a record of the preset."""
    ids = [f"c{number}" for number in range(len(verdicts + against))]
    names = [f"e/{claim}" for claim in ids]
    claims, contrary = names[: len(verdicts)], names[len(verdicts) :]
    headline = Headline("It works", "reduced", claims or ("e/none",), contrary, how="half")
    found: Judgements = {}
    for claim, sign in zip(ids, verdicts + against, strict=True):
        if sign != " ":
            found = {**found, **row(claim, preset, SIGNS[sign], SIGNS[sign], 0.5, 1.5)}
    return outcome(headline, found)


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ("R", "reproduced"),
        ("RR", "reproduced (2 of 2)"),
        ("R+", "agrees (2 of 2)"),
        ("h", "agrees"),
        ("N", "not reproduced"),
        ("N-", "disagrees (0 of 2)"),
        ("f?", "undecided (0 of 2, 1 undecided)"),
        ("ff?", "disagrees (0 of 3, 1 undecided)"),
        ("NN?", "not reproduced (0 of 3, 1 undecided)"),
        ("f??", "undecided (0 of 3, 2 undecided)"),
        ("+-", "mixed (1 of 2)"),
        ("+f?", "mixed (1 of 3, 1 undecided)"),
        ("R?", "undecided (1 of 2, 1 undecided)"),
        ("hh?", "agrees (2 of 3, 1 undecided)"),
        ("RR?", "reproduced (2 of 3, 1 undecided)"),
        ("h??", "undecided (1 of 3, 2 undecided)"),
        ("+-???", "mixed (1 of 5, 3 undecided)"),
        ("?", "undecided"),
        ("+i", "agrees"),
        ("ii", "by construction"),
        ("n", "not tried"),
        (" ", "not tried"),
        ("+n", "agrees"),
    ],
)
def test_the_verdict_on_a_headline(verdicts, said):
    assert str(judged(verdicts)) == said


@pytest.mark.parametrize("verdicts", ["h", "hh?", "h?", "h??", "hf", "hhf?", "hfff??"])
def test_supporting_and_contradicting_claims_weigh_the_same(verdicts):
    mirrored = judged(verdicts.translate(str.maketrans("hf", "fh")))
    opposite = {"agrees": "disagrees", "disagrees": "agrees"}
    found = judged(verdicts)
    assert mirrored.word == opposite.get(found.word, found.word)
    assert mirrored[1:] == (found.contradicting, found.supporting, found.undecided)


def test_claims_against_a_headline_count_the_other_way_round():
    assert str(judged("", "h")) == "disagrees"
    assert str(judged("", "f")) == "agrees"
    assert str(judged("+", "f")) == "agrees (2 of 2)"
    assert str(judged("+", "h")) == "mixed (1 of 2)"
    assert str(judged("R", "N")) == "agrees (2 of 2)", "what contradicts it was not published"


def test_a_record_of_another_preset_does_not_count():
    assert judged("+", preset="large").word == "not tried"


def test_verdicts_and_reasons_are_counted_in_words():
    tried = Headline("It works", "reduced", ("e/c",), how="half")
    untried = Headline("It is fast", "not tried", why_not="hardware: a year of a GPU")
    found = row("c", "laptop", "holds", "holds", None, None)
    assert in_words(results([tried, tried, untried], found)) == "2 agree, 1 hardware"
    assert in_words(results([tried], found)) == "1 agrees"
    assert found["e", "laptop", "c"].value == "1"


def test_what_falls_short_of_the_correction_is_undecided_and_says_so():
    found = row("c", "laptop", "holds", "undecided", 0.9, 1.1)
    assert row_of(found["e", "laptop", "c"]).cell("verdict") == "holds, adjusted: undecided"
    headline = Headline("It works", "reduced", ("e/c",), how="half")
    assert outcome(headline, found).word == "undecided"


def test_what_was_tried_and_has_no_record_yet_is_counted_as_such():
    waiting = [Headline("It works", "reduced", ("e/c",), how="half", why_not=why) for why in ("", "hardware: a GPU")]
    assert in_words(results(waiting, {})) == "2 not tried", "of two headlines"


def test_a_claim_is_told_by_the_record_of_any_preset_and_by_its_name_without_one():
    found = row("c", "large", "holds", "holds", 0.9, 1.1)
    assert statement_and_criterion("e/c", found) == ("s", ">= 0")
    assert statement_and_criterion("e/d", found) == ("e/d", "")


def test_the_rows_of_a_headline_say_which_role_each_claim_has():
    headline = Headline("It works", "reduced", ("e/c",), ("e/d",), how="half", but="At a cost {e/f}")
    found = {**row("c", "laptop", "agrees", "agrees", 0.9, 1.1), **row("f", "laptop", "fails", "fails", None, None)}
    rows = rows_of(headline, found)
    assert [each.cell("verdict") for each in rows] == ["agrees", "against: not testable here", "caveat: fails"]
    assert [each.cell("value and seeds") for each in rows] == ["1 [0.9, 1.1]; 5 seeds", "", "1; 5 seeds"]
    assert [each.note for each in rows] == [" (e/c)", " (e/d)", " (e/f)"]
    assert [each.statement for each in rows] == ["s", "e/d", "s"]
