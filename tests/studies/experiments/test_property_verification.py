import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from engram.lab.trial.folder import TrialFolder
from engram.lab.trial.loop import TrialRun
from engram.rules.synaptic import competitive
from engram.studies.experiments.property_verification import patterns
from engram.studies.experiments.property_verification.engines import questions
from engram.studies.experiments.property_verification.networks import data_set, random_network, trained
from engram.studies.experiments.property_verification.radii import DECAYS, Radii, drawn_images, hebbian_layer, trial
from engram.studies.experiments.property_verification.regions import TESTED, Data, polygon
from engram.tasks.collision_advice import manoeuvre_costs
from engram.tasks.data import LabelledImages
from engram.verify import Box, relaxed_region


def test_a_polygon_has_the_area_of_its_region():
    shares = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        region = relaxed_region(random_network("2-4-2", rng), np.zeros(2), Box([-3, -3], [3, 3]), rng=rng)
        x, y = polygon(region).T
        area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
        share, low, high = region.volume_fraction(50_000, rng)
        assert 36 * low - 1e-9 <= area <= 36 * high + 1e-9
        shares.append(share)
    assert any(0 < share < 1 for share in shares)


def test_the_same_read_out_reads_both_layers_well():
    X, y = load_digits(return_X_y=True)
    X, rng = X / 16, np.random.default_rng(0)
    W, b = hebbian_layer(X[:1000], 64, rng)
    assert np.allclose(np.linalg.norm(W, axis=1), 1)
    for hidden in ((W, b), None):
        net = trained((64, 64, 10), X[:1000], y[:1000], 5, torch.Generator().manual_seed(0), hidden=hidden)
        assert (net(X[1000:]).argmax(1) == y[1000:]).mean() > 0.8
        if hidden is not None:
            assert np.array_equal(net.weights[0], W)


def test_what_is_asked_about_manoeuvres_is_true_of_their_costs():
    rng = np.random.default_rng(0)
    (far, limit), (ahead, better) = questions()
    clear = manoeuvre_costs(rng.uniform(far.low, far.high, (20_000, 5)))[:, 0]
    assert 0.5 * limit.d[0] < clear.max() < limit.d[0]
    costs = manoeuvre_costs(rng.uniform(ahead.low, ahead.high, (20_000, 5)))
    assert ((costs @ np.vstack([either.C for either in better.properties]).T).min(1) < -0.3).all()


def test_training_stops_when_it_is_enough():
    X, y, _, _ = data_set("moons", np.random.default_rng(0))
    seen = []
    trained(
        (2, 4, 2), X, y, 50, torch.Generator().manual_seed(0), enough=lambda net: len(seen) >= 3 or seen.append(net)
    )
    assert len(seen) == 3


@pytest.mark.parametrize(("name", "inputs", "classes"), [("moons", 2, 2), ("iris", 4, 3), ("digits", 8, 10)])
def test_data_are_between_0_and_1(name, inputs, classes):
    X, y, test, labels = data_set(name, np.random.default_rng(0))
    assert X.shape[1] == inputs
    assert len(np.unique(y)) == len(np.unique(labels)) == classes
    assert min(X.min(), test.min()) == 0
    assert max(X.max(), test.max()) == 1


def test_regions_around_frequent_patterns_contain_images_of_their_class(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    monkeypatch.setattr(patterns, "TRAIN", 500)
    monkeypatch.setattr(patterns, "SIZES", (64, 5, 4, 4, 10))  # the published sizes take a minute
    halves = rng.uniform(size=(600, 2))  # brightness of the upper and the lower one
    images = (255 * np.repeat(halves, 4, 1)[:, :, None] * rng.uniform(size=(600, 8, 8))).astype(np.uint8)
    labels = (halves[:, 0] > halves[:, 1]).astype(np.uint8)
    monkeypatch.setattr(patterns, "load", lambda name, split: LabelledImages(images, labels))
    run = TrialRun(TrialFolder(tmp_path), 0)
    result = patterns.trial(patterns.Patterns(inputs=2, epochs=2, nodes=1), run)
    for method in ("direct", "structural"):
        assert patterns.FLAT <= result[f"log_volume_{method}"] <= 1e-6, "the box of all images has volume 1"
        assert 0 < result[f"width_{method}"] <= 1
        assert 1 <= result[f"support_{method}"] <= len(images), "the image itself, if its slack leaves it inside"
    assert result["patterns"] >= 2
    assert abs(result["log_volume_gain"]) < -patterns.FLAT


def test_a_cold_soft_competition_is_the_hard_one():
    X = np.random.default_rng(0).uniform(size=(50, 6))
    hard, cold, warm = (
        hebbian_layer(X, 4, np.random.default_rng(1), rule)
        for rule in (None, competitive(temperature=1e-6), competitive(temperature=0.5))
    )
    np.testing.assert_allclose(hard[0], cold[0], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(warm[0], axis=1), 1.0)
    assert abs(warm[0] - hard[0]).max() > 0.1


def test_images_to_train_on_for_validation_and_for_the_test_are_each_others_rest():
    parts = drawn_images("digits", np.random.default_rng(0))
    assert [len(X) for X, _ in parts] == [len(y) for _, y in parts] == [1000, 200, 597]
    images = np.concatenate([np.c_[X, y] for X, y in parts])
    expected = np.c_[load_digits().data / 16, load_digits().target]
    np.testing.assert_array_equal(images[np.lexsort(images.T)], expected[np.lexsort(expected.T)])


def test_the_decay_is_the_one_of_the_largest_radii_of_those_as_accurate(tmp_path):
    run = TrialRun(TrialFolder(tmp_path), 0)
    result = trial(Radii(training="decay", epochs=2, hidden=8), run)
    choice = run.choices["weight_decay"]
    assert set(DECAYS) <= set(choice["candidates"])
    scores = dict(zip(choice["candidates"], choice["scores"], strict=True))
    assert scores[choice["chosen"]] == max(scores.values()) > 0
    assert 0 < result["radius"] < 0.5


@pytest.mark.parametrize("name", TESTED)
def test_there_are_no_more_regions_than_test_inputs(name):
    assert len(data_set(name, np.random.default_rng(0))[2]) == TESTED[name]
    with pytest.raises(ValueError, match=f"inputs = {TESTED[name] + 1}: expected at most {TESTED[name]}"):
        Data(data=name, inputs=TESTED[name] + 1)
