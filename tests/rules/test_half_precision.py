"""Sums over many samples, steps or perturbations in half precision, held to double precision."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from engram import registry
from engram.nn import BatchOnlyNorm, LeakyRNN, LIFNetwork, ReadoutNetwork, freeze_norms
from engram.rules import Reinforce, apply_rule, output_loss, per_sample_standardize, sample_losses
from engram.rules.loss import loss_and_error
from engram.rules.temporal import RTRL, EProp

TOLERANCE = {"pc-strict": 0.15}  # its values move in small steps, in the precision of the network
OTHER_NETWORKS = {"reinforce", "eprop", "eprop-adaptive", "eprop-random", "rtrl"}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(dtype):
    torch.manual_seed(0)
    layers = nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 3)
    return nn.Sequential(*layers).to(torch.bfloat16).to(dtype)


@pytest.mark.parametrize("name", sorted({*registry.names("learning_rules")} - OTHER_NETWORKS))
@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
def test_a_batch_of_thousands_gives_the_gradient_of_double_precision(name, classes):
    rule = registry.get("learning_rules", name)()
    x = (torch.randn(4096, 6, generator=seeded(1)) + 0.5).bfloat16()
    target = (x[:, 0] > 0).long() if classes else torch.randn(4096, 3, generator=seeded(2)).bfloat16()
    grads = {}
    for dtype in (torch.bfloat16, torch.float64):
        model, cast = network(dtype), (target if classes else target.to(dtype))
        grads[dtype] = apply_rule(rule, model, x.to(dtype), cast, rule.init(model, seeded())).grads
    for key, expected in grads[torch.float64].items():
        grad = grads[torch.bfloat16][key]
        assert grad.dtype == torch.bfloat16
        assert (grad.double() - expected).norm() <= TOLERANCE.get(name, 0.05) * expected.norm(), key


def test_a_running_mean_of_the_reward_moves_in_small_steps():
    model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2)).bfloat16()
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([100.0, 0.0]))  # always the first class
    rule = Reinforce(rate=0.002)
    state = rule.init(model, seeded())
    for _ in range(500):
        state = rule.update(model, torch.zeros(4, 2).bfloat16(), torch.zeros(4).long(), state).state
    assert float(state.baseline) == pytest.approx(1 - 0.998**500, abs=1e-4)


def test_a_loss_is_a_mean_whatever_the_sum():
    output, target = torch.full((4096, 3), 10.0, dtype=torch.float16), torch.zeros(4096, 3, dtype=torch.float16)
    for loss in (output_loss(output, target), loss_and_error(output, target)[0]):
        assert loss.dtype == torch.float16
        assert float(loss) == 150


@pytest.mark.parametrize("rule", [EProp(), EProp.adaptive(), RTRL()], ids=repr)
def test_traces_in_half_precision_are_refused_by_name(rule):
    net = ReadoutNetwork(LeakyRNN(2, 3, generator=seeded()), 2, generator=seeded()).bfloat16()
    with pytest.raises(ValueError, match=r"dtype = torch.bfloat16: expected torch.float32 or torch.float64"):
        rule.init(net, seeded())


@pytest.mark.parametrize("every_step", [False, True])
@pytest.mark.parametrize("core", [LeakyRNN, LIFNetwork])
def test_filtered_activity_of_a_long_sequence_is_that_of_single_precision(core, every_step):
    make = partial(ReadoutNetwork, outputs=2, kappa=0.998, every_step=every_step)
    half = make(core(1, 3, alpha=0.5, generator=seeded(1), dtype=torch.bfloat16), generator=seeded()).bfloat16()
    with torch.no_grad():
        half.core.weight_ih.fill_(1.5)
        half.core.weight_hh.zero_()
    single, x = copy.deepcopy(half).float(), torch.ones(1500, 2, 1)
    output = half(x.bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), single(x), rtol=0.03, atol=0.5)
    packed = half(nn.utils.rnn.pack_sequence([x[:1500, 0].bfloat16(), x[:1100, 1].bfloat16()]))
    whole = packed if not every_step else nn.utils.rnn.pad_packed_sequence(packed)[0][-1]
    torch.testing.assert_close(whole[0], output[0] if not every_step else output[-1, 0], rtol=0.02, atol=0.1)


@pytest.mark.parametrize(("dtype", "refractory"), [(torch.bfloat16, 400), (torch.float16, 2500), (torch.float64, 400)])
def test_a_refractory_period_ends(dtype, refractory):
    net = LIFNetwork(1, 1, refractory=refractory, dtype=dtype)
    nn.init.ones_(net.weight_ih)
    net.requires_grad_(False)
    spikes, state = net(torch.ones(refractory + 3, 2, 1, dtype=dtype))
    assert spikes.dtype == dtype
    assert spikes[:, 1, 0].nonzero().flatten().tolist() == [0, refractory + 1]
    again, _ = net(torch.ones(refractory, 2, 1, dtype=dtype), state)
    assert again.nonzero()[:, 0].tolist() == 2 * [refractory - 1]


@pytest.mark.parametrize("core", [LeakyRNN, LIFNetwork])
def test_a_perfect_integrator_adds_small_drives(core):
    net = core(1, 1, alpha=1.0, dtype=torch.bfloat16)
    with torch.no_grad():
        net.weight_ih.fill_(2**-10)
        net.weight_hh.zero_()
    output, state = net(torch.ones(600, 1, 1, dtype=torch.bfloat16))
    assert output.dtype == torch.bfloat16
    assert state.potential.item() == 600 / 1024


def test_fixed_statistics_keep_the_digits_of_a_difference():
    samples = (100 + torch.arange(8.0) / 2)[:, None]
    model = nn.Sequential(BatchOnlyNorm())
    freeze_norms(model, samples + 0.1)
    torch.testing.assert_close(model(samples.bfloat16()).float(), model(samples), rtol=1 / 128, atol=1e-6)


def test_samples_of_large_values_are_standardised_and_constant_ones_become_zero():
    x = 20 * torch.randn(2, 3000, generator=torch.Generator().manual_seed(0))
    x[1] = 5.0
    half = per_sample_standardize(x.half())
    assert half.dtype == torch.float16
    assert half[0].float().std().item() == pytest.approx(1, rel=1e-3)  # the sum of squares is beyond float16
    assert not half[1].any()


def test_the_losses_of_samples_do_not_overflow():
    output, target = torch.full((2, 1), 256.0).half(), torch.zeros(2, 1).half()
    assert sample_losses(output, target).tolist() == [32768.0, 32768.0]
