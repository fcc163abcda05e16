"""Runs as processes: killed, interrupted, side by side, on every engine."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from joblib.externals.loky import get_reusable_executor
from safetensors.numpy import load_file

import engram
from engram.lab import Results
from engram.lab.engine import parallel
from engram.lab.trial.folder import Status, TrialFolder

pytestmark = pytest.mark.usefixtures("interrupts")


@pytest.fixture
def fresh_workers() -> Iterator[None]:
    """Let the next pool start its worker processes anew."""
    get_reusable_executor().shutdown(kill_workers=True)
    yield
    get_reusable_executor().shutdown(kill_workers=True)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "engram", "run", "toy", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(**options: object) -> Results:
    return engram.run("toy", **{"preset": "smoke", "progress": False, **options})


def metrics(runs: Path) -> dict[str, bytes]:
    """Return the bytes of all metrics, and of what finished trials kept, by arm and seed."""
    return {
        path.parent.name.rpartition("-")[0]: path.read_bytes()
        + b"".join(tensor.tobytes() for _, tensor in sorted(load_file(path.with_name("state.safetensors")).items()))
        for path in runs.glob("toy/*/metrics.csv")
    }


def statuses(runs: Path) -> list[Status]:
    return [TrialFolder(path.parent).status() for path in runs.glob("toy/*/status.json")]


def wait(moment: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not moment():
        if time.monotonic() > deadline:
            raise TimeoutError("the moment did not come")
        time.sleep(0.02)


SLOW = ("--preset", "smoke", "--step-seconds", "0.05")


@pytest.fixture
def whole(toy, tmp_path) -> dict[str, bytes]:
    """The metrics of the toy, never interrupted: how long its steps take does not show in them."""
    run(jobs=1, runs=tmp_path / "whole")
    return metrics(tmp_path / "whole")


@pytest.mark.parametrize("jobs", ["2", pytest.param("1", marks=pytest.mark.soak)])
def test_sigkill_at_any_moment_changes_nothing(tmp_path, whole, jobs, effort, hurry):
    arguments = (*SLOW, "--jobs", jobs, "--runs", str(tmp_path), "--checkpoint-seconds", "0.1")
    moments = random.Random(int(jobs))
    # All trials and their three loops take two seconds each.
    for _ in range(min(effort, 3)):
        before = sum(status.attempts for status in statuses(tmp_path))
        process = start(*arguments)
        wait(lambda before=before: sum(status.attempts for status in statuses(tmp_path)) > before)
        time.sleep(moments.uniform(0, 0.5))
        assert process.poll() is None, "finished before it was killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    hurry(tmp_path)
    run(jobs=1, runs=tmp_path, step_seconds=0.05)
    assert metrics(tmp_path) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path, whole, number, hurry):
    slow = {"step_seconds": 0.2, "seeds": 1}  # so that the request is noticed before the last step
    process = start("--preset", "smoke", "--step-seconds=0.2", "--seeds=1", "--jobs=2", "--runs", str(tmp_path))
    wait(lambda: any(status.step >= 1 for status in statuses(tmp_path)))
    os.killpg(process.pid, number)  # as a terminal or a scheduler does: to the workers too
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "stopping: trials write their checkpoints" in errors
    assert "KeyboardInterrupt" not in errors
    assert re.search(r"toy: \d of 2 trials done; the same command resumes them", errors)
    assert "Traceback" not in errors
    assert "running" not in {status.state for status in statuses(tmp_path)}
    finished = {path.parent for path in tmp_path.glob("toy/*/result.json")}
    keep = {path.parent for path in tmp_path.glob("toy/*/state.safetensors")}
    assert keep <= finished, "a trial that has not finished keeps something"
    assert list(tmp_path.glob("toy/*/checkpoint-0.safetensors"))
    hurry(tmp_path)
    run(jobs=1, runs=tmp_path, **slow)
    assert metrics(tmp_path) == {name: content for name, content in whole.items() if name.endswith("-0")}


def noted(runs: Path) -> None:
    """Wait until a run has begun, and its workers have not."""
    wait(lambda: any(runs.glob("toy/last-run.json")))


SOAK_MOMENTS = [pytest.param(lambda runs, s=s: time.sleep(s), id=str(s)) for s in (0.3, 1.0, 2.0, 3.0, 4.0)]


@pytest.mark.soak
@pytest.mark.parametrize("moment", [lambda runs: time.sleep(0.1), noted, *SOAK_MOMENTS])
def test_ctrl_c_while_it_starts_is_clean_too(toy, tmp_path, moment):
    process = start(*SLOW, "--jobs", "2", "--runs", str(tmp_path))
    moment(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert "BrokenProcessPool" not in errors
    assert process.returncode in (130, -signal.SIGINT), errors  # the latter while Python itself is starting
    assert list(tmp_path.glob("toy/*/checkpoint-*")) == [] or process.returncode == 130


def test_ctrl_c_that_was_ignored_when_it_began_is_ignored(toy, tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    results = run(jobs=1, misbehave="interrupt")
    assert {trial.state for trial in results.trials} == {"finished"}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run(jobs=1, misbehave="interrupt", runs=tmp_path / "caught")
    assert stopped.value.results.trials[-1].state == "interrupted"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.soak
def test_a_second_ctrl_c_stops_at_once_and_loses_nothing(toy, tmp_path):
    # Steps so long that the first Ctrl-C is not met in the time of this test.
    process = start("--preset", "smoke", "--step-seconds", "1000", "--jobs", "2", "--runs", str(tmp_path))
    wait(lambda: any(status.attempts for status in statuses(tmp_path)))
    os.killpg(process.pid, signal.SIGINT)
    wait(lambda: any(tmp_path.glob("toy/.*.stop")))
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    assert "stopped; the same command resumes from the last checkpoints" in errors
    wait(lambda: not alive_in_group(process.pid))  # the trackers of resources end when they notice


@pytest.mark.soak
def test_a_second_ctrl_c_ends_a_call_that_does_not_return(toy, tmp_path, whole):
    stuck = f"stuck-at:4:{tmp_path / 'stuck'}"
    options = ("--preset=smoke", "--jobs=1", "--checkpoint-seconds=0", f"--momentum.misbehave={stuck}")
    process = start(*options, "--runs", str(tmp_path))
    wait((tmp_path / "stuck").exists)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped inside a step; the same command resumes from the last checkpoints" in errors
    assert engram.lab.load("toy", tmp_path).trials[0].state == "interrupted"
    run(jobs=1, runs=tmp_path, **{"momentum.misbehave": stuck})
    assert metrics(tmp_path) == whole


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.soak)])
@pytest.mark.usefixtures("fresh_workers")
def test_the_time_limit_ends_a_call_that_does_not_return(tmp_path, whole, monkeypatch, jobs):
    monkeypatch.setattr(parallel, "GRACE_SECONDS", 0.5)
    run(jobs=jobs, runs=tmp_path / "before", seeds=1, at_most=300.0)  # starts the workers
    stuck = {"momentum.misbehave": f"stuck-at:4:{tmp_path / 'stuck'}", "checkpoint_seconds": 0.0}
    began = time.monotonic()
    results = run(jobs=jobs, runs=tmp_path, at_most=1.5, **stuck)
    assert 1.5 < time.monotonic() - began < 30
    states = {(trial.arm, trial.seed): trial.state for trial in results.trials}
    assert states["momentum", 0] == "interrupted"
    folders = [TrialFolder(Path(trial.folder)) for trial in results.trials]
    assert not any(folder.is_locked() for folder in folders)
    assert "running" not in {folder.status().state for folder in folders}
    assert folders[0].checkpoint(0).exists()
    resumed = run(jobs=1, runs=tmp_path, **stuck)
    assert {trial.state for trial in resumed.trials} == {"finished"}
    assert folders[0].status().attempts == 2
    assert metrics(tmp_path) == whole


@pytest.mark.soak
def test_a_second_ctrl_c_kills_the_workers_and_nothing_else(toy, tmp_path):
    caller = (
        "import subprocess, sys, engram\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "try:\n"
        "    engram.run('toy', preset='smoke', jobs=2, step_seconds=1000.0, runs=sys.argv[1], progress=False)\n"
        "except KeyboardInterrupt:\n"
        "    print(other.poll())\n"
        "    other.kill()\n"
    )
    command = [sys.executable, "-c", caller, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait(lambda: any(status.attempts for status in statuses(tmp_path)))
    workers = loky_workers(process.pid)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        wait(lambda: any(tmp_path.glob("toy/.*.stop")) or process.poll() is not None)
    output, errors = process.communicate(timeout=300)
    assert output.split() == ["None"], errors
    assert workers
    assert not any(worker.is_running() for worker in workers)


def loky_workers(process: int) -> list[psutil.Process]:
    children = psutil.Process(process).children(recursive=True)
    return [child for child in children if any("popen_loky" in part for part in child.cmdline())]


IDLE = "import engram, sys, time; engram.run('toy', preset='smoke', jobs=2, runs=sys.argv[1]); time.sleep(1000)"


SOAK_ENDS = [pytest.param(moment, marks=pytest.mark.soak) for moment in ("before a trial begins", "idle")]


@pytest.mark.parametrize("moment", ["during a trial", *SOAK_ENDS])
def test_what_worked_for_a_process_that_was_killed_ends(beside, tmp_path, moment):
    if moment == "idle":
        process = subprocess.Popen([sys.executable, "-c", IDLE, str(tmp_path)], stderr=subprocess.PIPE)
        wait(lambda: [status.state for status in statuses(tmp_path)] == ["finished"] * 4)
        wait(lambda: not list(tmp_path.glob("toy/.*.run")))  # the run has returned
    else:
        # One worker, since there is a limit.
        process = beside("toy", preset="smoke", step_seconds=0.2, jobs=1, at_most=300.0, runs=tmp_path, progress=False)
        if moment == "during a trial":
            wait(lambda: any(status.step for status in statuses(tmp_path)))
        else:
            wait(lambda: loky_workers(process.pid))
    children = psutil.Process(process.pid).children(recursive=True)
    begun = statuses(tmp_path)
    process.kill()
    process.communicate() if moment == "idle" else process.join()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert children
    assert not alive
    # The tracker removes both before it ends.
    wait(lambda: not [*tmp_path.glob("toy/.*.run"), *tmp_path.glob("toy/.*.code")])
    states = {status.state for status in statuses(tmp_path)}
    if moment == "before a trial begins":
        assert (begun, states) == ([], set())
    else:
        assert states <= ({"finished"} if moment == "idle" else {"interrupted", "finished"})


def test_what_a_killed_run_left_is_swept_by_the_next(beside, tmp_path):
    process = beside("toy", preset="smoke", step_seconds=0.05, jobs=1, runs=tmp_path, progress=False)
    wait(lambda: any(status.step for status in statuses(tmp_path)))
    process.kill()
    process.join()
    assert list(tmp_path.glob("toy/.*.run"))
    run(jobs=1, runs=tmp_path, seeds=1, arms=["plain"])
    assert not list(tmp_path.glob("toy/.*.run"))


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


@pytest.mark.soak
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_two_processes_on_one_folder_share_the_work(tmp_path, whole, jobs):
    both = [start(*SLOW, "--jobs", jobs, "--runs", str(tmp_path)) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    assert metrics(tmp_path) == whole
    assert {status.attempts for status in statuses(tmp_path)} == {1}


@pytest.mark.soak
def test_two_different_runs_on_one_folder_each_report_their_own(toy, tmp_path):
    slow = start(*SLOW, "--jobs", "1", "--runs", str(tmp_path), "--json")
    wait(lambda: any(status.attempts for status in statuses(tmp_path)))
    fast = run(preset="laptop", seeds=1, jobs=1, runs=tmp_path)
    output, errors = slow.communicate(timeout=300)
    assert slow.returncode == 0, errors
    content = json.loads(output)
    assert (content["preset"], content["seeds"], len(content["trials"])) == ("smoke", 2, 4)
    assert (fast.preset, fast.seeds, len(fast.trials)) == ("laptop", 1, 2)


@pytest.mark.soak
def test_a_worker_that_dies_costs_its_trial_an_attempt(toy, tmp_path, fresh_workers):
    marker = tmp_path / "died"
    misbehave = {"misbehave": f"die-at:7:{marker}", "checkpoint_seconds": 0.0}
    disturbed = run(jobs=2, **misbehave)
    assert marker.exists()
    again = run(jobs=1, runs=tmp_path / "undisturbed", **misbehave)
    assert [trial.result for trial in disturbed.trials] == [trial.result for trial in again.trials]
    assert {trial.state for trial in disturbed.trials} == {"finished"}


@pytest.mark.soak
def test_a_trial_that_always_kills_its_worker_fails_alone(toy, fresh_workers):
    trials = run(jobs=2, seeds=1, misbehave="die-always").trials
    assert [trial.state for trial in trials] == ["failed", "finished"]
    assert re.fullmatch(r"its worker process died 3 times, at last by .*SIGKILL\(-9\).*", trials[0].message)


@pytest.mark.soak
def test_a_worker_that_dies_before_it_begins_costs_an_attempt(toy, tmp_path, command, monkeypatch):
    monkeypatch.setenv("TOY_DIES_ON_IMPORT", str(tmp_path / "died"))
    done = command("run", "toy", "--preset", "smoke", "--jobs", "2", "--misbehave", "print", "--json")
    assert (tmp_path / "died").exists()
    assert done.returncode == 0, done.stderr
    assert {trial["state"] for trial in json.loads(done.stdout)["trials"]} == {"finished"}
    assert "hello from a trial" in done.stderr, "what a trial prints is not among the results"


@pytest.mark.soak
def test_ray_gives_the_same_numbers_also_when_a_worker_dies(toy, tmp_path, command):
    misbehave = f"die-at:3:{tmp_path / 'died'}"
    options = ("--preset", "smoke", "--misbehave", misbehave, "--engine", "ray", "--jobs", "2", "--json")
    done = command("run", "toy", *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "died").exists()
    here = run(jobs=1, runs=tmp_path / "here", misbehave=misbehave).to_json()
    there = json.loads(done.stdout)
    assert there["claims"] == here["claims"]
    assert [trial["result"] for trial in there["trials"]] == [trial["result"] for trial in here["trials"]]


@pytest.mark.soak
@pytest.mark.parametrize("left", [1, 0])
def test_a_node_of_a_cluster_that_is_lost_costs_no_finished_work(toy, tmp_path, left):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": left, "include_dashboard": False})
    node = cluster.add_node(num_cpus=2 - left)

    def lose() -> None:
        wait(lambda: any(status.step for status in statuses(tmp_path)))
        node.kill_raylet()
        if not left:
            cluster.add_node(num_cpus=1)  # for which the tasks wait

    thread = threading.Thread(target=lose)
    thread.start()
    slow = {"step_seconds": 0.1, "runs": tmp_path}
    try:
        results = run(engine="ray", jobs=2, address=cluster.address, **slow)
    finally:
        thread.join()
        cluster.shutdown()
    assert {trial.state for trial in results.trials} == {"finished"}
    alone = run(jobs=1, runs=tmp_path / "alone", step_seconds=0.1)
    assert [trial.result for trial in results.trials] == [trial.result for trial in alone.trials]


def test_a_process_of_the_caller_keeps_its_output(toy, capfd, monkeypatch):
    monkeypatch.setattr(multiprocessing, "parent_process", multiprocessing.current_process)  # as in a caller's pool
    run(seeds=1, jobs=1)
    os.write(1, b"of the caller")
    assert capfd.readouterr().out == "of the caller"


def test_an_experiment_in_a_file_runs_on_several_workers(tmp_path):
    file = tmp_path / "my_questions.py"
    file.write_text((Path(__file__).parents[1] / "third_party" / "toy_experiments.py").read_text())
    results = engram.run(f"{file}:experiment", preset="smoke", seeds=2, jobs=2, runs=tmp_path, progress=False)
    assert {trial.state for trial in results.trials} == {"finished"}
