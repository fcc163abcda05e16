"""Predictive coding, equilibrium propagation, difference target propagation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engram.analysis import gradient_cosine
from engram.rules import Backprop, DifferenceTargetPropagation, EquilibriumPropagation, PredictiveCoding, chain
from engram.rules.difference_target_propagation import Inverse, difference_targets
from engram.rules.loss import output_loss


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def network(seed=0, *layers):
    torch.manual_seed(seed)
    layers = layers or (nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 4))
    return nn.Sequential(*layers).double()


@given(st.integers(0, 1000), st.booleans(), st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_with_fixed_predictions_predictive_coding_is_backpropagation(seed, classes, batch):
    model, x = network(seed), drawn(batch, 8, seed=seed)
    target = torch.randint(4, (batch,), generator=seeded(seed)) if classes else drawn(batch, 4, seed=seed + 1)
    ours, theirs = (rule.update(model, x, target, None) for rule in (PredictiveCoding(), Backprop()))
    for name, gradient in theirs.grads.items():
        torch.testing.assert_close(ours.grads[name], gradient, rtol=1e-12, atol=1e-12)


def test_strict_predictive_coding_is_the_gradient_of_small_errors_only():
    """Small is what the output sends back, so that the values that it moves hardly change it: W[L] is scaled.

    Smaller targets would not do: of half the squared error the values take the same part away at every scale.
    """

    def cosines(scale, steps):
        model, x, target = network(), drawn(16, 8), drawn(16, 4, seed=1)
        model[4].weight.data.mul_(scale)
        rule = PredictiveCoding("strict", steps=steps)
        grads, _, info = rule.update(model, x, target, None)
        cosine = gradient_cosine(grads, Backprop().update(model, x, target, None).grads)
        return torch.tensor([layer.cosine for layer in cosine.values()]), info

    far, near, nearest = (cosines(scale, 1000)[0] for scale in (1, 0.1, 0.01))
    assert (nearest > 0.999).all()
    assert (near > far).all()
    assert (far < 0.99).any()
    assert (cosines(1, 5)[0] > far).all(), "more inference leads away from the gradient"


def test_the_energy_never_rises():
    model, x, target = network(), drawn(16, 8), drawn(16, 4, seed=1)
    info = PredictiveCoding("strict", steps=200).update(model, x, target, None).info
    assert info["halvings"] == 0
    assert (info["energy"].diff() <= 1e-12).all()
    assert info["energy"][0] == pytest.approx(info["loss"].item())
    rough = PredictiveCoding("strict", steps=200, rate=50.0).update(model, x, target, None).info
    assert rough["halvings"] > 0
    assert (rough["energy"].diff() <= 1e-12).all()
    assert rough["energy"][-1] == pytest.approx(info["energy"][-1].item(), rel=1e-3)


def test_strict_predictive_coding_descends_its_energy():
    """The pseudo-gradient is the derivative of the energy by the weights, at the values that were settled on."""
    model, x, target = network(), drawn(5, 8), torch.randint(4, (5,), generator=seeded())
    grads = PredictiveCoding("strict", steps=30).update(model, x, target, None).grads
    values = [h.detach().requires_grad_() for h in (model[:2](x), model[:4](x))]

    def energy():
        first, second = values
        inner = (first - model[:2](x)).square().sum() + (second - model[2:4](first)).square().sum()
        return inner / 2 + output_loss(model[4](second), target) * len(x)

    for _ in range(30):
        steps = torch.autograd.grad(energy(), values)
        values = [(v - 0.1 * step).detach().requires_grad_() for v, step in zip(values, steps, strict=True)]
    gradients = torch.autograd.grad(energy() / len(x), list(model.parameters()))
    for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(grads[name], gradient, rtol=1e-10, atol=1e-12)


def test_strict_predictive_coding_takes_images():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 2)).double()
    info = PredictiveCoding("strict", rate=5.0).update(model, drawn(4, 1, 8, 8), drawn(4, 2, seed=1), None).info
    assert info["halvings"] > 0
    assert info["energy"][-1] < info["energy"][0]


@pytest.mark.parametrize("units", [nn.Sigmoid, pytest.param(nn.Tanh, marks=pytest.mark.soak)])
def test_equilibrium_propagation_approaches_the_gradient_as_the_nudge_falls(units):
    """One-sided with the nudge, symmetric with its square; the gradient is that of the free phase's cost."""
    model = network(1, nn.Linear(6, 5), units(), nn.Linear(5, 3), units())
    x, target = drawn(4, 6), 0.5 * drawn(4, 3, seed=1)
    settled = EquilibriumPropagation(free_steps=300)

    def cost():
        return output_loss(settled.predict(model, x), target).item()

    gradient = {}
    for name, parameter in model.named_parameters():
        flat, differences = parameter.data.view(-1), torch.zeros(parameter.numel(), dtype=torch.float64)
        for index in range(len(flat)):
            weight = flat[index].item()
            flat[index] = weight + 1e-5
            up = cost()
            flat[index] = weight - 1e-5
            differences[index] = (up - cost()) / 2e-5
            flat[index] = weight
        gradient[name] = differences.view_as(parameter)
    whole = torch.cat([value.flatten() for value in gradient.values()])

    def error(beta, symmetric):
        rule = EquilibriumPropagation(beta, symmetric=symmetric, free_steps=300, nudge_steps=300)
        grads, _, info = rule.update(model, x, target, None)
        assert info["residual"] < 1e-12
        ours = torch.cat([grads[name].flatten() for name in gradient])
        return float((ours - whole).norm() / whole.norm())

    one_sided = [error(beta, symmetric=False) for beta in (0.1, 0.01, 0.001)]
    both = [error(beta, symmetric=True) for beta in (0.1, 0.01)]
    assert one_sided[0] / one_sided[1] == pytest.approx(10, rel=0.3)
    assert one_sided[1] / one_sided[2] == pytest.approx(10, rel=0.3)
    assert both[0] / both[1] == pytest.approx(100, rel=0.5)
    assert both[0] < one_sided[0]
    assert both[0] < 0.045  # a cosine of .999


def test_the_residual_is_the_largest_force_that_is_left():
    model, x = network(1, nn.Linear(6, 3)), drawn(4, 6)
    for steps, share in ((1, 1), (2, 0.7), (3, 0.49)):  # linear units approach their drive by epsilon a step
        rule = EquilibriumPropagation(free_steps=steps, epsilon=0.3)
        residual = rule.update(model, x, drawn(4, 3, seed=1), None).info["residual"]
        torch.testing.assert_close(residual, share * model(x).abs().max().detach())


def test_a_free_phase_with_a_tolerance_ends_when_it_has_settled():
    model = network(1, nn.Linear(6, 5), nn.Hardtanh(0, 1), nn.Linear(5, 3), nn.Hardtanh(0, 1))
    x, target = drawn(4, 6), drawn(4, 3, seed=1)
    rule = EquilibriumPropagation(free_steps=300, tolerance=1e-3)
    residual = rule.update(model, x, target, None).info["residual"]
    assert 0 < residual <= 1e-3
    equal = [EquilibriumPropagation(free_steps=steps).update(model, x, target, None) for steps in range(5, 300, 5)]
    stopped = next(update for update in equal if update.info["residual"] <= 1e-3)
    assert stopped.info["residual"] == residual
    unsettled = EquilibriumPropagation(free_steps=5, tolerance=1e-9).update(model, x, target, None).info["residual"]
    assert unsettled == equal[0].info["residual"] > 1e-9
    assert EquilibriumPropagation.one_sided(tolerance=0.1).tolerance == 0.1


@pytest.mark.parametrize("units", [nn.Tanh, nn.Sigmoid])
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_step_of_equilibrium_propagation_follows_the_energy(units, symmetric):
    """A few steps, which do not settle, held to autograd of E = |s|^2 / 2 - rho(s)^T W rho(below) - b^T rho(s)."""
    model, rho = network(1, nn.Linear(6, 5), units(), nn.Linear(5, 3), units()), units()
    x, target = drawn(4, 6), 0.5 * drawn(4, 3, seed=1)
    beta, epsilon = 0.4, 0.3

    def energy(first, second):
        drive = (rho(first) * model[0](x)).sum() + (rho(second) * model[2](rho(first))).sum()
        return (first.square().sum() + second.square().sum()) / 2 - drive

    def moved(states, nudge, steps):
        for _ in range(steps):
            leaves = [s.detach().requires_grad_() for s in states]
            whole = energy(*leaves) + nudge * len(x) * output_loss(rho(leaves[1]), target)
            slopes = torch.autograd.grad(whole, leaves)
            states = [s - epsilon * slope for s, slope in zip(leaves, slopes, strict=True)]
        return [s.detach() for s in states]

    free = moved([torch.zeros(4, 5).double(), torch.zeros(4, 3).double()], 0.0, 3)
    names = [name for name, _ in model.named_parameters()]

    def by_weights(states):
        return torch.autograd.grad(energy(*states), list(model.parameters()))

    low, width = (moved(free, -beta, 2), 2 * beta) if symmetric else (free, beta)
    both = zip(by_weights(moved(free, beta, 2)), by_weights(low), strict=True)
    expected = {name: (up - down) / (width * len(x)) for name, (up, down) in zip(names, both, strict=True)}
    rule = EquilibriumPropagation(beta, symmetric=symmetric, free_steps=3, nudge_steps=2, epsilon=epsilon)
    torch.testing.assert_close(rule.update(model, x, target, None).grads, expected)


def test_states_of_the_hard_sigmoid_keep_to_its_range_and_settle():
    model = network(0, nn.Linear(6, 5), nn.Hardtanh(0, 1), nn.Linear(5, 3), nn.Hardtanh(0, 1))
    for parameter in model.parameters():
        parameter.data.mul_(4)
    output = EquilibriumPropagation(free_steps=500).predict(model, drawn(50, 6))
    assert output.min() == 0
    assert output.max() == 1


def test_through_exact_inverses_a_target_goes_back_by_the_inverse_weights():
    model, rule = network(0, *(nn.Linear(4, 4) for _ in range(3))), DifferenceTargetPropagation()
    read = chain.Chain.from_module(model, rule)
    with torch.no_grad():
        activities = read.forward(drawn(7, 4))
        W, b = model[1].weight, model[1].bias
        back = torch.linalg.inv(W)
        inverses = {"1.weight": Inverse(back, -back @ b)}
        step = drawn(7, 4, seed=1)
        first, second = difference_targets(read, activities, step, inverses)
        torch.testing.assert_close(second, activities[1].output - step)
        torch.testing.assert_close(first - activities[0].output, -step @ back.T)
        still = difference_targets(read, activities, 0 * step, inverses)
    for target, activity in zip(still, activities, strict=False):
        assert torch.equal(target, activity.output)


def test_the_top_hidden_layer_of_target_propagation_has_the_gradient():
    model, x, target = network(), drawn(5, 8), torch.randint(4, (5,), generator=seeded())
    rule = DifferenceTargetPropagation()
    grads = rule.update(model, x, target, rule.init(model, seeded())).grads
    gradients = Backprop().update(model, x, target, None).grads
    for name in ("2.weight", "2.bias", "4.weight", "4.bias"):
        torch.testing.assert_close(grads[name], gradients[name])


def test_the_inverses_learn():
    model, x = network(0, nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 4)), drawn(64, 8)
    rule = DifferenceTargetPropagation(inverse_steps=500)
    state = rule.init(model, seeded())
    after = rule.update(model, x, drawn(64, 4, seed=1), state).state
    with torch.no_grad():
        h = model[:2](x)
        guesses = [
            torch.tanh(model[2:4](h) @ inverse.weight.T + inverse.bias)
            for inverse in (state.inverses["2.weight"], after.inverses["2.weight"])
        ]
    assert (guesses[1] - h).norm() < 0.5 * (guesses[0] - h).norm()


def test_an_inverse_takes_a_gradient_step_towards_the_noisy_activity():
    model, x = network(0, nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)), drawn(16, 8)
    rule = DifferenceTargetPropagation(noise=0.7, rate=0.3, inverse_steps=1)
    state = rule.init(model, seeded())
    after = rule.update(model, x, drawn(16, 4, seed=1), state).state.inverses["2.weight"]
    with torch.no_grad():
        h = model[:2](x)
        noisy = h + 0.7 * chain.normal(h.shape, chain.generator_of(state.key, h), h)
        above = model[2:4](noisy)
    weight, bias = (part.clone().requires_grad_() for part in state.inverses["2.weight"])
    error = torch.tanh(above @ weight.T + bias) - noisy
    slopes = torch.autograd.grad(error.square().sum() / (2 * len(x)), (weight, bias))
    for part, before, slope in zip(after, state.inverses["2.weight"], slopes, strict=True):
        torch.testing.assert_close(part, before - 0.3 * slope)


def test_inverses_begin_with_a_variance_of_one_over_fan_in():
    model = network(0, nn.Linear(2, 400), nn.Tanh(), nn.Linear(400, 300), nn.Tanh(), nn.Linear(300, 2))
    (inverse,) = DifferenceTargetPropagation().init(model, seeded()).inverses.values()
    assert inverse.weight.shape == (400, 300)
    assert inverse.weight.var().item() == pytest.approx(1 / 300, rel=0.02)
    assert not inverse.bias.any()


def test_targets_come_from_the_inverses_that_have_learned():
    model, batch = network(), (drawn(5, 8), drawn(5, 4, seed=1))
    rule, resting = DifferenceTargetPropagation(), DifferenceTargetPropagation(inverse_steps=0)
    grads, after, _ = rule.update(model, *batch, rule.init(model, seeded()))
    torch.testing.assert_close(grads, resting.update(model, *batch, after).grads)


def test_each_batch_has_noise_of_its_own():
    model, batch, rule = network(), (drawn(5, 8), drawn(5, 4, seed=1)), DifferenceTargetPropagation()
    state = rule.init(model, seeded())
    assert rule.update(model, *batch, state).state.key != state.key
