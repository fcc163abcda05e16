"""Node and weight perturbation, REINFORCE."""

import pytest
import torch
from torch import nn

from engram.rules import Backprop, NodePerturbation, Reinforce, WeightPerturbation, train_step


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def flat(grads):
    return torch.cat([grads[name].flatten() for name in sorted(grads)])


@pytest.mark.parametrize(("copies", "draws"), [(100_000, 1), (20_000, 5)])
def test_the_mean_of_node_perturbation_is_the_gradient(copies, draws):
    torch.manual_seed(0)
    model, x, target = nn.Linear(5, 4).double(), drawn(1, 5), drawn(1, 4, seed=1)
    rule = NodePerturbation(sigma=0.01, draws=draws)
    grads = rule.update(model, x.expand(copies, 5), target.expand(copies, 4), rule.init(model, seeded())).grads
    ours, gradient = flat(grads), flat(Backprop().update(model, x, target, None).grads)
    assert torch.cosine_similarity(ours, gradient, dim=0) >= 0.99
    assert (ours.norm() / gradient.norm()).item() == pytest.approx(1, abs=0.05)


def test_a_convolution_of_one_pixel_is_perturbed_as_a_linear_layer():
    torch.manual_seed(0)
    linear, x, rule = nn.Linear(5, 4).double(), drawn(7, 5), NodePerturbation()
    convolution, target = nn.Sequential(nn.Conv2d(5, 4, 1), nn.Flatten()).double(), drawn(7, 4, seed=1)
    for name, part in linear.named_parameters():
        convolution[0].get_parameter(name).data.copy_(part.data.view_as(convolution[0].get_parameter(name)))
    grads, (by_pixel, _, _) = (
        rule.update(model, inputs, target, rule.init(model, seeded()))
        for model, inputs in ((linear, x), (convolution, x[..., None, None]))
    )
    for name, grad in grads.grads.items():
        torch.testing.assert_close(by_pixel[f"0.{name}"].view_as(grad), grad)


def test_the_mean_of_weight_perturbation_is_the_gradient():
    torch.manual_seed(0)
    model, x, target = nn.Linear(3, 2).double(), drawn(4, 3), drawn(4, 2, seed=1)
    rule = WeightPerturbation(sigma=0.01, pairs=3000)
    grads = rule.update(model, x, target, rule.init(model, seeded())).grads
    ours, gradient = flat(grads), flat(Backprop().update(model, x, target, None).grads)
    assert torch.cosine_similarity(ours, gradient, dim=0) >= 0.99
    assert (ours.norm() / gradient.norm()).item() == pytest.approx(1, abs=0.1)


class Gain(nn.Module):
    """A linear layer with a gain."""

    def __init__(self, gain):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.gain = nn.Linear(3, 2), nn.Parameter(gain)

    def forward(self, x):
        return self.gain * self.layer(x)


def test_weights_without_axes_are_perturbed_as_those_with_one():
    rule, x, target = WeightPerturbation(), torch.randn(5, 3, generator=seeded()), torch.tensor([0, 1, 1, 0, 1])
    grads = [
        rule.update(model, x, target, rule.init(model, seeded())).grads
        for model in (Gain(torch.tensor(1.5)), Gain(torch.tensor([1.5])))
    ]
    assert grads[0]["gain"].shape == ()
    for name, grad in grads[1].items():
        assert torch.equal(grads[0][name].reshape(grad.shape), grad)
        assert grad.any()


@pytest.mark.parametrize("draws", [1, 10, 100])
def test_the_cosine_of_perturbation_falls_with_the_dimensions_as_it_should(draws):
    """Root mean square over random gradients: sqrt(K / (K + d + 1)) for K draws in d dimensions."""
    squares = []
    for seed in range(1500 // draws + 60):
        model = nn.Linear(1, 100, bias=False).double()
        nn.init.zeros_(model.weight)
        target = drawn(1, 100, seed=seed)
        rule = NodePerturbation(sigma=1e-4, draws=draws)
        ours = rule.update(model, torch.ones(1, 1).double(), target, rule.init(model, seeded(seed))).grads["weight"]
        squares.append(torch.cosine_similarity(ours.flatten(), -target.flatten(), dim=0) ** 2)
    expected = (draws / (draws + 101)) ** 0.5
    assert torch.stack(squares).mean().sqrt().item() == pytest.approx(expected, rel=0.1)


def test_where_the_loss_is_constant_opposite_perturbations_change_nothing():
    model, rule = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1)).double(), WeightPerturbation(pairs=3)
    target = torch.zeros(5, dtype=torch.int64)  # of one class, whose probability is always 1
    grads = rule.update(model, drawn(5, 3), target, rule.init(model, seeded())).grads
    assert not any(grad.any() for grad in grads.values())


def test_draws_of_noise_are_averaged_and_differ():
    model, x, target = nn.Linear(3, 2).double(), drawn(4, 3), drawn(4, 2, seed=1)
    for make in (NodePerturbation, WeightPerturbation, Reinforce):
        rule = make()
        state = rule.init(model, seeded())
        first = rule.update(model, x, target, state)
        second = rule.update(model, x, target, first.state)
        assert not torch.equal(first.grads["weight"], second.grads["weight"])


def test_the_expected_reinforcement_of_a_bernoulli_unit():
    """E[(R - base) (s - p)] = p (1 - p) (R1 - R0): 0.1955 at a = 0.3 with rewards 1 and 0.2."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Sigmoid(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        model[0].weight.fill_(0.3)
        model[2].bias.copy_(torch.tensor([0.2, 0.8]).log())  # right by 0.2 where the unit is silent
        model[2].weight.copy_(torch.tensor([[50.0], [0.0]]))  # and always where it fires
    rule, copies = Reinforce(), 400_000
    state = rule.init(model, seeded())._replace(baseline=torch.tensor(0.6).double())
    target = torch.zeros(copies, dtype=torch.int64)
    grads = rule.update(model, torch.ones(copies, 1).double(), target, state).grads
    assert -grads["0.weight"].item() == pytest.approx(0.1955, abs=0.002)


def test_a_reward_that_was_expected_changes_nothing():
    model, batch = nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 1)).double(), drawn(6, 5)
    target = torch.zeros(6, dtype=torch.int64)  # the only class, and so always right
    state = Reinforce().init(model, seeded())
    (slow, _, _), (grads, after, _) = (
        rule.update(model, batch, target, state) for rule in (Reinforce(rate=0.0), Reinforce(rate=0.25))
    )
    assert after.baseline == 0.25
    assert torch.equal(slow["0.weight"], grads["0.weight"]), "a reward was compared with itself"
    assert grads["0.weight"].any()
    expected = state._replace(baseline=torch.ones((), dtype=torch.float64))
    assert not any(grad.any() for grad in Reinforce().update(model, batch, target, expected).grads.values())


def test_of_values_the_mean_of_reinforce_is_the_gradient():
    torch.manual_seed(0)
    model, x, target = nn.Linear(5, 4).double(), drawn(1, 5), drawn(1, 4, seed=1)
    rule, copies = Reinforce(sigma=0.3), 200_000
    state = rule.init(model, seeded())
    _, _, info = Backprop().update(model, x, target, None)
    state = state._replace(baseline=-info["loss"])
    ours = flat(rule.update(model, x.expand(copies, 5), target.expand(copies, 4), state).grads)
    gradient = flat(Backprop().update(model, x, target, None).grads)
    torch.testing.assert_close(ours, gradient, rtol=0.05, atol=0.02)


def test_reinforce_raises_its_reward_and_its_baseline_follows():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2))
    x = torch.randn(200, 4, generator=seeded())
    target, rule = (x[:, 0] > 0).long(), Reinforce()
    state, optimizer = rule.init(model, seeded()), torch.optim.SGD(model.parameters(), lr=0.5)
    rewards = []
    for _ in range(600):
        _, state, info = train_step(rule, model, optimizer, (x, target), state)
        rewards.append(info["reward"].item())
    assert sum(rewards[-50:]) / 50 > 0.85
    assert state.baseline.item() == pytest.approx(sum(rewards[-20:]) / 20, abs=0.05)
