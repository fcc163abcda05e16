import pytest

from engram.experiments.episodic_control import arms, claims, experiment
from engram.experiments.episodic_control.control import FORMS, GAMES, OTHERS
from engram.experiments.episodic_control.control import Config as Control
from engram.experiments.episodic_control.stream import CENTRES, Stream


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in arms(config).items()}


LAPTOP = configs(experiment.presets["laptop"].config)
BY_ID = {claim.id: claim for claim in claims}


def test_the_protocol_on_small_environments():
    for size, forms in ((100, (*FORMS, *OTHERS)), (1000, ("lru", "dkm"))):
        for policy in forms:
            arm = LAPTOP[f"cartpole-{size}-{policy}"]
            assert (arm.capacity, arm.neighbours, arm.gamma, arm.steps) == (size, 11, 0.99, 40_000)
            assert (arm.epsilon, arm.explore_from, arm.explore_until) == (0.005, 500, 4000)
    rooms = LAPTOP["four-room-dkm"]
    assert (rooms.capacity, rooms.neighbours, rooms.epsilon, rooms.steps) == (60, 5, 0.1, 15_000)
    assert rooms.agents * experiment.presets["laptop"].seeds >= 12
    assert {LAPTOP[f"stream-{policy}"].points for policy in ("lru", "dkm", "dkm-author", "k-means")} == {4000}
    assert CENTRES == 32
    assert LAPTOP["cartpole-unlimited"].capacity > LAPTOP["cartpole-unlimited"].steps


def test_the_published_settings_on_atari():
    found = configs(experiment.presets["paper"].config)
    assert set(found) == {
        f"{game}-{agent}-{rule}" for game in GAMES for agent in ("mfec", "nec") for rule in ("lru", "dkm-author")
    }
    mfec, nec = found["Qbert-mfec-lru"], found["Qbert-nec-dkm-author"]
    for arm in (mfec, nec):
        assert (arm.capacity, arm.key_dim, arm.gamma, arm.steps) == (10_000, 128, 0.99, 10_000_000)
        assert (arm.explore_from, arm.explore_until) == (5000, 25_000)
    assert (mfec.neighbours, mfec.epsilon, nec.neighbours, nec.epsilon) == (11, 0.005, 50, 0.001)
    assert (nec.learning_rate, nec.learning_starts) == (7.92468721e-6, 50_000)


def test_what_the_claims_compute():
    of_stream = {f"{moment}_{batch}": 1.0 for moment in ("before", "after", "end") for batch in (1, 8)}
    results = {f"stream-{policy}": dict(of_stream) for policy in ("lru", "k-means", "dkm", "dkm-author")}
    results["stream-dkm"]["end_8"] = results["stream-dkm"]["before_1"] = 3.0
    results["stream-dkm"]["after_1"] = 0.0
    assert BY_ID["dkm-follows-a-stream"].metric(results) == BY_ID["dkm-beats-samples"].metric(results) == 2.0
    assert BY_ID["still-water-is-for-k-means-not-dkm"].metric(results) == 2.0
    assert BY_ID["dkm-author-follows-a-stream"].metric(results) == 1.0
    late = {"cartpole-100-dkm": {"late_return": 3.0}, "cartpole-100-lru": {"late_return": 2.0}}
    assert BY_ID["dkm-beats-lru"].metric(late) == 1.5
    scores = {f"{game}-mfec-{rule}": {"late_score": 0.0} for game in GAMES for rule in ("lru", "dkm-author")}
    assert BY_ID["atari"].metric(scores | {"Pong-mfec-dkm-author": {"late_score": 1.0}}) == 1


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
