"""What is told of a run while it runs."""

from __future__ import annotations

import io

from rich.console import Console

from engram.lab import monitor
from engram.lab.folder import Status, TrialFolder
from engram.lab.job import Job
from engram.lab.trial import Trial


def test_a_line_says_how_much_is_left_and_how_far_each_trial_is(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "LINE_SECONDS", 0.0)
    jobs = []
    for seed, status in enumerate((Status("running", 25, 100, 50.0, note="loss 0.5"), Status())):
        folder = tmp_path / str(seed)
        folder.mkdir()
        trial_folder = TrialFolder(folder)
        trial_folder.set_status(status)
        trial = Trial("toy", "arm", print, None, 100.0, seed, "cpu", 1)
        jobs.append(Job(trial, {}, trial_folder, tmp_path / "stop", 60.0, False))
    said = io.StringIO()
    with monitor.Monitor(Console(file=said, width=200), jobs, 1, lambda job: []):
        pass
    # A quarter of one of two trials took twice as long as expected, so that 175 s are 350.
    assert "12% done, about 6 min left; running: arm, seed 0 at 25% (loss 0.5)" in said.getvalue()
