"""Closed forms of the rules of single layers."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram import plasticity
from engram.rules.synaptic import (
    BCM,
    CovarianceHebb,
    PairSTDP,
    Sanger,
    SlowWeights,
    ThreeFactor,
    TripletSTDP,
    competitive,
    hebb,
    homeostatic_scaling,
    oja,
    reward_modulated_stdp,
)

EIGENVALUES = (5, 3, 2, 1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_hebb_grows_along_a_pattern_and_not_across_it():
    x, weight, lr = draw(1, 6), draw(1, 6, seed=1), 0.01
    start, along = weight.clone(), x / x.norm()
    for _ in range(50):
        weight = weight - lr * hebb().update(x, x @ weight.T, weight, None).grad
    grown = (start @ x.T) * (1 + lr * (x @ x.T)) ** 50
    torch.testing.assert_close(weight @ x.T, grown, rtol=1e-13, atol=0)
    across, before = (w - (w @ along.T) * along for w in (weight, start))
    torch.testing.assert_close(across, before, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("rule", "units"), [(oja(), 1), (Sanger(), 3)])
def test_principal_components(rule, units):
    basis = torch.linalg.qr(draw(10, 10)).Q
    samples = (draw(6_000, 10, seed=1) * torch.tensor(EIGENVALUES, dtype=torch.float64).sqrt()) @ basis.T
    weight = 0.1 * draw(units, 10, seed=2)
    for t, x in enumerate(samples[:, None]):
        weight = weight - 0.005 / (1 + t / 800) * rule.update(x, x @ weight.T, weight, None).grad
    norms = weight.norm(dim=1)
    assert (norms - 1).abs().max() < 0.01
    assert ((weight * basis.T[:units]).sum(1) / norms).abs().min() >= 0.98


@pytest.mark.parametrize(
    "rule",
    [
        plasticity.Hebb(0.3),
        plasticity.Oja(0.3, eta_param="sigmoid"),
        plasticity.Instar(0.3),
        plasticity.Competitive(0.3, temperature=0.5),
        plasticity.ClippedHebb(0.3, clip=None),
    ],
    ids=repr,
)
def test_slow_weights_change_as_traces_do_on_average(rule):
    pre, post, weight = draw(7, 4), draw(7, 3, seed=1), draw(3, 4, seed=2)
    rule, slow = rule.double(), SlowWeights(rule)
    assert all(parameter.requires_grad for parameter in rule.parameters()), "the rule itself was frozen"
    traces = rule.update(plasticity.TraceState(weight.expand(7, 3, 4)), pre, post).trace.detach()
    update = slow.update(pre, post, weight, None)
    torch.testing.assert_close(update.grad, weight - traces.mean(0), rtol=0, atol=1e-14)
    torch.testing.assert_close(slow.growth(pre, post, weight), traces - weight, rtol=0, atol=1e-14)
    assert not update.grad.requires_grad


def test_covariance_hebb_is_the_covariance_where_the_means_have_settled():
    x, y, weight = draw(50, 4) + 2, draw(50, 3, seed=1) - 1, torch.zeros(3, 4, dtype=torch.float64)
    rule = CovarianceHebb(rate=1.0)
    _, means = rule.update(x, y, weight, rule.init(weight))
    covariance = np.cov(torch.cat((y, x), 1).T.numpy(), bias=True)[:3, 3:]
    np.testing.assert_allclose(-rule.update(x, y, weight, means).grad.numpy(), covariance, rtol=1e-12)


def test_competitive_units_become_the_means_of_their_clusters():
    centres = torch.tensor([[4.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    x = centres.repeat(20, 1) + 0.1 * draw(40, 2)
    weight, rule = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64), competitive(temperature=0.05)
    for _ in range(200):
        weight = weight - 0.1 * rule.update(x, x @ weight.T - weight.square().sum(1) / 2, weight, None).grad
    torch.testing.assert_close(weight, torch.stack([x[::2].mean(0), x[1::2].mean(0)]), rtol=1e-3, atol=1e-3)


def test_bcm_becomes_selective_with_a_response_of_one_over_p():
    rule, patterns = BCM(rate=1.0), torch.eye(2, dtype=torch.float64)
    weight = torch.tensor([[0.6, 0.4]], dtype=torch.float64)
    for _ in range(2_000):  # theta is the mean of y^2, as it is now
        y = (patterns @ weight.T).clamp(min=0)
        theta = rule.update(patterns, y, weight, rule.init(weight)).state
        weight = weight - 0.1 * rule.update(patterns, y, weight, theta).grad
    torch.testing.assert_close(weight, torch.tensor([[2.0, 0.0]], dtype=torch.float64), rtol=0, atol=1e-3)
    torch.testing.assert_close(theta, torch.tensor([2.0], dtype=torch.float64), rtol=0, atol=1e-3)


def test_bcm_with_a_running_threshold_settles_a_little_lower():
    rule, patterns = BCM(rate=0.02), torch.eye(2, dtype=torch.float64)
    weight = torch.tensor([[0.6, 0.4]], dtype=torch.float64)
    theta = rule.init(weight)
    order = torch.randint(2, (20_000,), generator=torch.Generator().manual_seed(0))
    for x in patterns[order][:, None]:
        grad, theta = rule.update(x, (x @ weight.T).clamp(min=0), weight, theta)
        weight = weight - 1e-3 * grad
    preferred, other = weight[0].sort(descending=True).values
    assert abs(preferred - 2) < 0.15
    assert abs(other) < 0.15


def trained(rule, pre, post):
    """Return what weights become by all steps of spikes, (time, units) each, from 0."""
    weight = torch.zeros(post.shape[1], pre.shape[1], dtype=torch.float64)
    state, updated = rule.init(weight), weight
    for x, y in zip(pre, post, strict=True):
        grad, state = rule.update(x[None], y[None], weight, state)
        updated = updated - grad
    return updated


@settings(deadline=None, max_examples=20)
@given(st.integers(-40, 40))
def test_a_pair_of_spikes_changes_a_weight_by_its_window(dt):
    pre, post = torch.zeros(100, 1, dtype=torch.float64), torch.zeros(100, 1, dtype=torch.float64)
    pre[50], post[50 + dt] = 1, 1
    wanted = 0.01 * math.exp(-dt / 20) if dt > 0 else -0.02 * math.exp(dt / 15) if dt < 0 else 0.0
    weight = trained(PairSTDP(a_plus=0.01, a_minus=0.02, tau_plus=20.0, tau_minus=15.0), pre, post)
    assert float(weight) == pytest.approx(wanted, abs=1e-15)


def test_traces_are_the_sum_over_all_pairs():
    pre, post = ((draw(200, size, seed=size) > 1).double() for size in (4, 3))
    lag = torch.arange(200.0, dtype=torch.float64)
    lag = lag[:, None] - lag  # of a row's step after a column's
    window = torch.where(lag > 0, 0.01 * (-lag / 20).exp(), -0.02 * (lag / 15).exp()) * (lag != 0)
    weight = trained(PairSTDP(a_plus=0.01, a_minus=0.02, tau_plus=20.0, tau_minus=15.0), pre, post)
    torch.testing.assert_close(weight, post.T @ window @ pre, rtol=0, atol=1e-12)


def test_drift_of_independent_poisson_spikes():
    # Steps of 0.1 ms; the synapses of a batch are independent repetitions.
    steps, dt, generator = 2000, 1e-4, torch.Generator().manual_seed(0)
    rule, repetitions = PairSTDP(a_plus=0.01, a_minus=0.02, tau_plus=200.0, tau_minus=200.0), 20_000
    weight = torch.zeros(1, 1)
    state, seconds, total = rule.init(weight), repetitions * steps * dt / 2, 0.0
    for step in range(steps):
        rates = (torch.rand(2, repetitions, 1, generator=generator) < torch.tensor([[[10.0]], [[20.0]]]) * dt).float()
        grad, state = rule.update(*rates, weight, state)
        total -= float(grad) * repetitions * (step >= steps // 2)  # the traces have built up
    assert total / seconds == pytest.approx(-0.04, rel=0.08)


AMPLITUDES = {"a2_plus": 0.1, "a2_minus": 0.1, "a3_plus": 0.005, "a3_minus": 0.005}


@pytest.mark.parametrize(
    "make", [partial(PairSTDP, a_plus=0.2, a_minus=0.2), partial(TripletSTDP, **AMPLITUDES)], ids=["pairs", "triplets"]
)
def test_bounds_keep_weights_between_them(make):
    pre, post = ((draw(300, size, seed=size) > 0).double() for size in (4, 3))
    for bounds in ("hard", "soft"):
        rule = make(bounds=bounds, w_max=0.7)
        weight = torch.full((3, 4), 0.35, dtype=torch.float64)
        state, extremes = rule.init(weight), []
        for x, y in zip(pre, post, strict=True):
            grad, state = rule.update(x[None], y[None], weight, state)
            weight = weight - 0.1 * grad
            extremes += [float(weight.min()), float(weight.max())]
        assert min(extremes) >= 0
        assert max(extremes) <= 0.7
        assert max(extremes) - min(extremes) > 0.1


@pytest.mark.parametrize("bounds", ["hard", "soft"])
@pytest.mark.parametrize("signal", ["punishment", "both", "of units"])
@pytest.mark.parametrize(
    "make", [partial(PairSTDP, a_plus=0.3), partial(TripletSTDP, **AMPLITUDES)], ids=["pairs", "triplets"]
)
def test_bounds_hold_under_rewards_and_punishments(make, bounds, signal):
    rule, weight = ThreeFactor(make(bounds=bounds, w_max=0.4), tau=50.0, baseline_rate=0.02), torch.full((3, 4), 0.2)
    weight, state, extremes = weight.double(), rule.init(weight.double()), []
    pre, post = ((draw(300, 2, size, seed=size) > 0.5).double() for size in (4, 3))
    signals = {"punishment": -5 * draw(300, 2).abs(), "both": 5 * draw(300, 2), "of units": 5 * draw(300, 2, 3)}
    for x, y, modulator in zip(pre, post, signals[signal], strict=True):
        grad, state = rule.update(x, y, weight, state, modulator=modulator)
        weight = weight - 0.5 * grad
        extremes += [float(weight.min()), float(weight.max())]
    assert min(extremes) >= -1e-15
    assert max(extremes) <= 0.4 + 1e-15
    assert max(extremes) - min(extremes) > 0.1


@pytest.mark.parametrize(("modulator", "change"), [(1.0, 0.5 * 0.2), (-1.0, -0.5 * 0.3)])
def test_soft_bounds_weigh_the_change_that_is_made(modulator, change):
    stdp, weight = PairSTDP(0.5, 0.5, tau_plus=1e9, tau_minus=1e9, bounds="soft", w_max=0.5), torch.tensor([[0.3]])
    rule, on, off, signal = ThreeFactor(stdp, tau=1.0), torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([modulator])
    _, state = rule.update(on, off, weight, rule.init(weight), modulator=signal)
    assert -float(rule.update(off, on, weight, state, modulator=signal).grad) == pytest.approx(change)


@pytest.mark.parametrize(
    ("bounds", "grown", "decayed"), [("none", 0.5, -0.5), ("hard", 0.2, -0.3), ("soft", 0.5 * 0.2, -0.5 * 0.3)]
)
def test_a_change_near_the_bounds(bounds, grown, decayed):
    rule, weight = PairSTDP(0.5, 0.5, tau_plus=1e9, tau_minus=1e9, bounds=bounds, w_max=0.5), torch.tensor([[0.3]])
    on, off = torch.ones(1, 1), torch.zeros(1, 1)
    for first, second, wanted in (((on, off), (off, on), grown), ((off, on), (on, off), decayed)):
        _, state = rule.update(*first, weight, rule.init(weight))
        assert -float(rule.update(*second, weight, state).grad) == pytest.approx(wanted)


def test_traces_of_another_batch_are_refused():
    weight = torch.zeros(1, 1)
    for rule, more in ((PairSTDP(), {}), (TripletSTDP(), {}), (ThreeFactor(), {"modulator": torch.ones(3)})):
        state = rule.update(torch.ones(3, 1), torch.ones(3, 1), weight, rule.init(weight), **more).state
        fewer = {name: value[:2] for name, value in more.items()}
        with pytest.raises(ValueError, match="state has traces of 3 samples: expected 2"):
            rule.update(torch.ones(2, 1), torch.ones(2, 1), weight, state, **fewer)


@pytest.mark.parametrize("rule", [BCM(), CovarianceHebb(), PairSTDP(), TripletSTDP()])
def test_a_state_of_another_layer_is_refused(rule):
    with pytest.raises(ValueError, match=r"state.*shape = .*expected"):
        rule.update(torch.ones(3, 4), torch.ones(3, 2), torch.zeros(2, 4), rule.init(torch.zeros(1, 1)))


def test_triplets_without_their_own_amplitudes_are_pairs():
    pre, post = ((draw(100, size, seed=size) > 1).double() for size in (4, 3))
    pair = PairSTDP(a_plus=0.01, a_minus=0.02, tau_plus=20.0, tau_minus=15.0)
    triplet = TripletSTDP(a2_plus=0.01, a2_minus=0.02, a3_plus=0.0, a3_minus=0.0, tau_plus=20.0, tau_minus=15.0)
    torch.testing.assert_close(trained(triplet, pre, post), trained(pair, pre, post))


def test_a_triplet_of_spikes():
    outer, inner = torch.zeros(60, 1, dtype=torch.float64), torch.zeros(60, 1, dtype=torch.float64)
    outer[10], inner[20], outer[30] = 1, 1, 1
    rule = TripletSTDP(a2_plus=0.1, a2_minus=0.2, a3_plus=0.3, a3_minus=0.4)
    growth, decay = math.exp(-10 / 16.8), math.exp(-10 / 33.7)
    wanted = growth * (0.1 + 0.3 * math.exp(-20 / 125)) - 0.2 * decay
    assert float(trained(rule, inner, outer)) == pytest.approx(wanted, rel=1e-12)
    wanted = 0.1 * growth - decay * (0.2 + 0.4 * math.exp(-20 / 101))
    assert float(trained(rule, outer, inner)) == pytest.approx(wanted, rel=1e-12)


def test_no_signal_no_change():
    weight, rule = draw(3, 4), ThreeFactor()
    update = rule.update(draw(2, 4), draw(2, 3), weight, rule.init(weight), modulator=torch.zeros(2).double())
    assert not update.grad.any()
    assert update.state.eligibility.any()


def test_eligibility_decays_exactly():
    weight, rule, none = draw(3, 4), ThreeFactor(tau=8.0), torch.zeros(1, dtype=torch.float64)
    pre, post = draw(1, 4), draw(1, 3)
    state = rule.update(pre, post, weight, rule.init(weight), modulator=none).state
    for _ in range(10):
        state = rule.update(0 * pre, post, weight, state, modulator=none).state
    torch.testing.assert_close(state.eligibility, (7 / 8) ** 10 * post[:, :, None] * pre[:, None], rtol=1e-14, atol=0)


def test_a_reward_that_is_its_own_mean_changes_nothing():
    weight, rule = draw(3, 4), reward_modulated_stdp(PairSTDP(tau_plus=3.0), baseline_rate=1.0)
    assert rule.rule == PairSTDP(tau_plus=3.0)
    assert (rule.tau, reward_modulated_stdp().baseline_rate) == (1000, 0.01)
    spikes, reward = (torch.ones(2, 4).double(), torch.ones(2, 3).double()), torch.full((2,), 0.7).double()
    state, changes = rule.init(weight), []
    for _ in range(5):
        grad, state = rule.update(*spikes, weight, state, modulator=reward)
        changes.append(bool(grad.any()))
    assert state.eligibility.any()
    assert not any(changes[1:])


@pytest.mark.parametrize("rule", [hebb(), oja(), BCM(), PairSTDP(), CovarianceHebb()])
def test_a_signal_of_one_without_memory_is_the_rule_itself(rule):
    weight = draw(3, 4)
    state, three = rule.init(weight), ThreeFactor(rule, tau=1.0)
    for_three = three.init(weight)
    for seed in range(3):  # one sample, as means over a batch are those of its samples
        pre, post = draw(1, 4, seed=seed), draw(1, 3, seed=seed + 10)
        grad, state = rule.update(pre, post, weight, state)
        modulated, for_three = three.update(pre, post, weight, for_three, modulator=torch.ones(1).double())
        torch.testing.assert_close(modulated, grad)


def test_a_reward_is_compared_with_the_mean_of_those_before_it():
    weight, rule, one = torch.zeros(1, 1), ThreeFactor(tau=1.0, baseline_rate=0.25), torch.ones(2, 1)
    state, changes = rule.init(weight), []
    for reward in (4.0, 4.0, 0.0):
        grad, state = rule.update(one, one, weight, state, modulator=torch.tensor([reward, reward + 4]))
        changes.append(-float(grad))
    assert changes == [6, 4.5, -0.625]  # baselines 0, 1.5, 2.625


def test_each_unit_may_have_a_signal_of_its_own():
    weight, rule, signal = draw(3, 4), ThreeFactor(), draw(2, 3, seed=5)
    pre, post = draw(2, 4), draw(2, 3)
    grad = rule.update(pre, post, weight, rule.init(weight), modulator=signal).grad
    torch.testing.assert_close(grad, -(signal * post).T @ pre / 2)


def test_each_sample_has_a_signal_of_its_own():
    weight, rule = draw(3, 4), ThreeFactor(oja())
    pre, post, reward = draw(2, 4), draw(2, 3), torch.tensor([1.0, -2.0]).double()
    growths = [-oja().update(pre[b : b + 1], post[b : b + 1], weight, None).grad for b in range(2)]
    grad = rule.update(pre, post, weight, rule.init(weight), modulator=reward).grad
    torch.testing.assert_close(grad, -(growths[0] - 2 * growths[1]) / 2)


def test_r_stdp_learns_which_synapse_a_late_reward_followed():
    """Of two inputs that precede the output, the one that is rewarded 10 steps later grows, and the other does not."""
    rule, generator = reward_modulated_stdp(tau=10.0), torch.Generator().manual_seed(0)
    weight = torch.full((1, 2), 0.5)
    state = rule.init(weight)
    for _ in range(40):
        which = int(torch.randint(2, (), generator=generator))
        for step in range(30):
            pre, post = torch.zeros(1, 2), torch.full((1, 1), float(step == 2))
            pre[0, which] = float(step == 0)
            reward = torch.full((1,), float(which == 0 and step == 12))
            grad, state = rule.update(pre, post, weight, state, modulator=reward)
            weight = weight - grad
    assert weight[0, 0] > weight[0, 1] + 0.01


def test_homeostatic_scaling_brings_a_linear_unit_to_its_rate():
    weight, x = draw(3, 4).abs(), draw(20, 4, seed=1).abs()
    scaled = homeostatic_scaling(weight, (x @ weight.T).mean(0), target=2.0, exponent=1.0)
    torch.testing.assert_close((x @ scaled.T).mean(0), torch.full((3,), 2.0).double())
    with pytest.raises(ValueError, match=r"rate\[1\] = 0.0"):
        homeostatic_scaling(weight, torch.tensor([1.0, 0.0, 1.0]).double(), target=1.0)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: CovarianceHebb(rate=2.0), ValueError, "rate = 2.0"),
        (lambda: BCM(rate=-1.0), ValueError, "rate = -1.0"),
        (lambda: competitive(temperature=0.0), ValueError, "temperature = 0.0"),
        (lambda: PairSTDP(tau_plus=0.0), ValueError, "tau_plus = 0.0"),
        (lambda: PairSTDP(bounds="firm"), ValueError, "bounds = 'firm'"),
        (lambda: TripletSTDP(a3_plus=-1.0), ValueError, "a3_plus = -1.0"),
        (lambda: ThreeFactor(tau=0.5), ValueError, "tau = 0.5"),
        (lambda: SlowWeights(plasticity.ClippedHebb()), ValueError, "clip = None"),
        (lambda: SlowWeights(plasticity.Modulated(clip=None)), ValueError, "without a modulator"),
        (lambda: ThreeFactor(rule=torch.nn.ReLU()), TypeError, "rule"),
    ],
)
def test_bad_settings_are_named(make, error, match):
    with pytest.raises(error, match=match):
        make()


@pytest.mark.parametrize("rule", [hebb(), oja(), PairSTDP(), TripletSTDP(), ThreeFactor()], ids=repr)
def test_complex_weights_are_refused(rule):
    weight, activity = torch.ones(1, 1), torch.ones(1, 1, dtype=torch.cfloat)
    with pytest.raises(TypeError, match="weight is complex"):
        rule.update(activity, activity, weight.to(torch.cfloat), rule.init(weight))


def test_slow_weights_have_one_rate():
    with pytest.raises(ValueError, match="expected one rate for all connections"):
        SlowWeights(plasticity.ClippedHebb(clip=None, connections=(3, 3)))


def test_what_a_layer_was_trained_by_is_not_kept():
    layer, pre, rule = torch.nn.Linear(20, 10), (torch.rand(4, 20) < 0.5).float(), PairSTDP()
    state = rule.init(layer.weight)
    for _ in range(3):
        grad, state = rule.update(pre, layer(pre), layer.weight, state)
    assert not any(tensor.requires_grad for tensor in (grad, *state))
    assert not homeostatic_scaling(layer.weight, torch.ones(10), target=1.0).requires_grad
