"""An experiment at many settings: which ones, with which seeds, resumed, and as a table."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest

import engram
from engram import cli
from engram.lab import Range
from engram.lab.engine.sweeps import PILOT, _write, compare_arms, folder_of, settings_of

OPTIONS = {"preset": "smoke", "jobs": 1, "progress": False}


def test_a_grid_is_run_with_seeds_of_its_own(toy, tmp_path):
    table = engram.sweep("toy", learning_rate=[0.01, 0.1], episodes=[5, 10, 15], seeds=2, **OPTIONS)
    assert table.columns == ["learning_rate", "episodes", "arm", "seed", "state", "loss"]
    assert len(table) == len(table.unique(table.columns[:4])) == 2 * 3 * 2 * 2
    assert set(table["seed"]) == {PILOT, PILOT + 1}
    assert set(table["state"]) == {"finished"}
    alone = engram.run("toy", learning_rate=0.1, episodes=15, seeds=2, **OPTIONS)
    assert not {trial.seed for trial in alone.trials} & set(table["seed"])
    folder = tmp_path / "runs" / "toy" / "sweep-learning_rate-episodes"
    assert pl.read_csv(folder / "table.csv").equals(table)
    assert "learning_rate" in (folder / "figure.html").read_text()
    assert engram.sweep("toy", learning_rate=np.array([0.01, 0.1]), episodes=[5, 10, 15], seeds=2, **OPTIONS).equals(
        table
    )


def test_each_setting_is_an_ordinary_run(toy):
    table = engram.sweep("toy", learning_rate=[0.01, 0.1], first_seed=0, **OPTIONS)
    for rate in (0.01, 0.1):
        results = engram.run("toy", learning_rate=rate, seeds=1, **OPTIONS)
        losses = table.filter(pl.col("learning_rate") == rate)["loss"].to_list()
        assert [trial.result["loss"] for trial in results.trials] == losses


def test_a_sweep_is_not_taken_for_the_last_run(toy):
    engram.run("toy", **OPTIONS)
    engram.sweep("toy", learning_rate=[0.01, 0.1], **OPTIONS)
    last = engram.load("toy")
    assert (last.changed, last.seeds) == ({}, 2)


def test_an_arm_that_a_field_does_not_change_is_run_once(toy, tmp_path):
    table = engram.sweep("toy", momentum=[True, False], **OPTIONS)
    assert len(table) == 4
    assert len(list((tmp_path / "runs" / "toy").glob("*-1000-*"))) == 3
    plain = table.filter(pl.col("arm") == "plain")["loss"].to_list()
    assert plain[0] == plain[1]


@pytest.mark.usefixtures("interrupts")
def test_an_interrupted_sweep_goes_on_and_finds_the_same(toy, capsys, tmp_path):
    whole = engram.sweep("toy", learning_rate=[0.01, 0.1], runs=tmp_path / "whole", **OPTIONS)
    arguments = ["sweep", "toy", "--learning-rate", "0.01,0.1", "--preset=smoke", "--jobs=1", "--misbehave=interrupt"]
    codes = [cli.run(arguments) for _ in range(4)]
    assert codes[0] == 130
    assert codes[-1] == 0
    assert "toy: 1 of 4 trials done; the same command resumes them" in capsys.readouterr().err
    table = engram.sweep("toy", learning_rate=[0.01, 0.1], misbehave="interrupt", **OPTIONS)
    assert table.drop("misbehave").equals(whole)
    status = [json.loads(path.read_text()) for path in tmp_path.glob("runs/toy/*-1000-*/status.json")]
    assert [trial["attempts"] for trial in status] == [1] * 4


def test_a_failed_trial_has_no_numbers_and_costs_no_other(toy, capsys):
    assert cli.run(["sweep", "toy", "--misbehave", ",raise", "--preset=smoke", "--jobs=1"]) == 2
    assert "misbehave raise, momentum: failed: RuntimeError: the toy broke" in capsys.readouterr().err
    table = engram.sweep("toy", misbehave=["", "raise"], **OPTIONS)
    assert table["state"].to_list() == ["finished", "finished", "failed", "finished"]
    assert [value is None for value in table["loss"]] == [False, False, True, False]


def test_the_command_prints_one_table(toy, capsys):
    arguments = ["sweep", "toy", "--no-momentum", "--noise.scale=0.1,1", "--seeds", "3", "--preset=smoke", "--jobs=1"]
    assert cli.run([*arguments, "--arms", "plain"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].strip() == "toy, preset smoke: mean loss"
    assert out[1].split() == ["momentum", "noise.scale", "arm", "seeds", "lowest", "highest", "mean", "loss"]
    assert [line.split()[:4] for line in out[2:4]] == [["False", "0.1", "plain", "3"], ["False", "1", "plain", "3"]]
    assert out[4].endswith("sweep-momentum-noise.scale")


def test_one_seed_has_one_number_and_trials_are_named_by_what_varies(toy, capsys):
    arguments = ["sweep", "toy", "--learning-rate=0.01,0.1", "--preset=smoke", "--jobs=1", "--arms"]
    assert cli.run([*arguments, "plain"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split() == ["learning_rate", "arm", "loss"]
    assert "learning_rate 0.1: finished" in said.err
    assert cli.run([*arguments, "plain,momentum"]) == 0
    assert "learning_rate 0.01, momentum: finished" in capsys.readouterr().err


def test_metrics_are_averaged_over_seeds(toy):
    import toy_experiments

    table = engram.sweep("toy", episodes=[5, 10], seeds=3, **OPTIONS)
    means = compare_arms(toy_experiments.experiment, table, ["episodes"], None)
    for row in means.to_dicts():
        losses = table.filter((pl.col("episodes") == row["episodes"]) & (pl.col("arm") == row["arm"]))["loss"].to_list()
        assert row["mean loss"] == pytest.approx(math.fsum(losses) / 3)
        assert (row["lowest"], row["highest"], row["seeds"]) == (min(losses), max(losses), 3)
    with pytest.raises(ValueError, match="metric = 'accuracy': expected one of 'loss'"):
        compare_arms(toy_experiments.experiment, table, ["episodes"], "accuracy")


def test_samples_are_drawn_within_ranges_and_more_of_them_begin_with_the_same():
    values = {"rate": Range(1e-4, 1e-1), "width": Range(0.5, 1.0), "units": Range(5, 9), "rule": ["hebb", "oja"]}
    drawn = settings_of(values, 400)
    assert drawn[:50] == settings_of(values, 50)
    assert {setting["units"] for setting in drawn} == {5, 6, 7, 8, 9}
    assert {setting["rule"] for setting in drawn} == {"hebb", "oja"}
    rates = [setting["rate"] for setting in drawn]
    assert 1e-4 <= min(rates) < max(rates) <= 1e-1
    assert sum(rate < 10**-2.5 for rate in rates) / 400 == pytest.approx(0.5, abs=0.08)
    widths = [setting["width"] for setting in drawn]
    assert sum(widths) / 400 == pytest.approx(0.75, abs=0.02)


def test_integers_are_drawn_evenly_and_numbers_within_their_ends():
    random_state = np.random.RandomState(0)
    drawn = [Range(1, 3).rvs(random_state) for _ in range(600)]
    assert [drawn.count(units) / 600 for units in (1, 2, 3)] == pytest.approx([1 / 3] * 3, abs=0.06)
    assert all(setting["beta"] < 1 for setting in settings_of({"beta": Range(0.9, 0.99999)}, 2000))


def test_a_finished_trial_whose_status_was_lost_counts_as_finished(toy, tmp_path):
    table = engram.sweep("toy", learning_rate=[0.01, 0.1], **OPTIONS)
    path = next(tmp_path.glob("runs/toy/*-1000-*/status.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": "running"}))
    assert engram.sweep("toy", learning_rate=[0.01, 0.1], **OPTIONS).equals(table)


def test_settings_that_are_lists_are_written_as_json(toy, tmp_path):
    experiment, rates = engram.registry.get("experiments", "toy"), [[0.1, 0.2], [0.3]]
    table = pl.DataFrame({"rates": rates, "arm": "a", "seed": 0, "state": "finished", "loss": [1.0, 2.0]})
    _write(experiment, table, ["rates"], "loss", tmp_path)
    assert [json.loads(text) for text in pl.read_csv(tmp_path / "table.csv")["rates"]] == rates
    assert "[0.1, 0.2]" in (tmp_path / "figure.html").read_text()


def test_the_folder_of_a_sweep_over_many_fields_can_be_made(toy, tmp_path):
    experiment, names = engram.registry.get("experiments", "toy"), [f"momentum.field_{n}" for n in range(30)]
    folder_of(experiment, tmp_path, names).mkdir(parents=True)
    assert not folder_of(experiment, tmp_path, [*names, "rate"]).exists()


def test_a_field_that_an_arm_sets_itself_is_not_swept_in_vain(capsys):
    options = {"preset": "smoke", "jobs": 1}
    with pytest.raises(ValueError, match=r"no arm .* depends on it: plastic\.learning_rate is 0\.001"):
        engram.sweep("pattern-completion", learning_rate=[1e-3, 3e-3], arms=["plastic"], **options)
    engram.sweep("pattern-completion", learning_rate=[0.01, 0.02], arms=["plastic", "non-plastic-large"], **options)
    assert (
        "learning_rate = 0.01 does not reach arms with a value of their own: plastic (0.001)" in capsys.readouterr().err
    )
