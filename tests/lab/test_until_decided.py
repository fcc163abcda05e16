"""Runs that go on until their claims are decided, and how often several looks are wrong."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from engram.lab import Claim, Experiment, Preset, Run, Study, judge_claim, load, metric, run, setting, settings
from engram.lab.claims.correction import correct
from engram.lab.claims.inference import errors_at
from engram.lab.output.export import _tables
from engram.lab.output.record_files import as_record, as_text, from_record
from engram.lab.output.report import write_report

LOOKS = (5, 10, 20, 40)
value = metric("value")
REPETITIONS = 1000


@settings
class Config:
    """What a trial draws."""

    mean: float = setting(0.0, "of the value that a trial draws")
    spread: float = setting(1.0, "its standard deviation", ge=0)


def trial(config: Config, run: Run) -> dict[str, float]:
    for _ in run.steps(1):
        drawn = float(run.rng.normal(config.mean, config.spread))
    return {"value": drawn}


def experiment(**arms):
    presets = {"smoke": Preset(1), "laptop": Preset(3), "large": Preset(3, looks=(3, 6))}
    claims = [Claim(f"{arm}-above", f"{arm} lies above", value(arm) >= 0.0) for arm in arms]
    return Experiment(
        "looks", "Values are drawn.", "", Study(trial, arms), presets, claims, lambda results: go.Figure()
    )


def test_only_arms_of_open_claims_are_run_with_more_seeds(tmp_path, capsys):
    sure, likely, none = {"mean": 100.0}, {"mean": 1.2}, {"mean": 0.0}
    study = experiment(sure=sure, likely=likely, none=none)
    results = run(study, runs=tmp_path, until_decided=True, jobs=1)
    shown = capsys.readouterr().err
    assert [shown.count(f"claim {arm}-above: ") for arm in ("sure", "likely", "none")] == [1, 1, 1]
    assert "5 seeds: 2 claims are open" in shown
    claims = {judged.claim.id: judged for judged in results.claims()}
    seeds = {arm: len(results.values(arm)) for arm in results.arms}
    assert seeds["sure"] == 5
    assert 5 < seeds["likely"] == len(claims["likely-above"].values) <= 40
    assert claims["likely-above"].verdict == "holds"
    assert seeds["none"] == 40
    assert (claims["none-above"].verdict, claims["none-above"].look) == ("undecided", 4)
    assert [(claims["sure-above"].look, claims["sure-above"].confidence)] == [(1, 0.999)]
    again = load(study, tmp_path)
    assert [judged.verdict for judged in again.claims()] == [judged.verdict for judged in results.claims()]
    recorded = from_record(study, *as_record(study, results)).claims()
    assert [(judged.verdict, judged.look) for judged in recorded] == [(c.verdict, c.look) for c in results.claims()]
    page = write_report([(study, results)], tmp_path / "report.html").read_text()
    assert "--until-decided" in page
    assert "5 seeds, analysis 1" in page


def test_a_run_with_fixed_seeds_gives_its_trials_to_one_until_decided(tmp_path):
    study = experiment(sure={"mean": 100.0}, none={})
    first = run(study, runs=tmp_path, progress=False, jobs=1)
    assert [judged.look for judged in first.claims()] == [0, 0]
    folders = {trial.folder for trial in first.trials}
    later = run(study, runs=tmp_path, until_decided=True, progress=False, jobs=1)
    assert folders < {trial.folder for trial in later.trials}


def test_a_preset_has_looks_of_its_own(tmp_path):
    results = run(experiment(none={}), preset="large", runs=tmp_path, until_decided=True, progress=False, jobs=1)
    assert len(results.trials) == 6
    assert results.claims()[0].confidence == pytest.approx(0.951)


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ({"seeds": 0}, "seeds = 0"),
        ({"seeds": 3, "arms": "sure"}, "arms = 'sure': expected a list"),
        ({"seeds": 3, "looks": 10}, "looks = 10: expected a list"),
        ({"seeds": 3, "planned": 0}, "planned = 0"),
        ({"seeds": 3, "looks": (10, 5)}, r"looks = \(10, 5\): expected up to 49 rising"),
        ({"seeds": 3, "looks": range(3, 60)}, r"looks = range\(3, 60\): expected up to 49 rising"),
    ],
)
def test_a_wrong_preset_is_named(preset, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Preset(**preset)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ["sure", "unsure"]}, "unknown arm 'unsure' of looks; did you mean 'sure'"),
        ({"claimed": "unsure"}, "unknown arm 'unsure' of looks"),
        ({"presets": ("labtop",)}, "presets of claim 'c' = 'labtop': expected one of 'smoke', 'laptop', 'large'"),
    ],
)
def test_an_arm_or_preset_that_is_unknown_is_named(changes, message):
    known = experiment(sure={})
    presets = {**known.presets, "smoke": Preset(1, arms=changes.get("arms"))}
    judged_at = changes.get("presets", ("smoke",))
    claims = [Claim("c", "It lies above", value(changes.get("claimed", "sure")) >= 0.0, presets=judged_at)]
    with pytest.raises(ValueError, match=message):
        replace(known, presets=presets, claims=claims)


def test_an_arm_that_fails_does_not_stop_the_looks_of_others(tmp_path):
    def fails_at_seven(config: Config, run: Run) -> dict[str, float]:
        if config.mean == 7:
            raise FloatingPointError("diverged")
        return trial(config, run)

    studies = Study(fails_at_seven, {"none": {}, "failing": {"mean": 7.0}})
    study = replace(experiment(none={}, failing={"mean": 7.0}), studies=studies)
    results = run(study, runs=tmp_path, until_decided=True, progress=False, jobs=1)
    seeds = Counter(trial.arm for trial in results.trials)
    assert seeds == {"none": 40, "failing": 5}


def test_a_look_that_time_cuts_short_judges_nothing_and_goes_on_later(tmp_path, monkeypatch):
    study = experiment(none={})

    def is_over(deadline):
        """The time is over in the second look."""
        return next(answers)()

    answers = iter((lambda: False, lambda: next(tmp_path.glob("looks/.*.run")).with_suffix(".stop").touch(), lambda: 1))
    with monkeypatch.context() as patch:
        patch.setattr("engram.lab.engine.laboratory.is_over", is_over)
        results = run(study, runs=tmp_path, until_decided=True, progress=False, jobs=1)
    assert [trial.state for trial in results.trials] == ["finished"] * 5
    assert results.claims()[0].is_open
    assert len(load(study, tmp_path).trials) == 5
    assert len(run(study, runs=tmp_path, until_decided=True, progress=False, jobs=1).trials) == 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until_decided": True, "seeds": 3}, "seeds = 3: expected None with until_decided"),
        ({"until_decided": True, "at_most": 0}, "at_most = 0: expected a number above 0"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(experiment(none={}), runs=tmp_path, progress=False, **options)


@pytest.mark.parametrize("form", ["mean", "median", "ratio", "share"])
def test_all_looks_together_are_wrong_one_time_in_twenty(form):
    """At effects on the threshold, where every decision is false."""
    rng = np.random.default_rng(3)
    drawn = {
        "mean": lambda: rng.normal(size=40),
        "median": lambda: rng.standard_cauchy(40),
        "ratio": lambda: np.exp(rng.normal(size=40)),
        "share": lambda: rng.integers(0, 2, 40).astype(float),
    }[form]
    threshold = {"mean": 0.0, "median": 0.0, "ratio": 1.0, "share": 0.5}[form]
    measure = type(value("a"))(value("a").compute, ("a",), form)
    claim = Claim("c", "s", measure >= threshold)
    decided = [
        judge_claim(claim, {seed: {"a": {"value": v}} for seed, v in enumerate(drawn())}, preset="laptop", looks=LOOKS)
        for _ in range(REPETITIONS)
    ]
    wrong = np.mean([judged.verdict != "undecided" for judged in decided])
    assert wrong <= 0.05 + 3 * (0.05 * 0.95 / REPETITIONS) ** 0.5
    assert all((judged.p < 0.05) == (judged.verdict != "undecided") for judged in decided)


def test_of_several_claims_one_is_wrong_one_time_in_twenty():
    rng = np.random.default_rng(4)
    arms = "abcdef"
    claims = [Claim(arm, "s", value(arm) >= 0.0) for arm in arms]
    wrong = 0
    for _ in range(REPETITIONS // 2):
        drawn = dict(zip(arms, rng.normal(size=(6, 40)), strict=True))
        results = {seed: {arm: {"value": drawn[arm][seed]} for arm in arms} for seed in range(40)}
        judged = correct([judge_claim(claim, results, preset="laptop", looks=LOOKS) for claim in claims])
        wrong += any(of_claim.corrected != "undecided" for of_claim in judged)
    assert wrong / (REPETITIONS // 2) <= 0.05 + 3 * (0.05 * 0.95 / (REPETITIONS // 2)) ** 0.5


def test_the_errors_of_all_looks_add_up_to_five_percent():
    assert [sum(errors_at(n)) for n in (1, 2, 4)] == pytest.approx([0.05] * 3)


def test_a_seed_that_is_missing_holds_up_the_looks_after_it():
    results = {seed: {"a": {"value": 5.0 + seed}} for seed in range(10) if seed != 7}
    judged = judge_claim(Claim("c", "s", value("a") >= 7.0), results, preset="laptop", looks=LOOKS)
    assert (judged.look, len(judged.values)) == (1, 5)


def test_a_trial_that_does_not_say_its_settings_is_named():
    with pytest.raises(TypeError, match=r"trial = .*<lambda>: expected config to be declared as a class of settings"):
        _ = Study(lambda config, run: {}, {}).settings


def test_a_fixed_run_whose_seeds_failed_decides_nothing(tmp_path):
    def fragile(config: Config, run: Run) -> dict[str, float]:
        result = trial(config, run)
        if run.seed == 1:
            raise FloatingPointError("it diverged")
        return result

    asked = experiment(a={"mean": 50.0})
    failing = Experiment(
        "fragile", asked.about, "", Study(fragile, {"a": {"mean": 50.0}}), asked.presets, asked.claims, asked.figure
    )
    results = run(failing, seeds=4, jobs=1, runs=tmp_path, progress=False)
    assert [judged.verdict for judged in results.claims()] == ["undecided"]
    whole = run(asked, seeds=4, jobs=1, runs=tmp_path, progress=False)
    assert [judged.verdict for judged in whole.claims()] == ["holds"]


def test_numbers_of_numpy_are_changes_and_functions_are_not():
    asked = experiment(a={})
    assert asked.changed("laptop", {"mean": np.float64(2.0)}) == {"mean": 2.0}
    with pytest.raises(ValueError, match=r"mean = .*: expected a value, not a function"):
        asked.changed("laptop", {"mean": abs})


def test_results_come_back_from_a_record_as_they_were(tmp_path):
    exact = {"nearly": 1.000004, "infinite": np.inf, "negative": -np.inf, "none": None, "word": "Infinite"}

    def listed(config: Config, run: Run) -> dict[str, object]:
        return {"value": 0.1 + 0.2, **exact, "inner": {"missing": float("nan")}, "curve": [float("nan"), 1 / 3]}

    asked = experiment(a={})
    listing = Experiment("listed", "Lists.", "", Study(listed, {"a": {}}), asked.presets, asked.claims, asked.figure)
    record, curves = as_record(listing, run(listing, seeds=1, jobs=1, runs=tmp_path, progress=False))
    (restored,) = from_record(listing, json.loads(as_text(record)), curves).trials
    assert restored.result["value"] == 0.1 + 0.2
    assert {name: restored.result[name] for name in exact} == exact
    assert np.isnan(restored.result["inner"]["missing"])
    assert np.isnan(restored.result["curve"][0])
    assert restored.result["curve"][1] == 0.333333, "numbers in lists are rounded"


def test_a_claim_on_every_seed_waits_for_all_seeds_also_with_looks(tmp_path):
    study = replace(
        experiment(sure={"mean": 100.0}), claims=[Claim("every", "s", value("sure") >= 0, sameness="numeric")]
    )
    whole = run(study, runs=tmp_path, until_decided=True, jobs=1, progress=False)
    assert whole.claims()[0].verdict == "holds"
    failed = replace(whole.trials[1], state="failed", result={})
    (judged,) = replace(whole, trials=[whole.trials[0], failed, *whole.trials[2:]]).claims()
    assert (judged.verdict, judged.why) == ("undecided", "4 of the 5 seeds that it needs")


def test_tables_keep_numbers_that_are_not_finite(tmp_path):
    whole = run(experiment(a={}), preset="laptop", runs=tmp_path, jobs=1, progress=False)
    values = (math.inf, 1.0, math.nan)
    trials = [
        replace(trial, result={"value": value, "list": [value]})
        for trial, value in zip(whole.trials, values, strict=True)
    ]
    tables = _tables(replace(whole, trials=trials))
    assert tables["results"]["value"].to_list() == pytest.approx(values, nan_ok=True)
    assert tables["results"]["list"].to_list() == ['["Infinity"]', "[1.0]", '["NaN"]']
    assert tables["claims"]["ours"].is_nan().to_list() == [True]
    equal = _tables(replace(whole, trials=[replace(trial, result={"value": 1.0}) for trial in whole.trials]))
    assert equal["claims"].select("low", "high").row(0) == (-math.inf, math.inf)
