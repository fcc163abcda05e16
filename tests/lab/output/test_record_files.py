"""The two files of a record: exact, the same for the same results, and named if damaged."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

import engram
from engram.lab import CorruptFileError, Experiment, Preset, Run, Study, setting, settings
from engram.lab.output import record_files as files
from engram.lab.output.read_runs import COLUMNS
from engram.lab.output.record_files import (
    Record,
    as_record,
    as_text,
    from_record,
    is_current,
    is_extendable,
    read_curves,
    write_record,
)
from engram.storage.files import read_json


@settings
class Toss:
    """What a trial draws."""

    mean: float = setting(0.0, "of the value that a trial draws")


def toss(config: Toss, run: Run) -> dict[str, object]:
    for step in range(120):
        run.log(step, value=run.rng.normal(config.mean), loss=1 / (1 + step))
    late = {"only": 0.1} if run.rng.random() < 0.5 else {}
    return {"value": 0.1 + 0.2, "table": [1 / 3, math.inf], **late, "shown": {"picture": [[1 / 7] * 2] * 2}}


def tosses() -> Experiment:
    return Experiment(
        name="tosses",
        about="Values are drawn.",
        paper="None",
        studies=Study(toss, {"far": {"mean": 50.0}, "near": {}}),
        presets={"smoke": Preset(1), "laptop": Preset(6)},
        claims=[],
        figure=lambda results: None,
        headline="value",
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return engram.run(tosses(), runs=tmp_path_factory.mktemp("runs"), jobs=1, progress=False)


def test_what_a_record_holds_comes_back(results, tmp_path):
    path = write_record(tosses(), results, tmp_path)
    record = read_json(path, Record)
    back = from_record(tosses(), record, read_curves(path, record))
    assert [(t.arm, t.seed, t.state) for t in back.trials] == [(t.arm, t.seed, t.state) for t in results.trials]
    held = ["only" in trial.result for trial in results.trials]
    assert len(set(held)) == 2, "some trials lack the number"
    for trial, original, is_held in zip(back.trials, results.trials, held, strict=True):
        shown = {"shown": {"picture": [[0.142857] * 2] * 2}} if trial.seed == 0 else {}
        assert trial.result == {
            "value": 0.1 + 0.2,
            "table": [0.333333, math.inf],
            **({"only": 0.1} if is_held else {}),
            **shown,
        }
        assert trial.seconds == round(original.seconds, 1)
    assert back.shown("near") == {"picture": [[0.142857] * 2] * 2}
    assert (back.configs, back.environment, back.seeds) == (results.configs, results.environment, results.seeds)


def test_curves_are_means_over_windows_with_six_digits(results):
    curves = from_record(tosses(), *as_record(tosses(), results)).metrics
    assert curves.schema == pl.Schema(COLUMNS)
    of_first = results.metrics.filter(arm="near", seed=0, metric="value")["value"].to_numpy()
    stored = curves.filter(arm="near", seed=0, metric="value")
    assert stored["step"].to_list() == list(range(2, 120, 3))
    np.testing.assert_allclose(stored["value"].to_numpy(), of_first.reshape(40, 3).mean(1), rtol=1e-5)
    assert all(value == float(f"{value:.6g}") for value in curves["value"])


@pytest.mark.parametrize("value", [1e-45, 1.17e-38, 1e300, math.nan, -math.inf, 0.1, 123456.0, 1.00001, -0.0])
def test_no_value_of_a_curve_is_too_small_or_too_large(results, value):
    metrics = pl.DataFrame([("near", 0, 1, "value", value)], schema=COLUMNS, orient="row")
    (back,) = from_record(tosses(), *as_record(tosses(), replace(results, metrics=metrics))).metrics["value"]
    assert repr(back) == repr(value)


def test_the_same_results_give_the_same_bytes(results, tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        path = write_record(tosses(), results, folder)
    for kind in (".json", ".parquet"):
        contents = [(folder / path.name).with_suffix(kind).read_bytes() for folder in folders]
        assert contents[0] == contents[1]
    again = from_record(tosses(), *as_record(tosses(), results))
    assert as_record(tosses(), again) == as_record(tosses(), results), "also after they were read from a record"


def test_a_record_holds_whole_trials_of_a_preset_alone(results):
    failed = [replace(results.trials[0], state="failed"), *results.trials[1:]]
    with pytest.raises(ValueError, match=r"tosses gives no record of preset laptop; not finished: far, 0"):
        as_record(tosses(), replace(results, trials=failed))
    with pytest.raises(ValueError, match=r"tosses gives no record of preset laptop; changed: \{'mean': 1.0\}"):
        as_record(tosses(), replace(results, changed={"mean": 1.0}))


@pytest.mark.parametrize(
    "damaged",
    [
        ("tosses-laptop.parquet", lambda content: None, "it is missing beside tosses-laptop.json"),
        ("tosses-laptop.parquet", lambda content: content[:-1], "its checksum is not the one in tosses-laptop.json"),
        ("tosses-laptop.json", lambda content: content[:-9], "Invalid JSON"),
        ("tosses-laptop.json", lambda content: content.replace(b'"arms"', b'"limbs"'), "arms: Field required"),
    ],
)
def test_a_damaged_file_of_a_record_is_named(results, tmp_path, monkeypatch, damaged):
    file, damage, why = damaged
    write_record(tosses(), results, tmp_path)
    monkeypatch.setattr(files, "record_folders", lambda experiment: [tmp_path])
    content = damage((tmp_path / file).read_bytes())
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"{file} is corrupt: {why}"):
        engram.recorded(tosses())


def test_a_record_is_current_if_settings_that_it_lacks_have_their_default(results):
    record, _ = as_record(tosses(), results)
    assert is_current(tosses(), record)
    assert not is_current(tosses(), {**record, "revision": 2})
    some = {**record, "arms": {"far": record["arms"]["far"]}}
    assert not is_current(tosses(), some)
    assert is_extendable(tosses(), some)

    def with_config(arm, config):
        return {**record, "arms": {**record["arms"], arm: {**record["arms"][arm], "config": config}}}

    assert is_current(tosses(), with_config("near", {}))
    for other in ({}, {"mean": 49.0}, {"mean": 50.0, "spread": 1.0}):
        assert not is_current(tosses(), with_config("far", other))
    assert not is_current(tosses(), {**record, "arms": {"far": record["arms"]["far"]}})


def test_the_text_has_a_line_for_each_list_and_each_mapping_of_values(results):
    record, curves = as_record(tosses(), results)
    text = as_text(record)
    assert json.loads(text) == json.loads(json.dumps(record))
    assert '   "config": {"mean": 50.0},\n   "seeds": [0, 1, 2, 3, 4, 5],\n' in text
    assert text.endswith("}\n")
    assert pl.read_parquet(io.BytesIO(curves)).schema["value"] == pl.Float32


def test_a_record_of_no_arm_of_today_is_not_extended(results):
    record, _ = as_record(tosses(), results)
    gone = {**record, "arms": {"older": record["arms"]["far"]}}
    assert not is_extendable(tosses(), gone), "its machines would be named beside results of which it has none"


def test_values_are_in_the_order_of_seeds_although_another_arm_lacks_the_first(results):
    first, *others = results.trials
    part = replace(results, trials=[replace(first, state="failed", result={}), *others])
    assert len(part.values(first.arm)) == len(results.values(first.arm)) - 1
    assert part.values("near") == results.values("near")
