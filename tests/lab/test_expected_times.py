"""How long trials take, as far as it is known, and what they need."""

from __future__ import annotations

import dataclasses
import json
import re
import sys

import pytest

import engram
from engram import cli, registry
from engram.lab.engine import times
from engram.lab.trial.trial import Time, trials


def test_what_is_known_comes_from_runs_then_records(toy, tmp_path, monkeypatch):
    experiment = registry.get("experiments", toy)
    root = tmp_path / toy

    def known(arm, **changes):
        trial = trials(experiment, experiment.arms("smoke", changes), seeds=1, arms=[arm])[0]
        return times.known(experiment, trial, root)

    assert not known("plain").is_known
    trial = trials(experiment, experiment.arms("smoke"), seeds=1, arms=["plain"])[0]
    record = {"revision": 1, "environment": {"versions": {}, "hardware": {"processor": times.hardware()["processor"]}}}
    stored = {"config": trial.identity()["config"], "seeds": [0, 1], "seconds": [1, 3], "results": {}}
    record["arms"] = {"plain": stored}
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record))
    monkeypatch.setattr(times, "record_path", lambda experiment, preset: path if preset == "laptop" else None)
    assert known("plain") == Time(2.0, "from its record on this kind of machine")
    record["environment"]["hardware"]["processor"] = "Abacus"
    path.write_text(json.dumps(record))
    assert known("plain") == Time(2.0, "from its record on another machine (Abacus)")
    assert not known("plain", episodes=21).is_known, "of other settings"
    results = engram.run(toy, preset="smoke", seeds=2, arms=["plain"], jobs=1, runs=tmp_path, progress=False)
    took = [result.seconds for result in results.trials]
    assert known("plain") == Time(pytest.approx(sum(took) / 2), "from this machine's own runs")


def test_show_tells_what_is_known_of_each_arm_and_run_expects_it(toy, tmp_path, capsys):
    show = ["show", toy, "--preset", "smoke", "--runs", str(tmp_path)]
    assert cli.run(show) == 0
    before = capsys.readouterr()
    assert re.search(r"plain +unknown", before.out)
    assert not (tmp_path / toy).exists(), "nothing is run or written"
    engram.run(toy, preset="smoke", seeds=1, arms=["plain"], jobs=1, runs=tmp_path, progress=False)
    assert cli.run(show) == 0
    after = capsys.readouterr()
    assert re.search(r"plain +1 s +from this machine's own runs", after.out)
    assert re.search(r"momentum +unknown", after.out)
    assert (before.err, after.err) == ("", "")
    assert cli.run(["run", toy, "--preset", "smoke", "--jobs", "1", "--runs", str(tmp_path)]) == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert re.search(r"expected time \d+ s \(from this machine's own runs; unknown for momentum\)", said)


def test_a_trial_that_needs_more_memory_than_there_is_is_refused_before_it_starts(toy, tmp_path, monkeypatch, capsys):
    experiment = registry.get("experiments", toy)
    study = dataclasses.replace(experiment.studies, memory=lambda config: 3e9 * config.size)
    module = sys.modules["toy_experiments"]
    monkeypatch.setattr(module, "experiment", dataclasses.replace(experiment, studies=study))
    monkeypatch.setattr("engram.lab.engine.plan.memory", lambda: 8e9)
    monkeypatch.setattr("engram.lab.trial.machine.memory", lambda: 8e9)
    needs = "toy: arm momentum needs 9.0 GB of memory in each trial; this machine has 8.0 GB: choose other arms, or"
    with pytest.raises(ValueError, match=needs):
        engram.run(toy, preset="smoke", runs=tmp_path, progress=False)
    assert not list(tmp_path.glob("toy/*/status.json"))
    too_many = (
        "needs 6.0 GB of memory in each trial, 2 at once 12.0 GB; this machine has 8.0 GB: expected jobs of at most"
    )
    with pytest.raises(ValueError, match=too_many):
        engram.run(toy, preset="smoke", runs=tmp_path, progress=False, size=2, jobs=2)
    results = engram.run(toy, preset="smoke", runs=tmp_path, progress=False, size=2, seeds=1, arms=["plain"])
    assert results.trials[0].state == "finished"
    assert cli.run(["show", toy, "--preset", "smoke", "--runs", str(tmp_path)]) == 0
    assert re.search(r"plain +unknown +9.0 GB more than there is", capsys.readouterr().out)


def test_the_experiments_say_what_they_need():
    for name, arm, low, high in (
        ("hebbian-cnn", "pruned", 3e9, 4e9),
        ("generalization-difficulty", "omniglot", 10e9, 20e9),
        ("generalization-difficulty", "regression", 0, 0),
        ("one-shot-characters", "discriminants", 4e9, 5e9),
        ("one-shot-characters", "matching", 0, 0),
    ):
        experiment = registry.get("experiments", name)
        assert low <= experiment.arms([*experiment.presets][-1])[arm].memory <= high


def test_a_run_says_that_kernels_may_be_compiled_until_some_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))

    def expected(seeds: int) -> str:
        options = {"preset": "smoke", "arms": ["plastic"], "jobs": 1, "runs": tmp_path / "runs"}
        engram.run("pattern-completion", seeds=seeds, **options)
        return re.sub(r"\s+", " ", capsys.readouterr().err)

    begin = "and up to a minute more if kernels have to be compiled,"
    assert begin in expected(1)
    (tmp_path / "cache" / "rnn_0").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cache" / "rnn_0" / f"cpu.backward-1.py{sys.version_info.major}{sys.version_info.minor}.nbi").touch()
    assert begin not in expected(2)
