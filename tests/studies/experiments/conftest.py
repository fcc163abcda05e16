"""What tests of experiments share: a run outside the laboratory."""

import itertools

import pytest

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun


@pytest.fixture
def new_run(tmp_path):
    """Returns a function that makes a run of a seed, in a folder of its own."""
    numbers = itertools.count()

    def make(seed=0):
        folder = TrialFolder(tmp_path / f"run-{next(numbers)}")
        folder.path.mkdir()
        return TrialRun(folder, seed)

    return make


@pytest.fixture
def performed(new_run):
    """Returns a function that performs a trial with a config; it returns the trial's result, and its run."""

    def perform(trial, config, seed=50):
        run = new_run(seed)
        result = trial(config, run)
        run.close()
        return result, run

    return perform
