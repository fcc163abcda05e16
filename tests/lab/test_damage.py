"""A damaged file costs its trial, and never more."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

import engram
from engram import registry
from engram.lab import Experiment, Preset, Results, Run, Study, load, setting, settings
from engram.lab.trial.folder import Origin, TrialFolder
from engram.lab.trial.job import perform, prepare, token
from engram.lab.trial.trial import trials
from engram.storage.files import read_sealed, write_sealed


def run(runs: Path, **options: object) -> Results:
    given = {"preset": "smoke", "seeds": 1, "arms": ["momentum"], "jobs": 1, "progress": False, **options}
    return engram.run("toy", runs=runs, **given)


@pytest.fixture
def folder(toy, tmp_path) -> Path:
    """A finished trial, as if it had been interrupted after its first loop."""
    runs = tmp_path / "runs"
    (trial,) = run(runs).trials
    path = Path(trial.folder)
    (path / "result.json").unlink()
    return path


def result(folder: Path) -> dict[str, object]:
    (trial,) = run(folder.parents[1]).trials
    assert trial.state == "finished", trial.message
    return dict(trial.result)


def test_a_checkpoint_that_points_to_nothing_is_set_aside(toy, folder, tmp_path):
    expected = run(tmp_path / "other").trials[0].result
    (folder / "checkpoint-0.safetensors").symlink_to(tmp_path / "nothing")
    assert result(folder) == expected
    assert TrialFolder(folder).status().attempts <= 3
    assert os.path.lexists(folder / "checkpoint-0.safetensors.corrupt-1")


@pytest.mark.parametrize("name", ["trial.json", "status.json", "result.json", "metrics.csv", "state.safetensors"])
def test_a_folder_in_place_of_a_file_is_set_aside(toy, folder, tmp_path, name):
    expected = run(tmp_path / "other").trials[0].result
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    (folder / name / "of-somebody").write_text("kept")
    assert load("toy", folder.parents[1]).trials[0].state != "finished"
    assert result(folder) == expected
    assert (folder / f"{name}.corrupt-1" / "of-somebody").read_text() == "kept"


def test_a_corrupt_file_of_the_user_fails_the_trial_and_stays_where_it_is(toy, tmp_path):
    own = tmp_path / "data.csv"
    own.write_text("1,2")
    (trial,) = run(tmp_path / "runs", misbehave=f"corrupt:{own}").trials
    assert (trial.state, trial.message) == ("failed", f"{own} is corrupt: its checksum differs")
    assert own.read_text() == "1,2"
    assert "CorruptFileError" in (Path(trial.folder) / "error.txt").read_text()


def test_a_trial_that_finds_a_file_of_its_own_corrupt_each_time_gives_up(toy, tmp_path):
    (trial,) = run(tmp_path, misbehave="corrupt:").trials
    assert trial.state == "failed"
    assert "metrics.csv is corrupt" in trial.message
    assert TrialFolder(Path(trial.folder)).status().attempts == 3


@pytest.mark.parametrize("other", ["code", "folder", "package", "device"])
def test_a_worker_that_lacks_what_the_run_was_started_with_refuses_and_writes_nothing(toy, tmp_path, other):
    experiment = registry.get("experiments", toy)
    (trial, *_) = trials(experiment, experiment.arms("smoke"), seeds=1)
    stop = tmp_path / "x.stop"
    job = prepare(trial, tmp_path / "toy", stop)
    if other == "code":
        token(stop).touch()
        job = replace(job, made_by={**job.made_by, "files": {"toy_experiments.py": "0" * 64}})
    if other == "package":
        token(stop).touch()
        job = replace(job, made_by={**job.made_by, "versions": {**job.made_by["versions"], "torch": "1.0"}})
    if other == "device":
        token(stop).touch()
        job = replace(job, trial=replace(trial, device="cuda"))
    status = perform(job)
    assert status.state == "failed"
    said = {
        "code": "toy_experiments.py on .*: install the same",
        "folder": "is not the folder of the run",
        "package": "torch is .* on .*, and 1.0 where the run was started",
        "device": "device = 'cuda': no CUDA device is available on",
    }
    assert re.search(said[other], status.message)
    assert not (tmp_path / "toy").exists()


@pytest.mark.soak
def test_a_node_with_other_code_computes_nothing_under_the_names_of_this_one(toy, tmp_path):
    from ray.cluster_utils import Cluster

    source = Path(str(importlib.util.find_spec("toy_experiments").origin))
    shutil.copytree(source.parent, tmp_path / "other")
    changed = source.read_text().replace("square().mean()", "square().mean() * 3")
    (tmp_path / "other" / source.name).write_text(changed)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    path = f"{tmp_path / 'other'}:{os.environ.get('PYTHONPATH', '')}"
    cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": path})
    try:
        results = run(tmp_path / "runs", engine="ray", jobs=2, address=cluster.address, seeds=4, step_seconds=0.1)
    finally:
        cluster.shutdown()
    alone = {trial.seed: trial.result for trial in run(tmp_path / "alone", seeds=4, step_seconds=0.1).trials}
    states = {trial.state for trial in results.trials}
    assert states == {"finished", "failed"}, [trial.message for trial in results.trials]
    for trial in results.trials:
        assert trial.state == "failed" or trial.result == alone[trial.seed]
        assert trial.state == "finished" or "is not the code that started the run" in trial.message


def test_a_result_that_is_gone_is_no_result(toy, folder):
    (trial,) = load("toy", folder.parents[1]).trials
    assert (trial.state, dict(trial.result)) == ("interrupted", {})
    assert "its result is gone" in trial.message


@pytest.mark.usefixtures("interrupts")
def test_going_on_from_another_kind_of_processor_is_said(toy, tmp_path, capsys, hurry):
    options = {"misbehave": "interrupt", "step_seconds": 0.1, "progress": True}
    with pytest.raises(KeyboardInterrupt) as end:
        run(tmp_path, **options)
    (stopped,) = end.value.results.trials
    assert stopped.state == "interrupted"
    path = Path(stopped.folder) / "trial.json"
    origin = read_sealed(path, Origin)
    assert {"processor", "kernels", "blas"} <= set(origin["attempts"][0])
    origin["attempts"][0]["kernels"] = "z80"
    write_sealed(path, origin)
    hurry(tmp_path)
    assert run(tmp_path, **options).trials[0].state == "finished"
    assert "it goes on from what another kind of processor began" in capsys.readouterr().err
    assert len(json.loads(path.read_text())["attempts"]) == 2


@settings
class Odd:
    """What a trial does."""

    returns: str = setting("nothing", "what it returns, or what it does instead")


def odd_trial(config: Odd, run: Run) -> Any:
    if config.returns == "surrogate":
        raise RuntimeError("no file \udcff.txt")
    if config.returns == "undecodable":
        run.uses(os.fsdecode(b"undecodable-\xff.txt"))
    if config.returns == "exit":
        raise SystemExit("usage: tool FILE")
    return {"nothing": None, "list": [1.0], "array": {"loss": np.ones(2)}}.get(config.returns, {})


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ("nothing", "TypeError: the trial returned None: expected a dict of results"),
        ("list", "TypeError: the trial returned [1.0]: expected a dict of results"),
        ("array", "TypeError: result 'loss' = array of shape (2,) and dtype float64: expected Python's numbers"),
        ("surrogate", r"RuntimeError: no file \udcff.txt"),
        ("undecodable", "ValueError: the file '"),
        ("exit", "SystemExit: usage: tool FILE"),
    ],
)
def test_an_odd_result_or_name_fails_its_trial_and_says_so(tmp_path, monkeypatch, files_forgotten, returns, message):
    monkeypatch.chdir(tmp_path)
    Path(os.fsdecode(b"undecodable-\xff.txt")).write_text("1")
    presets = {name: Preset(seeds=1) for name in ("smoke", "laptop")}
    odd = Experiment("odd", "It is odd.", "None", Study(odd_trial, {"a": {}}), presets, (), lambda results: go.Figure())
    options = {"preset": "smoke", "jobs": 1, "runs": "runs", "progress": False, "returns": returns}
    (trial,) = engram.run(odd, **options).trials
    assert (trial.state, trial.message[: len(message)]) == ("failed", message)
    assert TrialFolder(Path(trial.folder)).status().attempts == 1
    assert message in (Path(trial.folder) / "error.txt").read_text()
    (again,) = engram.run(odd, **options).trials
    assert (again.state, again.message[-30:]) == ("failed", trial.message[-30:])
