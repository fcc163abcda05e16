import numpy as np
import pytest
from torch import nn

import engram
from engram.analysis import linear_cka
from engram.studies.experiments.dsa import driven, experiment, measured, networks
from engram.studies.experiments.dsa.comparison import Fit, Systems, along, between, trial
from engram.studies.experiments.dsa.simulated import SameGeometry, Topology, memory
from engram.tasks import learning_rule_traces


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
    assert result["shown"]["distances"][0][2] == pytest.approx(0.9, abs=1e-4)


def test_distances_along_an_order_are_angles_to_the_first():
    cloud = np.random.default_rng(0).normal(size=(20, 2))
    shapes = [cloud * [1, 1 + k] for k in range(5)]
    operators, systems = rotations([0.2, 0.2, 0.3, 0.6, 1.2]), Systems([], shapes, [0, 1, 2, 3, None], ordered=True)
    result = along(operators, systems)
    assert result["labels"] == [0, 1, 2, 3]
    assert result["dsa_curve"] == pytest.approx([0, 0, 0.1, 0.4], abs=1e-6)
    assert result["dsa_unrelated"] == pytest.approx(1.0, abs=1e-6)
    assert result["dsa_last_jump"] == pytest.approx(3, abs=1e-3)
    assert result["procrustes_most"] < 1
    published = along(operators, systems._replace(published=2))
    assert published["dsa_most"] == pytest.approx(0.1, abs=1e-6)
    assert published["dsa_widest"] == result["dsa_widest"] == result["dsa_most"]


def test_a_spread_tells_systems_apart_by_their_noise_and_whatever_its_order():
    cloud = np.random.default_rng(0).normal(size=(20, 2))
    spreads = np.log([[1.0, 1.0], [1.1, 1.0], [3.0, 1.0], [3.2, 1.0]])
    systems = Systems([], [cloud] * 4, ["still", "still", "noisy", "noisy"], spreads=spreads)
    result = between(rotations([0.3] * 4), systems)
    assert result["spread_silhouette"] > 0.85
    assert "spread_silhouette" not in between(rotations([0.3] * 4), systems._replace(spreads=None))


def test_a_relative_spread_does_not_see_the_gain_of_a_system():
    cloud = np.random.default_rng(0).normal(size=(20, 2))
    spreads = np.log([[1.0, 1.0], [1.1, 1.0], [3.0, 1.0], [3.2, 1.0]])
    systems = Systems([], [cloud] * 4, ["round", "round", "long", "long"], spreads=spreads)
    plain = between(rotations([0.3] * 4), systems)
    gained = between(rotations([0.3] * 4), systems._replace(spreads=spreads + np.log([[0.5], [2], [1], [0.6]])))
    assert gained["relative_spread_silhouette"] == pytest.approx(plain["relative_spread_silhouette"])
    assert gained["relative_spread_silhouette"] > 0.85
    assert gained["spread_silhouette"] < 0.7


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
    assert result["shown"]["labels"] == ["tanh"] * 2 + ["relu"] * 2 + ["gru"] * 2
    assert -1 <= result["dsa_silhouette"] <= 1
    results.trials[0].load(nn.GRU(3, 64), "gru-1")


def test_a_forest_is_taught_where_there_are_traces():
    rng = np.random.default_rng(0)
    labels = ["slow"] * 6 + ["fast"] * 6
    raw = rng.normal(size=(12, 3)) + 5 * np.array([[label == "slow"] for label in labels])
    systems = Systems([], [rng.normal(size=(20, 2)) for _ in labels], labels, raw=raw)
    result = between(rotations(rng.uniform(size=12)), systems)
    assert result["forest_accuracy"] == result["raw_accuracy"] == 1
    assert result["euclidean_accuracy"] < 1  # shapes are noise


def test_the_angle_of_cka_is_that_whose_cosine_it_is():
    rng = np.random.default_rng(0)
    clouds = [rng.normal(size=(20, 2)) for _ in range(4)]
    result = between(rotations([0.3] * 4), Systems([], clouds, ["a", "a", "b", "b"]))
    angles = np.arccos([[linear_cka(x, y) for y in clouds] for x in clouds])
    inside = (angles[0, 1] + angles[2, 3]) / 2
    assert result["cka_angle_ratio"] == pytest.approx(angles[:2, 2:].mean() / inside)


def test_stages_of_closing_a_ring_and_learning_rules_differ_by_nothing_else(new_run):
    stages = Topology(neurons=10, steps=100).systems(new_run())
    assert all(np.abs(shape[0] - stages.shapes[0][0]).max() < 0.05 for shape in stages.shapes)
    seen = []

    def traces(*args, order, **options):
        seen.append(order)
        return learning_rule_traces(*args, order=order, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "learning_rule_traces", traces)
        networks.Rules(networks=1, observations=20).systems(new_run())
    assert len(seen) == 4
    assert all(order is seen[0] for order in seen)


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


def test_recordings_of_driven_systems_are_what_they_say():
    config = driven.Driven(recordings=2, steps=200, noise=0.0, units=8, n_delays=5)
    recorded = driven.Recorded(config, np.random.default_rng(0))
    assert recorded.systems == [(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0), (1, 1), (1, 1)]
    again = driven.Recorded(config, np.random.default_rng(0))
    for (y, u), (other_y, other_u) in zip(recorded, again, strict=True):
        np.testing.assert_array_equal(y, other_y)
        np.testing.assert_array_equal(u, other_u)
        assert y.shape == (200, 2)
        assert abs(np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]) < 0.25
    mixed = driven.Recorded(driven.Driven(**{**vars(config), "mixed": True}), np.random.default_rng(0))
    smoothness = [np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1] for u in mixed.u]
    assert min(smoothness[1::2]) > 0.5
    assert max(smoothness[::2]) < 0.3


def test_smoothed_inputs_are_those_of_a_filter():
    u = np.random.default_rng(0).normal(size=(50, 2))
    expected = 0.25 * u[10] + 0.75 * driven.smoothed(u, 0.75)[9]
    np.testing.assert_allclose(driven.smoothed(u, 0.75)[10], expected)
    np.testing.assert_allclose(driven.smoothed(u, 0.0), u)


def test_silhouettes_of_driven_systems_are_of_what_each_distance_compares():
    labels = np.array([(a, b) for a in range(2) for b in range(2) for _ in range(2)])
    of_A, of_B = (np.abs(labels[:, k, None] - labels[:, k]).astype(float) for k in (0, 1))
    assert driven.silhouettes([of_A + of_B, of_A, of_B], labels) == [1.0, 1.0, 1.0]
    assert driven.silhouettes([of_A, of_B], labels)[1] < 0.1


def test_a_rank_is_stable_if_all_recordings_are(monkeypatch):
    config = driven.Driven(steps=300, n_delays=4, rank=5)
    u = np.random.default_rng(0).normal(size=(2, 300, 1))
    radii = {5: (0.9, 1.1), 4: (1.2, 0.9), 3: (0.9, 0.8)}
    asked = []

    def fitted(y, u, n_delays, rank, coordinates):
        asked.append(rank)
        radius = radii[rank][int(y is recordings[1])]
        return driven.DrivenOperators(np.array([[radius]]), np.ones((1, 1)))

    recordings = list(np.random.default_rng(1).normal(size=(2, 300, 2)))
    monkeypatch.setattr(driven, "fit", fitted)
    assert driven.stable_rank(recordings, list(u), config) == 3
    assert set(asked) == {5, 4, 3}


def test_without_noise_all_spreads_are_equal_and_finite(new_run):
    spreads = SameGeometry(models=2, trials=2, steps=50, noise=0.0).systems(new_run()).spreads
    assert np.isfinite(spreads).all()
    assert np.ptp(spreads) == 0


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (SameGeometry, {"fit": Fit(n_delays=5)}, "fit.rank = 15: expected at most fit.n_delays = 5 times 2"),
        (networks.FlipFlop, {"fit": Fit(n_delays=1, rank=20)}, "fit.rank = 20: expected at most .* times 15"),
        (networks.FlipFlop, {"units": 6}, "fit.rank = 20: expected at most fit.n_delays = 5 times 3"),
    ],
)
def test_a_rank_above_the_number_of_delayed_features_is_named_before_any_training(config, options, message):
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_the_memory_of_systems_with_the_same_geometry_is_that_of_their_trajectories(new_run):
    config = SameGeometry(models=2, trials=4, steps=100)
    size = sum(x.nbytes for trials in config.systems(new_run()).activity for x in trials)
    assert memory(config) == 0.5e9 + 3 * size
    assert experiment.arms("published")["same-geometry"].memory == pytest.approx(3.4e9, rel=0.02)


def test_a_method_without_input_normal_coordinates_tells_nothing_apart(monkeypatch, tmp_path):
    fitted = driven.fit

    def unstable(y, u, n_delays, rank, coordinates="input-normal", **options):
        if (coordinates, options) == ("input-normal", {}):
            raise ValueError("expected a stable system")
        return fitted(y, u, n_delays, rank, coordinates, **options)

    monkeypatch.setattr(driven, "fit", unstable)
    systems, surrogates = engram.run(
        experiment, preset="smoke", arms=["driven", "driven-surrogates"], seeds=1, jobs=1, runs=tmp_path, progress=False
    ).trials
    assert systems.state == surrogates.state == "finished", (systems.message, surrogates.message)
    assert systems.result["n4sid_joint"] == systems.result["n4sid_inputs"] == 0
    assert systems.result["regression_normal_joint"] != 0
    assert surrogates.result["input_normal_filtered"] == 0
    assert surrogates.result["filtered"] != 0
