import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier
from torch.nn import functional

from engram.rules import (
    AdaptiveThreshold,
    HebbianConv2d,
    HebbianFeatures,
    HebbianLinear,
    ZCAWhitening,
    fixed_fan_in,
    hebbian_loss,
    hebbian_update,
    k_winners,
    layer_features,
    per_sample_standardize,
    quadrants,
    triangle,
)
from engram.rules.hebbian_conv import passes
from engram.rules.hebbian_conv.passes import fast_pass, plain_pass
from engram.rules.hebbian_conv.update import RULES

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0, dtype=F64):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def by_hand(x, y, weight, rule):
    """Sum over patches and places, written down."""
    patches, rows = functional.unfold(x, weight.shape[2:]), y.flatten(2)
    decay = {"hebb": 0 * rows, "instar": rows, "oja": rows**2}[rule].sum((0, 2))
    grown = torch.einsum("bnl,bdl->nd", rows, patches) - decay[:, None] * weight.flatten(1)
    return grown.view_as(weight)


@pytest.mark.parametrize("rule", RULES)
def test_update_and_gradient_are_the_sum_over_patches(rule):
    x, weight = drawn(4, 3, 9, 9), drawn(6, 3, 3, 3, seed=1).requires_grad_()
    y = 2 * torch.rand(4, 6, 7, 7, generator=seeded(2), dtype=F64)
    expected = by_hand(x, y, weight.detach(), rule)
    torch.testing.assert_close(hebbian_update(x, y, weight.detach(), rule=rule), expected, atol=1e-10, rtol=0)
    hebbian_loss(torch.conv2d(x, weight), y, weight, rule=rule).backward()
    torch.testing.assert_close(-weight.grad, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("rule", RULES)
def test_a_linear_layer_is_a_convolution_of_one_pixel(rule):
    x, y, weight = drawn(5, 4), drawn(5, 3, seed=1), drawn(3, 4, seed=2)
    pixel = hebbian_update(x[..., None, None], y[..., None, None], weight[..., None, None], rule=rule)
    torch.testing.assert_close(hebbian_update(x, y, weight, rule=rule), pixel[..., 0, 0])


def test_strides_and_padding_are_those_of_the_convolution():
    x, weight = drawn(2, 3, 9, 9), drawn(4, 3, 3, 3, seed=1).requires_grad_()
    z = torch.conv2d(x, weight, stride=2, padding=1)
    y = torch.rand(z.shape, generator=seeded(2), dtype=F64)
    hebbian_loss(z, y, weight).backward()
    torch.testing.assert_close(hebbian_update(x, y, weight.detach(), stride=2, padding=1), -weight.grad)


@pytest.mark.parametrize(
    ("rule", "y", "expected"),
    [
        ("hebb", 1.0, (0.7, 1.0)),
        ("instar", 1.0, (0.64, 0.92)),
        ("oja", 1.0, (0.64, 0.92)),
        ("hebb", 2.0, (0.8, 1.2)),
        ("instar", 2.0, (0.68, 1.04)),
        ("oja", 2.0, (0.56, 0.88)),
    ],
)
def test_one_patch(rule, y, expected):
    x, weight = torch.tensor([[1.0, 2.0]], dtype=F64), torch.tensor([[0.6, 0.8]], dtype=F64)
    moved = weight + 0.1 * hebbian_update(x, torch.full((1, 1), y, dtype=F64), weight, rule=rule)
    torch.testing.assert_close(moved, torch.tensor([expected], dtype=F64), atol=1e-12, rtol=0)


def test_of_binary_activity_instar_and_oja_are_one_rule_bit_for_bit():
    x, weight = drawn(4, 3, 9, 9, dtype=torch.float32), drawn(6, 3, 3, 3, seed=1, dtype=torch.float32)
    y = k_winners(torch.conv2d(x, weight), 2)
    assert torch.equal(hebbian_update(x, y, weight, rule="instar"), hebbian_update(x, y, weight, rule="oja"))
    graded = k_winners(torch.conv2d(x, weight), 2, binary=False)
    assert not torch.allclose(hebbian_update(x, graded, weight), hebbian_update(x, graded, weight, rule="oja"))


def test_with_unit_norm_instar_is_hebb_of_another_rate():
    x, weight = drawn(4, 3, 9, 9), functional.normalize(drawn(6, 27, seed=1)).view(6, 3, 3, 3)
    y = k_winners(torch.conv2d(x, weight), 1)
    eta = 0.5 / y.sum((0, 2, 3)).max()
    rate = (eta / (1 - eta * y.sum((0, 2, 3)))).view(-1, 1, 1, 1)
    instar = functional.normalize((weight + eta * hebbian_update(x, y, weight)).flatten(1))
    hebb = functional.normalize((weight + rate * hebbian_update(x, y, weight, rule="hebb")).flatten(1))
    torch.testing.assert_close(instar, hebb, atol=1e-14, rtol=0)


def test_where_every_place_has_its_winner_the_sum_of_thresholds_stays():
    threshold, generator = AdaptiveThreshold(8, 1 / 8).double(), seeded()
    for _ in range(100):
        u = threshold(torch.randn(10, 8, 5, 5, generator=generator, dtype=F64) + 10)
        threshold.adapt((k_winners(u, 1) > 0).double().mean((0, 2, 3)))
    assert abs(float(threshold.theta.sum())) < 1e-5
    assert threshold.theta.abs().max() > 0.01
    threshold.adapt(torch.full((8,), 1 / 8, dtype=F64) - 1 / 8 * torch.eye(8, dtype=F64)[0])
    assert float(threshold.theta.sum()) == pytest.approx(-3 / 8, abs=1e-5)


@pytest.mark.parametrize(
    ("u", "k", "expected"),
    [([3, -1, 2, 5], 2, [1, 0, 0, 1]), ([-3, -1], 1, [0, 0]), ([2, 2], 1, [1, 0]), ([2, 3, 2, 2], 3, [1, 1, 1, 0])],
)
def test_winners(u, k, expected):
    assert k_winners(torch.tensor([u], dtype=F64), k).tolist() == [expected]


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=8), st.data())
def test_winners_are_the_largest_and_never_too_many(u, data):
    k, drives = data.draw(st.integers(1, len(u))), torch.tensor([u], dtype=F64)
    first = sorted(range(len(u)), key=lambda j: (-u[j], j))[:k]
    assert k_winners(drives, k)[0].tolist() == [float(j in first and u[j] > 0) for j in range(len(u))]
    graded = k_winners(20 * drives.T, k, dim=0, binary=False)[:, 0]
    assert graded.tolist() == [min(20.0 * max(u[j], 0), 50.0) if j in first else 0.0 for j in range(len(u))]


def test_triangle():
    assert triangle(torch.tensor([[3.0, -1.0, 2.0, 0.0]])).tolist() == [[2.0, 0.0, 1.0, 0.0]]


def network(widths=(100, 196, 400), **options):
    generator = seeded()
    layers = [
        HebbianConv2d(c, n, k, pool=2, generator=generator, **options)
        for c, n, k in zip((3, *widths), widths, (5, 3, 3), strict=False)
    ]
    return torch.nn.Sequential(*layers)


def test_shapes_of_the_published_network():
    net = network().eval()
    images, sides = drawn(2, 3, 32, 32, dtype=torch.float32), []
    for layer in net:
        z = torch.conv2d(images, layer.weight)
        images = layer(images)
        sides += [z.shape[2], images.shape[2]]
    assert sides == [28, 14, 12, 6, 4, 2]
    by_layer = layer_features(net, drawn(2, 3, 32, 32, dtype=torch.float32))
    assert [features.shape[1] for features in by_layer] == [400, 784, 1600]
    assert images.flatten(1).shape[1] == 1600
    assert [layer.weight.numel() for layer in net] == [7500, 176_400, 705_600]


def test_quadrants_of_the_last_layer_are_its_output_in_another_order():
    """So that a linear read-out of one is as good as of the other."""
    net, images = network((4, 5, 6)).eval(), drawn(40, 3, 32, 32, dtype=torch.float32)
    labels = torch.arange(40) % 3
    last, flat = layer_features(net, images)[2], net(images).flatten(1)
    assert torch.equal(last.view(40, 4, 6).transpose(1, 2).reshape(40, 24), flat)
    predicted = [RidgeClassifier().fit(x[:30], labels[:30]).predict(x[30:]) for x in (last.numpy(), flat.numpy())]
    assert (predicted[0] == predicted[1]).all()
    assert quadrants(torch.arange(9.0).view(1, 1, 3, 3)).tolist() == [[0, 1.5, 4.5, 6]]
    others = [features.mean(1) for features in layer_features(net, images)[:2]]  # standardised
    torch.testing.assert_close(others, [torch.zeros(40)] * 2, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"activity.shape = \(1, 2, 1, 4\)"):
        quadrants(torch.zeros(1, 2, 1, 4))


def test_whitened_rows_have_the_identity_as_second_moments():
    x = np.random.default_rng(0).normal(size=(200, 12)) @ np.random.default_rng(1).normal(size=(12, 12))
    white = ZCAWhitening(1e-12, standardize=False).fit_transform(x)
    np.testing.assert_allclose(white.T @ white / 200, np.eye(12), atol=1e-8)
    eps = ZCAWhitening(0.5, standardize=False).fit(x)
    values, vectors = np.linalg.eigh(x.T @ x / 200)
    np.testing.assert_allclose(eps.matrices_[0], vectors * (values + 0.5) ** -0.5 @ vectors.T)
    np.testing.assert_allclose(eps.inverse_transform(eps.transform(x)), x, atol=1e-9)
    assert eps.transform(x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("width", [4, 5])
def test_a_mirrored_fit_is_that_of_images_and_their_mirror_images(width):
    images = np.random.default_rng(0).normal(size=(300, 2, 3, width)).cumsum(3)
    mirrored = ZCAWhitening(mirror=True).fit(images)
    both = ZCAWhitening().fit(np.concatenate((images, images[..., ::-1])))
    np.testing.assert_allclose(mirrored.transform(images), both.transform(images), atol=1e-9)
    np.testing.assert_allclose(mirrored.transform(images[..., ::-1]), mirrored.transform(images)[..., ::-1], atol=1e-9)
    rows = ZCAWhitening(mirror=True, image_shape=(2, 3, width)).fit(images.reshape(300, -1))
    white = rows.transform(images.reshape(300, -1)).reshape(images.shape)
    np.testing.assert_allclose(white, mirrored.transform(images))
    standard = per_sample_standardize(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(mirrored.inverse_transform(mirrored.transform(images)), standard, atol=1e-8)


def test_a_linear_unit_finds_the_first_principal_component():
    x, weight = drawn(5000, 2) * torch.tensor([2.0, 1.0], dtype=F64), torch.tensor([[0.6, 0.8]], dtype=F64)
    for t, row in enumerate(x):
        weight = weight + hebbian_update(row[None], (row @ weight.T)[None], weight, rule="oja") / (100 + t)
    norm = float(weight.norm())
    assert 0.99 <= norm <= 1.01
    assert abs(float(weight[0, 0])) / norm > 0.99


def test_without_normalisation_instar_converges_to_the_mean_of_what_it_won():
    x, weight = drawn(50, 4), torch.zeros(1, 4, dtype=F64)
    for _ in range(2000):
        weight = weight + 0.01 * hebbian_update(x, torch.ones(50, 1, dtype=F64), weight)
    torch.testing.assert_close(weight[0], x.mean(0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("options", [{}, {"n_winners": 3}, {"binary": False, "rule": "oja"}])
def test_zeros_stay_zeros_and_filters_keep_their_length(options):
    generator = seeded()
    layer = HebbianConv2d(6, 20, 3, fan_in=5, lr=0.1, generator=generator, **options)
    before, mask = layer.weight.clone(), layer.mask
    assert (mask.flatten(1).sum(1) == 5).all()
    for _ in range(5):
        layer(torch.randn(12, 6, 8, 8, generator=generator))
    assert torch.equal(layer.weight != 0, mask.bool())
    torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), torch.ones(20), atol=1e-6, rtol=0)
    assert not torch.allclose(layer.weight, before)


def test_in_eval_mode_nothing_adapts():
    layer, images = HebbianConv2d(3, 5, 3, generator=seeded()), drawn(10, 3, 8, 8, dtype=torch.float32)
    layer(images)
    before = copy.deepcopy(layer.eval().state_dict())
    assert torch.equal(layer(images), layer(images))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    twin = HebbianConv2d(3, 5, 3).eval()
    twin.load_state_dict(before)
    assert torch.equal(twin(images), layer(images))


CASES = [
    {},
    {"activation": "wta", "rule": "hebb", "pool": 3},
    {"fan_in": 7, "pool": 2, "rule": "oja"},
    {"fan_in": 4, "activation": "wta"},
]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("options", CASES)
def test_kernels_do_what_the_definition_does(options, dtype, monkeypatch):
    monkeypatch.setattr(passes, "BLOCK", 3 * 4 * 9 * 6 * 20)  # three rows at a time
    layer = HebbianConv2d(4, 30, 3, generator=seeded(), **options).to(dtype)
    layer.threshold.theta.copy_(0.1 * drawn(30, seed=1))
    images = drawn(20, 4, 11, 8, seed=2, dtype=dtype)
    images[3] = 0.3  # of which nothing is learned
    layer.weight[1], layer.threshold.theta[1] = layer.weight[0], layer.threshold.theta[0]  # of equals the first wins
    if layer.connections is not None:
        layer.connections[1] = layer.connections[0]
    arguments = images, layer.weight, layer.threshold.theta, layer.competition, layer.connections
    plain, fast = plain_pass(*arguments), fast_pass(*arguments)
    for name, wanted, actual in zip(plain._fields, plain, fast, strict=True):
        tolerance = 1e-10 if dtype is F64 else 1e-4
        torch.testing.assert_close(actual, wanted, atol=tolerance, rtol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
    assert plain.win_rate[0] > plain.win_rate[1] == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"n_winners": 2}, {"binary": False}, {"n_winners": 2, "binary": False, "rule": "oja"}, {"rule": "hebb"}],
)
def test_a_training_step_is_threshold_winners_update_and_norm(options):
    layer = HebbianConv2d(3, 6, 3, lr=0.01, generator=seeded(), **options).double()
    images = drawn(9, 3, 8, 8)
    x, weight = per_sample_standardize(images), layer.weight.clone()
    z = torch.conv2d(x, weight)
    y = k_winners(z, layer.competition.n_winners, binary=layer.competition.binary)
    eta = 0.01 * 6 / (layer.competition.n_winners * 9 * 36)
    stepped = weight + eta * hebbian_update(x, y, weight, rule=layer.competition.rule)
    output = layer(images)
    torch.testing.assert_close(layer.weight, functional.normalize(stepped.flatten(1)).view_as(weight))
    torch.testing.assert_close(output, triangle(z))
    wins = (y > 0).double().mean((0, 2, 3))
    torch.testing.assert_close(layer.threshold.theta, 3 * (wins - layer.competition.n_winners / 6))
    torch.testing.assert_close(layer.win_rate, wins)


def layouts(x):
    """The same images in other layouts of memory."""
    yield x.contiguous(memory_format=torch.channels_last)
    yield x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    yield torch.cat((x, x), 3)[..., : x.shape[3]]


@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("options", [{}, {"fan_in": 5, "pool": 2}, {"n_winners": 2, "binary": False}], ids=repr)
@pytest.mark.parametrize("layer_layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_layout_of_memory_makes_no_difference(batch, options, layer_layout):
    x = drawn(batch, 3, 8, 8)

    def learned(images, layout=torch.contiguous_format):
        layer = HebbianConv2d(3, 6, 3, lr=0.1, **options, generator=seeded()).double().to(memory_format=layout)
        outputs = [layer(images) for _ in range(3)]
        return [*outputs, layer.eval()(images), layer.weight, layer.threshold.theta, layer.mask]

    expected, start = learned(x), HebbianConv2d(3, 6, 3, **options, generator=seeded()).weight
    assert (expected[4] - start).abs().max() > 0.01
    for images in (x, *layouts(x)):
        for tensor, reference in zip(learned(images, layer_layout), expected, strict=True):
            torch.testing.assert_close(tensor, reference, rtol=1e-10, atol=1e-10)
    for function in (per_sample_standardize, lambda x: k_winners(x, 2), triangle, quadrants):
        for images in layouts(x):
            torch.testing.assert_close(function(images), function(x))


@pytest.mark.parametrize(("kernel", "stride"), [(1, 2), (1, 3), (3, 2)])
def test_strides_and_the_layout_of_memory_make_no_difference_to_an_update(kernel, stride):
    # With kernels of 1 x 1, torch 2.13 corrupts memory here on processors without AVX-512.
    last = {"memory_format": torch.channels_last}
    for channels, units, size in [(3, 5, 9), (16, 32, 16), (64, 128, 16), (13, 7, 31)]:
        x, weight = drawn(5, channels, size, size).float(), drawn(units, channels, kernel, kernel).float()
        y = k_winners(torch.conv2d(x, weight, stride=stride), 2)
        expected = hebbian_update(x.double(), y.double(), weight.double(), stride=stride)
        for images, activity in [(x, y), (x.contiguous(**last), y.contiguous(**last)), (x, y.contiguous(**last))]:
            update = hebbian_update(images, activity, weight, stride=stride)
            torch.testing.assert_close(update.double(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_a_threshold_keeps_no_graph():
    threshold = AdaptiveThreshold(2, target=0.5)
    threshold.adapt(torch.tensor([0.75, 0.25], requires_grad=True))
    assert not threshold.theta.requires_grad


def test_no_gradient_of_a_layer_reaches_another():
    net, images = network((4, 5, 6), lr=0.0), drawn(9, 3, 32, 32, dtype=torch.float32)
    net.requires_grad_()
    losses = []
    for layer in net:
        drive = torch.conv2d(per_sample_standardize(images), layer.weight)
        losses.append(hebbian_loss(drive, k_winners(drive, 1), layer.weight))
        images = layer(images)
    for number, loss in enumerate(losses):
        gradients = torch.autograd.grad(loss, [layer.weight for layer in net], allow_unused=True)
        assert [grad is not None for grad in gradients] == [number == other for other in range(3)]


def test_in_eval_mode_gradients_pass_for_whoever_asks():
    layer, images = HebbianConv2d(2, 3, 3, generator=seeded()).double().eval(), drawn(9, 2, 5, 5)
    plain = layer(images)
    output = layer(images.requires_grad_())
    assert output.requires_grad
    torch.testing.assert_close(output.detach(), plain)


def test_thresholds_make_all_filters_win_equally_often():
    def rates(threshold_rate):
        layer, generator = HebbianConv2d(1, 16, 5, threshold_rate=threshold_rate, generator=seeded()), seeded(1)
        win_rates = []
        for _ in range(150):
            layer(bars(50, generator)[0])
            win_rates.append(layer.win_rate.clone())
        return torch.stack(win_rates[-40:]).mean(0) * 16

    adaptive, fixed = rates(3.0), rates(0.0)
    assert adaptive.min() > 0.5
    assert adaptive.max() < 1.5
    assert fixed.min() < 0.5
    assert fixed.max() > 1.5


def bars(count, generator):
    """Images of 12 by 12 pixels, with one bar each in one of four orientations, and noise."""
    images = 0.1 * torch.randn(count, 1, 12, 12, generator=generator)
    kinds = torch.randint(4, (count,), generator=generator)
    places = torch.randint(12, (count,), generator=generator)
    for image, kind, place in zip(images[:, 0], kinds.tolist(), places.tolist(), strict=True):
        if kind < 2:
            (image if kind else image.T)[place] += 1
        else:
            (image if kind == 2 else image.flip(1)).diagonal(place - 6).add_(1)
    return images, kinds


def test_features_and_a_linear_read_out_tell_orientations_apart():
    """Learned filters beat the same filters before they learned, and the pixels."""
    generator = seeded()
    (train, kinds), (test, asked) = bars(1000, generator), bars(500, generator)
    scores = []
    for lr in (0.1, 0.0):
        options = {"threshold_rate": 3.0, "output": "quadrants", "n_epochs": 5, "flip": False, "random_state": 0}
        features = HebbianFeatures((16,), (5,), (None,), (lr,), **options).fit(train.numpy())
        read_out = RidgeClassifier().fit(features.transform(train.numpy()), kinds)
        scores.append(read_out.score(features.transform(test.numpy()), asked))
    pixels = RidgeClassifier().fit(train.flatten(1), kinds).score(test.flatten(1), asked)
    assert scores[0] > scores[1]
    assert scores[0] > pixels + 0.1
    assert scores[0] > 0.85


def test_a_constant_image_teaches_nothing():
    layer = HebbianConv2d(1, 4, 3, generator=seeded())
    layer.threshold.theta.copy_(torch.tensor([-1.0, 0, 0, 0]))
    before = layer.weight.clone()
    assert layer(torch.full((9, 1, 5, 5), 0.3)).isfinite().all()
    torch.testing.assert_close(layer.weight, before)
    assert layer.win_rate.tolist() == [1, 0, 0, 0]


def test_too_large_a_step_is_cut_and_told():
    layer = HebbianConv2d(1, 4, 3, lr=1.5, generator=seeded())
    with pytest.warns(UserWarning, match=r"lr = 1.5: a batch would replace a filter more than once"):
        layer(drawn(9, 1, 5, 5, dtype=torch.float32))
    with pytest.warns(UserWarning, match="n_winners = 4, as many as units"):
        HebbianLinear(3, 4, n_winners=4)


def test_a_step_that_is_cut_takes_a_filter_half_way_to_the_mean_of_what_it_won():
    layer, images = HebbianLinear(3, 4, lr=0.5, threshold_rate=0.0, generator=seeded()).double(), drawn(9, 3)
    before, x = layer.weight.clone(), per_sample_standardize(images)
    won = k_winners(x @ before.T, 1)
    layer(images)
    cut = 0.5 * 4 / 9 * won.sum(0) > 0.5
    assert 0 < cut.sum() < 4
    mean = won.T @ x / won.sum(0)[:, None]
    torch.testing.assert_close(layer.weight[cut], functional.normalize(before + mean)[cut])


def test_filters_wait_for_thresholds_and_no_optimiser_changes_them():
    layer, images = HebbianLinear(3, 4, burn_in=2, generator=seeded()), drawn(9, 3, dtype=torch.float32)
    before, moved = layer.weight.clone(), []
    assert torch.equal(HebbianLinear(3, 4, generator=seeded()).weight, before)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0, weight_decay=0.5)
    for _ in range(3):
        layer(images)
        optimizer.step()
        moved.append(not torch.allclose(layer.weight, before))
    assert moved == [False, False, True]
    assert layer.threshold.theta.any()


def test_features_go_on_and_take_rows():
    images = np.random.default_rng(0).random((30, 3, 12, 12), dtype=np.float32)
    options = {"n_filters": (5, 6), "kernel_sizes": (3, 2), "fan_ins": (None, 4), "lr": (0.1, 0.1), "random_state": 0}
    model = HebbianFeatures(**options, output="all-quadrants").partial_fit(images)
    before = model.network_[0].weight.clone()
    assert not torch.equal(before, model.partial_fit(images[:1]).network_[0].weight)
    assert model.transform(images).shape == (30, 44) == (30, len(model.get_feature_names_out()))
    rows = HebbianFeatures(**options, image_shape=(3, 12, 12)).fit(images.reshape(30, -1))
    shaped = HebbianFeatures(**options).fit(images)  # sides of 12, 10, 5, 4 and 2
    assert shaped.transform(images).shape == (30, 6 * 2 * 2)
    assert np.array_equal(rows.transform(images.reshape(30, -1)), shaped.transform(images))


def test_features_learn_for_all_epochs_after_their_burn_in():
    images = np.random.default_rng(0).random((30, 1, 8, 8))
    options = {"n_filters": (5,), "kernel_sizes": (3,), "fan_ins": (None,), "lr": (0.1,), "random_state": 0}
    model = HebbianFeatures(**options, n_epochs=2, batch_size=12, burn_in=6).fit(images)
    assert model.network_[0].steps == 6
    before = model.network_[0].weight.clone()
    assert torch.equal(HebbianFeatures(**options, burn_in=1).partial_fit(images).network_[0].weight, before)
    assert not torch.allclose(model.partial_fit(images).network_[0].weight, before)


def test_flips_mirror_left_and_right():
    images = np.random.default_rng(0).random((30, 1, 8, 8))
    options = {"n_filters": (5,), "kernel_sizes": (3,), "fan_ins": (None,), "random_state": 0}
    for x, alike in ((images, False), (images + images[..., ::-1], True)):
        layer = HebbianFeatures(**options, lr=(0.0,), threshold_rate=0.0).partial_fit(x).network_[0].train()
        layer.lr = 0.1
        layer(torch.from_numpy(x))
        for flip in (False, True):
            model = HebbianFeatures(**options, lr=(0.1,), threshold_rate=0.0, flip=flip).partial_fit(x)
            assert torch.allclose(model.network_[0].weight, layer.weight) == (alike or not flip)


IMAGES = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: HebbianConv2d(3, 4, 3, n_winners=5), ValueError, "n_winners = 5: expected 1 to 4"),
        (lambda: HebbianConv2d(3, 4, 3, fan_in=28), ValueError, "fan_in = 28: expected 1 to 27"),
        (lambda: HebbianConv2d(3, 4, 3)(IMAGES.permute(0, 2, 3, 1)), ValueError, "the channels seem to be last"),
        (lambda: HebbianConv2d(3, 4, 3)(IMAGES[:, :2]), ValueError, r"input.shape = \(2, 2, 8, 8\)"),
        (lambda: HebbianConv2d(3, 4, 3)(IMAGES[:0]), ValueError, "expected at least one sample"),
        (lambda: HebbianConv2d(3, 4, 8, pool=2)(IMAGES), ValueError, "height and width of at least 9, with"),
        (lambda: HebbianConv2d(3, 4, 3)(IMAGES / 0), ValueError, "input.*NaN"),
        (lambda: HebbianConv2d(3, 4, 3)((IMAGES / 0).repeat(5, 1, 1, 1)), ValueError, "input.*NaN"),
        (lambda: k_winners(torch.zeros(2, 3), 4), ValueError, "k = 4: expected 1 to 3"),
        (lambda: per_sample_standardize(torch.zeros(3)), ValueError, r"x.shape = \(3,\): .*two axes at least"),
        (lambda: fixed_fan_in(3, 4, 0), ValueError, "fan_in = 0"),
        (
            lambda: hebbian_update(IMAGES, torch.zeros(2, 4, 5, 5), torch.zeros(4, 3, 3, 3)),
            ValueError,
            r"y.shape.*\(2, 4, 6, 6\)",
        ),
        (
            lambda: hebbian_update(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3, 3, 1)),
            ValueError,
            "weight.shape",
        ),
        (lambda: HebbianFeatures().fit(np.zeros((9, 3, 8, 8))), ValueError, "kernel_sizes.*2 x 2"),
        (
            lambda: HebbianFeatures(image_shape=(1, 3, 4)).fit(np.zeros((9, 11))),
            ValueError,
            r"X.shape = \(9, 11\): expected \(samples, 1, 3, 4\)",
        ),
        (lambda: HebbianFeatures((5,)).fit(np.zeros((9, 3, 8, 8))), ValueError, "a value for each layer"),
        (lambda: ZCAWhitening(mirror=True).fit(np.zeros((9, 8))), ValueError, "image_shape = None"),
        (lambda: ZCAWhitening().fit(np.zeros((9, 8, 2))), ValueError, "X.shape"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("make", [ZCAWhitening, partial(HebbianFeatures, (3,), (3,), (None,), (0.1,), n_epochs=1)])
def test_images_of_another_shape_with_as_many_values_are_refused(make):
    X = np.random.default_rng(0).normal(size=(4, 2, 6, 6))
    with pytest.raises(ValueError, match=r"X.shape = \(4, 6, 6, 2\): expected .*2, 6, 6"):
        make(image_shape=(2, 6, 6)).fit(X.transpose(0, 2, 3, 1))  # the channels are last
    fitted = make().fit(X)
    with pytest.raises(ValueError, match=r"X.shape = \(4, 2, 4, 9\): expected .*2, 6, 6"):
        fitted.transform(X.reshape(4, 2, 4, 9))
