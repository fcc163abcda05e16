import numpy as np
import pytest

import engram
from engram.experiments import dsa
from engram.experiments.dsa.comparison import Fit, Systems, along, between


def configs(preset: str) -> dict:
    return {name: arm.config for name, arm in dsa.arms(dsa.experiment.presets[preset].config).items()}


def test_the_first_arm_is_the_published_tutorial():
    main = configs("laptop")["same-geometry"]
    assert (main.models, main.trials, main.steps, main.noise, main.fit) == (4, 100, 10_000, 0.05, Fit(20, 15))
    rings = configs("laptop")["ring"], configs("laptop")["topology"]
    assert [(ring.neurons, ring.steps, ring.fit) for ring in rings] == [
        (100, 2000, Fit(10, 12)),
        (100, 8000, Fit(10, 16)),
    ]
    assert configs("paper")["same-geometry"].models == 100


def test_ablations_change_what_their_names_say():
    arms = configs("laptop")
    main, averages = arms["same-geometry"], arms["averages"]
    assert arms["no-delays"].fit.n_delays == 1
    assert (main.data, averages.data, averages.noise) == ("trials", "averages", 0.05)
    assert (arms["embeddings"].shared, arms["shared-embeddings"].shared) == (False, True)


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


def test_distances_along_an_order_are_angles_to_the_first():
    cloud = np.random.default_rng(0).normal(size=(20, 2))
    shapes = [cloud * [1, 1 + k] for k in range(5)]
    found = along(rotations([0.2, 0.2, 0.3, 0.6, 1.2]), Systems([], shapes, [0, 1, 2, 3, None], ordered=True))
    assert found["labels"] == [0, 1, 2, 3]
    assert found["dsa_curve"] == pytest.approx([0, 0, 0.1, 0.4], abs=1e-6)
    assert found["dsa_unrelated"] == pytest.approx(1.0, abs=1e-6)
    assert found["dsa_last_jump"] == pytest.approx(3, abs=1e-3)
    assert found["procrustes_most"] < 1


def test_trained_networks_are_compared(tmp_path):
    results = engram.run("dsa", preset="smoke", arms=["flip-flop"], seeds=1, runs=tmp_path, progress=False)
    found = results.by_seed[0]["flip-flop"]
    assert found["labels"] == ["tanh"] * 2 + ["relu"] * 2 + ["gru"] * 2
    assert -1 <= found["dsa_silhouette"] <= 1


def test_a_forest_is_taught_where_there_are_traces():
    rng = np.random.default_rng(0)
    labels = ["slow"] * 6 + ["fast"] * 6
    raw = rng.normal(size=(12, 3)) + 5 * np.array([[label == "slow"] for label in labels])
    systems = Systems([], [rng.normal(size=(20, 2)) for _ in labels], labels, raw=raw)
    assert between(rotations(rng.uniform(size=12)), systems)["forest_accuracy"] == 1
