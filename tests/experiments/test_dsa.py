import engram
from engram.experiments import dsa
from engram.experiments.dsa import Config, arms
from engram.lab import at_least, at_most


def configs(config: object) -> dict:
    return {name: arm.config for name, arm in arms(config).items()}


LAPTOP = dsa.experiment.presets["laptop"].config


def test_the_first_arm_is_the_published_tutorial():
    main = configs(LAPTOP)["same-geometry"]
    assert (main.models, main.trials, main.steps, main.noise, main.n_delays, main.rank) == (
        4,
        100,
        10_000,
        0.05,
        20,
        15,
    )
    rings = configs(LAPTOP)["ring"], configs(LAPTOP)["topology"]
    assert [(ring.neurons, ring.steps, ring.n_delays, ring.rank) for ring in rings] == [
        (100, 2000, 10, 150),
        (100, 8000, 10, 16),
    ]
    assert dsa.experiment.presets["paper"].config.models == 100


def test_the_criteria_are_those_of_the_protocol():
    holds = {claim.id: claim.holds for claim in dsa.claims}
    assert holds["dsa-tells-dynamics"] == at_least(0.6)
    assert holds["procrustes-does-not"] == holds["cka-does-not"] == at_most(0.1)
    assert holds["nearest-neighbour"] == at_least(1)
    assert holds["nearest-shape"] == at_most(0.6)
    assert holds["embeddings"] == at_least(2)
    assert holds["deformation"] == at_most(0.3)
    assert holds["learning-rules"] == at_least(0.6)
    assert holds["learning-rules-geometry"] == at_least(0.1)


def test_an_arm_is_itself_whatever_the_others_are():
    other = configs(Config(neurons=40, networks=2, views=3, updates=7, everything=False))
    same = [arm for arm in other if other[arm] == configs(Config())[arm]]
    assert same == ["same-geometry", "no-delays", "averages", "noiseless"]


def test_trained_networks_are_compared(tmp_path):
    results = engram.run(
        "dsa", preset="smoke", arms=["flip-flop"], seeds=1, runs=tmp_path, progress=False, everything=True
    )
    found = results.by_seed[0]["flip-flop"]
    assert found["labels"] == ["tanh"] * 3 + ["relu"] * 3 + ["gru"] * 3
    assert -1 <= found["dsa_silhouette"] <= 1
