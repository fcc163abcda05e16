"""The recipes of the page on clusters run as they stand there; of SLURM only the commands are pretended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from engram.lab.trial.folder import Status, TrialFolder

PAGE = (Path(__file__).parents[1] / "docs" / "cluster.md").read_text()
OPTIONS = ("toy", "--preset", "smoke", "--step-seconds", "0.1")


def recipe(name: str, folder: Path) -> Path:
    """Write a file of the page into a folder."""
    (content,) = re.findall(rf'```\w+ title="{re.escape(name)}"\n(.*?)```', PAGE, flags=re.DOTALL)
    (folder / name).write_text(content)
    return folder / name


def statuses(runs: Path) -> list[Status]:
    return [TrialFolder(path.parent).status() for path in sorted(runs.glob("toy/*/status.json"))]


def wait(moment: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not moment():
        assert time.monotonic() < deadline, "the moment did not come"
        time.sleep(0.02)


def at_work(runs: Path) -> set[int]:
    """The processes whose trials have made steps."""
    owners = [status.owner for status in statuses(runs) if status.state == "running" and status.step]
    return {int(match[1]) for owner in owners if (match := re.match(r"process (\d+) on ", owner))}


def pretended_slurm(folder: Path) -> None:
    """Stand-ins for SLURM's commands, which run a step at once, and write down what is queued again."""
    (folder / "srun").write_text('#!/bin/bash\nexec "$@"\n')
    (folder / "scontrol").write_text(f'#!/bin/bash\necho "$@" >> {folder}/queued\n')
    (folder / "engram").write_text(f'#!/bin/bash\nexec {sys.executable} -m engram "$@"\n')
    for name in ("srun", "scontrol", "engram"):
        (folder / name).chmod(0o755)


def test_tasks_of_a_slurm_array_share_the_trials_and_the_one_whose_time_is_up_queues_itself_again(toy, tmp_path, hurry):
    pretended_slurm(tmp_path)
    script = recipe("engram.sbatch", tmp_path)
    assert "#SBATCH --signal=TERM@60" in script.read_text()
    runs = tmp_path / "runs"
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ENGRAM_RUNS": str(runs)}
    tasks = [
        subprocess.Popen(
            ["bash", str(script), *OPTIONS], env={**environment, "SLURM_JOB_ID": job}, start_new_session=True
        )
        for job in ("71", "72")
    ]
    wait(lambda: len(at_work(runs)) == 2)
    step = psutil.Process(tasks[0].pid).children()[0]
    step.send_signal(signal.SIGTERM)  # as SLURM does, to the steps of the job and not to its shell
    assert tasks[0].wait(120) == 130
    hurry(runs)
    assert tasks[1].wait(120) == 0
    assert (tmp_path / "queued").read_text() == "requeue 71\n"
    assert {status.state for status in statuses(runs)} == {"finished"}
    assert sorted(status.attempts for status in statuses(runs)) == [1, 1, 1, 2]


@pytest.mark.soak
def test_jobs_of_submitit_share_the_trials_and_one_whose_time_is_up_goes_on(toy, tmp_path):
    pytest.importorskip("submitit")
    script, runs = recipe("submit.py", tmp_path), tmp_path / "runs"
    command = [sys.executable, script.name, *OPTIONS, "--jobs", "1", "--runs", str(runs)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as submitting:
        wait(lambda: len(at_work(runs)) == 2)
        chosen = psutil.Process(min(at_work(runs)))
        chosen.send_signal(signal.SIGUSR2)  # which SLURM sends to all processes of a job
        chosen.parent().send_signal(signal.SIGUSR2)
        assert submitting.communicate(timeout=240)[0] == "[0, 0]\n"
    assert {status.state for status in statuses(runs)} == {"finished"}
    assert sorted(status.attempts for status in statuses(runs)) == [1, 1, 1, 2]
    assert "this job is preempted" in "".join(path.read_text() for path in (tmp_path / "jobs").glob("*_log.err"))
