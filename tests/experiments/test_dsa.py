import numpy as np
import pytest

import engram
from engram.experiments import dsa
from engram.experiments.dsa.comparison import Fit, Systems, along, between
from engram.lab import at_least, at_most


def configs(preset: str) -> dict:
    return {name: arm.config for name, arm in dsa.arms(dsa.experiment.presets[preset].config).items()}


def test_the_first_arm_is_the_published_tutorial():
    main = configs("laptop")["same-geometry"]
    assert (main.models, main.trials, main.steps, main.noise, main.fit) == (4, 100, 10_000, 0.05, Fit(20, 15))
    rings = configs("laptop")["ring"], configs("laptop")["topology"]
    assert [(ring.neurons, ring.steps, ring.fit) for ring in rings] == [
        (100, 2000, Fit(10, 150)),
        (100, 8000, Fit(10, 16)),
    ]
    assert configs("paper")["same-geometry"].models == 100


def test_ablations_change_what_their_names_say():
    arms = configs("laptop")
    main, averages, noiseless = (arms[name] for name in ("same-geometry", "averages", "noiseless"))
    assert arms["no-delays"].fit.n_delays == 1
    assert (main.data, averages.data, averages.noise, noiseless.noise) == ("trials", "averages", 0.05, 0.0)
    assert (arms["embeddings"].shared, arms["shared-embeddings"].shared) == (False, True)


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


def rotations(angles):
    return np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles])


def test_systems_of_two_speeds_are_told_apart_by_dynamics_and_not_by_shape():
    cloud = np.random.default_rng(0).normal(size=(20, 2))
    systems = Systems([[cloud]] * 4, [cloud] * 4, ["slow", "slow", "fast", "fast"])
    found = between(rotations([0.3, 0.31, 1.2, 1.21]), systems)
    assert found["dsa_accuracy"] == 1
    assert found["dsa_silhouette"] > 0.9
    assert found["dsa_ratio"] > 10
    assert found["procrustes_silhouette"] == pytest.approx(0, abs=1e-6)
    # Angle between rotations by a and b: a - b.
    assert found["distances"][0][2] == pytest.approx(0.9, abs=1e-4)


def test_distances_along_an_order_are_in_units_of_what_is_unrelated():
    cloud = np.random.default_rng(0).normal(size=(20, 2))
    shapes = [cloud * [1, 1 + k] for k in range(5)]
    found = along(rotations([0.2, 0.2, 0.3, 0.6, 1.2]), Systems([], shapes, [0, 1, 2, 3, None], ordered=True))
    assert found["labels"] == [0, 1, 2, 3]
    assert found["dsa_curve"] == pytest.approx([0, 0, 0.1, 0.4], abs=1e-6)
    assert found["dsa_last_jump"] == pytest.approx(3, abs=1e-3)
    assert found["procrustes_most"] < 1


def test_trained_networks_are_compared(tmp_path):
    options = {
        "everything": True,
        "flip_flop.trials": 2,
        "flip_flop.models": 2,
        "flip_flop.updates": 2,
        "flip_flop.fit.rank": 8,
    }
    results = engram.run("dsa", preset="smoke", arms=["flip-flop"], seeds=1, runs=tmp_path, progress=False, **options)
    found = results.by_seed[0]["flip-flop"]
    assert found["labels"] == ["tanh"] * 2 + ["relu"] * 2 + ["gru"] * 2
    assert -1 <= found["dsa_silhouette"] <= 1
