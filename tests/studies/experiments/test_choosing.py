"""A choice in which each candidate is trained once: what is returned, and that it goes on after an interruption."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.studies.experiments.choosing import evaluate_chosen

SCORES = {0.1: -1.0, 0.2: 3.0, 0.4: 2.0, 0.8: math.nan}


def new_run(folder):
    folder.mkdir(exist_ok=True)
    return TrialRun(TrialFolder(folder), 3, checkpoint_seconds=0.0)


def trained(tried, stop=None):
    def train(candidate):
        if candidate == stop:
            raise KeyboardInterrupt
        tried.append(candidate)
        if math.isnan(SCORES[candidate]):
            raise FloatingPointError("diverged")
        return SCORES[candidate], [10 * candidate, math.nan]

    return train


def test_the_results_are_those_of_the_model_that_was_validated(tmp_path):
    tried = []
    chosen, results = evaluate_chosen(new_run(tmp_path / "trial"), "rate", list(SCORES), trained(tried))
    assert tried == list(SCORES)
    assert chosen == 0.2
    assert list(results) == [0.1, 0.2, 0.4]
    np.testing.assert_array_equal(results[0.2], [2.0, math.nan])


def test_what_was_trained_before_an_interruption_is_not_trained_again(tmp_path):
    before, after = [], []
    with pytest.raises(KeyboardInterrupt):
        evaluate_chosen(new_run(tmp_path / "trial"), "rate", list(SCORES), trained(before, stop=0.4))
    chosen, results = evaluate_chosen(new_run(tmp_path / "trial"), "rate", list(SCORES), trained(after))
    assert after == [0.4, 0.8]
    assert chosen == 0.2
    assert list(results) == [0.1, 0.2, 0.4]
    np.testing.assert_array_equal(results[0.1], [1.0, math.nan])
