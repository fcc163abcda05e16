import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from engram.rules import SoftHebbConv2d, soft_hebb_update, soft_winners, triangle

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=F64)


def close(actual, expected, atol):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=atol, rtol=0)


def test_one_patch():
    x, weight = torch.tensor([[1.0, 2.0]], dtype=F64), torch.tensor([[0.6, 0.8], [1.0, 0.0]], dtype=F64)
    u = x @ weight.T
    y = soft_winners(u)
    close(y, [[0.7685, -0.2315]], 1e-4)
    change = soft_hebb_update(x, y, u, weight)
    close(change, [[-0.2459, 0.1844], [0, -0.4630]], 1e-4)
    close(change / change.abs().max(), [[-0.5312, 0.3984], [0, -1]], 1e-4)
    close(soft_hebb_update(x, soft_winners(u, 0.0), u, weight), [[-0.32, 0.24], [0, 0]], 1e-12)


def settled(weight, x, rate, steps):
    for _ in range(steps):
        u = x @ weight.T
        weight = weight + rate * soft_hebb_update(x, soft_winners(u, anti_hebbian=False), u, weight) / len(x)
    return weight


def test_a_single_unit_becomes_the_direction_of_the_mean():
    x = drawn(30, 4) + 1
    weight = settled(drawn(1, 4, seed=1), x, 0.2, 300)
    close(weight[0], functional.normalize(x.mean(0), dim=0), 1e-12)


def test_without_anti_hebbian_losers_three_units_that_share_three_clusters_have_norm_one():
    x = (4 * torch.eye(3, dtype=F64)).repeat(10, 1) + 0.3 * drawn(30, 3)
    weight = settled(1.5 * functional.normalize(torch.eye(3, dtype=F64) + 0.3 * drawn(3, 3, seed=1)), x, 0.1, 400)
    close(weight.norm(dim=1), torch.ones(3), 1e-4)
    assert set((x @ weight.T).argmax(1)[:3].tolist()) == {0, 1, 2}


def case(signed, temperature=0.7):
    x, weight = drawn(5, 3, 6, 7), drawn(4, 3, 3, 3, seed=1)
    u = torch.conv2d(x, weight)
    return x, weight, u, soft_winners(u, temperature, anti_hebbian=signed)


@pytest.mark.parametrize("signed", [True, False])
def test_norms_approach_one_where_a_unit_wins_what_excites_it(signed):
    x, weight, u, y = case(signed)
    along = (weight * soft_hebb_update(x, y, u, weight)).sum((1, 2, 3))
    expected = (y * u).sum((0, 2, 3)) * (1 - weight.square().sum((1, 2, 3)))
    torch.testing.assert_close(along, expected, rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("signed", [True, False])
def test_a_surrogate_has_the_update_as_its_gradient(signed):
    x, weight, fixed, y = case(signed)
    weight = weight.clone().requires_grad_()
    square = weight.square().sum((1, 2, 3)).view(-1, 1, 1)
    (-(y * (torch.conv2d(x, weight) - fixed * square / 2)).sum()).backward()
    torch.testing.assert_close(-weight.grad, soft_hebb_update(x, y, fixed, weight.detach()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_on_the_sphere_unsigned_updates_descend_the_loss_of_a_mixture(temperature):
    x, weight = drawn(20, 5), functional.normalize(drawn(3, 5, seed=1)).requires_grad_()
    u = x @ functional.normalize(weight).T
    (-temperature * torch.logsumexp(u / temperature, 1).mean()).backward()
    y = soft_winners(u.detach(), temperature, anti_hebbian=False)
    torch.testing.assert_close(
        -weight.grad, soft_hebb_update(x, y, u.detach(), weight.detach()) / 20, rtol=0, atol=1e-14
    )


def test_the_temperature_leads_from_one_winner_to_none():
    u = drawn(6, 5, 4)
    hard = soft_winners(u, 0.0)
    assert torch.equal(hard.sum(1), torch.ones(6, 4, dtype=F64))
    assert (hard.argmax(1) == u.argmax(1)).all()
    torch.testing.assert_close(soft_winners(u, 1e-4, anti_hebbian=False), hard)
    assert torch.equal(soft_winners(u, 0.0, anti_hebbian=False), hard)
    assert torch.equal(soft_winners(u, math.inf, anti_hebbian=False), torch.full_like(u, 0.2))
    signs = soft_winners(u, math.inf).sign()
    assert (signs == 2 * hard - 1).all()


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_what_excites_all_units_alike_changes_nothing(dim):
    u = drawn(4, 5, 6)
    y = soft_winners(u, 0.5, dim=dim)
    torch.testing.assert_close(soft_winners(u + drawn(4, 5, 6, seed=1).mean(dim, keepdim=True), 0.5, dim=dim), y)
    torch.testing.assert_close(y.abs().sum(dim), torch.ones_like(y.sum(dim)))
    assert ((y > 0).sum(dim) == 1).all()
    assert (y.argmax(dim) == u.argmax(dim)).all()


def test_no_activity_is_a_denormal_number_with_which_convolutions_are_slow():
    y = soft_winners(torch.tensor([[100.0, 5.0, 0.0]]))
    assert y.tolist() == [[1.0, 0.0, 0.0]]


def layer_of(**options):
    layer = SoftHebbConv2d(2, 4, 3, **{"padding": 1, "lr": 0.1, "generator": seeded()} | options).double()
    return layer, drawn(6, 2, 5, 6, seed=1)


def by_hand(layer, images, rate_power=0.5):
    """A training step with NumPy: the weights after it, and the drives."""
    x = images.numpy()
    axes = (0, 2, 3)
    x = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    patches = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3)).transpose(0, 2, 3, 1, 4, 5).reshape(-1, 18)
    weight = layer.weight.numpy().reshape(4, 18)
    u = patches @ weight.T
    exponentials = np.exp((u - u.max(1, keepdims=True)) / layer.temperature)
    signs = np.where(u == u.max(1, keepdims=True), 1, -1 if layer.anti_hebbian else 1)
    y = signs * exponentials / exponentials.sum(1, keepdims=True)
    change = y.T @ patches - (y * u).sum(0)[:, None] * weight
    rates = layer.lr * np.abs(np.linalg.norm(weight, axis=1) - 1) ** rate_power
    return (weight + rates[:, None] * change / np.abs(change).max()).reshape(4, 2, 3, 3), u


@pytest.mark.parametrize("options", [{}, {"anti_hebbian": False}, {"rate_power": 0.0}, {"temperature": 3.0}])
def test_a_training_step_is_that_of_the_paper(options):
    layer, images = layer_of(initial_norm=3.0, activation_power=0.7, **options)
    weight, drives = by_hand(layer, images, options.get("rate_power", 0.5))
    output = layer(images)
    np.testing.assert_allclose(layer.weight.numpy(), weight, rtol=0, atol=1e-8)
    above = np.maximum(drives - drives.mean(1, keepdims=True), 0) ** 0.7
    np.testing.assert_allclose(output.permute(0, 2, 3, 1).reshape(-1, 4).numpy(), above, atol=1e-10)


def test_a_batch_of_repeated_images_changes_weights_as_each_once():
    (once, images), (twice, _) = layer_of(), layer_of()
    once(images)
    twice(torch.cat((images, images)))
    torch.testing.assert_close(once.weight, twice.weight, rtol=0, atol=1e-12)


def test_filters_start_with_their_norm_and_stop_at_norm_one():
    wide = SoftHebbConv2d(8, 200, 5, generator=seeded())
    assert float(wide.weight.flatten(1).norm(dim=1).square().mean().sqrt()) == pytest.approx(25, rel=0.02)
    layer, images = layer_of()
    layer.weight.copy_(functional.normalize(layer.weight.flatten(1)).view_as(layer.weight))
    before = layer.weight.clone()
    layer(images)
    assert 0 < (layer.weight - before).abs().max() < 2e-6  # published: 1e-10 under the root


def test_in_eval_mode_nothing_adapts_and_gradients_pass():
    layer, images = layer_of(activation_power=1.4)
    layer(images)
    before = copy.deepcopy(layer.eval().state_dict())
    assert torch.equal(layer(images), layer(images))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    small = images[:1, :, :3, :3].clone().requires_grad_()
    assert torch.autograd.gradcheck(layer, (small,))
    assert not layer.train()(small).requires_grad


def test_with_a_rate_of_0_only_the_normalisation_adapts():
    layer, images = layer_of()
    layer.lr = 0.0
    before = layer.weight.clone()
    layer(images + 3)
    assert torch.equal(layer.weight, before)
    torch.testing.assert_close(layer.norm.running_mean, 0.1 * (images + 3).mean((0, 2, 3)))


def test_the_layout_of_memory_makes_no_difference():
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        layer, images = layer_of()
        layer = layer.to(memory_format=layout)
        outputs = [layer(images.contiguous(memory_format=layout)) for _ in range(3)]
        results.append([*outputs, layer.weight])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_power_bends_the_triangle():
    u = torch.tensor([[3.0, -1.0, 2.0, 0.0]])
    torch.testing.assert_close(triangle(u, power=2.0), torch.tensor([[4.0, 0.0, 1.0, 0.0]]))
    bent = drawn(2, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: triangle(u, power=1.4), (bent,))
    root = u.clone().requires_grad_()
    triangle(root, power=0.5).sum().backward()  # of which the derivative at 0 is infinite
    assert root.grad.isfinite().all()


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(2, 3, 5, 5), ValueError, "input.shape"),
        (torch.zeros(2, 5, 5, 2), ValueError, "channels seem to be last"),
        (torch.zeros(0, 2, 5, 5), ValueError, "at least one sample"),
        (torch.zeros(2, 2, 1, 5), ValueError, "height and width of at least 2"),
        (torch.full((2, 2, 5, 5), math.nan), ValueError, "input"),
    ],
)
def test_bad_images_are_refused_and_change_nothing(images, error, message):
    layer = SoftHebbConv2d(2, 4, 3, padding=1, generator=seeded())
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(error, match=message):
        layer(images)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_a_single_pixel_cannot_be_normalised():
    layer = SoftHebbConv2d(2, 4, 1, generator=seeded())
    with pytest.raises(ValueError, match="several images or pixels"):
        layer(torch.ones(1, 2, 1, 1))
