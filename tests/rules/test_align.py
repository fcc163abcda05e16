import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engram.nn import BatchOnlyNorm, to_standard, wide_cnn, wide_mlp, wide_rnn
from engram.nn.ntk import NTKRNN, NTKLinear, WideRNN
from engram.rules import (
    AlignAda,
    AlignProp,
    AlignZero,
    Backprop,
    DirectFeedbackAlignment,
    FeedbackAlignment,
    train_step,
)

ADAS = [AlignAda(kind) for kind in ("author", "initial", "current")]
RULES = [AlignZero(), *ADAS, AlignProp()]
names = [*("zero", "ada", "ada-initial", "ada-current"), "prop"]
each_rule = pytest.mark.parametrize("rule", RULES, ids=names)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=1):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def targets(batch, classes=10):
    drawn = torch.randint(classes, (batch,), generator=generator(2))
    return torch.eye(classes, dtype=torch.float64)[drawn] - 0.1


def networks():
    double = {"dtype": torch.float64, "generator": generator()}
    standard = to_standard(wide_mlp((12, 9, 10), norm=False, **double))
    standard[1].inplace = True
    standard.append(nn.Tanh())
    return {
        "mlp": (wide_mlp((12, 9, 8, 10), **double), draw(6, 12), targets(6)),
        "plain": (wide_mlp((12, 9, 8, 10), norm=False, **double), draw(6, 12), targets(6)),
        "cnn": (wide_cnn(4, **double), draw(5, 1, 9, 8), targets(5)),
        "rnn": (wide_rnn(1, 8, 2, **double), draw(7, 5, 1), draw(7, 5, 2, seed=3)),
        "standard": (standard, draw(6, 12), targets(6)),
    }


def grads(rule, model, x, target, state=None):
    state = rule.init(model, generator()) if state is None else state
    return rule.update(model, x, target, state).grads


def moved(model, size=0.3):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for number, value in enumerate(other.parameters()):
            value.add_(size * draw(*value.shape, seed=50 + number))
    return other


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@each_rule
@pytest.mark.parametrize("name", ["mlp", "plain", "cnn", "rnn", "standard"])
def test_the_first_step_is_that_of_backpropagation_bit_for_bit(rule, name):
    model, x, target = networks()[name]
    gradients, wanted = grads(rule, model, x, target), grads(Backprop(), model, x, target)
    assert same(gradients, wanted)
    assert all(grad.any() for grad in wanted.values() if grad.ndim > 1)


@each_rule
@pytest.mark.parametrize("name", ["mlp", "cnn", "rnn"])
def test_back_at_the_start_it_is_backpropagation_again_and_elsewhere_not(rule, name):
    model, x, target = networks()[name]
    state, other = rule.init(model, generator()), moved(model)
    gradients, wanted = grads(rule, other, x, target, state), grads(Backprop(), other, x, target)
    first = next(name for name in wanted if "weight" in name)
    assert (gradients[first] - wanted[first]).norm() > 0.01 * wanted[first].norm()
    assert same(grads(rule, model, x, target, state), grads(Backprop(), model, x, target))


@pytest.mark.parametrize("rule", [AlignZero(), Backprop()])
def test_a_parameter_that_nothing_uses_gets_no_gradient(rule):
    model = nn.Sequential(nn.Linear(3, 2))
    model.spare = nn.Parameter(torch.ones(2))
    model.forward = model[0].forward
    assert grads(rule, model, torch.ones(4, 3), torch.ones(4, 2)).keys() == {"0.weight", "0.bias"}


def test_the_authors_readout_misses_the_error_of_the_same_step():
    model, x, target = networks()["rnn"]
    gradients, wanted = grads(AlignAda(author_readout=True), model, x, target), grads(Backprop(), model, x, target)
    assert torch.equal(gradients["readout.weight"], wanted["readout.weight"])
    off = (gradients["core.weight_hh"] - wanted["core.weight_hh"]).norm() / wanted["core.weight_hh"].norm()
    assert 0.2 < off < 1


@pytest.mark.parametrize("rule", [*ADAS, AlignProp(), FeedbackAlignment(), DirectFeedbackAlignment()])
def test_the_last_layer_learns_as_by_backpropagation(rule):
    model, x, target = networks()["mlp"]
    state, other = rule.init(model, generator()), moved(model)
    gradients, wanted = grads(rule, other, x, target, state), grads(Backprop(), other, x, target)
    torch.testing.assert_close(gradients["6.weight"], wanted["6.weight"], rtol=1e-12, atol=1e-14)


def test_the_last_layer_of_zero_sees_the_initial_activity():
    model, x, target = networks()["mlp"]
    other = moved(model)
    gradient = grads(AlignZero(), other, x, target, AlignZero().init(model, generator()))["6.weight"]
    error, initial = (other(x) - target) / len(x), model[:-1](x)
    torch.testing.assert_close(gradient, error.t() @ initial * 8**-0.5)


def test_zero_changes_by_one_backward_pass_of_the_accumulated_errors():
    model, x, target = networks()["mlp"]
    start, rule = copy.deepcopy(model), AlignZero()
    state, sgd = rule.init(model, generator()), torch.optim.SGD(model.parameters(), lr=0.7)
    errors = torch.zeros_like(target)
    for _ in range(20):
        errors += (model(x) - target).detach() / len(x)
        train_step(rule, model, sgd, (x, target), state)
    start(x).backward(errors)
    for before, after in zip(start.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(after.data, before.data - 0.7 * before.grad, rtol=0, atol=1e-13)


@given(st.integers(2, 6))
def test_the_rank_of_zeros_change_is_that_of_its_samples_at_most(samples):
    model = wide_mlp((12, 9, 8, 10), dtype=torch.float64, generator=generator())
    before = [value.detach().clone() for value in model.parameters()]
    rule, (x, target) = AlignZero(), (draw(samples, 12), targets(samples))
    state, sgd = rule.init(model, generator()), torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(12):
        train_step(rule, model, sgd, (x, target), state)
    changes = [after.detach() - old for after, old in zip(model.parameters(), before, strict=True) if old.ndim == 2]
    assert all(0 < torch.linalg.matrix_rank(change, rtol=1e-9) <= samples for change in changes)


def test_one_linear_hidden_layer_in_closed_form():
    start = wide_mlp((5, 4, 3), norm=False, dtype=torch.float64, generator=generator())
    start[1], start[2].scale = nn.Identity(), 0.5
    x, target, model = draw(6, 5), draw(6, 3, seed=4), moved(start)
    gradients = {
        rule: grads(rule, model, x, target, rule.init(start, generator())) for rule in (AlignZero(), *ADAS, AlignProp())
    }
    error, c = (model(x) - target) / 6, 5**-0.5
    for rule, grad in gradients.items():
        torch.testing.assert_close(grad["0.weight"], c * (0.5 * error @ start[2].weight).t() @ x)
        seen = (start if isinstance(rule, AlignZero) else model)[0](x)
        torch.testing.assert_close(grad["2.weight"], 0.5 * error.t() @ seen)


def test_where_ada_takes_the_local_derivative():
    start = wide_mlp((5, 4, 6, 3), dtype=torch.float64, generator=generator())
    x, target, model = draw(6, 5), draw(6, 3, seed=4), moved(start)
    error = (model(x) - target) / 6

    def back(network, upto, delta):
        """The error of a part of a network's output, taken to its input."""
        part, value = network
        value = value.detach().requires_grad_()
        return torch.autograd.grad(part(value), value, delta)[0]

    pre, pre0 = ([net[:1](x), net[:4](x)] for net in (model, start))
    sent = error @ start[6].weight * 6**-0.5
    through = back((start[4:6], pre0[1]), None, sent) @ start[3].weight * 4**-0.5
    wanted = {
        "current": (back((model[1:3], pre[0]), None, through), back((model[4:6], pre[1]), None, sent)),
        "initial": (back((start[1:3], pre0[0]), None, through), back((start[4:6], pre0[1]), None, sent)),
        "author": (
            back((model[1], pre[0]), None, back((start[2], start[1](pre0[0])), None, through)),
            back((model[4:6], pre[1]), None, sent),
        ),
    }
    for kind, (first, second) in wanted.items():
        rule = AlignAda(kind)
        gradients = grads(rule, model, x, target, rule.init(start, generator()))
        torch.testing.assert_close(gradients["0.weight"], first.t() @ x * 5**-0.5)
        torch.testing.assert_close(gradients["3.weight"], second.t() @ model[:3](x) * 4**-0.5)


def test_in_one_step_of_time_a_unit_has_the_initial_derivative_only_if_asked():
    start, x, target = (
        wide_rnn(1, 8, 2, dtype=torch.float64, generator=generator()),
        draw(1, 5, 1),
        draw(1, 5, 2, seed=3),
    )
    model = moved(start, 1.0)
    sent = (model(x) - target)[0] / 5 @ start.readout.weight * start.readout.scale
    for kind in ("author", "initial", "current"):
        rule, core = AlignAda(kind), (start if kind == "initial" else model).core
        on = nn.functional.linear(x[0], core.weight_ih, core.bias) > 0
        gradients = grads(rule, model, x, target, rule.init(start, generator()))
        torch.testing.assert_close(gradients["core.weight_ih"], (sent * on).t() @ x[0])


@each_rule
def test_nothing_changes_where_there_is_no_error(rule):
    model, x, _ = networks()["cnn"]
    gradients = grads(rule, moved(model), x, moved(model)(x).detach(), rule.init(model, generator()))
    assert all(grad.abs().max() < 1e-14 for grad in gradients.values())


@each_rule
def test_biases_before_a_normalisation_over_the_batch_do_not_change(rule):
    model, x, target = networks()["mlp"]
    gradients = grads(rule, moved(model), x, target, rule.init(model, generator()))
    assert gradients["0.bias"].abs().max() < 1e-12
    assert gradients["6.bias"].abs().max() > 1e-3


def test_feedback_of_any_correlation():
    model, x, target = networks()["mlp"]
    weights = {f"{at}.weight": model[at].weight * model[at].scale for at in (3, 6)}
    half, none = AlignProp(0.5).init(model, generator(3)), AlignProp(0.0).init(model, generator(3))
    random = FeedbackAlignment().init(model, generator(3))
    for name, weight in weights.items():
        torch.testing.assert_close(none[name], random[name])
        torch.testing.assert_close(half[name], 0.5 * weight + math.sqrt(0.75) * random[name])
    gradients, wanted = (grads(rule, model, x, target, none) for rule in (AlignProp(0.0), FeedbackAlignment()))
    for name, grad in wanted.items():
        torch.testing.assert_close(gradients[name], grad, rtol=0, atol=1e-14)


def test_feedback_of_any_correlation_in_time():
    model = wide_rnn(1, 300, 200, dtype=torch.float64, generator=generator())
    none, most, whole = (AlignProp(rho).init(model, generator(3)) for rho in (0.0, 0.6, 1.0))
    for name, weight in none.items():
        assert weight.var().item() == pytest.approx(1 / 300, rel=0.02)
        torch.testing.assert_close(most[name], 0.6 * whole[name] + 0.8 * weight)


@pytest.mark.parametrize("rule", [AlignZero(), AlignAda()], ids=["zero", "ada"])
def test_what_gives_another_output_in_each_pass_is_refused(rule):
    random = [(nn.Dropout(), "draws another mask")] if isinstance(rule, AlignAda) else []
    for layer, what in (*random, (nn.BatchNorm1d(4), "adds to its running statistics")):
        model = nn.Sequential(nn.Linear(3, 4), layer, nn.ReLU(), nn.Linear(4, 2))
        subject = f"{type(rule).__name__} cannot train layer '1', a {type(layer).__name__} in training mode"
        with pytest.raises(TypeError, match=f"{subject}: it {what}"):
            rule.init(model, generator())
        rule.init(model.eval(), generator())


def test_divergence_is_said_by_rule_and_parameter():
    model, x, target = networks()["mlp"]
    state = AlignAda().init(model, generator())
    model[6].weight.data.fill_(math.nan)
    with pytest.raises(FloatingPointError, match=r"AlignAda: the pseudo-gradient of \d"):
        grads(AlignAda(), model, x, target, state)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"rho = 1.5: expected a number from 0 to 1"):
        AlignProp(1.5)
    with pytest.raises(ValueError, match="author_readout = True: expected local_derivative = 'author' or 'current'"):
        AlignAda("initial", author_readout=True)
    with pytest.raises(TypeError, match="AlignAda cannot train layer '0', a LSTM"):
        AlignAda().init(nn.Sequential(nn.LSTM(3, 2)), generator())
    assert isinstance(networks()["mlp"][0][1], BatchOnlyNorm)


def test_without_a_later_step_the_authors_readout_gives_the_units_no_error():
    model, x, target = networks()["rnn"]
    rule = AlignAda(author_readout=True)
    gradients, wanted = (grads(kind, model, x[:1], target[:1]) for kind in (rule, Backprop()))
    assert gradients.keys() == wanted.keys()
    assert torch.equal(gradients["readout.weight"], wanted["readout.weight"])
    assert not any(gradients[name].any() for name in gradients if name.startswith("core"))


@each_rule
@pytest.mark.parametrize("name", ["mlp", "cnn", "rnn"])
def test_frozen_parameters_change_nothing_but_themselves(rule, name):
    model, x, target = networks()[name]
    usual = grads(rule, model, x, target)
    for frozen in [*([part] for part in usual), list(usual), list(usual)[:2], list(usual)[-2:]]:
        other = copy.deepcopy(model)
        for part in frozen:
            other.get_parameter(part).requires_grad_(False)
        assert same(grads(rule, other, x, target), {part: grad for part, grad in usual.items() if part not in frozen})


@each_rule
def test_the_state_of_another_network_is_refused(rule):
    model, x, target = networks()["rnn"]
    other = wide_rnn(1, 9, 2, dtype=torch.float64, generator=generator())
    with pytest.raises(ValueError, match=r"state\['core\.\w+'\]\.shape = "):
        rule.update(
            model, x, target, {name: rule.init(other, generator())[name] for name in rule.init(model, generator())}
        )


@pytest.mark.parametrize(("choice", "is_taken"), [("author", False), ("initial", False), ("current", True)])
def test_norms_behind_an_activation_learn_or_are_refused(choice, is_taken):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 3))
    rule, generator = AlignAda(choice), torch.Generator().manual_seed(0)
    if not is_taken:
        with pytest.raises(TypeError, match=r"cannot train layer '2', a LayerNorm: no error reaches its weights"):
            rule.init(net, generator)
        net[2].requires_grad_(False)
    x, target = torch.randn(5, 4), torch.arange(5) % 3
    grads = rule.update(net, x, target, rule.init(net, generator)).grads
    exact = Backprop().update(net, x, target, None).grads
    assert set(grads) == set(exact)
    for name in exact if is_taken else ():
        torch.testing.assert_close(grads[name], exact[name])


@pytest.mark.parametrize("rule", [AlignZero(), AlignAda()])
def test_what_changes_in_training_mode_is_refused_by_an_update_too(rule):
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)).eval()
    state = rule.init(model, torch.Generator())
    x, target = torch.ones(3, 4), torch.tensor([0, 1, 1])
    rule.update(model, x, target, state)
    with pytest.raises(TypeError, match="layer '1', a BatchNorm1d in training mode"):
        rule.update(model.train(), x, target, state)


def test_the_feedback_of_a_readout_with_a_gain_has_the_correlation():
    generator = torch.Generator().manual_seed(0)
    model = WideRNN(NTKRNN(1, 200, generator=generator), NTKLinear(200, 50, gain=3.0, generator=generator))
    feedback = AlignProp(0.5).init(model, generator)["readout.weight"]
    weight = model.readout.weight.detach() * model.readout.scale
    correlation = torch.corrcoef(torch.stack((feedback.flatten(), weight.flatten())))[0, 1]
    assert correlation.item() == pytest.approx(0.5, abs=0.05)
    assert feedback.std().item() == pytest.approx(model.readout.scale, rel=0.05)
