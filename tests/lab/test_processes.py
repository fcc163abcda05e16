"""Runs as processes: killed, interrupted, side by side, on every engine."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engram.lab.folder import TrialFolder


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "engram", "run", "toy", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def metrics(runs: Path) -> dict[str, bytes]:
    """Return the bytes of all metrics, by arm and seed."""
    return {path.parent.name.rpartition("-")[0]: path.read_bytes() for path in runs.glob("toy/*/metrics.csv")}


def claims(output: str) -> list[dict[str, object]]:
    return json.loads(output)["claims"]


def wait_for_steps(runs: Path, steps: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(TrialFolder(path.parent).status().step >= steps for path in runs.glob("toy/*/status.json")):
            return
        time.sleep(0.02)
    raise TimeoutError("no trial got that far")


SLOW = ("--preset", "smoke", "--step-seconds", "0.08")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The metrics of the slow toy, never interrupted."""
    runs = tmp_path_factory.mktemp("whole")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "third_party")}
    subprocess.run(
        [sys.executable, "-m", "engram", "run", "toy", *SLOW, "--jobs", "1", "--runs", str(runs)],
        check=True,
        env=environment,
        capture_output=True,
    )
    return metrics(runs)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_sigkill_at_any_moment_changes_nothing(toy, tmp_path, whole, jobs):
    arguments = (*SLOW, "--jobs", jobs, "--runs", str(tmp_path), "--checkpoint-seconds", "0.2")
    kills = random.Random(int(jobs))
    for _ in range(3):
        process = start(*arguments)
        wait_for_steps(tmp_path, 1)
        time.sleep(kills.uniform(0, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(*arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert metrics(tmp_path) == whole


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(toy, tmp_path, whole):
    arguments = (*SLOW, "--jobs", "2", "--runs", str(tmp_path))
    process = start(*arguments)
    wait_for_steps(tmp_path, 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopping: trials write their checkpoints" in errors
    assert "toy: stopped with 0 trials done and 4 left; the same command goes on" in errors.replace("\n", " ")
    states = {TrialFolder(path.parent).status().state for path in tmp_path.glob("toy/*/status.json")}
    assert states == {"interrupted"}
    assert list(tmp_path.glob("toy/*/checkpoint-0.safetensors"))
    process = start(*arguments)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert metrics(tmp_path) == whole


def test_two_processes_on_one_folder_share_the_work(toy, tmp_path, whole):
    both = [start(*SLOW, "--jobs", "2", "--runs", str(tmp_path)) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert metrics(tmp_path) == whole
    assert {TrialFolder(path).status().attempts for path in tmp_path.glob("toy/*-*-*")} == {1}


def test_a_worker_that_dies_costs_its_trial_an_attempt(toy, tmp_path, command):
    marker = tmp_path / "died"
    misbehave = ("--misbehave", f"die-at:7:{marker}", "--checkpoint-seconds", "0")
    done = command("run", "toy", *SLOW, *misbehave, "--jobs", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert marker.exists()
    again = command("run", "toy", *SLOW, *misbehave, "--jobs", "1", "--json", "--runs", "undisturbed")
    assert [trial["result"] for trial in json.loads(done.stdout)["trials"]] == [
        trial["result"] for trial in json.loads(again.stdout)["trials"]
    ]


def test_a_trial_that_always_kills_its_worker_fails_alone(toy, command):
    done = command("run", "toy", "--preset", "smoke", "--misbehave", "die-always", "--jobs", "2", "--json")
    assert done.returncode == 2
    trials = json.loads(done.stdout)["trials"]
    assert [trial["state"] for trial in trials] == ["failed", "failed", "finished", "finished"]
    assert trials[0]["message"] == "its worker process died 3 times"


def test_ray_gives_the_same_claims(toy, command):
    here = command("run", "toy", "--preset", "laptop", "--json")
    ray = command("run", "toy", "--preset", "laptop", "--json", "--engine", "ray", "--jobs", "2", "--runs", "ray")
    assert ray.returncode == here.returncode == 1, ray.stderr
    assert claims(ray.stdout) == claims(here.stdout)


def test_ray_survives_a_dying_worker(toy, tmp_path, command):
    misbehave = ("--misbehave", f"die-at:3:{tmp_path / 'died'}")
    done = command("run", "toy", "--preset", "smoke", *misbehave, "--engine", "ray", "--jobs", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert {trial["state"] for trial in json.loads(done.stdout)["trials"]} == {"finished"}
