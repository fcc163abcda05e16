import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from engram.tasks import (
    FlipFlop,
    latent_dynamics,
    learning_rule_traces,
    observed,
    ring_rates,
    ring_weights,
    same_geometry,
)
from engram.tasks.dynamics.learning_rule_traces import RULES
from engram.testing.promises import default_dtype


def test_the_target_of_a_channel_is_its_last_pulse():
    task = FlipFlop(bits=2, steps=60, pulse=0.2)
    inputs, targets, mask = task.sample(3, torch.Generator().manual_seed(0))
    assert mask.all()
    expected = torch.ones(3, 2)
    for u, target in zip(inputs, targets, strict=True):
        expected = torch.where(u != 0, u, expected)
        assert torch.equal(target, expected)
    assert (inputs[1:] != 0).float().mean() == pytest.approx(0.2, abs=0.06)
    with pytest.raises(ValueError, match="pulse = 2"):
        FlipFlop(pulse=2.0)


def test_systems_of_the_same_geometry_have_the_same_mean_and_other_noise():
    states = same_geometry(2, np.random.default_rng(0), trials=50, steps=3000, keep=10)
    assert states.shape == (3, 2, 100, 300, 2)
    means = states.reshape(3, 2, 2, 50, 300, 2).mean(3)
    assert np.abs(means[1:] - means[0]).max() < 1e-3
    assert np.abs(means[0, :, :, -1, 0]).min() > 0.5  # the two sides of the saddle
    # The noise grows along the line, and stays in the point.
    spread = states[:, 0, :50].std(1)[..., :].max(-1)
    assert spread[1, -1] > 3 * spread[2, -1]
    still = same_geometry(1, np.random.default_rng(0), trials=2, steps=500, noise=0.0)
    np.testing.assert_allclose(still[1:], np.broadcast_to(still[:1], still[1:].shape), atol=1e-9)
    with pytest.raises(ValueError, match="models = 0"):
        same_geometry(0, np.random.default_rng(0))


def test_small_systems_are_what_they_are_called():
    rng = np.random.default_rng(0)
    lorenz = latent_dynamics("lorenz", rng, trials=4, steps=300)
    assert lorenz.shape == (4, 300, 3)
    np.testing.assert_allclose(lorenz.std((0, 1)), 1)
    cycle = latent_dynamics("van-der-pol", rng, trials=3, steps=300)
    crossings = np.flatnonzero(np.diff(np.sign(cycle[0, :, 0])) > 0)
    assert np.diff(crossings).mean() * 0.1 == pytest.approx(7.63, abs=0.15)  # its period for mu = 2
    sides = latent_dynamics("bistable", rng, trials=40, steps=50)[:, -1, 0]
    assert 5 < (sides > 0).sum() < 35
    seen = observed(lorenz, "linear", rng)
    assert np.linalg.matrix_rank(seen.reshape(-1, 20)) == 3
    np.testing.assert_allclose(np.linalg.norm(seen, axis=2), np.linalg.norm(lorenz, axis=2))
    for bad in (lambda: observed(lorenz, "cube", rng), lambda: latent_dynamics("pendulum", rng)):
        with pytest.raises(ValueError, match="expected one of"):
            bad()
    with pytest.raises(TypeError, match=r"\brng ?= ?0\b"):
        latent_dynamics("lorenz", 0)


def bump(rates):
    """Where the bump of each moment is, in turns, unwrapped."""
    half = rates.shape[1] // 2
    phase = np.exp(2j * np.pi * np.arange(half) / half)
    return np.unwrap(np.angle((rates[:, :half] + rates[:, half:]) @ phase)) / (2 * np.pi)


def test_a_bump_goes_round_the_ring_as_it_is_driven():
    weights = np.stack([ring_weights(60, 36.0)] * 3)
    np.testing.assert_allclose(weights[0, 0, :60], np.roll(weights[0, 1, :60], -1), atol=1e-12)  # a ring
    drive = np.tile([2.0, -2.0, 0.0], (1500, 1))
    rates = ring_rates(weights, drive, np.random.default_rng(0))[:, 300:]
    moved = [bump(x)[-1] - bump(x)[0] for x in rates]
    assert moved[0] * moved[1] < 0
    assert min(abs(moved[0]), abs(moved[1])) > 5 * abs(moved[2])
    cut = ring_weights(60, 36.0, 0.2)
    assert np.abs(cut[0, :60] - np.roll(cut[1, :60], -1)).max() > 1e-3  # no ring
    same, other = ring_rates(weights[:2], np.tile([2.0, 2.0], (50, 1)), np.random.default_rng(0), shared=True)
    np.testing.assert_array_equal(same, other)
    with pytest.raises(ValueError, match=r"closure = 2.0: expected a number from 0 to 1"):
        ring_weights(60, 36.0, 2.0)
    with pytest.raises(ValueError, match=r"noise = -0.1: expected a number"):
        ring_rates(weights, drive, np.random.default_rng(0), noise=-0.1)


def test_all_ways_round_a_short_ring_are_summed():
    for neurons, length in ((5, 4.9), (8, 7.9), (20, 12.0)):
        distance = np.arange(neurons)[:, None] - np.arange(neurons) + 2 + neurons * np.arange(-9, 10)[:, None, None]
        profile = 4 * (np.cos(np.pi * distance / length) - 1) * (np.abs(distance) < 2 * length)
        weights = ring_weights(neurons, length)[:neurons, :neurons]
        np.testing.assert_allclose(weights, profile.sum(0) / neurons, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_learns_and_is_seen_learning(rule):
    traces = learning_rule_traces(rule, 3, torch.Generator().manual_seed(0), observations=40)
    assert traces.shape == (3, 40, 16)
    assert traces.isfinite().all()
    # Weights of the first layer grow.
    assert all(spearmanr(np.arange(40), trace[:, 2]).statistic > 0.9 for trace in traces.numpy())
    with pytest.raises(ValueError, match="networks = 0: expected at least 1"):
        learning_rule_traces(rule, 0, torch.Generator())


def test_activity_is_observed_on_the_same_images_at_every_step():
    traces = learning_rule_traces("sgd", 3, torch.Generator().manual_seed(0), observations=30, every=1)
    # A step of the weights changes little; other images would change more.
    assert traces[:, :, 4:8].diff(dim=1).abs().max() < 0.04
    with pytest.raises(ValueError, match="probes = 1797: expected 1 to 1796"):
        learning_rule_traces("sgd", 3, torch.Generator(), probes=1797)
    with pytest.raises(TypeError, match=r"\bgenerator ?= ?0\b"):
        learning_rule_traces("sgd", 3, 0)


def test_images_are_observed_in_the_order_given():
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    drawn, given = (torch.Generator().manual_seed(0) for _ in range(2))
    torch.randperm(1797, generator=given)
    usual = learning_rule_traces("sgd", 2, drawn, observations=2)
    assert torch.equal(usual, learning_rule_traces("sgd", 2, given, observations=2, order=order))
    with pytest.raises(ValueError, match="expected every number from 0 to 1796 once"):
        learning_rule_traces("sgd", 2, given, order=order[:5])


@pytest.mark.parametrize("rule", ["momentum", "adam", "feedback-alignment"])
def test_traces_of_learning_rules_are_the_same_whatever_the_default_dtype(rule):
    usual = learning_rule_traces(rule, 2, torch.Generator().manual_seed(0), observations=2)
    with default_dtype(torch.float64):
        assert torch.equal(usual, learning_rule_traces(rule, 2, torch.Generator().manual_seed(0), observations=2))
