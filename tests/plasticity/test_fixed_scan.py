"""The recurrent scan without plasticity, whose derivative is ours, against the plain scan and ``nn.RNN``."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import forward_ad

from engram.plasticity import PlasticRNN, PlasticState, TraceState
from engram.plasticity.kernels.dispatch import RNN, fastest
from engram.plasticity.kernels.rnn.fixed import fixed_scan
from engram.plasticity.kernels.rnn.scan import fused_scan
from engram.plasticity.scan import plastic_scan


def leaves(time, batch, units, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = {"drive": (time, batch, units), "weight": (units, units), "hidden": (batch, units)}
    drawn = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    drawn["weight"] *= units**-0.5
    return {name: value.to(dtype).requires_grad_() for name, value in drawn.items()}


def run(scan, drive, weight, hidden, *, clamp=None, relu=False):
    state = PlasticState(hidden, TraceState(hidden.new_empty(len(hidden), 0, 0)))
    plasticity = () if scan is fixed_scan else (None, None)
    return scan(drive, weight, *plasticity, state, clamp=clamp, nonlinearity=torch.relu if relu else torch.tanh)


def some(shape, share=0.3):
    return torch.rand(shape, generator=torch.Generator().manual_seed(7)) < share


@settings(max_examples=25)
@given(
    sizes=st.tuples(st.integers(0, 7), st.integers(0, 3), st.integers(1, 5)),
    clamped=st.booleans(),
    relu=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_equals_the_plain_scan(sizes, clamped, relu, seed):
    found = []
    for scan in (fixed_scan, plastic_scan):
        own = leaves(*sizes, seed)
        output, last = run(scan, **own, clamp=some(sizes) if clamped else None, relu=relu)
        (output.sin().sum() + last.hidden.cos().sum()).backward()
        # A sequence of no steps leaves the plain scan without a gradient of the weights.
        found.append([output, last.hidden, *[torch.zeros_like(t) if t.grad is None else t.grad for t in own.values()]])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("clamped", [False, True])
def test_it_can_be_differentiated_twice(clamped):
    own = leaves(4, 2, 3)
    clamp = some((4, 2, 3)) if clamped else None
    call = lambda *given: run(fixed_scan, *given, clamp=clamp)[0]  # noqa: E731
    assert torch.autograd.gradcheck(call, tuple(own.values()))
    assert torch.autograd.gradgradcheck(call, tuple(own.values()))


def test_weights_that_are_not_trained_get_no_gradient():
    own = leaves(4, 2, 3)
    own["weight"].requires_grad_(False)
    run(fixed_scan, **own)[0].sum().backward()
    assert own["weight"].grad is None
    assert own["drive"].grad is not None


def test_the_state_can_be_changed_without_the_output():
    output, last = run(fixed_scan, **leaves(4, 2, 3))
    before = output.detach().clone()
    last.hidden.detach().zero_()
    assert torch.equal(output, before)


def test_the_derivative_in_forward_mode_is_that_of_the_plain_scan():
    own = {name: t.detach() for name, t in leaves(5, 2, 3).items()}
    tangents = []
    for scan in (fixed_scan, plastic_scan):
        with forward_ad.dual_level():
            dual = own | {"weight": forward_ad.make_dual(own["weight"], torch.ones_like(own["weight"]))}
            tangents.append(forward_ad.unpack_dual(run(scan, **dual)[0]).tangent)
    assert torch.equal(*tangents)


def test_a_network_without_plasticity_takes_it():
    own = leaves(9, 2, 3)
    state = PlasticState(own["hidden"], TraceState(torch.empty(2, 0, 0)))
    assert fastest(RNN, own["drive"], own["weight"], None, None, state) is fused_scan
    assert fastest(RNN, own["drive"][:2], own["weight"], None, None, state) is RNN.plain
    with torch.no_grad():
        assert fastest(RNN, own["drive"][:2], own["weight"], None, None, state) is RNN.plain
        assert fastest(RNN, own["drive"], own["weight"], None, None, state) is fused_scan
    assert fastest(RNN, own["drive"], own["weight"], None, None, state, nonlinearity=torch.sin) is RNN.plain


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_its_gradients_are_those_of_an_ordinary_network(nonlinearity):
    net = PlasticRNN(3, 5, alpha=None, nonlinearity=nonlinearity, generator=torch.Generator().manual_seed(0))
    peer = nn.RNN(3, 5, nonlinearity=nonlinearity)
    with torch.no_grad():
        net.weight_hh.mul_(0.5)
        peer.weight_ih_l0.copy_(net.weight_ih)
        peer.weight_hh_l0.copy_(net.weight_hh)
        peer.bias_ih_l0.copy_(net.bias)
        peer.bias_hh_l0.zero_()
    sequence = torch.randn(30, 4, 3, generator=torch.Generator().manual_seed(1))
    for module in (net, peer):
        module(sequence)[0].square().sum().backward()
    theirs = peer.weight_ih_l0, peer.weight_hh_l0, peer.bias_ih_l0
    for ours, other in zip((net.weight_ih, net.weight_hh, net.bias), theirs, strict=True):
        torch.testing.assert_close(ours.grad, other.grad, rtol=1e-4, atol=1e-4)


def test_it_can_be_transformed_and_compiled():
    net = PlasticRNN(2, 3, alpha=None, generator=torch.Generator().manual_seed(0))
    sequence = torch.randn(6, 2, 2, generator=torch.Generator().manual_seed(1))

    def loss(parameters):
        return torch.func.functional_call(net, parameters, (sequence,))[0].square().sum()

    parameters = {name: p.detach() for name, p in net.named_parameters()}
    found = torch.func.grad(loss)(parameters)
    loss(dict(net.named_parameters())).backward()
    compiled = torch.compile(partial(net), backend="eager", fullgraph=True)(sequence)[0]
    torch.testing.assert_close(compiled, net(sequence)[0])
    for name, p in net.named_parameters():
        torch.testing.assert_close(found[name], p.grad)
