import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from engram.studies.experiments.hebbian_cnn import Config, build, experiment, foreign_gradient, read, receptive_fields
from engram.studies.experiments.hebbian_cnn import picture as png

PAPER = experiment.arms("published")["pruned"].config


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_published_network_has_the_published_sizes_and_rates():
    net = build(PAPER, 3, seeded())
    assert [tuple(layer.weight.shape) for layer in net] == [(100, 3, 5, 5), (196, 100, 3, 3), (400, 196, 3, 3)]
    assert [None if layer.connections is None else layer.connections.shape[1] for layer in net] == [None, 9, 18]
    places = [28**2, 12**2, 4**2]
    # Published rates are of sums over a batch of 100.
    rates = [layer.lr * len(layer.weight) / (100 * n) for layer, n in zip(net, places, strict=True)]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 1e-3], rtol=0.02)
    assert (PAPER.epochs, PAPER.burn_in, PAPER.threshold_rate) == (20, 201, 3.0)


def test_untrained_filters_stay_while_thresholds_adapt():
    arms = experiment.arms("laptop")
    trained, control = (build(arms[name].config, 3, seeded()) for name in ("pruned", "pruned-untrained"))
    images = torch.randn(20, 3, 32, 32, generator=seeded(1))
    before = [layer.weight.clone() for layer in control]
    for layer in (*trained, *control):
        layer.burn_in = 0
    trained(images)
    control(images)
    for initial, learned, still in zip(before, trained, control, strict=True):
        assert torch.equal(learned.mask, still.mask)
        assert torch.equal(initial, still.weight)
        assert not torch.equal(initial, learned.weight)
        assert still.threshold.theta.any()


def test_a_leak_between_layers_would_be_seen():
    net = build(replace(Config(), width=0.05), 3, seeded())
    images = torch.randn(10, 3, 32, 32, generator=seeded(1))
    before = [layer.weight.clone() for layer in net]
    assert foreign_gradient(net, images) == 0
    assert all(torch.equal(layer.weight, initial) for layer, initial in zip(net, before, strict=True))
    net[0].train = lambda mode=True: net[0]  # it stays in eval mode, where gradients pass
    net[0].training = False
    assert foreign_gradient(net, images) > 0


def test_receptive_fields_are_what_excites_a_filter_through_those_below():
    net = build(replace(Config(), width=0.05), 3, seeded()).double()
    fields = receptive_fields(net)
    assert [field.shape[2] for field in fields] == [5, 10, 20]
    image = torch.randn(1, 3, 10, 10, generator=seeded(1), dtype=torch.float64)
    below = torch.nn.functional.avg_pool2d(torch.conv2d(image, net[0].weight), 2)
    response = torch.conv2d(below, net[1].weight)[0, :, 0, 0]
    by_field = (fields[1] * image).sum((1, 2, 3)) / 4
    torch.testing.assert_close(by_field, response)


def test_filters_become_pictures():
    address = png(torch.stack([torch.full((3, 4, 4), -1.0), *torch.zeros(4, 3, 4, 4)]))
    image = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    assert image.size == (15, 10)
    pixels = np.asarray(image)
    assert (pixels[:4, :4] == 0).all()
    assert (pixels[5:9, :4] == 128).all()
    assert (pixels[4] == 255).all()


def test_digits_are_enlarged_and_those_of_the_test_are_others():
    smoke = experiment.arms("smoke")["pruned"].config
    (train, labels), (test, asked) = read(smoke, "train"), read(smoke, "test")
    assert train.shape == (200, 1, 32, 32)
    assert test.shape == (100, 1, 32, 32)
    assert train.max() == 1
    assert (train[:, :, ::4, ::4].repeat(4, 2).repeat(4, 3) == train).all()
    assert len(labels) == 200
    assert len(asked) == 100
    assert not (train[:, None] == test[None]).all((2, 3, 4)).any()


@pytest.mark.needs_data("cifar10-jpeg/test.parquet")
def test_photographs_are_channels_first_and_balanced():
    images, labels = read(Config(), "test")
    assert images.shape == (2000, 3, 32, 32)
    assert (images.min(), images.max()) == (0, 1)
    assert set(np.bincount(labels)) == {200}
