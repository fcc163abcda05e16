from __future__ import annotations

import json
import math
import re

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engram
from engram import registry
from engram.lab import Claim, metric
from engram.lab.claims.claim import JudgedClaim
from engram.lab.output.report import _number, as_html, beside_criterion, plot, section

ERROR = metric("error")("main")
CONDITIONS = {"at most": ERROR <= 0.5, "at least": ERROR >= 0.5, "within": ERROR.within(0.5, 0.25)}
numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


def judged(condition, ours, low, high, verdict="undecided"):
    return JudgedClaim(Claim("small", "It is small", condition), {}, ours, low, high, verdict)


@pytest.mark.parametrize("kind", CONDITIONS)
@given(st.lists(numbers, min_size=3, max_size=3))
def test_a_row_is_right_of_the_line_where_the_interval_meets_the_criterion(kind, values):
    low, ours, high = sorted(values)
    condition = CONDITIONS[kind]
    start, end, value = beside_criterion(judged(condition, ours, low, high))
    assert 0 <= start <= value <= end <= 100
    meets = [condition.criterion.low <= bound <= condition.criterion.high for bound in (low, high)]
    if all(meets):
        assert start >= 50
    if kind != "within" and not any(meets):
        assert end <= 50
    if start > 50.01:
        assert all(meets)


def test_an_interval_without_width_is_at_the_end_of_its_row():
    assert beside_criterion(judged(CONDITIONS["at most"], 0.4, 0.4, 0.4)) == (100, 100, 100)
    assert beside_criterion(judged(CONDITIONS["at most"], 0.6, 0.6, 0.6)) == (0, 0, 0)


def test_what_no_run_decides_and_what_has_no_interval_has_no_row():
    for verdict in ("identity", "not testable here"):
        assert beside_criterion(judged(CONDITIONS["at most"], 0.4, 0.3, 0.5, verdict)) is None
    assert beside_criterion(judged(CONDITIONS["at most"], math.nan, math.nan, math.nan)) is None


def answer(toy, tmp_path, **options):
    """The sentences above a run."""
    engram.run(toy, runs=tmp_path, jobs=1, progress=False, **options)
    page = as_html(section(registry.get("experiments", toy), engram.load(toy, tmp_path)))
    return " ".join(re.sub("<[^>]*>", "", re.search('<p class="answer">(.*?)</p>', page, re.DOTALL)[1]).split())


def test_a_report_says_what_its_own_run_has_shown(toy, tmp_path):
    own = answer(toy, tmp_path / "whole", preset="laptop", episodes=60)
    assert own == "In this run 1 of 2 claims hold. Met: it learns. Not met: it is perfect."
    part = answer(toy, tmp_path / "part", preset="laptop", arms=["momentum"])
    assert part == "In this run 1 of 1 claims hold. Met: it learns."
    smoke = answer(toy, tmp_path / "smoke", preset="smoke")
    assert smoke == "Preset smoke shows that the code runs; it judges no claim. To judge them: engram run toy."
    broken = answer(toy, tmp_path / "broken", preset="smoke", arms=["momentum"], misbehave="raise")
    assert broken == "No trial of this run has finished, so it shows nothing yet."


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.1235"),
        (7, "7"),
        ("left", "left"),
        ([1, 0.5], "[1, 0.5]"),
        ([0.0] * 7, "(7 values)"),
        ([[0.0] * 12] * 12, "(12 rows)"),
        ({"a": [1]}, "(1 entries)"),
    ],
)
def test_a_table_among_results_is_shown_by_its_size(value, shown):
    assert _number(value) == shown


def test_a_figure_has_the_digits_that_a_screen_shows():
    figure = go.Figure(go.Scatter(x=[1, 200_001], y=[1 / 3, math.pi * 1e-9], text=["<b>", "1.23456789"]))
    (content,) = re.findall(r'<script type="application/json">(.*?)</script>', plot(figure))
    (trace,) = json.loads(content)["data"]
    assert (trace["x"], trace["y"], trace["text"]) == ([1, 200_001], [0.333333, 3.14159e-9], ["<b>", "1.23456789"])
    assert "<" not in content


def test_a_claim_says_what_its_criterion_was():
    run = engram.recorded("learning-to-remember")
    page = as_html(section(registry.get("experiments", "learning-to-remember"), run))
    revised = [claim.revised for claim in run.claimed if claim.revised]
    assert revised
    assert page.count("Changed when the record was known; before: ") == len(revised)


def test_a_larger_record_says_what_it_shows_itself(monkeypatch):
    monkeypatch.setattr("engram.lab.output.report.figures_of", lambda *given, **more: {})
    experiment, preset = registry.get("experiments", "associative-memories"), "large"
    results = engram.recorded(experiment, preset)
    said = section(experiment, results, curves=False)
    assert said["answer"].startswith(f"In our recorded run of preset {preset} "), "the answer tells of the smallest"
    page, place = as_html(said), f"claim-associative-memories@{preset}-"
    assert {*re.findall('href="#(claim-.*?)"', page)} <= {*re.findall('id="(claim-.*?)"', page)}
    assert page.count(f'id="{place}') == page.count('id="claim-') > 0, "the page may have the smallest one too"
