import itertools
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from engram.plasticity import Competitive, Hebb, Instar, Oja, PlasticLSTM, PlasticRNN, TraceState


@settings(deadline=None)
@given(eta=st.floats(0, 1), steps=st.integers(0, 30), seed=st.integers(0, 100))
def test_constant_activity_gives_the_running_mean(eta, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    rule = Hebb(eta, dtype=torch.float64)
    pre = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    post = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    state = rule.init(2, 4, 3)
    for _ in range(steps):
        state = rule.update(state, pre, post)
    product = post[:, :, None] * pre[:, None, :]
    torch.testing.assert_close(state.trace, (1 - (1 - eta) ** steps) * product, rtol=1e-10, atol=1e-12)


def test_the_trace_of_a_silent_unit_decays_by_one_minus_eta():
    rule = Hebb(eta=0.25)
    before = rule.init(1, 2, 3)._replace(trace=torch.ones(1, 2, 3))
    after = rule.update(before, torch.randn(1, 3), torch.tensor([[0.0, 1.0]]))
    assert torch.equal(after.trace[0, 0], torch.full((3,), 0.75))


@pytest.mark.parametrize("eta", [float("nan"), float("inf")])
def test_an_eta_that_is_not_finite_is_refused(eta):
    with pytest.raises(ValueError, match=f"eta = {eta}: expected a finite number"):
        Hebb(eta)


FORMULAS = {
    Hebb: lambda eta, H, x, y: (1 - eta) * H + eta * y * x,
    Oja: lambda eta, H, x, y: H + eta * y * (x - y * H),
    Instar: lambda eta, H, x, y: H + eta * y * (x - H),
    partial(Competitive, temperature=0.5): lambda eta, H, x, y: H + eta * (2 * y).softmax(1) * (x - H),
}


@pytest.mark.parametrize("eta_param", ["raw", "sigmoid"])
@pytest.mark.parametrize(("make", "formula"), FORMULAS.items())
def test_every_connection_may_have_a_rate_of_its_own(make, formula, eta_param):
    generator = torch.Generator().manual_seed(0)
    trace, pre, post, drawn = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((4, 4, 4), (4, 4), (4, 4), (4, 4))  # a rate of the wrong axes would broadcast too
    )
    rule = make(0.3, connections=(4, 4), eta_param=eta_param, dtype=torch.float64)
    assert (rule.eta - 0.3).abs().max() < 1e-12
    (name,) = dict(rule.named_parameters())

    class Update(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rule = rule

        def forward(self, trace, pre, post):
            return self.rule.update(TraceState(trace), pre, post).trace

    update = Update()

    def after(trace, pre, post, parameter):
        return functional_call(update, {f"rule.{name}": parameter}, (trace, pre, post))

    eta = drawn.sigmoid() if eta_param == "sigmoid" else drawn
    expected = formula(eta, trace, pre[:, None], post[:, :, None])
    torch.testing.assert_close(after(trace, pre, post, drawn), expected)
    assert torch.autograd.gradcheck(after, (trace, pre, post, drawn))


@pytest.mark.parametrize("rule", [Hebb, Oja, Instar])
def test_rates_for_other_connections_are_refused(rule):
    with pytest.raises(ValueError, match=r"state.trace.shape = \(2, 4, 3\): expected \(batch, 3, 4\), as eta has"):
        rule(connections=(3, 4)).update(rule().init(2, 4, 3), torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="connections = 0: expected at least 1"):
        rule(connections=(3, 0))


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        *itertools.product([PlasticRNN, PlasticLSTM], [Hebb, Instar]),
        (PlasticLSTM, Oja),
        pytest.param(PlasticRNN, Oja, marks=pytest.mark.soak),  # a further kernel
    ],
)
def test_a_layer_whose_connections_have_one_rate_each_is_that_of_the_kernels(kind, rule):
    generator, results = torch.Generator().manual_seed(0), []
    sequence = torch.randn(6, 2, 3, generator=generator, dtype=torch.float64)
    for connections in (None, (5, 5)):
        plasticity = rule(0.3, connections=connections)
        net = kind(3, 5, rule=plasticity, dtype=torch.float64, generator=generator.manual_seed(1))
        output, state = net(sequence)
        output.square().sum().backward()
        gradient = net.rule.eta.grad.sum()
        results.append([output, state.trace, gradient, net.alpha.grad, net.weight_hh.grad])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)
    net.backend = "fused"
    with pytest.raises(ValueError, match=r"backend = 'fused': rule = .*eta of shape \(5, 5\).*expected"):
        net(sequence)
