from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from engram.lab import Task
from engram.studies.standings.comparison import _line
from engram.studies.standings.figures import curves
from engram.studies.standings.figures import ranks as diagram
from engram.studies.standings.page import _details, page
from engram.studies.standings.scores import Entry, Scores
from engram.studies.standings.standing import Standing


def task_of(name, measure, **options):
    return Task("agents", name, "{}".format, lambda candidate: {}, measure, **options)


TASK = task_of("bits", "accuracy", chance=0.5, bits=lambda: 12.25)
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


def test_results_are_json_without_numbers_that_are_not_finite(scores):
    rows = json.loads(json.dumps(scores.to_json(), allow_nan=False))["results"]
    assert None in [row["steps_to_90"] for row in rows]


def test_steps_where_less_is_better():
    task = task_of("loss", "loss", maximize=False, trivial="other")
    entries = {"one": Entry({0: -1.0}, curve=([0, 4], [0.0, -1.0])), "other": Entry({0: 0.0}, curve=([0, 4], [0, 0]))}
    scores = Scores("optimizers", (), (task,), {"loss": entries})
    assert scores.steps_to("loss", "one", 0.5) == pytest.approx(2)
    assert scores.steps_to("loss", "other", 0.5) == math.inf


def test_what_it_takes_is_a_column_and_on_the_page(scores):
    frame = scores.frame
    weights = dict(zip(frame["candidate"], frame["weights"], strict=True))
    assert weights == {"slow": 80, "quick": 40, "curveless": None, "failed": None}
    html = page(scores)
    assert ": costs" in html
    assert "<th>weights</th>" in html
    assert "12.2" in html
    assert "never" in html
    assert "<td>failed</td>" in html


def test_the_way_starts_at_the_trivial_part_where_guessing_is_unknown():
    curve = ([0, 10], [4.0, 2.0])
    row = {"best": Entry({0: 2.0}, curve=curve), "trivial": Entry({0: 4.0}, curve=([0], [4.0]))}
    known = Scores("agents", (), (task_of("t", "error", maximize=False, trivial="trivial"),), {"t": row})
    assert known.steps_to("t", "best") == pytest.approx(9)  # at 2.2
    assert known.steps_to("t", "trivial") == math.inf
    unknown = Scores("agents", (), (task_of("t", "error", maximize=False),), {"t": row})
    assert math.isnan(unknown.steps_to("t", "best"))


def test_steps_are_counted_to_a_named_goal_or_not_at_all():
    row = {"quick": ENTRIES["quick"], "slow": ENTRIES["slow"]}
    to_quick = Scores("agents", (), (task_of("t", "accuracy", chance=0.5, goal="quick"),), {"t": row})
    assert to_quick.steps_to("t", "quick") == pytest.approx(14)  # at 0.77
    assert "steps to 90 % of quick&#39;s" in page(to_quick)
    none = Scores("agents", (), (task_of("t", "accuracy", chance=0.5, goal=None),), {"t": row})
    assert math.isnan(none.steps_to("t", "quick"))


def test_curves_at_equal_seconds():
    row = {name: ENTRIES[name] for name in ("quick", "slow", "curveless")}  # slow takes twice as long a step
    scores = Scores("optimizers", (), (task_of("t", "loss", equal_seconds=True),), {"t": row})
    assert scores.at_equal_seconds("t", "quick") == pytest.approx(0.8)
    assert scores.at_equal_seconds("t", "slow") == pytest.approx(0.9)
    assert math.isnan(scores.at_equal_seconds("t", "curveless"))
    assert "loss at equal seconds" in page(scores)


def test_the_nearest_other_by_its_dynamics():
    operators = {"a": [0.9, 0, 0, 0.5], "b": [0.9, 0.1, 0, 0.5], "c": [0, 0.9, -0.9, 0]}
    row = {name: Entry({0: 1.0}, operators={0: values}) for name, values in operators.items()} | {"d": Entry({0: 1.0})}
    scores = Scores("learning_rules", (), (TASK,), {"bits": row})
    assert scores.nearest["bits"]["a"] == "b"
    assert scores.nearest["bits"]["b"] == "a"
    assert "d" not in scores.nearest["bits"]
    own = Scores("learning_rules", ("c",), (TASK,), {"bits": row})
    assert set(own.nearest["bits"]) == {"c"}


def test_nothing_is_said_of_a_trivial_part_without_a_result():
    good = Entry({0: 1.0, 1: 1.0})
    first, second = (task_of(name, "accuracy", trivial="idle") for name in ("first", "second"))
    entries = {"first": {"mine": good, "idle": Entry({0: 0.1, 1: 0.1})}, "second": {"mine": good}}
    assert Scores("agents", ("mine",), (first, second), entries).lines[-1:] == [
        "first: mine 1, idle 0.1 (better, n = 2)."
    ]
    assert Scores("agents", ("mine",), (second,), entries).lines == []


@pytest.mark.parametrize(
    ("values", "relation"),
    [((0.9, 1.0), "better"), ((0.1, 0.0), "worse"), ((0.5, 0.5), "as good"), ((0.0, 0.9), "undecided")],
)
def test_a_line_a_task_says_how_a_candidate_does_beside_the_trivial_one(values, relation):
    task = task_of("bits", "accuracy", trivial="idle", margin=0.05)
    row = {"mine": Entry({2 * seed + k: values[k] for seed in range(10) for k in (0, 1)})}
    row["idle"] = Entry(dict.fromkeys(range(20), 0.5))
    mean = sum(values) / 2
    expected = f"bits: mine {mean:.3g}, idle 0.5 ({relation}, n = 20)."
    assert Scores("agents", ("mine",), (task,), {"bits": row}).lines[-1] == expected


def test_the_page_marks_baselines_and_says_what_is_not_known():
    task = task_of("bits", "accuracy", trivial="quick")
    html = page(Scores("agents", ("slow",), (task,), {"bits": ENTRIES}, about={"slow": "It takes its time"}))
    assert html.count('<span class="soft">(baseline)</span>') == 1
    assert "not measured" in html
    assert "not known" in html
    assert "<b>slow</b>: It takes its time" in html


def test_bars_join_what_does_not_differ():
    values = {"a": 3.0, "b": 2.0, "c": 1.0}
    tasks = tuple(task_of(f"t{number}", "accuracy") for number in range(6))
    entries = {task.name: {name: Entry({0: value}) for name, value in values.items()} for task in tasks}
    scores = Standing("agents", (), tasks, entries)
    assert scores.ranks.groups == [("a", "b"), ("b", "c")]  # the critical difference is 1.35
    bars = [trace for trace in diagram(scores).data if trace.line.width == 5]
    assert [tuple(bar.x) for bar in bars] == [(1, 2), (2, 3)]
    (line,) = scores.lines
    assert line.startswith("Mean ranks over t0, t1, t2, t3, t4, t5 differ significantly from 1.35 apart: some of 3 do")


def test_a_mean_of_the_seeds_that_are_left_has_a_mark_in_every_table():
    whole, part = Entry({0: 1.0, 1: 0.5}), Entry({0: 2.0}, note="raised ValueError: odd")
    standing = Standing("agents", ("mine",), (TASK,), {TASK.name: {"mine": part, "other": whole}})
    assert "| mine | 2* |  |" in standing.text("markdown")
    assert r"mine & 2* &  \\" in standing.text("latex")
    assert "| other | 0.75 |" in standing.text("markdown")


def test_nobody_is_ranked_alone():
    assert Standing("agents", ("mine",), (TASK,), {TASK.name: {"mine": Entry({0: 1.0, 1: 0.5})}}).lines == []


def test_candidates_may_differ_although_no_two_mean_ranks_do():
    tasks = tuple(task_of(f"t{number}", "accuracy") for number in range(3))
    values = ((8, 7, 6, 5, 4, 3, 2, 1), (7, 8, 5, 6, 3, 4, 1, 2), (7, 6, 8, 5, 3, 4, 2, 1))
    entries = {
        task.name: {name: Entry({0: float(value)}) for name, value in zip("abcdefgh", of_task, strict=True)}
        for task, of_task in zip(tasks, values, strict=True)
    }
    scores = Standing("agents", (), tasks, entries)
    assert scores.ranks.p < 0.05
    assert f"none of 8 do (Friedman: p = {scores.ranks.p:.2g})" in scores.lines[0]


def test_a_candidate_that_fails_everywhere_takes_the_ranks_from_no_other():
    row = {"good": Entry({0: 1.0}), "fair": Entry({0: 0.5}), "bad": Entry(note="raised ValueError: no luck")}
    both = Standing("agents", ("good", "bad"), (TASK,), {TASK.name: row})
    assert both.ranks.mean == {"good": 1.0, "fair": 2.0}
    assert both.lines[-1] == "bits: bad has no result (raised ValueError: no luck)."
    alone = Standing("agents", ("bad",), (TASK,), {TASK.name: row})
    assert "bits: bad has no result (raised ValueError: no luck)." in alone.lines


def test_the_best_other_candidate_is_named_beside_a_leader_that_was_asked_about():
    values = {"mine": 1.0, "next": 0.8, "last": 0.5}
    row = {name: Entry({0: value}, curve=([0, 1], [0.0, value])) for name, value in values.items()}
    figure = curves(Scores("agents", ("mine",), (TASK,), {TASK.name: row}))
    assert [trace.name for trace in figure.data if trace.text] == ["mine", "next"]


def test_only_steps_are_never_reached_and_a_number_that_is_infinite_says_so():
    curve = [0, 10], [0.5, math.inf]
    row = {name: Entry({0: 1.0}, {"weights": math.inf}, curve, step_seconds=0.001) for name in ("one", "other")}
    row["other"] = replace(row["other"], curve=([0, 10], [0.5, 0.6]))
    task = task_of("loss", "loss", maximize=False, chance=2.0, equal_seconds=True)
    titles, one, _ = _details(Scores("optimizers", (), (task,), {"loss": row}), task)
    cells = dict(zip(titles, one, strict=True))
    assert (cells["weights"], cells["loss at equal seconds"]) == ("inf", "inf")


def test_no_other_is_the_best_where_a_candidate_shares_the_first_place():
    row = {name: Entry({0: value}) for name, value in {"other": 1.0, "mine": 1.0, "next": 0.8}.items()}
    lines = [_line(Scores("agents", (own,), (TASK,), {TASK.name: row})) for own in ("mine", "next")]
    assert [line.partition(": ")[2] for line in lines] == [
        "mine 1, rank 1.5 of 3",
        "next 0.8, rank 3 of 3; the best is other, 1",
    ]


def test_means_that_differ_by_rounding_share_a_rank_and_are_as_good():
    entries = {"a": Entry({0: 0.3, 1: 0.3}), "b": Entry({0: 0.1 + 0.2, 1: 0.3}), "c": Entry({0: 0.2, 1: 0.1})}
    scores = Scores("learning_rules", (), (TASK,), {"bits": entries})
    assert [scores.rank("bits", name) for name in "abc"] == [1.5, 1.5, 3.0]
    assert scores.difference("bits", "b", "a")[:3] == (0, 0, 0)
    assert scores.relation("bits", "b", "a") == "as good"
    exact = replace(TASK, margin=0.3)
    apart = {"a": Entry({0: 0.6, 1: 0.6}), "b": Entry({0: 0.3, 1: 0.3 - 2**-54})}
    assert Scores("learning_rules", (), (exact,), {"bits": apart}).relation("bits", "a", "b") == "better"
