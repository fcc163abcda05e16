"""Rules of learning in time against backpropagation through time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.functional import cosine_similarity

from engram.nn import LeakyRNN, LIFNetwork, ReadoutNetwork
from engram.rules import Backprop, output_loss, train_step
from engram.rules.temporal import RTRL, EProp

TIME, BATCH, INPUTS, UNITS, OUTPUTS = 12, 4, 3, 7, 2
RATES, SPIKES = partial(LeakyRNN, alpha=0.8), partial(LIFNetwork, refractory=2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(core, *, kappa=0.0, every_step=False, seed=0):
    made = core(INPUTS, UNITS, dtype=torch.float64, generator=generator(seed))
    return ReadoutNetwork(made, OUTPUTS, kappa=kappa, every_step=every_step, generator=generator(seed + 1))


def batch(every_step=False, classes=True, seed=0):
    x = 2 * torch.randn(TIME, BATCH, INPUTS, generator=generator(seed), dtype=torch.float64)
    shape = (TIME, BATCH) if every_step else (BATCH,)
    if classes:
        return x, torch.randint(OUTPUTS, shape, generator=generator(seed + 1))
    return x, torch.randn(*shape, OUTPUTS, generator=generator(seed + 1), dtype=torch.float64)


def update(rule, net, x, target):
    return rule.update(net, x, target, rule.init(net, generator()))


def test_only_symmetric_feedback_transports_weights():
    for rule, free in ((EProp(), False), (EProp.random(), True), (EProp.adaptive(), True)):
        assert rule.properties == replace(EProp.properties, no_weight_transport=free)


@pytest.mark.parametrize("rule", [RTRL(), EProp(), EProp.random(), EProp.adaptive()], ids=repr)
@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
def test_autocast_is_named(rule, classes):
    net = network(RATES)
    state = rule.init(net, generator())
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match=r"torch\.autocast is on: expected"):
        rule.update(net, *batch(classes=classes), state)


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
@pytest.mark.parametrize("every_step", [True, False], ids=["every step", "last step"])
@pytest.mark.parametrize("kappa", [0.0, 0.7])
@pytest.mark.parametrize("core", [RATES, SPIKES], ids=["rates", "spikes"])
def test_rtrl_is_backpropagation_through_time(core, kappa, every_step, classes):
    net = network(core, kappa=kappa, every_step=every_step)
    (exact, _, wanted), (gradients, _, info) = (
        update(rule, net, *batch(every_step, classes)) for rule in (Backprop(), RTRL())
    )
    assert exact.keys() == gradients.keys()
    for name in exact:
        assert exact[name].any(), name
        torch.testing.assert_close(gradients[name], exact[name], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(info["loss"], wanted["loss"])


@pytest.mark.parametrize("every_step", [True, False], ids=["every step", "last step"])
@pytest.mark.parametrize("kappa", [0.0, 0.7])
@pytest.mark.parametrize("core", [RATES, SPIKES], ids=["rates", "spikes"])
def test_eprop_without_recurrent_connections_is_exact(core, kappa, every_step):
    net = network(core, kappa=kappa, every_step=every_step)
    torch.nn.init.zeros_(net.core.weight_hh)
    exact, gradients = (update(rule, net, *batch(every_step)).grads for rule in (Backprop(), EProp()))
    for name in exact:
        assert exact[name].any(), name
        torch.testing.assert_close(gradients[name], exact[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("core", [RATES, SPIKES], ids=["rates", "spikes"])
def test_eligibility_traces_with_the_true_learning_signals_are_exact(core, monkeypatch):
    """The total derivatives of the loss by each activity, in place of those of the present, give the gradient."""
    net = network(core, every_step=True)
    x, target = batch(every_step=True)
    exact = update(Backprop(), net, x, target).grads
    state, activities = net.core.init(BATCH), []
    for drive in net.core.drive(x):
        state = net.core.step(drive, state)
        activities.append(state.activity)
    loss = output_loss(net.readout(torch.stack(activities)), target)
    signals = iter([BATCH * signal for signal in torch.autograd.grad(loss, activities)])
    with torch.no_grad():  # what then reaches the hidden units is the signal itself
        net.readout = torch.nn.Linear(UNITS, UNITS, dtype=torch.float64)
        torch.nn.init.eye_(net.readout.weight)
    monkeypatch.setattr("engram.rules.temporal.eprop.output_error", lambda output, wanted: next(signals))
    dummy = torch.zeros(TIME, BATCH, UNITS, dtype=torch.float64)
    gradients = update(EProp(), net, x, dummy).grads
    for name in exact:
        if name.startswith("core"):
            torch.testing.assert_close(gradients[name], exact[name], rtol=1e-12, atol=1e-12)


def test_eprop_leaves_the_gradient_as_recurrence_grows():
    cosines = []
    for gain in (0.2, 0.5, 1.0, 1.5):
        by_seed = []
        for seed in range(5):
            core = LeakyRNN(5, 20, alpha=0.8, gain=gain, dtype=torch.float64, generator=generator(seed))
            net = ReadoutNetwork(core, 3, every_step=True, generator=generator(seed + 9))
            x = torch.randn(30, 8, 5, generator=generator(seed), dtype=torch.float64)
            target = torch.randn(30, 8, 3, generator=generator(seed + 5), dtype=torch.float64)
            grads = [update(rule, net, x, target).grads["core.weight_hh"].flatten() for rule in (EProp(), Backprop())]
            by_seed.append(cosine_similarity(*grads, dim=0))
        cosines.append(float(torch.stack(by_seed).mean()))
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] > 0.9


def test_a_random_feedback_is_the_symmetric_one_where_it_is_the_readout():
    net = network(SPIKES)
    x, target = batch()
    symmetric = update(EProp(), net, x, target).grads
    random = EProp("random")
    given = random.update(net, x, target, net.readout.weight.detach().clone()).grads
    drawn = update(random, net, x, target).grads
    for name, grad in symmetric.items():
        assert torch.equal(grad, given[name])
        assert torch.equal(grad, drawn[name]) == name.startswith("readout")


def test_random_feedback_has_a_variance_of_one_over_the_hidden_units():
    net = ReadoutNetwork(LeakyRNN(2, 400), 100)
    for rule in (EProp("random"), EProp("adaptive")):
        feedback = rule.init(net, generator())
        assert feedback.shape == (100, 400)
        assert feedback.var().item() == pytest.approx(1 / 400, rel=0.05)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_an_adaptive_feedback_comes_to_the_readout(optimizer):
    net, rule = network(RATES), EProp("adaptive", decay=0.1)
    state = rule.init(net, generator())
    gap = net.readout.weight - state
    steps = optimizer(net.parameters(), lr=0.01)
    for _ in range(20):
        state = train_step(rule, net, steps, batch(), state).state
    torch.testing.assert_close(net.readout.weight - state, 0.9**20 * gap, rtol=1e-10, atol=0)


def test_no_error_no_update():
    net = network(RATES)
    x, _ = batch()
    for rule in (EProp(), EProp("random"), RTRL()):
        grads = update(rule, net, x, net(x).detach()).grads
        assert all(grad.abs().max() < 1e-12 for grad in grads.values())


@pytest.mark.parametrize(
    "rule",
    [EProp(), EProp("random"), EProp("adaptive"), RTRL(), Backprop()],
    ids=["symmetric", "random", "adaptive", "rtrl", "through-time"],
)
@pytest.mark.parametrize("core", [LeakyRNN, LIFNetwork])
def test_rules_learn_which_input_had_a_pulse(core, rule):
    """Pulses come to one of two inputs early in the sequence; the loss is at its end."""
    net = ReadoutNetwork(core(2, 16, generator=generator()), 2, kappa=0.9, generator=generator(1))
    steps, state, losses = torch.optim.Adam(net.parameters(), lr=0.01), rule.init(net, generator(2)), []
    for seed in range(60):
        target = torch.randint(2, (16,), generator=generator(seed))
        x = torch.zeros(10, 16, 2)
        x[:4, torch.arange(16), target] = 1.0
        x += 0.1 * torch.randn(x.shape, generator=generator(seed))
        update_ = train_step(rule, net, steps, (x, target), state)
        state = update_.state
        losses.append(float(update_.info["loss"]))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_refractory_neurons_do_not_fire():
    net = LIFNetwork(1, 5, refractory=3, generator=generator())
    spikes, _ = net(torch.full((40, 2, 1), 20.0))
    times = spikes.flatten(1)
    assert times.any()
    for cell in times.T:
        fired = cell.nonzero()[:, 0]
        assert (fired.diff() > 3).all()


def test_a_neuron_has_no_connection_to_itself():
    net = LIFNetwork(2, 5, generator=generator())
    x = torch.rand(20, 3, 2, generator=generator())
    before, _ = net(x)
    net.weight_hh.data.fill_diagonal_(100.0)
    assert torch.equal(net(x)[0], before)
    grads = update(EProp(), ReadoutNetwork(net, 2), x, torch.zeros(3, dtype=torch.int64)).grads
    assert not grads["core.weight_hh"].diag().any()
    assert grads["core.weight_hh"].any()


@pytest.mark.parametrize("rule", [EProp(), RTRL()], ids=repr)
def test_what_they_cannot_train_is_refused(rule):
    with pytest.raises(TypeError, match=r"cannot train a Sequential.*expected model to be an .*ReadoutNetwork"):
        rule.init(torch.nn.Sequential(torch.nn.Linear(2, 2)), generator())
    net = network(RATES, every_step=True)
    x, target = batch()
    state = rule.init(net, generator())
    for wrong in (target, target.expand(3, BATCH)):
        with pytest.raises(ValueError, match=r"target.shape = .*expected to begin with \(12, 4\)"):
            rule.update(net, x, wrong, state)
    with pytest.raises(ValueError, match=r"x.shape = \(0, 4, 3\)"):
        rule.update(net, x[:0], target, state)
    with pytest.raises(ValueError, match="batch of at least 1"):
        rule.update(net, x[:, :0], target, state)
    net.readout.weight.data.fill_(1e308)
    with pytest.raises(FloatingPointError, match="not finite"):
        rule.update(net, x, 1e308 * torch.ones(TIME, BATCH, OUTPUTS, dtype=torch.float64), state)


@pytest.mark.parametrize("rule", [EProp(), EProp("random"), RTRL()], ids=repr)
@pytest.mark.parametrize("core", [RATES, SPIKES], ids=["rates", "spikes"])
def test_an_update_changes_nothing_and_is_the_same_again(core, rule):
    net = network(core, kappa=0.5, every_step=True)
    x, target = batch(every_step=True)
    state = rule.init(net, generator())
    again = rule.init(net, generator())
    assert (state is None) == (again is None)
    assert state is None or torch.equal(state, again)
    involved = [x, target, *net.parameters(), *([] if state is None else [state])]
    before = [tensor.clone() for tensor in involved]
    one, other = (rule.update(net, x, target, state).grads for _ in range(2))
    assert all(map(torch.equal, before, involved))
    assert all(torch.equal(one[name], other[name]) for name in one)
    low = rule.update(net.float(), x.float(), target, None if state is None else state.float()).grads
    for name, grad in one.items():
        assert low[name].dtype == torch.float32
        torch.testing.assert_close(low[name].double(), grad, rtol=1e-3, atol=1e-4)


def test_a_batch_counts_as_the_mean_of_its_samples():
    net = network(SPIKES, kappa=0.5, every_step=True)
    x, target = batch(every_step=True)
    for rule in (EProp(), RTRL()):
        whole = update(rule, net, x, target).grads
        alone = [update(rule, net, x[:, b : b + 1], target[:, b : b + 1]).grads for b in range(BATCH)]
        for name, grad in whole.items():
            torch.testing.assert_close(torch.stack([grads[name] for grads in alone]).mean(0), grad)


@pytest.mark.parametrize("rule", [RTRL(), EProp()])
def test_each_sample_needs_a_target(rule):
    net, (x, target) = network(RATES), batch()
    with pytest.raises(ValueError, match=r"target.shape = \(3,\): expected to begin with \(4,\), a target for each"):
        update(rule, net, x, target[:3])


def test_backprop_says_that_each_step_needs_a_target():
    with pytest.raises(ValueError, match=r"target.shape = \(4,\): expected to begin with \(12, 4\)"):
        update(Backprop(), network(RATES, every_step=True), *batch())


def test_rtrl_says_how_large_a_network_may_be():
    with pytest.raises(TypeError, match="hidden_size = 65: expected at most 64"):
        RTRL().init(ReadoutNetwork(LeakyRNN(2, 65), 2), generator())


@pytest.mark.parametrize("rule", [RTRL(), EProp(), EProp("random")])
def test_frozen_parameters_get_no_pseudo_gradient(rule):
    net = network(RATES)
    usual = update(rule, net, *batch()).grads
    for name in usual:
        net.get_parameter(name).requires_grad_(False)
        grads = update(rule, net, *batch()).grads
        assert grads.keys() == usual.keys() - {name}
        assert all(torch.equal(grads[other], usual[other]) for other in grads)
        net.get_parameter(name).requires_grad_(True)


@pytest.mark.parametrize("rule", [RTRL(), EProp()], ids=repr)
def test_a_readout_may_have_no_bias(rule):
    net = network(RATES)
    torch.nn.init.zeros_(net.core.weight_hh)  # without recurrence, e-prop is exact as well
    net.readout = torch.nn.Linear(UNITS, OUTPUTS, bias=False, dtype=torch.float64)
    exact, gradients = (update(each, net, *batch()).grads for each in (Backprop(), rule))
    assert exact.keys() == gradients.keys()
    for name in exact:
        torch.testing.assert_close(gradients[name], exact[name], rtol=1e-12, atol=1e-12)


def test_the_adaptive_feedback_of_a_frozen_readout_stays():
    net, rule = network(RATES), EProp.adaptive()
    net.readout.requires_grad_(False)
    feedback = rule.init(net, generator())
    optimizer = torch.optim.SGD(net.core.parameters(), lr=0.1)
    state = train_step(rule, net, optimizer, batch(), feedback).state
    assert torch.equal(state, feedback)  # it would approach the readout, which does not decay, by reading it
