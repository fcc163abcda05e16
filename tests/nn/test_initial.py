from functools import partial

import pytest
import torch
from torch import nn

from engram.nn.initial import kaiming, lecun, uniform

LAYERS = [partial(nn.Linear, 64, 300), partial(nn.Conv2d, 4, 300, 4, padding=1)]  # of 64 inputs to a unit both


def drawn(how, layer, seed=0, **options):
    return how(layer.func, *layer.args, generator=torch.Generator().manual_seed(seed), **layer.keywords, **options)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(("how", "deviation"), [(uniform, 1 / 192), (lecun, 1 / 64), (kaiming, 1 / 32)])
def test_weights_have_the_variance_of_their_distribution(how, deviation, layer):
    module = drawn(how, layer)
    assert module.weight.var().item() == pytest.approx(deviation, rel=0.03)
    assert module.weight.mean().item() == pytest.approx(0, abs=3 * (deviation / module.weight.numel()) ** 0.5)
    assert (module.bias.abs().max() <= 1 / 8) if how is uniform else not module.bias.any()


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("how", [uniform, lecun, kaiming])
def test_the_generator_alone_says_what_is_drawn(how, layer):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, again, other = (drawn(how, layer, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


def test_uniform_is_what_torch_draws():
    torch.manual_seed(5)
    theirs = nn.Linear(7, 3)
    torch.manual_seed(5)
    ours = uniform(nn.Linear, 7, 3, generator=None)
    assert torch.allclose(ours.weight, theirs.weight)
    assert torch.allclose(ours.bias, theirs.bias)


def test_a_bound_and_what_the_layer_takes_are_kept():
    layer = drawn(uniform, LAYERS[0], bound=3.0, bias=False, dtype=torch.float64)
    assert layer.bias is None
    assert layer.weight.dtype == torch.float64
    assert 2.9 < layer.weight.abs().max().item() <= 3
    assert drawn(lecun, LAYERS[1]).padding == (1, 1)


@pytest.mark.parametrize("how", [uniform, lecun, kaiming])
def test_a_layer_may_have_no_bias(how):
    with_bias, without = (drawn(how, LAYERS[0], bias=bias) for bias in (True, False))
    assert without.bias is None
    assert torch.equal(without.weight, with_bias.weight)
