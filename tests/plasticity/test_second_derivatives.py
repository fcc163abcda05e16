"""Second derivatives through the plastic layers, which the plain scans define.

To compile a kernel takes seconds for every kind of rule, so that some rules run in their kernel in ``make soak`` only;
here every rule that a kernel knows is read back from its numbers and held to the rule itself.
"""

import runpy
from pathlib import Path

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from engram.plasticity import (
    ClippedHebb,
    Coefficients,
    Hebb,
    Modulated,
    Neuromodulator,
    PlasticityRule,
    PlasticLinear,
    PlasticLSTM,
    PlasticRNN,
    Retroactive,
)
from engram.plasticity.kernels import rule_decoding, rule_encoding
from engram.plasticity.kernels.dispatch import LINEAR, LSTM, RNN, fastest
from engram.plasticity.rule import trained_rate

RULES = runpy.run_path(str(Path(__file__).with_name("test_kernels.py")))["RULES"]
KINDS = [PlasticRNN, PlasticLSTM, PlasticLinear]


class Busy(Hebb):
    """Traces fade faster where the receiving unit is active: a rule that Python calls in every step."""

    clip = 0.5

    def coefficients(self, post, modulator=None):
        return Coefficients(self.eta * post.abs(), self.eta, post)


class Forgetting(PlasticityRule):
    """A rule that is our own and declares what it forgets, so that the kernel runs it."""

    forgets = "rate"

    def __init__(self, eta):
        super().__init__()
        self.eta, self.clip = trained_rate(eta), None

    def coefficients(self, post, modulator=None):
        return Coefficients(self.eta, self.eta, post)


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(kind, rule, backend="auto", sizes=(3, 4), **options):
    """A layer with a random state of its parameters, none of it small."""
    if isinstance(rule, Modulated | Retroactive) and kind is not PlasticLinear:
        options["neuromodulator"] = Neuromodulator(sizes[1], True, generator=torch.Generator().manual_seed(2))
    net = kind(*sizes, rule=rule, backend=backend, dtype=torch.float64, **options)
    for seed, parameter in enumerate(net.parameters()):
        if parameter.dim():
            parameter.data = 0.5 * drawn(seed, *parameter.shape)
    return net


def called(net, sequence, state=None):
    """The output and the traces, with a signal for a linear layer that needs one."""
    signal = {}
    if isinstance(net, PlasticLinear) and net.rule.modulated:
        signal = {"modulator": sequence[..., :1] + 0.5}
    output, state = net(sequence, state, **signal)
    return output, state


def derivatives(net, loss):
    """The first and second derivatives by all parameters, of which some get None, as zeros."""
    parameters = list(net.parameters())

    def of(value, **options):
        values = torch.autograd.grad(value, parameters, allow_unused=True, **options)
        return [torch.zeros_like(p) if v is None else v for p, v in zip(parameters, values, strict=True)]

    first = of(loss, create_graph=True)
    return first, of(sum((n + 1) * gradient.sin().sum() for n, gradient in enumerate(first)))


def assert_same(derivatives, expected):
    for values, others in zip(derivatives, expected, strict=True):
        for value, other in zip(values, others, strict=True):
            torch.testing.assert_close(value, other, rtol=1e-9, atol=1e-9)


HERE = [
    (PlasticRNN, lambda: Hebb(0.2)),
    (PlasticRNN, lambda: Retroactive(0.3, clip=0.4)),
    (PlasticRNN, lambda: Busy(0.3)),
    (PlasticRNN, lambda: Forgetting(0.3)),
    (PlasticLSTM, lambda: ClippedHebb(0.3, clip=0.4)),
    (PlasticLSTM, lambda: Modulated(clip=0.4)),
    (PlasticLSTM, lambda: Busy(0.3)),
    (PlasticLinear, lambda: Hebb(0.2)),
    (PlasticLinear, lambda: Modulated(mode="decay")),
    (PlasticLinear, lambda: Modulated(mode="soft")),
    (PlasticLinear, lambda: Busy(0.3)),
]
ALL = HERE + [pytest.param(kind, rule, marks=pytest.mark.soak) for kind in KINDS for rule in RULES.values()]


@pytest.mark.parametrize(("kind", "rule"), ALL)
def test_gradgradcheck(kind, rule):
    net = layer(kind, rule(), sizes=(2, 3))
    inputs = [drawn(50, 6, 2, 2).requires_grad_(), *net.parameters()]

    def call(sequence, *parameters):  # those of the network, which the check changes in place
        output, state = called(net, sequence)
        return output, *getattr(state, "rule", state)

    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize(("kind", "rule"), ALL)
def test_a_carried_state_is_differentiated_once(kind, rule):
    results = []
    for backend in ("auto", "eager"):
        # Units without a bound, with traces without a bound, would make rounding errors grow.
        net = layer(kind, rule(), backend, **({"nonlinearity": "tanh"} if kind is PlasticLinear else {}))
        first, state = called(net, drawn(60, 6, 2, 3))
        second, state = called(net, drawn(61, 7, 2, 3), state)
        results.append(derivatives(net, first.square().sum() + second.sin().sum() + state.trace.square().sum()))
    assert_same(*results)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_are_stacked_and_called_with_options(kind):
    results = []
    for backend in ("auto", "eager"):
        if kind is PlasticLinear:
            net = layer(kind, Hebb(0.2), backend, alpha=2, nonlinearity="softmax")
            output, _ = net(drawn(70, 6, 2, 3), drive=drawn(71, 6, 2, 4))
        elif kind is PlasticLSTM:
            net = layer(kind, ClippedHebb(0.3), backend, num_layers=2, hebb_post="recurrent")
            output, _ = net(drawn(70, 6, 2, 3))
        else:
            net = layer(kind, Hebb(0.2), backend, alpha=2, nonlinearity="relu")
            output, _ = net(0.3 * drawn(70, 6, 2, 3), clamp=drawn(72, 6, 2, 4) > 0.5)
        results.append(derivatives(net, output.sin().sum()))
    assert_same(*results)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fan_out", [False, True])
def test_a_rule_that_is_read_back_from_its_numbers_is_the_rule(rule, fan_out):
    rule = RULES[rule]().double()
    state = rule.state_type(*(0.5 * drawn(seed, 3, 5, 5) for seed in range(len(rule.state_type._fields))))
    post, pre, modulator = drawn(80, 3, 5), drawn(81, 3, 5), None
    decoded = rule_decoding.rule_of(*rule_encoding.rule_numbers(rule), rule_encoding.rate(rule, post), rule.modulated)
    signals = []
    if rule.modulated:
        modulator = Neuromodulator(5, fan_out, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        (_, _, _, *tensors), squash = rule_encoding.recurrent(drawn(82, 5, 5), drawn(83, 5), rule, modulator)
        signals = [modulator(post), rule_decoding.neuromodulator_of(squash, *tensors)(post)]
        torch.testing.assert_close(signals[1], signals[0].expand(3, 5), rtol=0, atol=1e-12)
    for _ in range(3):
        expected = rule.update(state, pre, post, signals[0] if signals else None)
        state = decoded.update(state, pre, post, signals[1] if signals else None)
        for trace, other in zip(state, expected, strict=True):
            torch.testing.assert_close(trace, other, rtol=0, atol=1e-12)


def test_no_random_number_is_drawn_where_a_neuromodulator_is_read_back():
    before = torch.get_rng_state()
    rule_decoding.neuromodulator_of(1, *torch.zeros(4, 1).unbind())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_third_derivatives(kind):
    results = []
    for backend in ("auto", "eager"):
        net = layer(kind, ClippedHebb(0.3) if kind is PlasticLSTM else Hebb(0.2), backend)
        (first,) = torch.autograd.grad(called(net, drawn(90, 6, 2, 3))[0].sin().sum(), net.alpha, create_graph=True)
        results.append(derivatives(net, torch.autograd.grad(first.sin().sum(), net.alpha, create_graph=True)[0].sum()))
    assert_same(*results)


@pytest.mark.parametrize("rule", [Hebb, Busy])
def test_under_autocast_and_with_checkpoints(rule):
    sequence, results = drawn(100, 6, 2, 3), []
    nets = [layer(PlasticRNN, rule(0.2), backend) for backend in ("eager", "auto", "auto")]
    calls = [*nets[:2], lambda sequence: checkpoint(nets[2], sequence, use_reentrant=False)]
    for net, call in zip(nets, calls, strict=True):
        with torch.autocast("cpu", enabled=net is not nets[0]):
            results.append(derivatives(net, call(sequence)[0].sin().sum()))
    assert_same(results[1], results[0])
    assert_same(results[2], results[0])


@pytest.mark.parametrize("rule", [Hebb, Busy])
def test_a_rate_alone(rule):
    results = []
    for backend in ("auto", "eager"):
        net = layer(PlasticRNN, rule(0.2), backend).requires_grad_(False)
        net.rule.eta.requires_grad_()
        # The output of a single step does not depend on the rate, and the traces do.
        for steps in (1, 6):
            output, state = net(drawn(110, steps, 2, 3))
            loss = output.sum() + state.trace.sin().sum()
            (first,) = torch.autograd.grad(loss, net.rule.eta, create_graph=True)
            results.append(torch.autograd.grad(first, net.rule.eta)[0])
    torch.testing.assert_close(results[:2], results[2:], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("kind", "rule"), HERE)
def test_these_run_fused(kind, rule, monkeypatch):
    """The plain scan is not held to itself here, except in a linear layer with a rule for which it has no kernel."""
    seen, net = [], layer(kind, rule())
    scan = {PlasticRNN: RNN, PlasticLSTM: LSTM, PlasticLinear: LINEAR}[kind]
    module = __import__(kind.__module__, fromlist=["run_scan"])

    def run_scan(scan, backend, *args, **options):
        seen.append(fastest(scan, *args, **options))
        return original(scan, backend, *args, **options)

    original = module.run_scan
    monkeypatch.setattr(module, "run_scan", run_scan)
    called(net, drawn(120, 6, 2, 3))
    assert (seen[0] is scan.plain) == (kind is PlasticLinear and isinstance(net.rule, Busy))
