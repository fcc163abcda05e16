import numpy as np
import pytest
from torch import nn

import engram
from engram.experiments.dsa import experiment, measured
from engram.experiments.dsa.comparison import Systems, along, between, trial
from engram.experiments.dsa.simulated import SameGeometry


def rotations(angles):
    return np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles])


def test_systems_of_two_speeds_are_told_apart_by_dynamics_and_not_by_shape():
    cloud = np.random.default_rng(0).normal(size=(20, 2))
    systems = Systems([[cloud]] * 4, [cloud] * 4, ["slow", "slow", "fast", "fast"])
    result = between(rotations([0.3, 0.31, 1.2, 1.21]), systems)
    assert result["dsa_accuracy"] == 1
    assert result["dsa_silhouette"] > 0.9
    assert result["dsa_ratio"] > 10
    assert result["procrustes_silhouette"] == pytest.approx(0, abs=1e-6)
    # Angle between rotations by a and b: a - b.
    assert result["distances"][0][2] == pytest.approx(0.9, abs=1e-4)


def test_distances_along_an_order_are_angles_to_the_first():
    cloud = np.random.default_rng(0).normal(size=(20, 2))
    shapes = [cloud * [1, 1 + k] for k in range(5)]
    result = along(rotations([0.2, 0.2, 0.3, 0.6, 1.2]), Systems([], shapes, [0, 1, 2, 3, None], ordered=True))
    assert result["labels"] == [0, 1, 2, 3]
    assert result["dsa_curve"] == pytest.approx([0, 0, 0.1, 0.4], abs=1e-6)
    assert result["dsa_unrelated"] == pytest.approx(1.0, abs=1e-6)
    assert result["dsa_last_jump"] == pytest.approx(3, abs=1e-3)
    assert result["procrustes_most"] < 1


def test_a_spread_tells_systems_apart_by_their_noise_and_whatever_its_order():
    cloud = np.random.default_rng(0).normal(size=(20, 2))
    spreads = np.log([[1.0, 1.0], [1.1, 1.0], [3.0, 1.0], [3.2, 1.0]])
    systems = Systems([], [cloud] * 4, ["still", "still", "noisy", "noisy"], spreads=spreads)
    result = between(rotations([0.3] * 4), systems)
    assert result["spread_silhouette"] > 0.85
    assert "spread_silhouette" not in between(rotations([0.3] * 4), systems._replace(spreads=None))


def test_spreads_of_simulated_systems_are_those_about_the_means_of_conditions(new_run):
    few = SameGeometry(models=2, trials=40, steps=200)
    systems = few.systems(new_run())
    for trials, spread in zip(systems.activity, systems.spreads, strict=True):
        left, right = np.split(np.array(trials), 2)
        about = np.concatenate([half - half.mean(0) for half in (left, right)]).reshape(-1, 2)
        expected = np.linalg.eigvalsh(np.cov(about.T, bias=True) * len(about))[::-1]
        assert np.exp(2 * spread) == pytest.approx(expected)


def test_trained_networks_are_compared(tmp_path):
    results = engram.run("dsa", preset="smoke", arms=["flip-flop"], seeds=1, runs=tmp_path, progress=False)
    (result,) = results.values("flip-flop")
    assert result["labels"] == ["tanh"] * 2 + ["relu"] * 2 + ["gru"] * 2
    assert -1 <= result["dsa_silhouette"] <= 1
    results.trials[0].load(nn.GRU(3, 64), "gru-1")


def test_a_forest_is_taught_where_there_are_traces():
    rng = np.random.default_rng(0)
    labels = ["slow"] * 6 + ["fast"] * 6
    raw = rng.normal(size=(12, 3)) + 5 * np.array([[label == "slow"] for label in labels])
    systems = Systems([], [rng.normal(size=(20, 2)) for _ in labels], labels, raw=raw)
    assert between(rotations(rng.uniform(size=12)), systems)["forest_accuracy"] == 1


@pytest.mark.parametrize("battery", ["same-geometry", "embeddings", "rules"])
def test_registered_shapes_do_what_those_of_the_experiment_do(battery, performed):
    """A measure is compared by the experiment's own loop, on its systems."""
    arms = experiment.arms("smoke")
    usual, _ = performed(trial, arms[battery].config)
    base = experiment.base("smoke", "measures")
    for name in ("procrustes", "cka"):
        config = measured.Measured(**{**vars(base), "measure": name, "battery": battery})
        scores, _ = performed(measured.trial, config)
        assert scores == {key: usual[f"{name}_{key}"] for key in scores}
