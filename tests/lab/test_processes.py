"""Runs as processes: killed, interrupted, side by side, on every engine."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engram.lab.folder import Status, TrialFolder


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


def statuses(runs: Path) -> list[Status]:
    return [TrialFolder(path.parent).status() for path in runs.glob("toy/*/status.json")]


def wait(moment: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not moment():
        if time.monotonic() > deadline:
            raise TimeoutError("the moment did not come")
        time.sleep(0.02)


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
    moments = random.Random(int(jobs))
    for kill in range(3):
        before = sum(status.attempts for status in statuses(tmp_path))
        process = start(*arguments)
        wait(lambda before=before: sum(status.attempts for status in statuses(tmp_path)) > before)
        time.sleep(moments.uniform(0, 1.2))
        assert process.poll() is None, f"finished before kill {kill}"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(*arguments)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert metrics(tmp_path) == whole


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(toy, tmp_path, whole):
    arguments = (*SLOW, "--jobs", "2", "--runs", str(tmp_path))
    process = start(*arguments)
    wait(lambda: any(status.step >= 1 for status in statuses(tmp_path)))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopping: trials write their checkpoints" in errors
    assert "KeyboardInterrupt" not in errors
    assert re.search(r"toy: stopped with \d trials done and \d left; the same command goes on", errors)
    assert "Traceback" not in errors
    assert "running" not in {status.state for status in statuses(tmp_path)}
    assert list(tmp_path.glob("toy/*/checkpoint-0.safetensors"))
    process = start(*arguments)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert metrics(tmp_path) == whole


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.0, 3.0, 4.0])
def test_ctrl_c_while_it_starts_is_clean_too(toy, tmp_path, seconds):
    process = start(*SLOW, "--jobs", "2", "--runs", str(tmp_path))
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "BrokenProcessPool" not in errors
    assert process.returncode in (130, -signal.SIGINT), errors  # the latter while Python itself is starting
    assert list(tmp_path.glob("toy/*/checkpoint-*")) == [] or process.returncode == 130


def test_a_second_ctrl_c_stops_at_once_and_loses_nothing(toy, tmp_path, whole):
    # Steps so long that the first Ctrl-C is not met in the time of this test.
    endless = ("--preset", "smoke", "--step-seconds", "1000", "--jobs", "2", "--runs", str(tmp_path / "endless"))
    process = start(*endless)
    wait(lambda: any(status.attempts for status in statuses(tmp_path / "endless")))
    os.killpg(process.pid, signal.SIGINT)
    wait(lambda: any((tmp_path / "endless").glob("toy/.stop-*")))
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped; the same command goes on from the last checkpoints" in errors
    assert not alive_in_group(process.pid)


def alive_in_group(group: int) -> list[int]:
    """Return the processes of a group that are still alive."""
    alive = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return alive


def test_two_processes_on_one_folder_share_the_work(toy, tmp_path, whole):
    both = [start(*SLOW, "--jobs", "2", "--runs", str(tmp_path)) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert metrics(tmp_path) == whole
    assert {status.attempts for status in statuses(tmp_path)} == {1}


def test_two_different_runs_on_one_folder_each_report_their_own(toy, tmp_path):
    slow = start(*SLOW, "--jobs", "2", "--runs", str(tmp_path), "--json")
    wait(lambda: any(status.attempts for status in statuses(tmp_path)))
    fast = start("--preset", "laptop", "--seeds", "1", "--jobs", "1", "--runs", str(tmp_path), "--json")
    contents = [json.loads(process.communicate(timeout=120)[0]) for process in (slow, fast)]
    assert [(content["preset"], content["seeds"]) for content in contents] == [("smoke", 2), ("laptop", 1)]
    assert [len(content["trials"]) for content in contents] == [4, 2]


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


def test_a_worker_that_dies_before_it_begins_costs_an_attempt(toy, tmp_path, command, monkeypatch):
    monkeypatch.setenv("TOY_DIES_ON_IMPORT", str(tmp_path / "died"))
    done = command("run", "toy", "--preset", "smoke", "--jobs", "2", "--json")
    assert (tmp_path / "died").exists()
    assert done.returncode == 0, done.stderr
    assert {trial["state"] for trial in json.loads(done.stdout)["trials"]} == {"finished"}


def test_what_a_trial_prints_is_not_among_the_results(toy, command):
    done = command("run", "toy", "--preset", "smoke", "--jobs", "2", "--misbehave", "print", "--json")
    assert json.loads(done.stdout)["experiment"] == "toy"
    assert "hello from a trial" in done.stderr


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
