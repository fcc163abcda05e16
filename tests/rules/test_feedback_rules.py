"""Feedback alignment and its kin."""

from itertools import pairwise

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from engram import registry
from engram.analysis import gradient_cosine
from engram.nn import NTKLinear
from engram.rules import (
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    KolenPollack,
    LastLayerOnly,
    LocalError,
    SignSymmetry,
    WeightMirror,
    chain,
    train_step,
)
from engram.rules.output_feedback import OutputFeedback


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def network(*sizes, act=nn.Tanh, seed=0):
    torch.manual_seed(seed)
    layers = [part for pre, post in pairwise(sizes) for part in (nn.Linear(pre, post), act())][:-1]
    for layer in layers[::2]:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers).double()


def digits():
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(1437, generator=seeded())
    x = torch.tensor(images / 16, dtype=torch.float32)[:1437]
    return (x - x.mean(0))[order], torch.tensor(labels[:1437])[order]


def hidden_cosines(rule, epochs=20, **options):
    """Cosines of the two hidden layers before and after training on digits."""
    x, y = digits()
    model = network(64, 32, 16, 10).float()
    state, generator = rule.init(model, seeded(1)), seeded(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, **options)
    cosines = []
    for epoch in range(epochs + 1):
        if epoch in (0, epochs):
            ours = rule.update(model, x[:256], y[:256], state).grads
            theirs = Backprop().update(model, x[:256], y[:256], None).grads
            cosines.append([cosine.cosine for cosine in gradient_cosine(ours, theirs).values()][:2])
        for rows in torch.randperm(len(x), generator=generator).split(32):
            state = train_step(rule, model, optimizer, (x[rows], y[rows]), state).state
    return cosines


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(1, 5))])
def test_of_feedback_alignment_the_angle_falls_from_a_right_one(seed):
    generator = seeded(seed)
    target = 2 * torch.rand(10, 30, generator=generator) - 1
    model, rule = nn.Sequential(nn.Linear(30, 20, bias=False), nn.Linear(20, 10, bias=False)), FeedbackAlignment()
    for weight in model.parameters():
        weight.data = 0.01 * torch.randn(weight.shape, generator=generator)
    state = {"1.weight": torch.rand(10, 20, generator=generator) - 0.5}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.003)
    angles = []
    for _ in range(2001):
        x = torch.randn(1, 30, generator=generator)
        with torch.no_grad():
            error = model(x) - x @ target.T
            back = torch.cosine_similarity(error @ model[1].weight, error @ state["1.weight"])
        angles.append(back.arccos().rad2deg().item())
        train_step(rule, model, optimizer, (x, x @ target.T), state)
    assert 75 <= sum(angles[:20]) / 20 <= 105
    assert sum(angles[-20:]) / 20 < 45


def test_feedback_has_a_variance_of_one_over_fan_in():
    model = nn.Sequential(nn.Linear(2, 400), nn.Tanh(), nn.Linear(400, 300), nn.Tanh(), nn.Linear(300, 2))
    feedback = FeedbackAlignment().init(model, seeded())
    assert feedback["2.weight"].var().item() == pytest.approx(1 / 400, rel=0.02)
    direct = DirectFeedbackAlignment()
    state = direct.update(model, torch.ones(1, 2), torch.ones(1, 2), direct.init(model, seeded())).state
    assert state.weights.shape == (2, 700)
    assert state.weights.var().item() == pytest.approx(1 / 2, rel=0.2)
    local = LocalError()
    state = local.update(model, torch.ones(1, 2), torch.ones(1, 2), local.init(model, seeded())).state
    assert state.weights[:, :400].var().item() == pytest.approx(1 / 400, rel=0.2)
    assert state.weights[:, 400:].var().item() == pytest.approx(1 / 300, rel=0.2)
    images = nn.Sequential(nn.Conv2d(1, 40, 3), nn.Conv2d(40, 50, 3))
    assert FeedbackAlignment().init(images, seeded())["1.weight"].var().item() == pytest.approx(1 / 360, rel=0.05)


def test_feedback_of_scaled_weights_is_scaled_alike():
    layers = NTKLinear(2, 400), nn.Tanh(), NTKLinear(400, 300, gain=3.0), nn.Tanh(), NTKLinear(300, 2)
    model, direct = nn.Sequential(*layers), DirectFeedbackAlignment()
    feedback = FeedbackAlignment().init(model, seeded())
    assert feedback["2.weight"].var().item() == pytest.approx(9 / 400, rel=0.02)
    state = direct.update(model, torch.ones(1, 2), torch.ones(1, 2), direct.init(model, seeded())).state
    assert state.weights[:, :400].var().item() == pytest.approx(1 / 400, rel=0.2)
    assert state.weights[:, 400:].var().item() == pytest.approx(1 / 300, rel=0.2)


def test_with_one_hidden_layer_direct_feedback_is_feedback_alignment():
    model, x, target = network(5, 4, 3), drawn(7, 5), drawn(7, 3, seed=1)
    B = drawn(3, 4, seed=2)
    fa = FeedbackAlignment().update(model, x, target, {"2.weight": B}).grads
    dfa = DirectFeedbackAlignment().update(model, x, target, OutputFeedback(B, torch.tensor(0))).grads
    for name, grad in fa.items():
        torch.testing.assert_close(dfa[name], grad, rtol=1e-13, atol=1e-13)


def test_a_factor_of_one_layer_s_feedback_is_a_factor_of_all_updates_below_it():
    model, x, target = network(5, 4, 4, 4, 3), drawn(7, 5), drawn(7, 3, seed=1)
    rule = FeedbackAlignment()
    B = rule.init(model, seeded())
    plain = rule.update(model, x, target, B).grads
    scaled = rule.update(model, x, target, B | {"4.weight": 3 * B["4.weight"]}).grads
    for name, grad in plain.items():
        factor = 3 if name.startswith(("0.", "2.")) else 1
        torch.testing.assert_close(scaled[name], factor * grad, rtol=1e-12, atol=1e-14)


def test_feedback_of_another_network_is_refused():
    state = OutputFeedback(drawn(3, 4), torch.tensor(0))
    with pytest.raises(ValueError, match=r"state.weights.shape = \(3, 4\): expected \(3, 6\)"):
        DirectFeedbackAlignment().update(network(5, 6, 3), drawn(7, 5), drawn(7, 3), state)


def test_direct_feedback_aligns_on_digits():
    before, after = hidden_cosines(DirectFeedbackAlignment())
    assert min(after) > 0.3
    assert sum(after) > sum(before)


def test_sign_symmetry_with_the_sizes_of_the_weights_is_backpropagation():
    model, x, target = network(5, 4, 4, 3), drawn(7, 5), torch.randint(3, (7,), generator=seeded())
    with torch.no_grad():
        model[2].weight[0, 0] = -0.0
    rule = SignSymmetry.fixed()
    weights = chain.Chain.from_module(model, rule).weights()
    state = rule.init(model, seeded())._replace(
        magnitudes={name: weight.detach().abs() for name, weight in weights.items()}
    )
    gradients = Backprop().update(model, x, target, None).grads
    for name, grad in rule.update(model, x, target, state).grads.items():
        torch.testing.assert_close(grad, gradients[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_weight_of_zero_has_a_positive_sign(zero):
    model, rule = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), SignSymmetry()
    state = rule.init(model, seeded())
    nn.init.constant_(model[1].weight, zero)
    grads = rule.update(model, torch.ones(1, 1), torch.full((1, 1), -9.0), state).grads
    assert grads["0.weight"].item() > 0


def test_of_normal_weights_the_signs_keep_the_root_of_two_over_pi_of_an_error():
    """In the limit of wide layers, each time it goes through weights."""
    model, rule = network(500, 500, 500, 500, act=nn.Identity), SignSymmetry()
    x = drawn(100, 500)
    target = model(x).detach() - drawn(100, 500, seed=1)  # an error that knows nothing of the weights
    ours = rule.update(model, x, target, rule.init(model, seeded())).grads
    cosine = gradient_cosine(ours, Backprop().update(model, x, target, None).grads)
    once = (2 / torch.pi) ** 0.5
    assert cosine["2"].cosine == pytest.approx(once, abs=0.02)
    assert cosine["0"].cosine == pytest.approx(once**2, abs=0.03)


def test_redrawn_sizes_differ_from_batch_to_batch_and_fixed_ones_do_not():
    model, x, target = network(5, 4, 3), drawn(7, 5), drawn(7, 3, seed=1)
    for rule, changes in ((SignSymmetry(), False), (SignSymmetry.fixed(), False), (SignSymmetry.redrawn(), True)):
        state = rule.init(model, seeded())
        for _ in range(2):
            before, state = state, rule.update(model, x, target, state).state
            assert torch.equal(state.magnitudes["2.weight"], before.magnitudes["2.weight"]) != changes


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Adam])
def test_forward_and_feedback_weights_of_kolen_pollack_come_together_whatever_the_gradients(make):
    model, rule = network(5, 4, 4, 3), KolenPollack(decay=0.1)
    state, optimizer = rule.init(model, seeded()), make(model.parameters(), lr=0.05, weight_decay=0.3)
    for step in range(10):
        before = [model.get_parameter(name) - B for name, B in state.items()]
        state = train_step(rule, model, optimizer, (drawn(7, 5, seed=step), drawn(7, 3, seed=step)), state).state
        for (name, B), was in zip(state.items(), before, strict=True):
            torch.testing.assert_close(model.get_parameter(name) - B, 0.9 * was, rtol=1e-12, atol=1e-13)


def test_kolen_pollack_becomes_the_gradient_on_digits():
    _, after = hidden_cosines(KolenPollack(), weight_decay=1e-3 * 0.1 / 0.03)
    assert min(after) >= 0.9


def test_a_weight_mirror_of_linear_units_learns_the_weights():
    model, rule = network(5, 4, 4, 3, act=nn.Identity), WeightMirror(rate=0.01, decay=0.01)
    state = rule.init(model, seeded())
    x, target = drawn(64, 5), drawn(64, 3, seed=1)
    for _ in range(1000):
        state = rule.update(model, x, target, state).state
    for name, B in state.feedback.items():
        W = model.get_parameter(name).detach()
        assert torch.cosine_similarity(B.flatten(), W.flatten(), dim=0) > 0.98
        assert (B.norm() / W.norm()).item() == pytest.approx(1, abs=0.15)


def test_a_weight_mirror_learns_from_the_response_to_noise_after_its_batch():
    model, rule, x, target = network(5, 4, 4, 3), WeightMirror(rate=0.3, decay=0.2), drawn(7, 5), drawn(7, 3, seed=1)
    model[2].bias.data += 1  # which noise does not meet
    state = rule.init(model, seeded())
    grads, after, _ = rule.update(model, x, target, state)
    generator = seeded(int(state.key))
    for name, units in (("2.weight", torch.tanh), ("4.weight", lambda a: a)):
        noise = chain.normal((7, 4), generator, x)
        response = units(noise @ model.get_parameter(name).detach().T)
        torch.testing.assert_close(after.feedback[name], 0.8 * state.feedback[name] + 0.3 / 7 * response.T @ noise)
    torch.testing.assert_close(grads, FeedbackAlignment().update(model, x, target, state.feedback).grads)
    assert after.key != state.key


def test_of_local_errors_a_layer_knows_nothing_of_those_above():
    x, target = drawn(7, 5), torch.randint(3, (7,), generator=seeded())
    rule, model = LocalError(), network(5, 4, 4, 3)
    state = rule.update(model, x, target, rule.init(model, seeded())).state
    readout = state.weights[:, :4]
    h = model[:2](x).detach().requires_grad_()
    nn.functional.cross_entropy(h @ readout.T, target).backward()
    delta = h.grad * (1 - h.detach() ** 2)
    torch.testing.assert_close(rule.update(model, x, target, state).grads["0.weight"], delta.T @ x)


@pytest.mark.parametrize("name", ["fa", "dfa", "usf", "kolen-pollack", "weight-mirror", "local-error", "dtp"])
def test_hidden_layers_learn_what_a_last_layer_alone_does_not(name):
    def accuracy(rule):
        x, y = digits()
        model = network(64, 16, 10).float()
        state, optimizer = rule.init(model, seeded(1)), torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
        for rows in torch.randperm(1200, generator=seeded(2)).repeat(10).split(32):
            state = train_step(rule, model, optimizer, (x[rows], y[rows]), state).state
        return float((rule.predict(model, x[1200:]).argmax(1) == y[1200:]).float().mean())

    assert accuracy(registry.get("learning_rules", name)()) > accuracy(LastLayerOnly()) + 0.05
