from __future__ import annotations

import math

import pytest

from engram.standings.page import page
from engram.standings.scores import Entry, Scores, Task

TASK = Task("bits", "coins", "accuracy", chance=0.5, bits=12.25)
ENTRIES = {
    "quick": Entry({0: 0.8, 1: 0.8}, {"weights": 40.0}, ([0, 10, 20], [0.5, 0.75, 0.8]), step_seconds=0.001),
    "slow": Entry({0: 1.0, 1: 1.0}, {"weights": 80.0}, ([0, 10, 20], [0.5, 0.9, 1.0]), step_seconds=0.002),
    "curveless": Entry({0: 0.6, 1: 0.7}),
    "failed": Entry(note="raised RuntimeError"),
}


@pytest.fixture
def scores():
    return Scores("learning_rules", (), (TASK,), {"bits": ENTRIES})


def test_steps_to_a_share_of_the_way_from_guessing_to_the_best(scores):
    assert scores.steps_to("bits", "slow") == pytest.approx(15)  # at 0.95, between 0.9 and 1
    assert scores.steps_to("bits", "slow", 0.4) == pytest.approx(5)  # at 0.7
    assert scores.steps_to("bits", "quick", 0.4) == pytest.approx(8)
    assert scores.steps_to("bits", "quick") == math.inf
    assert math.isnan(scores.steps_to("bits", "curveless"))
    assert math.isnan(scores.steps_to("bits", "failed"))


def test_steps_where_less_is_better():
    task = Task("loss", "coins", "loss", maximize=False)
    entries = {"one": Entry({0: -1.0}, curve=([0, 4], [0.0, -1.0])), "other": Entry({0: 0.0}, curve=([0, 4], [0, 0]))}
    scores = Scores("optimizers", (), (task,), {"loss": entries})
    assert scores.steps_to("loss", "one", 0.5) == pytest.approx(2)
    assert scores.steps_to("loss", "other", 0.5) == math.inf


def test_what_it_takes_is_a_column_and_on_the_page(scores):
    frame = scores.frame
    weights = dict(zip(frame["method"], frame["weights"], strict=True))
    assert weights == {"slow": 80, "quick": 40, "curveless": None, "failed": None}
    html = page(scores)
    assert ": costs" in html
    assert "<th>weights</th>" in html
    assert "12.2" in html
    assert "never" in html
    assert "<td>failed</td>" in html
