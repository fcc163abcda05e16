from __future__ import annotations

import pytest

from engram.lab import Experiment, Points, Preset, Run, Study, Task, run, setting, settings
from engram.lab.claims.inference import estimate
from engram.studies.standings import crossings


@pytest.mark.parametrize(
    "name",
    [  # the site that is built for the tests has them all
        pytest.param(name, marks=[pytest.mark.soak] * (name == "generalization-difficulty"))
        for name in crossings.CROSSINGS
    ],
)
def test_a_crossing_is_a_sentence_and_a_whole_table(name):
    answer, columns, rows = crossings.CROSSINGS[name][1]()
    assert answer.endswith(".")
    assert len(rows) > 5
    assert {len(row) for row in rows} == {len(columns)}
    assert "nan" not in answer + "".join(map("".join, rows))


def test_a_question_without_a_record_says_so(monkeypatch):
    def refused(name):
        raise LookupError(f"{name} has no record of preset laptop")

    monkeypatch.setattr(crossings, "record_of", refused)
    monkeypatch.setattr(crossings, "CROSSINGS", {"agents": crossings.CROSSINGS["agents"]})
    text = crossings.page()
    why = "agents has no record of preset laptop ([gallery](gallery/agents.md))"
    assert f"## Which agent learns within a life?\n\nNo answer yet: {why}." in text


def test_a_number_stands_with_half_of_its_interval():
    low, high = estimate([1.0, 2.0, 3.0])[1:3]
    assert crossings.cell([1.0, 2.0, 3.0]) == f"2 ± {(high - low) / 2:.2g}" == "2 ± 2.5"
    assert crossings.cell([0.125]) == "0.125"
    assert crossings.cell([]) == ""


@settings
class Guess:
    """What a trial returns."""

    value: float = setting(0.0, "the result")


def test_what_parts_reached_is_read_by_their_arms(tmp_path):
    def trial(config: Guess, _: Run) -> dict[str, float]:
        return {"value": config.value}

    task = Task(
        "optimizers",
        "values",
        "arm-{}".format,
        lambda part: None if part == "c" else {"value": float(ord(part))},
        "value",
        baselines=("a", "b", "c", "d"),
    )
    values = Experiment(
        name="values",
        about="Values are returned.",
        paper="None",
        studies=Study(trial, {"arm-a": {"value": 97.0}, "arm-b": {"value": 98.0}}),
        presets={"smoke": Preset(1), "laptop": Preset(1)},
        claims=[],
        figure=Points("value"),
        headline="value",
        tasks=[task],
    )
    record = run(values, seeds=2, runs=tmp_path, jobs=1, progress=False)
    assert crossings.reached_in(record, task) == {"a": [97.0, 97.0], "b": [98.0, 98.0]}
