"""Where trials compute on machines with GPUs: no test has one, so all GPUs here are pretended."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import engram
from engram import registry
from engram.lab.engine.plan import Request, plan
from engram.lab.output.results import Results
from engram.run_options import RunOptions


@pytest.fixture
def gpus(toy, monkeypatch) -> list[str]:
    """Pretend to have four GPUs; return those that are made the current one."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    import pretended_gpus

    return pretended_gpus.pretend(4, monkeypatch.setattr)


def run(runs: Path, **options: object) -> Results:
    return engram.run("toy", **{"preset": "smoke", "progress": False, "runs": runs, "misbehave": "tell", **options})


def planned(**options: object):
    request = Request(registry.get("experiments", "toy"), RunOptions(**{"seeds": 8, **options}))
    return plan(request, Path("never.stop"), request.counts[0])


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ({}, 4),
        ({"gpus_per_trial": 0.5}, 8),
        ({"gpus_per_trial": 2.0}, 2),
        ({"device": "cuda:1"}, 1),
        ({"jobs": 3}, 3),
    ],
)
def test_as_many_trials_run_at_once_as_there_are_gpus_for(gpus, options, workers):
    whole = planned(**options)
    assert whole.workers == workers
    assert {job.trial.device for job in whole.jobs} == {"cuda"}


def test_a_study_that_uses_no_gpu_is_run_on_the_cores_unless_told_otherwise(gpus, monkeypatch):
    toy = registry.get("experiments", "toy")
    cpu = replace(toy, studies=replace(toy.studies, gpu=False))
    monkeypatch.setattr("engram.lab.engine.plan.cores", lambda: 3)
    for device, kind in (("auto", "cpu"), ("cuda", "cuda")):
        whole = plan(Request(cpu, RunOptions(device=device, seeds=8)), Path("never.stop"), 8)
        assert {job.trial.device for job in whole.jobs} == {kind}
        assert whole.workers == (3 if kind == "cpu" else 4)


def test_a_trial_of_this_process_computes_on_the_gpu_that_is_named(gpus, tmp_path):
    (trial,) = run(tmp_path, jobs=1, seeds=1, arms=["momentum"], device="cuda:1").trials
    assert (trial.state, trial.message) == ("finished", "")
    assert trial.result["device"] == "cuda:1"
    assert gpus == ["cuda:1"]
    (again,) = run(tmp_path, jobs=1, seeds=1, arms=["momentum"], device="cuda").trials
    assert again.result == trial.result, "its name depends on which GPU it was"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:4"}, r"device = 'cuda:4': expected one of 4 GPUs, counted from 0"),
        ({"device": "gpu"}, r"device = 'gpu': expected 'auto', 'cpu', 'cuda', or one GPU, as in 'cuda:1'"),
        ({"device": "cuda:-1"}, r"device = 'cuda:-1': expected 'auto'"),
        ({"device": "cuda:1", "engine": "ray"}, r"device = 'cuda:1': expected .* with engine 'ray', which chooses"),
        ({"gpus_per_trial": 1.5}, r"gpus_per_trial = 1\.5: expected a whole number, or a fraction of one"),
        ({"gpus_per_trial": 0.0}, r"gpus_per_trial = 0\.0: expected"),
        ({"gpus_per_trial": 8.0}, r"gpus_per_trial = 8: this process may not use as many GPUs"),
    ],
)
def test_gpus_that_are_not_there_are_refused(gpus, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **options)


@pytest.mark.soak
def test_each_worker_of_a_machine_sees_a_gpu_of_its_own(toy, tmp_path, monkeypatch, command):
    monkeypatch.setenv("TOY_PRETENDS_GPUS", "2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    arguments = ("--arms=momentum", "--seeds=4", "--misbehave=tell", "--step-seconds=0.1", f"--runs={tmp_path}")
    done = command("run", "toy", *arguments)
    assert "with 2 at once" in done.stderr
    trials = TrialsOf(tmp_path)
    assert Counter(trials.visible) == {"0": 2, "1": 2}
    assert len(set(zip(trials.visible, trials.processes, strict=True))) == 2


class TrialsOf:
    """What the trials of a run have told."""

    def __init__(self, runs: Path) -> None:
        results = [trial.result for trial in engram.load("toy", runs).trials]
        self.visible = [result["visible"] for result in results]
        self.processes = [result["process"] for result in results]
