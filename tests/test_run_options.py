"""The options of a run: wrong ones are refused, in words, before a folder is made, wherever they are given."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

import engram
from engram import cli, registry
from engram.cli.commands import Compare, Record, Run, Sweep
from engram.cli.refusal import arguments_of, refuse
from engram.lab.engine.plan import Request
from engram.lab.trial.job import prepare
from engram.lab.trial.trial import trials
from engram.run_options import RunOptions, read_seconds
from engram.studies import recording
from engram.studies.standings import record_comparisons

WRONG = [
    ({"preset": "huge"}, "preset = 'huge': expected one of"),
    ({"seeds": 0}, "seeds = 0: expected at least 1"),
    ({"seeds": 100_001}, "seeds = 100001: expected 1 to 100000"),
    ({"seeds": 2, "until_decided": True}, "seeds = 2: expected None with until_decided"),
    ({"at_most": 0.0}, "at_most = 0.0: expected a number above 0"),
    ({"arms": ["plain", "mad"]}, "unknown arm 'mad' of toy"),
    ({"arms": []}, "arms = []: expected a list of names"),
    ({"jobs": 0}, "jobs = 0: expected at least 1"),
    ({"engine": "dask"}, "engine = 'dask': expected one of"),
    ({"address": "auto"}, "address = 'auto': expected only with engine 'ray'"),
    ({"device": "tpu"}, "device = 'tpu': expected 'auto'"),
    ({"device": "cuda:99"}, "device = 'cuda:99': "),
    ({"gpus_per_trial": -1.0}, "gpus_per_trial = -1.0: expected a number above 0"),
    ({"checkpoint_seconds": -1.0}, "checkpoint_seconds = -1.0: expected a number of at least 0"),
    ({"episodes": 0}, "episodes = 0: expected int >= 1"),
]
OF_SWEEPS = {"preset", "seeds", "arms", "jobs", "device"}


@pytest.fixture
def empty(toy, tmp_path, monkeypatch):
    """An empty folder, where a run would make its own; checks afterwards that it is empty still."""
    monkeypatch.setenv("ENGRAM_RUNS", str(tmp_path / "runs"))
    yield tmp_path
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_option_of_a_run_makes_no_folder(empty, options, message):
    with pytest.raises(ValueError) as refused:
        engram.run("toy", progress=False, **{"preset": "smoke"} | options)
    assert message in str(refused.value)


@pytest.mark.parametrize(("options", "message"), [pair for pair in WRONG if pair[0].keys() <= OF_SWEEPS])
def test_a_wrong_option_of_a_sweep_makes_no_folder(empty, options, message):
    with pytest.raises(ValueError) as refused:
        engram.sweep("toy", progress=False, **{"preset": "smoke", "episodes": [1, 2]} | options)
    assert message in str(refused.value)


@pytest.mark.parametrize("options", [{"seeds": 0}, {"jobs": 0}])
def test_a_wrong_option_of_a_comparison_makes_no_folder(empty, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} = "):
        engram.compare("fa", tasks=["narrow"], progress=False, **options)


@pytest.mark.parametrize("options", [{"seconds": 0.0}, {"jobs": 0}, {"preset": "huge"}])
def test_a_wrong_option_of_a_record_makes_no_folder(empty, options):
    with pytest.raises(ValueError, match=r" = .*: expected"):
        recording.record(registry.get("experiments", "pattern-completion"), **options)


@pytest.mark.parametrize("options", [{"seconds": 0.0}, {"jobs": 0}])
def test_a_wrong_option_of_a_record_of_comparisons_makes_no_folder(empty, options):
    with pytest.raises(ValueError, match=r" = .*: expected"):
        record_comparisons(registry.get("experiments", "pattern-completion"), **options)


@pytest.mark.parametrize(
    "words",
    [
        "run toy --seeds 0",
        "run toy --until-decided --seeds 2",
        "run toy --at-most 5",
        "run toy --no-keep-state --jobs -1",
        "sweep toy --episodes 1,2 --seeds 0",
        "compare fa --jobs 0",
        "record pattern-completion --at-most 0s",
        "record pattern-completion --comparisons --preset large",
        "record pattern-completion --comparisons --release",
        "record --comparisons",
        "record align --comparisons",
    ],
)
def test_a_wrong_option_of_a_command_makes_no_folder(empty, capsys, words):
    assert cli.run(words.split()) == 2
    assert ": expected " in " ".join(capsys.readouterr().err.split())


def test_all_options_reach_a_job_as_one_value(toy, tmp_path):
    experiment = registry.get("experiments", toy)
    options = RunOptions(preset="smoke", seeds=1, keep_state=False, checkpoint_seconds=3.0)
    (trial, *_) = trials(experiment, Request(experiment, options).compared, seeds=1)
    assert prepare(trial, tmp_path, tmp_path / "stop", options).options is options
    with pytest.raises(FrozenInstanceError):
        options.seeds = 2  # type: ignore[misc]


@pytest.mark.parametrize("command", [Run, Sweep, Compare, Record])
def test_each_option_of_a_command_has_the_kind_of_the_options(command):
    kinds = {argument.name: argument.kind for argument in arguments_of(Run)}
    own = {argument.name: argument.kind for argument in arguments_of(command)}
    shared = {field.name for field in fields(RunOptions)} & own.keys()
    assert len(shared) >= 3
    assert {name: own[name] for name in shared - {"runs"}} == {name: kinds[name] for name in shared - {"runs"}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["toy", "--seeds", "two"], "seeds = 'two': expected an int"),
        (["toy", "--seeds"], "seeds without a value: expected one, as in --seeds INT"),
        (["toy", "--seeds", "--json"], "seeds without a value"),
        (["toy", "--episodes", "3", "--gpus-per-trial=x"], "gpus_per_trial = 'x': expected a number"),
        (["toy", "--gpus_per_trial", "x"], "gpus_per_trial = 'x': expected a number"),
        (["toy", "--engine", "dask"], "engine = 'dask': expected one of 'loky', 'ray'"),
        (["toy", "--until-decided", "--seeds", "3"], "seeds = 3: expected None with until_decided"),
    ],
)
def test_what_is_wrong_with_a_command_is_said_in_its_own_words(words, message):
    with pytest.raises(ValueError, match=message):
        refuse(Run, words)


def test_an_option_by_another_name_is_known():
    (out,) = (argument for argument in arguments_of(Compare) if argument.name == "out")
    assert out.options == ["--out", "--output"]
    assert out.metavar == "PATH"


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("1.5m", 90.0), ("2h", 7200.0)])
def test_a_time_has_a_unit(text, seconds):
    assert read_seconds(text) == seconds


def test_a_folder_of_runs_is_made_once_all_is_right(toy, tmp_path):
    engram.run(toy, preset="smoke", seeds=1, arms=["plain"], jobs=1, runs=tmp_path / "runs", progress=False)
    assert (tmp_path / "runs" / "toy" / "last-run.json").exists()
