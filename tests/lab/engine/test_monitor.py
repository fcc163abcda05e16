"""What is told of a run while it runs."""

from __future__ import annotations

import io
import math
import time

import pytest
from rich.console import Console

from engram.lab.engine import monitor
from engram.lab.trial.folder import Status, TrialFolder
from engram.lab.trial.job import Job
from engram.lab.trial.trial import Time, Trial


def jobs_in(folder, statuses, seconds=100.0):
    jobs = []
    for seed, status in enumerate(statuses):
        trial_folder = TrialFolder(folder / str(seed))
        trial_folder.path.mkdir()
        trial_folder.set_status(status)
        trial = Trial("toy", 1, "arm", print, None, seed, "cpu", 1, time=Time(seconds))
        jobs.append(Job(trial, {}, {}, trial_folder, folder / "stop"))
    return jobs


def test_a_line_says_how_much_is_left_and_how_far_each_trial_is(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "LINE_SECONDS", 0.0)
    jobs = jobs_in(tmp_path, (Status("running", 25, 100, 50.0, note="loss 0.5"), Status()))
    said = io.StringIO()
    with monitor.Monitor(Console(file=said, width=200), jobs, 1, lambda job: []):
        pass
    # A quarter of one of two trials took twice as long as expected, so that 175 s are 350.
    assert "12% done, about 6 min left; running: arm, seed 0 at 25% (loss 0.5)" in said.getvalue()


def test_while_no_trial_has_come_far_enough_to_tell_the_time_left_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "LINE_SECONDS", 0.0)
    jobs = jobs_in(tmp_path, (Status("running"), Status()), math.nan)
    said = io.StringIO()
    with monitor.Monitor(Console(file=said, width=200), jobs, 1, lambda job: []):
        pass
    jobs[0].folder.set_status(Status("running", 25, 100, 60.0))
    with monitor.Monitor(Console(file=said, width=200), jobs, 1, lambda job: []):
        pass
    first, second = said.getvalue().splitlines()
    assert first.startswith("0% done, time left unknown; running: arm, seed 0 at 0%")
    assert second.startswith("12% done, about 7 min left")


@pytest.mark.parametrize(
    ("status", "seconds", "said"),
    [
        # A choice of 80 s, and then a training of as long.
        (Status("running", 9, 9, 80.0, choosing=True), 160.0, "50% done, about 80 s left"),
        (Status("running", 1, 1000, 80.08, 80.0), 160.0, "50% done, about 80 s left"),
        (Status("running", 0, 1000, 80.0, 80.0), 160.0, "50% done, about 80 s left"),
        (Status("running", 500, 1000, 120.0, 80.0), 160.0, "75% done, about 40 s left"),
        (
            Status("running", 3, 9, 33.0, choosing=True),
            math.nan,
            "0% done, time left unknown; running: arm, seed 0 at 33%",
        ),
        (Status("running", 100, 1000, 110.0, 100.0), math.nan, "55% done, about 90 s left"),
    ],
)
def test_of_a_choice_and_the_training_after_it_the_whole_time_is_told(status, seconds, said, tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "LINE_SECONDS", 0.0)
    lines = io.StringIO()
    with monitor.Monitor(Console(file=lines, width=200), jobs_in(tmp_path, [status], seconds), 1, lambda job: []):
        pass
    assert said in lines.getvalue()


def test_trials_that_failed_take_no_more_time(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "LINE_SECONDS", 0.0)
    jobs = jobs_in(tmp_path, [*[Status("failed", seconds=0.1)] * 9, Status("running", 50, 100, 50.0)])
    lines = io.StringIO()
    with monitor.Monitor(Console(file=lines, width=200), jobs, 1, lambda job: []):
        pass
    assert "50% done, about 50 s left" in lines.getvalue()


def test_of_trials_that_wait_only_the_next_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "POLL_SECONDS", 0.01)
    jobs = jobs_in(tmp_path, [Status("running"), *[Status()] * 99])
    read, all_read = [], TrialFolder.status
    monkeypatch.setattr(TrialFolder, "status", lambda folder: read.append(folder.path.name) or all_read(folder))
    with monitor.Monitor(Console(file=io.StringIO()), jobs, 1, lambda job: []):
        while read.count("0") < 3:
            time.sleep(0.01)
        next_ones = set(read)
        jobs[99].folder.set_status(Status("finished"))  # as no engine does; the end of the run shows all
    assert len(next_ones) == monitor.AHEAD + 2
    assert "99" in read
