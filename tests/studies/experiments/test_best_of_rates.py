"""Training at several rates: what is tried, logged and returned, and that it goes on after an interruption."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.lab.trial.unrecorded import CandidateRun
from engram.studies.experiments import cue_reward
from engram.studies.experiments.choosing import best_of_rates, with_rate
from engram.studies.experiments.plastic_language import training
from engram.studies.experiments.plastic_language.model import Model

CUES = cue_reward.Config(episode_len=12, hidden_size=4, batch_size=2, iterations=10)
DOCUMENTS = training.Config(
    model=Model(network="clipped-hebb", embedding_size=4, hidden_size=5),
    words=12,
    document_length=20,
    batch_size=4,
    updates=10,
    test_documents=8,
)
TASKS = pytest.mark.parametrize(("trial", "config"), [(cue_reward.trial, CUES), (training.trial, DOCUMENTS)])


def new_run(folder, kind=TrialRun):
    folder.mkdir(exist_ok=True)
    return kind(TrialFolder(folder), 3, checkpoint_seconds=0.0)


@pytest.mark.parametrize(("margin", "best"), [(0.01, 0.003), (0.5, 0.01)])
def test_the_results_and_the_curve_are_those_of_the_best_rate(tmp_path, margin, best):
    scores, tried = {0.001: 0.1, 0.003: 0.7, 0.01: 0.6, 0.03: 0.3, 0.1: 0.0}, []
    config, run = replace(DOCUMENTS, rates=tuple(scores)), new_run(tmp_path / "trial")

    def trial(config, run):
        for step in run.steps(3):
            run.log(step, every=3, error=config.learning_rate + step)
        tried.append(config)
        return {"validation": scores[config.learning_rate], "test": config.learning_rate}

    result = best_of_rates(config, run, trial, lambda result: result["validation"], margin=margin)
    assert tried == [replace(config, rates=(), learning_rate=rate) for rate in scores]
    assert result == {"validation": scores[best], "test": best}
    assert run.metrics().rows() == [(step, "error", best + step) for step in range(3)]
    assert run.choices["learning_rate"]["chosen"] == best


@TASKS
def test_training_at_one_rate_is_the_trial_at_this_rate(tmp_path, trial, config):
    alone = trial(with_rate(config, 0.004), new_run(tmp_path / "alone"))
    assert trial(replace(config, rates=(0.004,)), new_run(tmp_path / "swept")) == alone


@TASKS
# Within the second rate, and while the curve of the best is written.
@pytest.mark.parametrize("call", [pytest.param(15, marks=pytest.mark.soak), 45])
def test_an_interrupted_sweep_goes_on_exactly(tmp_path, monkeypatch, trial, config, call):
    config = replace(config, rates=(1e-3, 3e-3, 1e-2))
    run = new_run(tmp_path / "whole")
    result = trial(config, run)
    with monkeypatch.context() as patch:
        fail_at(patch, call)
        with pytest.raises(KeyboardInterrupt):
            trial(config, new_run(tmp_path / "interrupted"))
    resumed = new_run(tmp_path / "interrupted")
    assert trial(config, resumed) == result
    assert resumed.choices == run.choices
    assert resumed.metrics().equals(run.metrics())


def fail_at(patch, call):
    """Let logging raise at this call, whether of a candidate or of the run itself."""
    calls = []
    for kind in (CandidateRun, TrialRun):

        def log(self, step, /, *, log=kind.log, **values):
            calls.append(step)
            if len(calls) == call:
                raise KeyboardInterrupt
            return log(self, step, **values)

        patch.setattr(kind, "log", log)
