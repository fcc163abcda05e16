"""The scans for rules with coefficients of their own against the plain ones, which are the definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from engram.plasticity import (
    Coefficients,
    Hebb,
    Instar,
    Modulated,
    PlasticityRule,
    PlasticLSTM,
    PlasticLSTMState,
    PlasticRNN,
    PlasticState,
)
from engram.plasticity.alpha import LowRank
from engram.plasticity.kernels import layout
from engram.plasticity.kernels.dispatch import LSTM, RNN, fastest
from engram.plasticity.kernels.lstm import any_rule as lstm
from engram.plasticity.kernels.rnn import any_rule
from engram.plasticity.kernels.rnn.any_rule import any_rule_scan
from engram.plasticity.scan import plastic_lstm_scan, plastic_scan


class Busy(Hebb):
    """Traces fade faster where the receiving unit is active."""

    clip = 0.5

    def coefficients(self, post, modulator=None):
        return Coefficients(self.eta * post.abs(), self.eta, post)


class Threshold(PlasticityRule):
    """The threshold between growth and decay is learned for every unit; nothing fades."""

    def __init__(self, units):
        super().__init__()
        self.threshold, self.rate = nn.Parameter(torch.linspace(-0.2, 0.3, units)), nn.Parameter(torch.tensor(0.3))

    def coefficients(self, post, modulator=None):
        return Coefficients(torch.zeros((), dtype=post.dtype), self.rate, post * (post - self.threshold))


class Crowded(Busy):
    """Traces of all units fade faster where many units are active, so that no unit is alone."""

    def coefficients(self, post, modulator=None):
        return Coefficients(self.eta * post.abs().mean(1, keepdim=True), self.eta, post)


class Noisy(Busy):
    """The gain is different in every step."""

    def __init__(self):
        super().__init__(0.3)
        self.generator = torch.Generator().manual_seed(0)

    def coefficients(self, post, modulator=None):
        noise = torch.rand(post.shape, generator=self.generator, dtype=post.dtype)
        return Coefficients(self.eta, self.eta * noise, post)


class Sliding(Busy):
    """The threshold of growth follows the activity, and is kept in a buffer and in an attribute."""

    def __init__(self):
        super().__init__(0.3)
        self.register_buffer("threshold", torch.zeros(()))
        self.level = 0.0

    def coefficients(self, post, modulator=None):
        self.threshold.lerp_(post.detach().square().mean(), 0.1)
        self.level = 0.9 * self.level + 0.1 * post.detach().abs().mean()
        return Coefficients(self.eta, self.eta, post * (post - self.threshold - self.level))


class EveryConnection(Busy):
    """Every connection has a rate of its own."""

    def coefficients(self, post, modulator=None):
        rates = self.eta * torch.linspace(0.5, 1, post.shape[1] ** 2, dtype=post.dtype).view(1, *post.shape[1:], -1)
        return Coefficients(rates, rates, post)


class Narrow(Busy):
    """The rate is in single precision, whatever the precision of the activity."""

    def coefficients(self, post, modulator=None):
        return Coefficients(self.eta.float() * post.float().abs(), self.eta.float(), post.float())


RULES = {"busy": lambda units: Busy(0.3), "instar": lambda units: Instar(0.2), "threshold": Threshold}


class Problem:
    """A scan of random parts, none of which is zero."""

    def __init__(self, rule, time, batch, units, *, alpha="connection", clamped=False, relu=False, dtype=None, seed=0):
        generator = torch.Generator().manual_seed(seed)
        dtype = dtype or torch.float64

        def draw(*shape, scale=1.0):
            return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()

        self.rule = rule.to(dtype)
        self.drive, self.weight = draw(time, batch, units), draw(units, units, scale=units**-0.5)
        self.hidden, self.trace = draw(batch, units, scale=0.5), draw(batch, units, units, scale=0.3)
        shapes = {"connection": (units, units), "post": (units,), "homogeneous": ()}
        if alpha == "low rank":
            self.alpha = LowRank(units, units, 2, dtype=dtype)
            self.alpha.post.data, self.alpha.pre.data = (draw(2, units, scale=0.5).data for _ in range(2))
        else:
            self.alpha = draw(*shapes[alpha], scale=0.3)
        self.options = {
            "clamp": torch.rand(time, batch, units, generator=generator) < 0.3 if clamped else None,
            "nonlinearity": torch.relu if relu else torch.tanh,
        }
        self.weights = draw(time, batch, units), draw(batch, units, units), draw(batch, units)

    @property
    def arguments(self):
        return (
            self.drive,
            self.weight,
            self.alpha,
            self.rule,
            PlasticState(self.hidden, self.rule.init(1, 1, 1)._replace(trace=self.trace)),
        )

    def outputs(self, scan):
        activity, state = scan(*self.arguments, **self.options)
        return activity, state.trace, state.hidden

    def results(self, scan, **options):
        """Return the outputs, and the gradients of a weighted sum of them."""
        outputs = self.outputs(scan)
        alphas = list(self.alpha.parameters()) if isinstance(self.alpha, LowRank) else [self.alpha]
        inputs = [self.drive, self.weight, *alphas, self.hidden, self.trace, *self.rule.parameters()]
        total = sum((output * weight).sum() for output, weight in zip(outputs, self.weights, strict=True))
        return [*outputs, *torch.autograd.grad(total, inputs, **options)]

    @property
    def can_run(self):
        return any_rule.can_run(*self.arguments, **self.options)


def assert_same(values, expected, tolerance=1e-9):
    for value, other in zip(values, expected, strict=True):
        assert torch.allclose(value, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("alpha", ["connection", "post", "homogeneous", "low rank"])
@pytest.mark.parametrize("rule", RULES)
def test_it_equals_the_plain_scan(rule, alpha, clamped):
    problem = Problem(RULES[rule](6), 7, 3, 6, alpha=alpha, clamped=clamped)
    assert problem.can_run
    assert_same(problem.results(any_rule_scan), problem.results(plastic_scan))


@settings(max_examples=20)
@given(
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(1, 9)),
    rule=st.sampled_from(["busy", "threshold"]),
    relu=st.booleans(),
    clamped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_size_any_unit(sizes, rule, relu, clamped, seed):
    problem = Problem(RULES[rule](sizes[2]), *sizes, relu=relu, clamped=clamped, seed=seed)
    assert_same(problem.results(any_rule_scan), problem.results(plastic_scan))


def test_single_precision_is_as_good_as_that_of_the_plain_scan():
    def error(scan, single, exact):
        pairs = zip(single.results(scan), exact.results(plastic_scan), strict=True)
        return max(((value.double() - other).abs().max() / other.abs().max()).item() for value, other in pairs)

    single, exact = (Problem(Busy(0.3), 20, 3, 12, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert error(any_rule_scan, single, exact) < 4 * error(plastic_scan, single, exact) < 1e-3


def test_it_is_chosen_for_a_rule_that_no_kernel_knows():
    problem = Problem(Busy(0.3), 7, 3, 6)
    assert fastest(RNN, *problem.arguments, **problem.options) is any_rule_scan
    problem = Problem(Hebb(0.3), 7, 3, 6)
    assert fastest(RNN, *problem.arguments, **problem.options) is not any_rule_scan


@pytest.mark.parametrize("rule", [Noisy(), EveryConnection(0.3), Narrow(0.3), Modulated()])
def test_other_coefficients_are_left_to_the_plain_scan(rule):
    assert not Problem(rule, 4, 2, 3).can_run


def test_a_rule_that_remembers_does_not_remember_that_it_was_looked_at():
    problem = Problem(Sliding(), 4, 2, 3)
    assert not problem.can_run
    assert (problem.rule.threshold, problem.rule.level) == (0, 0)


def test_a_rule_with_an_update_of_its_own_is_left_to_the_plain_scan():
    class Own(Busy):
        def update(self, state, pre, post, modulator=None):
            return super().update(state, 2 * pre, post, modulator)

    problem = Problem(Own(0.3), 4, 2, 3)
    assert not problem.can_run
    assert fastest(RNN, *problem.arguments, **problem.options) is plastic_scan


def test_a_rate_that_was_computed_elsewhere_keeps_its_gradient():
    rate = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)

    class Elsewhere(Busy):
        def coefficients(self, post, modulator=None):
            return Coefficients(2 * rate, 2 * rate, post)

    problem = Problem(Elsewhere(0.3), 4, 2, 3)
    assert not problem.can_run
    rate.requires_grad_(False)
    assert problem.can_run


def test_parameters_put_in_its_place_get_their_gradients():
    net = PlasticRNN(4, 5, rule=Busy(0.3), generator=torch.Generator().manual_seed(0))
    sequence = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(1))
    others = {name: parameter.detach().clone().requires_grad_() for name, parameter in net.named_parameters()}
    functional_call(net, others, (sequence,))[0].square().sum().backward()
    net(sequence)[0].square().sum().backward()
    assert_same([other.grad for other in others.values()], [parameter.grad for parameter in net.parameters()], 1e-5)


def test_units_that_depend_on_each_other_have_the_gradients_of_the_plain_scan():
    problem = Problem(Crowded(0.3), 7, 3, 6)
    assert problem.can_run
    assert_same(problem.results(any_rule_scan), problem.results(plastic_scan))


def test_coefficients_that_change_before_the_backward_pass_are_an_error():
    problem = Problem(Busy(0.3), 4, 2, 3)
    activity, *_ = problem.outputs(any_rule_scan)
    problem.rule.coefficients = lambda post, modulator=None: Coefficients(post.abs(), problem.rule.eta, post)
    with pytest.raises(RuntimeError, match=r"coefficients of Busy.* have changed since the forward pass"):
        activity.sum().backward()


def test_it_can_be_differentiated_twice():
    def second(scan):
        problem = Problem(Busy(0.3), 4, 2, 3)
        first = problem.results(scan, create_graph=True)[3:]
        return torch.autograd.grad(sum((part**2).sum() for part in first), [problem.drive, problem.rule.eta])

    assert_same(second(any_rule_scan), second(plastic_scan))


@pytest.mark.parametrize("kind", [PlasticRNN, PlasticLSTM])
@pytest.mark.parametrize("rule", [Busy, Crowded])
def test_a_layer_can_be_checkpointed(kind, rule):
    net = kind(4, 5, rule=rule(0.3), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sequence = torch.randn(6, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for call in (net, lambda sequence: checkpoint(net, sequence, use_reentrant=False)):
        net.zero_grad()
        call(sequence)[0].square().sum().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    assert all(map(torch.equal, *gradients))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("time", [1, 2, 7])
def test_without_a_graph_the_numbers_are_the_same(time, mode):
    problem = Problem(Busy(0.3), time, 3, 6, clamped=True)
    expected = problem.outputs(any_rule_scan)
    with mode():
        assert all(map(torch.equal, problem.outputs(any_rule_scan), expected))


def test_nan_goes_where_it_goes_in_the_plain_scan():
    problem = Problem(Busy(0.3), 5, 3, 4)
    problem.drive.data[2, 1, 0] = torch.nan
    outputs = [torch.stack(problem.outputs(scan)[:1]).isnan() for scan in (any_rule_scan, plastic_scan)]
    assert torch.equal(*outputs)
    assert not outputs[0][:, :, [0, 2]].any()


def test_no_bit_depends_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(layout, "WORTH_A_THREAD", 1)
    problem, results = Problem(Busy(0.3), 5, 4, 6), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(problem.results(any_rule_scan))
    torch.set_num_threads(1)
    assert all(map(torch.equal, *results))
    assert_same(results[0], problem.results(plastic_scan))


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_acting_step_by_step_equals_the_whole_sequence(backend):
    generator = torch.Generator().manual_seed(0)
    net = PlasticRNN(5, 9, rule=Busy(0.3), backend=backend, generator=generator)
    net.alpha.data *= 30
    sequence = torch.randn(8, 3, 5, generator=generator)
    act = net.acting(batch_size=3)
    steps = torch.stack([act(observation) for observation in sequence])
    assert torch.allclose(steps, PlasticRNN.forward(net, sequence)[0], atol=1e-6)
    net.backend = "eager"
    assert torch.allclose(steps, net(sequence)[0], atol=1e-6)


@pytest.mark.parametrize("hebb_post", ["input", "recurrent", "cell", "hidden"])
@pytest.mark.parametrize(
    ("rule", "alpha"), [(Busy(0.3), "connection"), (Threshold(5), "post"), (Crowded(0.3), "connection")]
)
def test_of_an_lstm_it_equals_the_plain_scan(rule, alpha, hebb_post):
    parts = Problem(rule, 6, 3, 5, alpha=alpha)
    gates = Problem(Hebb(), 6, 3, 20, seed=1)
    drive, weight = gates.drive, gates.weight[:, :5]
    cell = Problem(Hebb(), 1, 3, 5, seed=2).hidden
    state = PlasticLSTMState(parts.hidden, cell, parts.rule.init(1, 1, 1)._replace(trace=parts.trace))
    arguments, results = (drive, weight, parts.alpha, parts.rule, state), []
    assert fastest(LSTM, *arguments, hebb_post=hebb_post) is lstm.any_rule_scan
    for scan in (lstm.any_rule_scan, plastic_lstm_scan):
        activity, last = scan(*arguments, hebb_post=hebb_post)
        outputs = [activity, last.cell, last.hidden, last.trace]
        with torch.no_grad():
            assert_same(scan(*arguments, hebb_post=hebb_post)[1].rule, last.rule)
        inputs = [drive, gates.weight, parts.alpha, parts.hidden, cell, parts.trace, *parts.rule.parameters()]
        total = sum((output * torch.cos(torch.arange(output.numel()).view_as(output))).sum() for output in outputs)
        results.append([*outputs, *torch.autograd.grad(total, inputs)])
    assert_same(*results)


def test_an_lstm_that_reads_bounded_traces_is_left_to_the_plain_scan():
    parts, gates = Problem(Busy(0.3), 6, 3, 5), Problem(Hebb(), 6, 3, 20, seed=1)
    state = PlasticLSTMState(parts.hidden, parts.hidden, parts.rule.init(1, 1, 1)._replace(trace=parts.trace))
    arguments = gates.drive, gates.weight[:, :5], parts.alpha, parts.rule, state
    assert fastest(LSTM, *arguments, read_clip=1.0) is plastic_lstm_scan


def test_a_buffer_that_a_graph_has_saved_is_not_touched():
    class Masked(Hebb):
        def __init__(self):
            super().__init__(0.3)
            self.register_buffer("mask", torch.ones(5, 5))

        def coefficients(self, post, modulator=None):
            rates = (self.eta * self.mask).unsqueeze(0)
            return Coefficients(rates, rates, post)

    net = PlasticRNN(4, 5, rule=Masked())
    _, state = net(torch.ones(6, 2, 4))
    net(torch.ones(6, 2, 4), state)[0].sum().backward()
    assert net.rule.eta.grad is not None


def test_acting_refuses_a_rule_that_the_kernel_asked_for_cannot_run():
    act = PlasticRNN(4, 5, rule=Busy(0.3), backend="fused").acting(2)
    with pytest.raises(ValueError, match="backend = 'fused': rule = Busy"):
        act(torch.ones(2, 4))


def test_looking_at_a_rule_moves_no_generator_no_submodule_and_adds_nothing():
    class Nested(Noisy):
        def __init__(self):
            super().__init__()
            self.inner = Sliding()

        def coefficients(self, post, modulator=None):
            if not hasattr(self, "first"):
                self.first = post.detach()
            inner = self.inner.coefficients(post + torch.rand((), dtype=post.dtype))
            return super().coefficients(post)._replace(post=inner.post)

    problem = Problem(Nested(), 4, 2, 3)
    generators = torch.default_generator, problem.rule.generator
    before = [generator.get_state() for generator in generators]
    assert not problem.can_run
    assert all(torch.equal(generator.get_state(), b) for generator, b in zip(generators, before, strict=True))
    assert (problem.rule.inner.threshold, problem.rule.inner.level) == (0, 0)
    assert not hasattr(problem.rule, "first")


def test_a_rule_is_called_as_often_as_by_the_plain_scan():
    class Listing(Busy):
        def __init__(self):
            super().__init__(0.3)
            self.seen = []

        def coefficients(self, post, modulator=None):
            self.seen.append(post.detach())
            return super().coefficients(post)

    seen = []
    for scan in (any_rule_scan, plastic_scan):
        problem = Problem(Listing(), 4, 2, 3)
        assert problem.can_run
        problem.results(scan)
        seen.append(torch.stack(problem.rule.seen))
    assert_same([seen[0]], [seen[1]])


def test_a_rule_that_holds_a_function_is_left_to_the_plain_scan():
    rule = Busy(0.3)
    assert Problem(rule, 4, 2, 3).can_run
    rule.coefficients = lambda post, modulator=None: Busy.coefficients(rule, post)
    assert not Problem(rule, 4, 2, 3).can_run, "a copy would call it on the rule itself"
