"""Judged claims have the same cells in a terminal, in Markdown and in HTML."""

from __future__ import annotations

import math
import re

import pytest
from rich.text import Text

from engram.claim_rows import COLORS, Row, as_html, as_line, as_markdown, for_terminal
from engram.lab import Claim, metric
from engram.lab.claims.claim import JudgedClaim, table, tally

COLUMNS = {"Claim": "claim", "Verdict": "verdict", "Criterion": "criterion", "Ours": "value and seeds"}
ROWS = [
    Row("a < b | c", "<= 1", "0.5", "[0.4, 0.6]", 5, "holds", note=" (e/[c])", role="against: ", address="page.html#c"),
    Row("[red] it learns", ">= 2", "", "", 0, "not testable here", why=" (no data)"),
]


def test_the_three_forms_have_the_same_cells():
    in_terminal = [[Text.from_markup(cell).plain for cell in cells] for cells in for_terminal(ROWS, COLUMNS)]
    assert in_terminal == [
        ["a < b | c (e/[c])", "against: holds", "<= 1", "0.5 [0.4, 0.6]; 5 seeds"],
        ["[red] it learns", "not testable here (no data)", ">= 2", ""],
    ]
    head, _, first, second = as_markdown(ROWS, COLUMNS).splitlines()
    assert head == "| Claim | Verdict | Criterion | Ours |"
    assert first == (
        '| <a href="page.html#c">a &lt; b \\| c</a> | against: holds | &lt;= 1 | 0.5 [0.4, 0.6]; 5 seeds |'
    )
    assert second == "| [red] it learns | not testable here (no data) | &gt;= 2 |  |"
    html = as_html(ROWS, COLUMNS)
    cells = re.findall("<td>(.*?)</td>", html)
    assert cells[0] == '<a href="page.html#c">a &lt; b | c</a>'
    assert cells[1:4] == ["against: holds", "&lt;= 1", "0.5 [0.4, 0.6]; 5 seeds"]
    assert len(cells) == 8
    assert html.count("<tr>") == 3


@pytest.mark.parametrize("verdict", COLORS)
def test_a_verdict_has_its_colour_alone(verdict):
    ((cell,),) = for_terminal([ROWS[0]._replace(verdict=verdict)], {"verdict": "verdict"})
    assert cell == f"against: [{COLORS[verdict]}]{verdict}[/]"


def judged(verdict: str, corrected: str, is_tried: bool = True) -> JudgedClaim:
    claim = Claim("small", "It is small", metric("error")("plastic") <= 0.5)
    return JudgedClaim(
        claim, {0: 0.41234, 1: 0.4}, 0.40617, 0.3, math.inf, verdict, "why", corrected=corrected, is_tried=is_tried
    )


def test_a_claim_of_a_run_is_such_a_row():
    row = judged("holds", "holds").row(note=" (analysis 2)")
    assert (row.cell("value"), row.cell("seeds"), row.cell("verdict")) == ("0.4062 [0.3, inf]", "2", "holds (why)")
    line = Text.from_markup(as_line(row)).plain
    assert line == "ours 0.4062 [0.3, inf], criterion <= 0.5, 2 seeds (analysis 2): holds (why)"
    assert "<td>0.4062</td><td>[0.3, inf]</td><td>2</td><td>holds (why)</td>" in table([judged("holds", "holds")])


def test_what_counts_is_the_corrected_verdict_of_what_was_tried():
    claims = [judged("fails", "fails"), judged("holds", "undecided"), judged("holds", "holds", is_tried=False)]
    claims += [judged("agrees", "agrees")] * 2
    assert list(tally(claims).items()) == [("agrees", 2), ("fails", 1), ("undecided", 1)]
