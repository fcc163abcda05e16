import pytest

from engram.experiments.episodic_control import claims
from engram.experiments.episodic_control.control import GAMES
from engram.experiments.episodic_control.control import Config as Control
from engram.experiments.episodic_control.stream import Stream

BY_ID = {claim.id: claim for claim in claims}


def test_what_the_claims_compute():
    of_stream = {f"{moment}_{batch}": 1.0 for moment in ("before", "after", "end") for batch in (1, 8)}
    results = {f"stream-{policy}": dict(of_stream) for policy in ("lru", "k-means", "dkm", "dkm-author")}
    results["stream-dkm"]["end_8"] = results["stream-dkm"]["before_1"] = 3.0
    results["stream-dkm"]["after_1"] = 0.0
    assert BY_ID["dkm-follows-a-stream"].measure(results) == BY_ID["dkm-beats-samples"].measure(results) == 2.0
    assert BY_ID["still-water-is-for-k-means-not-dkm"].measure(results) == 2.0
    assert BY_ID["dkm-author-follows-a-stream"].measure(results) == 1.0
    late = {"cartpole-100-dkm": {"late_return": 3.0}, "cartpole-100-lru": {"late_return": 2.0}}
    assert BY_ID["dkm-beats-lru"].measure(late) == 1.5
    scores = {f"{game}-mfec-{rule}": {"late_score": 0.0} for game in GAMES for rule in ("lru", "dkm-author")}
    assert BY_ID["atari"].measure(scores | {"Pong-mfec-dkm-author": {"late_score": 1.0}}) == 1


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (Control, {"explore_from": 10, "explore_until": 5}, "explore_from = 10: expected at most explore_until = 5"),
        (Stream, {"points": 1001}, "points = 1001: expected a multiple of 160"),
    ],
)
def test_a_bad_config_is_named(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)
