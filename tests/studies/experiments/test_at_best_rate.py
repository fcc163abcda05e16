"""The choice of a learning rate by shorter trials: what they run, what they leave behind, what is chosen."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from engram.agents import A2C
from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import Interrupted, TrialRun
from engram.lab.trial.unrecorded import CandidateRun
from engram.studies.experiments import image_completion, maze, pattern_completion
from engram.studies.experiments.choosing import at_best_rate, with_rate

soak = partial(pytest.param, marks=pytest.mark.soak)
SMALL = pattern_completion.Config(bits=10, hidden_size=11, episodes=40, rates=(1e-3, 1e-2, 0.1))


@pytest.fixture
def run(tmp_path):
    return TrialRun(TrialFolder(tmp_path), 0)


def test_shorter_trials_at_the_candidates_choose_the_rate_of_the_whole_one(run):
    tried = []

    def trial(config, shorter):
        for step in shorter.steps(config.episodes):
            shorter.log(step, every=3, error=abs(config.learning_rate - 0.02) + step, loss=1.0)
        shorter.keep(net=None)
        tried.append(config)
        return dict(zip(("first", "last"), shorter.ends("error"), strict=True))

    chosen = at_best_rate(SMALL, run, trial, "episodes", lambda result: -result["last"], part=0.5)
    assert tried == [replace(SMALL, rates=(), learning_rate=rate, episodes=20) for rate in SMALL.rates]
    assert chosen == replace(SMALL, rates=(), learning_rate=0.01)
    assert run.choices["learning_rate"]["scores"] == pytest.approx([-18.519, -18.51, -18.58])
    assert run.metrics().is_empty()
    assert not run.kept


def test_without_candidates_nothing_is_tried(run):
    alone = replace(SMALL, rates=())
    assert at_best_rate(alone, run, pattern_completion.trial, "episodes", lambda result: 0.0, part=0.5) is alone
    assert not run.choices


def test_the_rate_of_an_agent_is_that_of_its_training():
    config = maze.Config(rates=(1e-3, 1e-2))
    assert with_rate(config, 0.5) == replace(config, rates=(), a2c=replace(config.a2c, learning_rate=0.5))


@pytest.mark.filterwarnings("ignore:eta of")  # at the largest rates
@pytest.mark.parametrize(
    ("trial", "config", "measure"),
    [
        (pattern_completion.trial, SMALL, "error"),
        soak(image_completion.trial, image_completion.Config(size=4, updates=16, test_episodes=4), "held_out_error"),
        (maze.trial, maze.Config(size=5, episode_len=12, hidden_size=4, batch_size=4), "hits"),
    ],
)
def test_a_task_with_candidates_chooses_and_goes_on_after_an_interruption(tmp_path, trial, config, measure):
    few = {"iterations": 10} if isinstance(getattr(config, "a2c", None), A2C) else {}
    config = replace(config, rates=(1e-3, 1e-2), **few)
    folders = [tmp_path / name for name in ("whole", "interrupted")]
    for folder in folders:
        folder.mkdir()
    whole, interrupted = map(TrialFolder, folders)
    run = TrialRun(whole, 3, checkpoint_seconds=0.0)
    result = trial(config, run)
    assert len(run.choices["learning_rate"]["candidates"]) >= 2
    with pytest.raises(KeyboardInterrupt):
        trial(config, Interrupting(interrupted, 3, checkpoint_seconds=0.0))
    again = trial(config, TrialRun(interrupted, 3, checkpoint_seconds=0.0))
    assert again[measure] == result[measure]


def test_a_candidate_declares_files_and_its_notes_are_not_shown(run, tmp_path):
    (tmp_path / "table.csv").write_text("1")
    candidate = CandidateRun(run)
    candidate.note("loading")
    assert candidate.uses(tmp_path / "table.csv") == tmp_path / "table.csv"
    assert any(name.endswith("table.csv") for name in run.made_by()["files"])


def test_a_candidate_hears_that_the_run_is_to_stop(tmp_path, monkeypatch):
    monkeypatch.setattr("engram.lab.trial.loop.HEARTBEAT_SECONDS", 0.0)
    stop = tmp_path / "stop"
    run, seen = TrialRun(TrialFolder(tmp_path), 0, stop=stop), []

    def score(rate):
        for step in CandidateRun(run).steps(10):
            seen.append((rate, step))
            if len(seen) == 14:
                stop.touch()
        return -rate

    with pytest.raises(Interrupted):
        run.choose("learning_rate", (0.1, 0.2), score)
    assert seen[-1] == (0.2, 3)
    assert TrialFolder(tmp_path).status().note == "candidate: 40%"


class Interrupting(TrialRun):
    """A run whose log raises at its third call, within the training that follows the choice."""

    calls = 0

    def log(self, step, /, **values):
        self.calls += 1
        if self.calls == 3:
            raise KeyboardInterrupt
        return super().log(step, **values)
