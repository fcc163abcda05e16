import pytest

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.studies.experiments.episodic_control import claims, control, quantities
from engram.studies.experiments.episodic_control.control import GAMES, RATES
from engram.studies.experiments.episodic_control.control import Config as Control
from engram.studies.experiments.episodic_control.stream import Stream

BY_ID = {of.id: of for of in (*claims, *quantities)}


def test_what_the_claims_compute():
    of_stream = {f"{moment}_{batch}": 1.0 for moment in ("before", "after", "end") for batch in (1, 8)}
    results = {f"stream-{policy}": dict(of_stream) for policy in ("lru", "k-means", "dkm", "dkm-author")}
    results["stream-dkm"]["end_8"] = results["stream-dkm"]["before_1"] = 3.0
    results["stream-dkm"]["after_1"] = 0.0
    assert BY_ID["dkm-follows-a-stream"].measure(results) == BY_ID["dkm-over-samples"].measure(results) == 2.0
    assert BY_ID["dkm-before-the-jump"].measure(results) == 2.0
    assert BY_ID["dkm-author-follows-a-stream"].measure(results) == 1.0
    late = {"cartpole-100-dkm": {"late_return": 3.0}, "cartpole-100-lru": {"late_return": 2.0}}
    assert BY_ID["dkm-beats-lru"].measure(late) == 1.5
    scores = {f"{game}-mfec-{rule}": {"late_score": 0.0} for game in GAMES for rule in ("lru", "dkm-author")}
    assert BY_ID["atari-mfec"].measure(scores | {"Pong-mfec-dkm-author": {"late_score": 1.0}}) == 1


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (Control, {"explore_from": 10, "explore_until": 5}, "explore_from = 10: expected at most explore_until = 5"),
        (Control, {"learner": "tabular-q", "environment": "Pong"}, "environment = 'Pong': expected one with a grid"),
        (Stream, {"points": 1001}, "points = 1001: expected a multiple of 160"),
    ],
)
def test_a_bad_config_is_named(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_a_table_learns_at_the_rate_that_other_agents_chose(monkeypatch, tmp_path):
    rates = []

    def build(config, run, env, rate, built=control.build):
        rates.append(rate)
        return built(config, run, env, rate)

    monkeypatch.setattr(control, "build", build)
    run = TrialRun(TrialFolder(tmp_path), 0)
    assert control.trial(Control(learner="tabular-q", steps=2000), run)["late_return"] >= 8  # it cannot fall sooner
    choice = run.choices["learning_rate"]
    assert set(RATES) <= set(choice["candidates"]) == set(rates)
    assert rates[-1] == choice["chosen"]
    assert choice["scores"][choice["candidates"].index(choice["chosen"])] == max(choice["scores"])


def test_a_life_whose_last_quarter_has_no_episode_is_named(performed):
    config = Control(environment="engram/FourRoom-v0", capacity=60, neighbours=5, steps=300)  # three whole episodes
    with pytest.raises(ValueError, match="steps = 300: expected more"):
        performed(control.trial, config)
