"""Several verdicts make one."""

from __future__ import annotations

import pytest

from engram.papers import Evidence, Headline, Judgement, outcome
from engram.papers.overview import in_words, results

SIGNS = {"+": "agrees", "-": "disagrees", "?": "undecided", "i": "identity", "n": "not testable here"}
SIGNS |= {"R": "reproduced", "N": "not reproduced", "h": "holds", "f": "fails"}


def judged(verdicts: str, against: str = "", preset: str = "laptop"):
    """The outcome of a headline whose claims have these verdicts, in a record of the preset."""
    names = [f"e/c{number}" for number in range(len(verdicts + against))]
    claims, contrary = names[: len(verdicts)], names[len(verdicts) :]
    headline = Headline("It works", "reduced", claims or ("e/none",), contrary, how="half")
    found = {
        name: Evidence("s", ">= 0", {preset: Judgement("holds", SIGNS[sign], 1.0, 0.5, 1.5, 5)} if sign != " " else {})
        for name, sign in zip(names, verdicts + against, strict=True)
    }
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
        ("f?", "disagrees (0 of 2, 1 undecided)"),
        ("+-", "mixed (1 of 2)"),
        ("+f?", "mixed (1 of 3, 1 undecided)"),
        ("R?", "undecided (1 of 2, 1 undecided)"),
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
    found = {"e/c": Evidence("s", ">= 0", {"laptop": Judgement("holds", "holds", 1.0, None, None, 1)})}
    assert in_words(results([tried, tried, untried], found)) == "2 agree, 1 hardware"
    assert in_words(results([tried], found)) == "1 agrees"
    assert found["e/c"].tests["laptop"].value == "1"


def test_what_falls_short_of_the_correction_is_undecided_and_says_so():
    short = Judgement("holds", "undecided", 1.0, 0.9, 1.1, 5)
    assert short.said == "holds, adjusted: undecided"
    headline = Headline("It works", "reduced", ("e/c",), how="half")
    assert outcome(headline, {"e/c": Evidence("s", ">= 0", {"laptop": short})}).word == "undecided"


def test_what_was_tried_and_has_no_record_yet_is_counted_as_such():
    waiting = [Headline("It works", "reduced", ("e/c",), how="half", why_not=why) for why in ("", "hardware: a GPU")]
    assert in_words(results(waiting, {})) == "2 not tried", "of two headlines"
