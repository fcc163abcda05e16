"""A record goes on where its claims are open, and only with the code and numbers that it was made by."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest

import engram
from engram.lab import (
    Claim,
    CorruptFileError,
    Experiment,
    Preset,
    Results,
    Run,
    Study,
    metric,
    minimum,
    setting,
    settings,
)
from engram.lab.claims.correction import Family, family_of
from engram.lab.output.read_runs import merge_environments
from engram.lab.output.record_files import as_record, from_record, write_record
from engram.studies import recording
from engram.studies.recording import extend_record
from engram.studies.recording.add_trials import differences, is_equal
from engram.studies.recording.index import index_of, runs_in, write_index
from engram.verdicts import index_in


def stored(experiment: Experiment, results: Results) -> Results:
    """Results as they come back from their record."""
    return from_record(experiment, *as_record(experiment, results))


@settings
class Toss:
    """What a trial draws."""

    mean: float = setting(0.0, "of the value that a trial draws")


def toss(config: Toss, run: Run) -> dict[str, float]:
    value = float(run.rng.normal(config.mean, 1.0))
    run.log(1, value=value)
    return {"value": value, "microseconds_10": time.perf_counter()}


def tosses():
    """An experiment of two claims: one is decided at the first look, the other one open at all."""
    return Experiment(
        name="tosses",
        about="Values are drawn.",
        paper="None",
        studies=Study(toss, {"far": {"mean": 50.0}, "near": {"mean": 0.1}}),
        presets={"smoke": Preset(1), "laptop": Preset(5, looks=(5, 8))},
        claims=[Claim(f"{arm}-above", f"{arm} lies above", metric("value")(arm) >= 0.0) for arm in ("far", "near")],
        figure=lambda results: None,
        headline="value",
    )


def test_a_record_goes_on_where_its_claims_are_open(tmp_path):
    whole = engram.run(tosses(), seeds=8, runs=tmp_path / "whole", jobs=1, progress=False)
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    record = stored(tosses(), replace(five, looks=(5, 8)))
    more = extend_record(tosses(), record, jobs=1, runs=tmp_path / "more")
    assert (record.seeds, more.seeds) == (5, 8)
    assert [(trial.arm, trial.seed) for trial in more.trials] == [
        *(("far", seed) for seed in range(5)),
        *(("near", seed) for seed in range(8)),
    ]
    np.testing.assert_allclose(more.values("near", "value"), whole.values("near", "value"), rtol=1e-5)
    assert len(more.metrics) == 13
    assert [judged.look for judged in more.claims()] == [1, 2]


def test_a_decided_claim_that_falls_short_of_the_correction_gets_the_seeds_of_its_next_look(tmp_path):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    record = replace(stored(tosses(), replace(five, looks=(5, 8))), family=Family(10_000, 0.0))
    assert [(judged.verdict, judged.lacks) for judged in record.claims()] == [("holds", 3), ("undecided", 0)]
    more = extend_record(tosses(), record, jobs=1, runs=tmp_path / "more")
    assert [len(more.values(arm)) for arm in ("far", "near")] == [8, 8]
    assert [judged.look for judged in more.claims()] == [1, 2], "the verdict is still that of the first look"


def test_an_arm_with_fewer_seeds_than_others_gets_those_that_it_lacks(tmp_path):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    record = stored(tosses(), replace(five, looks=(5, 8)))
    eight = extend_record(tosses(), record, jobs=1, runs=tmp_path / "more")
    claims = [replace(claim, condition=metric("value")(claim.arms[0]).within(50, 0.1)) for claim in tosses().claims]
    reopened = replace(tosses(), claims=claims)
    more = extend_record(reopened, stored(reopened, eight), jobs=1, runs=tmp_path / "more")
    assert [(trial.arm, trial.seed) for trial in more.trials] == [
        *(("far", seed) for seed in range(8)),
        *(("near", seed) for seed in range(8)),
    ]


def test_a_record_of_a_fixed_number_of_seeds_goes_on_by_the_looks_of_its_preset(tmp_path):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    more = extend_record(tosses(), stored(tosses(), five), jobs=1, runs=tmp_path / "more")
    assert (len(five.looks), more.looks, more.seeds) == (0, (5, 8), 8)
    assert [judged.look for judged in more.claims()] == [1, 2]


@pytest.mark.parametrize(("looks", "seeds"), [((5,), 8), ((5, 6), 6)])
def test_a_record_goes_on_by_further_looks_that_its_preset_has(tmp_path, looks, seeds):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    more = extend_record(tosses(), stored(tosses(), replace(five, looks=looks)), jobs=1, runs=tmp_path / "more")
    assert (tuple(more.looks), more.seeds) == ((5, 8) if seeds == 8 else looks, seeds)


def test_machines_of_a_record_that_goes_on_are_all_named(tmp_path):
    five = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    elsewhere = {**five.environment, "hardware": {**five.environment["hardware"], "processor": "Abacus"}}
    record = stored(tosses(), replace(five, looks=(5, 8), environment=elsewhere))
    more = extend_record(tosses(), record, jobs=1, runs=tmp_path / "more")
    assert more.environment["hardware"]["processor"] == f"Abacus and {five.environment['hardware']['processor']}"
    assert merge_environments([more.environment, elsewhere]) == more.environment, "a machine is named once"
    assert more.environment["versions"] == five.environment["versions"]


@pytest.fixture
def five(tmp_path):
    """A run of five seeds, with the looks of its preset."""
    results = engram.run(tosses(), seeds=5, runs=tmp_path / "five", jobs=1, progress=False)
    return replace(results, looks=(5, 8))


@pytest.mark.parametrize("processor", ["Abacus", None])
def test_what_a_trial_shows_is_compared_only_on_the_kind_of_machine_of_the_record(five, processor):
    drawn = replace(five, trials=[replace(trial, result={**trial.result, "shown": [0.1]}) for trial in five.trials])
    hardware = drawn.environment["hardware"]
    elsewhere = {**drawn.environment, "hardware": {**hardware, "processor": processor or hardware["processor"]}}
    moved = [replace(trial, result={**trial.result, "shown": [0.2]}) for trial in drawn.trials]
    record = stored(tosses(), replace(drawn, trials=moved, environment=elsewhere))
    different = {} if processor else {("far", 0): ["shown"], ("near", 0): ["shown"]}
    assert differences(tosses(), record, drawn) == different


def altered(results: Results, factor: float, **environment: object) -> Results:
    """A record in which a number of the first trial that goes on is another one."""
    trials = [
        replace(trial, result={**trial.result, "value": trial.result["value"] * factor})
        if (trial.arm, trial.seed) == ("near", 0)
        else trial
        for trial in results.trials
    ]
    hardware = {**results.environment["hardware"], **environment}
    return replace(results, trials=trials, environment={**results.environment, "hardware": hardware})


def test_a_record_of_other_numbers_does_not_go_on(five, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"tosses gives other numbers than its record of preset laptop: near, seed 0: value\. If a change of the "
        r"code has changed them, raise its revision \(now 1\) and record it anew: engram record tosses",
    ):
        extend_record(tosses(), stored(tosses(), altered(five, 1 + 1e-15)), jobs=1, runs=tmp_path / "more")


def test_elsewhere_numbers_may_differ_as_seeds_do(five):
    def shifted(shift: float) -> Results:
        trials = [replace(trial, result={"value": trial.result["value"] + shift}) for trial in five.trials]
        return altered(replace(five, trials=trials), 1.0, processor="Abacus")

    assert differences(tosses(), stored(tosses(), shifted(0.01)), five) == {}
    assert set(differences(tosses(), stored(tosses(), shifted(100.0)), five)) == {
        (arm, seed) for arm in ("far", "near") for seed in range(5)
    }


def test_a_record_of_another_machine_goes_on_with_other_last_digits(five, tmp_path):
    record = stored(tosses(), altered(five, 1 + 1e-7, processor="Abacus"))
    assert extend_record(tosses(), record, jobs=1, runs=tmp_path / "more").seeds == 8


def test_a_curve_that_differs_is_named(five):
    curves = five.metrics.with_columns(value=five.metrics["value"] + (five.metrics["arm"] == "far").cast(float))
    again = stored(tosses(), five)
    assert differences(tosses(), stored(tosses(), five), again) == {}
    assert differences(tosses(), stored(tosses(), replace(five, metrics=curves)), again) == {
        ("far", seed): ["curve of value"] for seed in range(5)
    }


def test_a_record_without_a_number_that_trials_have_since_goes_on(five, tmp_path):
    trials = [replace(trial, result={"value": trial.result["value"]}) for trial in five.trials]
    record = stored(tosses(), replace(five, trials=trials))
    more = extend_record(tosses(), record, jobs=1, runs=tmp_path / "more")
    assert more.seeds == 8
    results = stored(tosses(), more).values("near")
    assert ["microseconds_10" in result for result in results] == [False] * 5 + [True] * 3


@pytest.mark.parametrize(
    ("value", "other", "digits", "expected"),
    [
        (1.23456789, 1.23456789 + 1e-15, 0.0, False),
        (1.23457, 1.23456789, 0.0, True),  # as far as a record has digits
        (0.1, 0.1 + 1e-15, 0.0, True),  # which a record rounds to 6 digits
        (0.1 + 1e-15, 0.1, 0.0, False),
        (1.0, 1.0 + 1e-6, 1e-5, True),
        (1.0, 1.0 + 1e-4, 1e-5, False),
        (1e-14, 0.0, 1e-5, True),
        (1e-14, 0.0, 0.0, False),
        (float("nan"), float("nan"), 0.0, True),
        (1.0, float("nan"), 1e-5, False),
        ([1.0, {"a": 2.0}], [1.0, {"a": 2.0}], 0.0, True),
        ([1.0], [1.0, 1.0], 1e-5, False),
        ({"a": 1.0}, {"b": 1.0}, 1e-5, False),
        (1.0, None, 1e-5, False),
        (1, 2, 1e-5, False),
    ],
)
def test_numbers_are_equal_up_to_the_digits_asked_for(value, other, digits, expected):
    assert is_equal(value, other, digits) is expected


@pytest.fixture
def records(tmp_path, monkeypatch):
    """A folder of records, in which those of the tosses lie."""
    folder = tmp_path / "results"
    folder.mkdir()
    for module in ("engram.studies.recording", "engram.lab.output.record_files"):
        monkeypatch.setattr(f"{module}.record_folders", lambda experiment: [folder])
    return folder


def test_recording_runs_what_is_missing_and_nothing_else(records, tmp_path):
    options = {"jobs": 1, "runs": tmp_path / "runs"}
    path, results = recording.record(tosses(), **options)
    assert path == records / "tosses-laptop.json"
    counts = {arm: len(results.values(arm)) for arm in results.arms}
    assert counts == {"far": 5, "near": 8}, "a new one is run whole, at its looks"
    assert sorted(file.name for file in records.iterdir()) == ["tosses-laptop.json", "tosses-laptop.parquet"]
    whole = path.read_bytes()
    assert recording.record(tosses(), **options)[0] == path
    assert path.read_bytes() == whole, "nothing is missing"

    record = json.loads(whole)
    assert (record["revision"], record["environment"]["versions"]["engram"]) == (1, engram.__version__)
    first_look = engram.run(tosses(), seeds=5, jobs=1, runs=tmp_path / "five", progress=False)
    write_record(tosses(), replace(first_look, looks=(5, 8)), records)
    recording.record(tosses(), **options)
    timeless = [
        json.dumps({**json.loads(text), "curves": ""}) for text in (whole, path.read_bytes())
    ]  # but for what a trial measures of time
    values = [[arm["results"]["value"] for arm in json.loads(text)["arms"].values()] for text in timeless]
    assert values[0] == values[1], "an extended record is that of a whole run"


def with_arms(**means):
    """The tosses with these arms, and with a claim that reads the first and the last one."""
    first, *_, last = means
    value = metric("value")
    return replace(
        tosses(),
        studies=Study(toss, {arm: {"mean": mean} for arm, mean in means.items()}),
        claims=[Claim("both", "Both are large", minimum(value(first), value(last)) >= -50.0)],
    )


def test_a_record_gets_the_arms_that_it_lacks_and_loses_those_that_are_gone(records, tmp_path, monkeypatch):
    path, _ = recording.record(tosses(), jobs=1, runs=tmp_path / "runs")
    before = json.loads(path.read_text())
    done = []
    run_trials = recording.add_trials.run_trials
    monkeypatch.setattr(
        recording.add_trials, "run_trials", lambda *args, **where: done.append(args[2:]) or run_trials(*args, **where)
    )
    _, results = recording.record(with_arms(far=50.0, new=0.0), jobs=1, runs=tmp_path / "more")
    after = json.loads(path.read_text())
    assert done == [(["far"], range(1)), (["new"], range(5))], "what is compared is repeated, what is missing is run"
    assert [*after["arms"]] == ["far", "new"]
    assert after["arms"]["far"]["results"] == before["arms"]["far"]["results"]
    assert set(results.metrics["arm"]) == {"far", "new"}
    assert {judged.claim.id: judged.verdict for judged in results.claims()}["both"] == "holds"

    changed = with_arms(far=49.0, new=0.0)
    recording.record(changed, jobs=1, runs=tmp_path / "again")
    assert json.loads(path.read_text())["arms"]["far"]["config"] == {"mean": 49.0}, "other settings: all is run again"


def test_an_arm_is_not_added_to_a_record_of_other_numbers(records, five, tmp_path):
    write_record(tosses(), altered(five, 1 + 1e-15), records)
    with pytest.raises(ValueError, match=r"other numbers than its record of preset laptop: near, seed 0: value"):
        recording.record(with_arms(near=0.1, new=99.0), jobs=1, runs=tmp_path / "more")


def test_claims_that_have_changed_are_judged_anew_in_the_index(records, tmp_path):
    options = {"jobs": 1, "runs": tmp_path / "runs"}
    path, results = recording.record(tosses(), **options)
    assert index_of([results]).judgements["tosses", "laptop", "far-above"].criterion == ">= 0"
    harder = replace(tosses(), claims=[Claim("far-above", "It lies far above", metric("value")("far") >= 40.0)])
    stored = path.read_bytes()
    recording.record(harder, **options)
    assert path.read_bytes() == stored, "the record holds no verdicts"
    write_index(records, runs_in(records, [harder]))
    (row,) = index_in(records).judgements.values()
    assert (row.claim, row.criterion, row.published, row.seeds) == ("far-above", ">= 40", "", 5)
    assert (row.statement, index_in(records).tests) == ("It lies far above", 1)


def test_a_record_is_corrected_over_the_index_beside_it(records, tmp_path):
    _, results = recording.record(tosses(), jobs=1, runs=tmp_path / "runs")
    assert results.family is None
    write_index(records, [results])
    (results,) = runs_in(records, [tosses()])
    assert results.family == family_of([judged.p for judged in results.claims()])
    assert runs_in(tmp_path, [tosses()]) == [], "it lies in another folder"


def test_an_experiment_that_has_changed_is_run_whole(records, tmp_path):
    options = {"jobs": 1, "runs": tmp_path / "runs"}
    path, _ = recording.record(tosses(), **options)
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "revision": 0}))
    recording.record(tosses(), **options)
    assert json.loads(path.read_text())["revision"] == 1


def test_a_damaged_record_is_named(records, tmp_path):
    path, _ = recording.record(tosses(), jobs=1, runs=tmp_path / "runs")
    path.with_suffix(".parquet").unlink()
    with pytest.raises(CorruptFileError, match=r"tosses-laptop\.parquet is corrupt: it is missing"):
        recording.record(tosses(), jobs=1, runs=tmp_path / "runs")


def test_a_record_needs_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "record_folders", lambda experiment: [tmp_path / "results"])
    with pytest.raises(ValueError, match="tosses: no folder `results` above its module"):
        recording.record(tosses(), runs=tmp_path)


def test_a_record_counts_the_seeds_of_the_arms_that_are_left(records, tmp_path):
    options = {"jobs": 1, "runs": tmp_path / "runs"}
    assert recording.record(tosses(), **options)[1].seeds == 8
    kept = replace(tosses(), studies=Study(toss, {"far": {"mean": 50.0}}), claims=tosses().claims[:1])
    path, results = recording.record(kept, **options)
    assert json.loads(path.read_text())["seeds"] == results.seeds == len(results.values("far")) == 5
