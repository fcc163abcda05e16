"""Trials, settings and curves as people have them elsewhere: odd keys, errors without words, unequal seeds."""

from __future__ import annotations

import json
import math
import os
import random
import re
from dataclasses import replace
from enum import IntEnum
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import polars as pl
import pytest

import engram
from engram.cli import run as cli
from engram.lab import Experiment, Preset, Results, Study, setting, settings
from engram.lab.engine.sweeps import settings_of
from engram.lab.output.export import export
from engram.lab.output.figures import Lines, add_line, learning_curves
from engram.lab.output.record_files import as_record, from_record
from engram.lab.output.report import write_report
from engram.lab.output.results import TrialResult
from engram.lab.trial.config import from_dict
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.job import check_result
from engram.lab.trial.loop import TrialRun
from engram.lab.trial.metrics import over_seeds, windows


@settings
class Odd:
    """Settings of an odd trial."""

    shift: float = setting(0.0, "a shift")
    label: str = setting("", "a label")
    flag: bool = setting(False, "a flag")
    rates: tuple[float, ...] = setting((), "rates")
    does: str = setting("", "what the trial does")


class SilentError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def trial(config: Odd, run):
    if config.does == "silent":
        raise SilentError
    if config.does == "python":
        random.random()
    if config.does == "numpy":
        np.random.rand()  # noqa: NPY002
    if config.does == "environ":
        os.environ["ENGRAM_ODD"] = "1"
    if config.does == "choose":
        run.choose("rate", (1.0, 2.0), lambda rate: math.inf if rate == 1.0 else 0.0)
    for step in run.steps(100 + run.rng.integers(3) if config.does == "ragged" else 5):
        run.log(step, loss=step, **{"m" * 5000: 1.0} if config.does == "long" else {})
    return {"loss": config.shift if math.isfinite(config.shift) else 0.0}


def cannot_draw(results: Results) -> go.Figure:
    raise ZeroDivisionError("no figure")


arms = {"first": {}, "second": {}}
presets = {name: Preset(1) for name in ("smoke", "laptop")}


def experiment(figure=lambda results: go.Figure()) -> Experiment:
    return Experiment("odd", "It is odd.", "None", Study(trial, arms), presets, (), figure)


OPTIONS = {"preset": "smoke", "jobs": 1, "progress": False}


def curves(**by_seed) -> pl.DataFrame:
    rows = [(int(seed[1:]), step, float(value)) for seed, curve in by_seed.items() for step, value in curve]
    return pl.DataFrame(rows, schema=["seed", "step", "value"], orient="row")


def results_of(frame: pl.DataFrame) -> Results:
    metrics = frame.select(pl.lit("a").alias("arm"), "seed", "step", pl.lit("loss").alias("metric"), "value")
    return Results("odd", (), "loss", "smoke", {}, {"a": None}, 2, [TrialResult("a", 0, "finished", {})], metrics, {})


def test_the_mean_of_seeds_that_log_unequally_often_is_that_of_each_step():
    frame = curves(s0=[(step, step) for step in range(100)], s1=[(step, step) for step in range(101)])
    mean = over_seeds(windows(frame, 60), 60)
    assert mean["step"].is_sorted()
    assert mean["mean"].to_list() == pytest.approx(
        np.interp(mean["step"], *over_seeds(windows(frame, 60)).select("step", "mean").to_numpy().T).tolist()
    )
    line = learning_curves(results_of(frame), "loss", ["a"]).data[-1]
    assert list(line.x) == sorted(line.x)
    assert max(abs(np.array(line.x) - np.array(line.y))) <= 1.0, "windows of at most two steps"
    assert set(line.customdata) == {1, 2}


def test_seeds_that_log_at_other_steps_have_one_mean():
    frame = curves(s0=[(step, 0) for step in range(0, 10, 2)], s1=[(step, 1) for step in range(1, 11, 2)])
    figure = go.Figure()
    add_line(figure, results_of(frame), "a", "loss")
    assert list(figure.data[0].y) == [0.0, *[0.5] * 8, 1.0]
    assert list(figure.data[0].customdata) == [1, *[2] * 8, 1]
    assert list(Lines("loss", average="median")(results_of(frame)).data[0].y)[1:-1] == [0.5] * 8


def test_seeds_that_log_at_the_same_steps_have_the_plain_mean():
    frame = curves(s0=[(0, 1), (3, 2)], s1=[(0, 3), (3, 6)])
    assert over_seeds(frame).rows() == [(0, 2.0, 2.0, 1.0, 3.0, 2), (3, 4.0, 4.0, 2.0, 6.0, 2)]


class Kind(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({1: 0.1, "1": 0.9}, "the key 1"),
        ((1, 2), r"the tuple \(1, 2\)"),
        ([[1.0], (2.0,)], r"the tuple \(2\.0,\)"),
        (Kind.ONE, "the Kind <Kind.ONE: 1>"),
        (np.float32(1), "the float32"),
        ("\udcff", r"the string '\\udcff'"),
        ({"a": {"\udcff": 1}}, r"the key '\\udcff'"),
    ],
)
def test_a_result_that_json_would_change_is_refused(value, named):
    with pytest.raises(TypeError, match=rf"result 'x' = .*: expected Python's numbers.* \(not {named}"):
        check_result({"x": value})


def test_results_of_plain_values_are_taken():
    check_result({"x": [1, 2.0, math.nan, np.float64(1.0), "é", None, {"a": [True]}]})


@pytest.mark.parametrize(("name", "value"), [("shift", math.nan), ("rates", (1.0, math.nan))])
def test_a_setting_that_is_not_a_number_is_refused_before_it_starts(tmp_path, name, value):
    with pytest.raises(ValueError, match=rf"{name} = .*nan.*: expected a number, and not NaN"):
        engram.run(experiment(), runs=tmp_path, **OPTIONS, **{name: value})
    assert not list(tmp_path.rglob("trial.json"))


def test_a_setting_that_is_infinite_is_told_as_it_was_set(tmp_path):
    results = engram.run(experiment(), runs=tmp_path, **OPTIONS, shift=math.inf)
    told = json.loads(json.dumps(results.to_json(), allow_nan=False))
    assert told["changed"] == {"shift": "Infinity"}
    assert told["arms"]["first"]["shift"] == "Infinity"


def test_a_setting_that_is_no_text_is_named():
    with pytest.raises(ValueError, match=r"label = 'a\\udcff': expected text of UTF-8"):
        from_dict(Odd, {"label": "a\udcff"})


def test_an_error_without_words_fails_its_trial_and_no_other(tmp_path):
    results = engram.run(experiment(), runs=tmp_path, **OPTIONS, first={"does": "silent"})
    assert [trial.state for trial in results.trials] == ["failed", "finished"]
    assert results.trials[0].message == "SilentError (its message cannot be formatted)"


@pytest.mark.parametrize(
    ("does", "named"), [("python", "Python's global generator"), ("numpy", "NumPy's global"), ("environ", "os.environ")]
)
def test_a_trial_that_changes_what_others_share_is_told(tmp_path, monkeypatch, does, named):
    monkeypatch.delenv("ENGRAM_ODD", raising=False)
    (trial,) = engram.run(experiment(), runs=tmp_path, arms=["first"], **OPTIONS, does=does).trials
    assert trial.state == "finished"
    status = json.loads((Path(trial.folder) / "status.json").read_text())
    assert re.search(rf"the trial has changed .*{re.escape(named)}", status["message"])
    monkeypatch.delenv("ENGRAM_ODD", raising=False)
    (plain,) = engram.run(experiment(), runs=tmp_path, arms=["first"], **OPTIONS).trials
    assert json.loads((Path(plain.folder) / "status.json").read_text())["message"] == ""


def test_infinite_settings_are_recorded_and_infinite_scores_are_none(tmp_path):
    study = Study(trial, {"first": {"does": "choose", "shift": -math.inf}})
    odd = replace(experiment(), studies=study)
    results = engram.run(odd, runs=tmp_path, **OPTIONS)
    assert results.trials[0].choices["rate"]["scores"][:2] == [None, 0.0]
    record, curves = as_record(odd, results)
    recorded = from_record(odd, json.loads(json.dumps(record, allow_nan=False)), curves)
    assert recorded.trials[0].choices["rate"]["scores"] == results.trials[0].choices["rate"]["scores"]
    assert recorded.configs == results.configs


def test_values_that_are_equal_once_parsed_are_one_setting():
    assert settings_of({"rate": [0.1, float("1e-1"), 0.10]}, None) == [{"rate": 0.1}]
    assert len(settings_of({"rate": [0.1, 0.1], "size": [3, 4]}, None)) == 2


def test_a_sweep_draws_each_setting_at_one_place(tmp_path):
    engram.sweep(experiment(), runs=tmp_path, arms=["first"], rates=[(1.0, 2.0), (3.0,)], **OPTIONS)
    page = (tmp_path / "odd" / "sweep-rates" / "figure.html").read_text()
    places = [json.loads(text) for text in re.findall(r'"x":(\[.*?"\])', page)]
    assert places == [["[1.0, 2.0]", "[3.0]"]] * 2


def test_metrics_of_two_calls_at_one_step_are_refused_in_windows(tmp_path):
    tmp_path.joinpath("a").mkdir()
    run = TrialRun(TrialFolder(tmp_path / "a"), 0)
    run.log(0, every=3, loss=1.0)
    with pytest.raises(ValueError, match="step = 0: expected error in the call with every = 3 that logs loss"):
        run.log(0, every=3, error=1.0)
    for step in (1, 1, 2):  # one metric several times at one step is a window of calls, as before
        written = run.log(step, every=2, loss=float(step))
    assert written == {}


def test_a_figure_that_cannot_be_drawn_leaves_the_report_and_the_export(tmp_path):
    odd = experiment(cannot_draw)
    results = engram.run(odd, runs=tmp_path, **OPTIONS)
    page = write_report([(odd, results)], tmp_path / "report.html").read_text()
    assert "its figure cannot be drawn (ZeroDivisionError: no figure)" in page
    with pytest.warns(RuntimeWarning, match="the figure of odd is left out: ZeroDivisionError: no figure"):
        paths = export(odd, results, tmp_path / "export")
    assert {path.name for path in paths} >= {"metrics.csv", "curves-loss.html"}


def test_a_metric_with_a_very_long_name_is_exported(tmp_path):
    results = engram.run(experiment(), runs=tmp_path, **OPTIONS, does="long")
    paths = export(experiment(), results, tmp_path / "export")
    assert any(path.name.startswith("curves-mmmm") for path in paths)


def test_options_with_odd_values(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    common = ["--preset", "smoke", "--seeds", "1", "--arms", "momentum", "--jobs", "1", "--runs=~/mine"]
    assert cli(["run", "toy", *common, "--misbehave=-x", "--momentum", "False", "--noise.shared", "false"]) == 0
    assert not Path("~").exists()
    (folder,) = Path("mine/toy").glob("momentum-0-*")
    config = json.loads((folder / "trial.json").read_text())["identity"]["config"]
    assert (config["misbehave"], config["momentum"], config["noise"]["shared"]) == ("-x", False, False)
    assert cli(["report", "toy", "--runs", "mine", "--out=~/page.html"]) == 0
    assert Path("page.html").exists()
    capsys.readouterr()
