from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from torch import nn

import engram
from engram.lab.trial.unrecorded import UnrecordedRun
from engram.rules import SoftHebbConv2d, quadrants
from engram.studies.experiments.soft_hebbian_cnn import Config, experiment, read
from engram.studies.experiments.soft_hebbian_cnn.networks import build, filters_of, in_layout, state_of, train_layers
from engram.studies.experiments.soft_hebbian_cnn.readouts import features, ridge, train_with_dropout

PAPER = experiment.arms("published")["softhebb"].config
SMOKE = {name: arm.config for name, arm in experiment.arms("smoke").items()}
LAYERED = [name for name in SMOKE if name != "pixels"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unrecorded(seed=0):
    return UnrecordedRun(seeded(seed), np.random.default_rng(seed))


def data_of(config, run):
    images, labels = read(config, "train")
    return in_layout(images, run), torch.from_numpy(labels.astype("int64"))


def test_the_published_network_has_the_published_sizes_and_settings():
    net = build(PAPER, 3, 1.0, seeded())
    layers = filters_of(net)
    assert [tuple(layer.weight.shape) for layer in layers] == [(96, 3, 5, 5), (384, 96, 3, 3), (1536, 384, 3, 3)]
    assert [layer.weight.numel() for layer in layers] == [7200, 331_776, 5_308_416]
    assert [layer.lr for layer in layers] == [0.08, 0.005, 0.01]
    assert [round(1 / layer.temperature, 3) for layer in layers] == [1.0, 0.65, 0.25]
    assert [layer.activation_power for layer in layers] == [0.7, 1.4, 1.0]
    assert [layer.rate_power for layer in layers] == [0.5] * 3
    assert (PAPER.train_images, PAPER.batch_size, PAPER.dropout_epochs, PAPER.images) == (50_000, 10, 50, "cifar10")


@pytest.mark.parametrize("arm", LAYERED)
def test_all_networks_have_one_architecture(arm):
    config = replace(SMOKE[arm], width=0.1)
    activity = torch.randn(2, 3, 32, 32, generator=seeded())
    shapes = []
    for block in build(config, 3, 1.0, seeded()).eval():
        activity = block(activity)
        shapes.append(tuple(activity.shape[1:]))
    assert shapes == [(9, 16, 16), (38, 8, 8), (153, 4, 4)]


@pytest.mark.parametrize("arm", LAYERED)
def test_filters_learn_unless_they_are_random(arm):
    config, run = SMOKE[arm], unrecorded()
    images, labels = data_of(config, run)
    net = train_layers(config, images, labels, 1.0, run)
    assert not net.training
    start = filters_of(build(config, 1, 1.0, seeded()))
    same = [torch.equal(layer.weight, first.weight) for layer, first in zip(filters_of(net), start, strict=True)]
    assert same == [arm == "random"] * 3
    state = state_of(net, images[:10])
    assert all(0 <= state[f"unused_{number}"] < 1 for number in (1, 2, 3))
    again = train_layers(config, images, labels, 1.0, unrecorded())
    for one, other in zip(net.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_the_rates_of_hard_competition_fall_to_0_and_moments_are_those_of_all_images():
    config, run, rates = replace(SMOKE["hardhebb"], moments="last"), unrecorded(), []

    class Watched(UnrecordedRun):
        def steps(self, total, /, **state):
            for step in range(total):
                yield step
                rates.append(filters_of(state["net"])[0].lr)

    images, labels = data_of(config, run)
    last = train_layers(config, images, labels, 2.0, Watched(seeded(), np.random.default_rng(0)))
    np.testing.assert_allclose(rates, [0.1 * (1 - step / 6) for step in range(6)])
    whole = train_layers(replace(config, moments="all"), images, labels, 2.0, unrecorded())
    for layer, other in zip(filters_of(whole), filters_of(last), strict=True):
        assert torch.equal(layer.weight, other.weight)
    torch.testing.assert_close(filters_of(whole)[0].norm.running_mean, images.mean((0, 2, 3)))
    assert not torch.allclose(filters_of(last)[0].norm.running_mean, images.mean((0, 2, 3)))


def test_a_readout_is_ridge_regression_of_standardised_features():
    x = torch.randn(60, 5, generator=seeded()) * torch.tensor([1.0, 2, 3, 4, 5]) + 1
    y = (x[:, 0] + 0.3 * x[:, 1] > 1).long()
    readout = ridge(x[:40], y[:40], x[40:], y[40:])
    scaled = ((x - x[:40].mean(0)) / x[:40].std(0)).numpy()
    reference = RidgeClassifier(alpha=readout.penalty).fit(scaled[:40], y[:40])
    assert readout.accuracy == pytest.approx(reference.score(scaled[40:], y[40:]))
    first = ((x - x[:20].mean(0)) / x[:20].std(0)).numpy()
    by_penalty = {
        penalty: RidgeClassifier(alpha=penalty).fit(first[:20], y[:20]).score(first[20:40], y[20:40])
        for penalty in (1e0, 1e1, 1e2, 1e3)
    }
    assert readout.validated == pytest.approx(max(by_penalty.values()))


def test_features_are_quadrants_of_each_layer():
    net = build(SMOKE["softhebb"], 1, 1.0, seeded()).eval()
    images = torch.rand(25, 1, 32, 32, generator=seeded())  # more than one batch
    by_layer = features(net, images)
    assert [part.shape[1] for part in by_layer] == [4 * len(layer.weight) for layer in filters_of(net)]
    torch.testing.assert_close(by_layer[2], quadrants(net(images)))


def test_the_published_readout_learns():
    net = nn.Sequential(nn.Flatten())
    labels = torch.arange(200) % 2
    images = torch.randn(200, 1, 4, 4, generator=seeded()) + 6 * labels.view(-1, 1, 1, 1) - 3
    assert train_with_dropout(net, (images[:150], labels[:150]), (images[150:], labels[150:]), 60, unrecorded()) > 0.9


@pytest.mark.parametrize("tuning_images", [20, 60])
def test_layers_that_were_validated_after_all_images_are_those_read_out(tuning_images, tmp_path):
    config = replace(SMOKE["softhebb"], tuning_images=tuning_images)
    settings = {"preset": "smoke", "arms": ["softhebb"], "tuning_images": tuning_images, "progress": False}
    results = engram.run("soft-hebbian-cnn", **settings, runs=tmp_path)
    (trial,) = results.trials
    net = trial.load(build(config, 1, 1.0, seeded())).eval()
    images, labels = data_of(config, unrecorded())
    validated = ridge(features(net, images)[-1], labels).validated
    assert (validated == max(trial.choices["rate"]["scores"])) == (tuning_images == config.train_images)


def test_a_config_is_that_of_its_paper():
    assert isinstance(build(Config(), 3, 1.0, seeded())[0][0], SoftHebbConv2d)
    arms = experiment.arms("laptop")
    assert arms["no-losers"].config == replace(Config(), anti_hebbian=False)
    assert arms["instar"].config.whitened


def test_a_batch_is_no_larger_than_what_is_learned_from():
    with pytest.raises(ValueError, match="batch_size = 30: expected at most train_images = 60 and tuning_images = 20"):
        Config(train_images=60, tuning_images=20, batch_size=30)
