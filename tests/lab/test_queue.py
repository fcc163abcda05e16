"""One folder of runs, several commands: they share its trials, and take over what others leave."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import filelock
import pytest

import engram
from engram import cli
from engram.lab.trial.folder import Status, TrialFolder
from engram.lab.trial.job import queue
from engram.lab.trial.loop import Displaced, TrialRun
from engram.numeric import parallel
from engram.storage import locks

SMOKE = {"preset": "smoke", "jobs": 1, "progress": False}
LEASE_SECONDS = 1.0


@pytest.fixture(autouse=True)
def _looks_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "POLL_SECONDS", 0.05)


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Start processes that hear Ctrl-C and SIGTERM, also where the shell of the tests ignores them."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(runs: Path, **options: object) -> engram.lab.Results:
    return engram.run("toy", **{**SMOKE, "runs": runs, **options})


def wait(moment: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not moment():
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.01)


def folders(runs: Path) -> list[TrialFolder]:
    return [TrialFolder(path.parent) for path in sorted(runs.glob("toy/*/status.json"))]


def metrics(runs: Path) -> dict[str, bytes]:
    return {path.parent.name.rpartition("-")[0]: path.read_bytes() for path in runs.glob("toy/*/metrics.csv")}


def test_commands_on_one_folder_share_its_trials_and_say_who_has_the_others(beside, tmp_path, capsys):
    run(tmp_path / "alone", seeds=3)
    slow = {"seeds": 3, "step_seconds": 0.05}
    processes = [beside("toy", **SMOKE, runs=tmp_path, **slow) for _ in range(2)]
    wait(lambda: len(folders(tmp_path)) >= 2)
    results = run(tmp_path, progress=True, **slow)
    assert {trial.state for trial in results.trials} == {"finished"}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    statuses = [folder.status() for folder in folders(tmp_path)]
    assert [status.attempts for status in statuses] == [1] * 6
    assert len({status.owner for status in statuses}) == 3
    assert metrics(tmp_path) == metrics(tmp_path / "alone")
    said = capsys.readouterr().err
    for process in processes:
        assert f"1 trial is at work in process {process.pid} on {platform.node()}" in said
    assert "[6/6]" in said


def test_what_a_killed_command_was_at_work_on_is_taken_over(beside, tmp_path, hurry):
    run(tmp_path / "alone")
    slow = {"step_seconds": 0.1, "checkpoint_seconds": 0.0}  # a status says its step every half second
    process = beside("toy", **SMOKE, runs=tmp_path, **slow)
    wait(lambda: any(folder.status().step > 3 for folder in folders(tmp_path)))

    def kill() -> None:
        process.kill()
        hurry(tmp_path)

    threading.Timer(0.2, kill).start()
    results = run(tmp_path, **slow)
    assert {trial.state for trial in results.trials} == {"finished"}
    assert sorted(folder.status().attempts for folder in folders(tmp_path)) == [1, 1, 1, 2]
    assert metrics(tmp_path) == metrics(tmp_path / "alone")


def test_a_look_is_judged_when_its_trials_are_there_whoever_did_them(beside, tmp_path):
    options = {**SMOKE, "preset": "laptop", "until_decided": True, "episodes": 20, "step_seconds": 0.002}
    process = beside("toy", runs=tmp_path, **options)
    wait(lambda: folders(tmp_path))
    results = run(tmp_path, **options)
    process.join()
    assert process.exitcode == 0
    statuses = [folder.status() for folder in folders(tmp_path)]
    assert {(status.state, status.attempts) for status in statuses} == {("finished", 1)}
    assert len({status.owner for status in statuses}) == 2
    alone = run(tmp_path / "alone", **{**options, "step_seconds": 0.0})
    assert {trial.message for trial in alone.trials} == {""}
    assert [trial.result for trial in results.trials] == [trial.result for trial in alone.trials]


def test_a_trial_fails_once_in_a_run_however_many_commands_it_has(beside, tmp_path):
    failing = {"misbehave": "raise", "step_seconds": 0.05}
    beside("toy", **SMOKE, runs=tmp_path, **failing)
    wait(lambda: sum(folder.status().state == "failed" for folder in folders(tmp_path)) == 2)
    results = run(tmp_path, **failing)
    assert [trial.state for trial in results.trials] == ["failed", "failed", "finished", "finished"]
    assert "the toy broke" in results.trials[0].message
    assert {folder.status().attempts for folder in folders(tmp_path)} == {1}
    wait(lambda: not list(tmp_path.glob("toy/.*.run")))
    run(tmp_path, **failing)
    assert sorted(folder.status().attempts for folder in folders(tmp_path)) == [1, 1, 2, 2]


def test_a_run_of_another_user_counts_as_being_in_progress(tmp_path, monkeypatch):
    def refused(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    folder = TrialFolder(tmp_path / "momentum-0")
    folder.path.mkdir()
    folder.set_status(Status("failed", run=".other"))
    (tmp_path / ".other.run").touch()
    monkeypatch.setattr(locks, "is_held", refused)
    queue(SimpleNamespace(folder=folder, stop=tmp_path / ".own.stop"))
    assert folder.status().state == "failed"


def test_sigterm_stops_as_ctrl_c_does_and_a_second_one_changes_nothing(beside, tmp_path, hurry):
    run(tmp_path / "alone")
    arguments = ("run", "toy", "--preset=smoke", "--jobs=1", "--step-seconds=0.1", f"--runs={tmp_path}")
    process = beside(arguments, target=cli.main)
    wait(lambda: any(folder.status().step for folder in folders(tmp_path)))
    for _ in range(2):  # as from a scheduler and from the shell that it started
        os.kill(process.pid, signal.SIGTERM)
    process.join()
    assert process.exitcode == 130
    (folder,) = folders(tmp_path)
    assert folder.status().state == "interrupted"
    assert folder.checkpoint(0).exists()
    hurry(tmp_path)
    run(tmp_path, step_seconds=0.1, arms=["momentum"], seeds=1)
    assert metrics(tmp_path)["momentum-0"] == metrics(tmp_path / "alone")["momentum-0"]


@pytest.fixture
def no_flock(toy, monkeypatch) -> None:
    """Pretend that the file system has no flock."""
    import without_flock

    monkeypatch.setattr(fcntl, "flock", without_flock.missing)
    monkeypatch.setattr(locks, "LEASE_SECONDS", LEASE_SECONDS)


def of_another_host(path: Path, monkeypatch) -> filelock.SoftFileLease:
    """Hold a lock as a process of another host would, which is then killed."""
    with monkeypatch.context() as there:
        there.setattr("filelock._marker.host_name", lambda: "node-2")
        lease = locks.acquire(path)
    lease._stop_heartbeat()
    return lease


@pytest.mark.usefixtures("no_flock")
def test_without_flock_commands_share_trials_too(beside, tmp_path):
    process = beside(
        "toy",
        LEASE_SECONDS,
        target=importlib.import_module("without_flock").run,
        **SMOKE,
        runs=tmp_path,
        step_seconds=0.01,
    )
    wait(lambda: folders(tmp_path))
    run(tmp_path, step_seconds=0.01)
    process.join()
    assert process.exitcode == 0
    statuses = [folder.status() for folder in folders(tmp_path)]
    assert [(status.state, status.attempts) for status in statuses] == [("finished", 1)] * 4
    assert len({status.owner for status in statuses}) == 2
    assert not list(tmp_path.rglob("*.lease"))


@pytest.mark.usefixtures("no_flock")
def test_without_flock_the_owner_is_named_and_replaced_when_its_lease_expires(toy, tmp_path, monkeypatch, capsys):
    whole = run(tmp_path / "alone")
    run(tmp_path)
    first = TrialFolder(Path(run(tmp_path).trials[0].folder))
    (first.path / "result.json").unlink()
    first.set_status(Status("running", owner="process 4711 on node-2", run=".other"))
    places = (first.path / "lock", first.path.parent / ".other.run")
    left = [of_another_host(place, monkeypatch) for place in places]
    began = time.monotonic()
    results = run(tmp_path, progress=True)
    assert time.monotonic() - began > 1.0
    assert [trial.result for trial in results.trials] == [trial.result for trial in whole.trials]
    assert "1 trial is at work in process 4711 on node-2: waiting for it" in capsys.readouterr().err
    assert all(map(locks.is_lost, left[:1]))
    run(tmp_path)
    assert not list(first.path.parent.glob(".other.run*")), "what the other host left is not swept"


@pytest.mark.usefixtures("no_flock")
def test_who_has_lost_the_lease_stops_and_writes_nothing(tmp_path, monkeypatch):
    folder = TrialFolder(tmp_path)
    monkeypatch.setattr("engram.lab.trial.loop.HEARTBEAT_SECONDS", 0.0)
    with folder.held():
        steps = TrialRun(folder, 0, checkpoint_seconds=0.0).steps(5)
        for _ in range(3):
            next(steps)
        before = folder.checkpoint(0).read_bytes(), folder.status()
        locks.lease_of(tmp_path / "lock").unlink()
        of_other = of_another_host(tmp_path / "lock", monkeypatch)
        with pytest.raises(Displaced):
            next(steps)
    assert (folder.checkpoint(0).read_bytes(), folder.status()) == before
    assert of_other.owner.hostname == "node-2"


def like_others() -> None:
    """Lose what lets root write where it may not: PR_CAPBSET_DROP of CAP_DAC_OVERRIDE."""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)


def test_finished_trials_that_may_only_be_read_are_judged_and_others_are_refused(toy, tmp_path):
    runs = tmp_path / "runs"
    finished = run(runs, preset="laptop", seeds=2, arms=["momentum"])
    everything = [runs, *runs.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    arguments = ["run", toy, "--arms", "momentum", "--runs", str(runs), "--json"]
    program = f"from engram import cli; print([cli.run({arguments} + ['--seeds', n]) for n in '23'])"
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, preexec_fn=like_others, capture_output=True, text=True, check=False)
    finally:
        for path in everything:
            path.chmod(0o755 if path.is_dir() else 0o644)
    judged, codes = done.stdout.splitlines()
    assert codes == "[0, 2]", done.stderr
    assert json.loads(judged)["claims"] == finished.to_json()["claims"]
    assert "nothing to do" in done.stderr
    assert "cannot write" in done.stderr
