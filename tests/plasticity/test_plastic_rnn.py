import warnings
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram import registry
from engram.plasticity import Hebb, Oja, PlasticRNN, PlasticState
from engram.tasks import PatternCompletion
from engram.testing.module import check_module, without_type_checks

ALPHAS = ["connection", "post", "homogeneous"]
RULES = [Hebb, Oja]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def strong(net, scale=0.5, seed=7):
    """Return the network with weights and alpha large enough for every part of it to matter."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in (net.weight_hh, net.alpha):
            if parameter is not None:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return net


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("alpha", [*ALPHAS, None])
@pytest.mark.parametrize("rule_class", RULES)
def test_gradients_agree_with_finite_differences(rule_class, alpha, clamped):
    rule = None if alpha is None else rule_class(0.2)
    net = strong(PlasticRNN(2, 3, rule=rule, alpha=alpha, dtype=torch.float64, generator=seeded()))
    clamp = draw(4, 2, 3, seed=1) > 0.5 if clamped else None
    names, parameters = zip(*net.named_parameters(), strict=True)
    _, (hidden, rule_state) = net(0.3 * draw(3, 2, 2, dtype=torch.float64))

    def run(sequence, hidden, trace, *values):
        start = PlasticState(hidden, rule_state._replace(trace=trace))
        named = dict(zip(names, values, strict=True))
        output, last = torch.func.functional_call(net, named, (sequence, start), {"clamp": clamp})
        return output, last.hidden, last.trace

    points = [0.2 * draw(4, 2, 2, seed=2, dtype=torch.float64), hidden, rule_state.trace, *parameters]
    assert torch.autograd.gradcheck(run, [p.detach().requires_grad_() for p in points])


@settings(deadline=None, max_examples=25)
@given(
    sizes=st.tuples(*[st.integers(1, 5)] * 4),
    part=st.integers(0, 5),
    rule_class=st.sampled_from(RULES),
    alpha=st.sampled_from([*ALPHAS, None]),
    clamped=st.booleans(),
)
def test_batches_and_parts_of_a_sequence_change_nothing(sizes, part, rule_class, alpha, clamped):
    time, batch, features, units = sizes
    rule = None if alpha is None else rule_class(0.2)
    net = strong(PlasticRNN(features, units, rule=rule, alpha=alpha, generator=seeded()))
    sequence = 0.1 * draw(time, batch, features)
    clamp = draw(time, batch, units, seed=1) > (0.5 if clamped else 100)
    whole, last = net(sequence, clamp=clamp)

    head, state = net(sequence[:part], clamp=clamp[:part])
    tail, final = net(sequence[part:], state, clamp=clamp[part:])
    torch.testing.assert_close(torch.cat((head, tail)), whole)
    torch.testing.assert_close(final.trace, last.trace)
    for b in range(batch):
        one = slice(b, b + 1)
        alone, alone_last = net(sequence[:, one], clamp=clamp[:, one])
        torch.testing.assert_close(alone, whole[:, one])
        torch.testing.assert_close(alone_last.trace, last.trace[one])


@pytest.mark.parametrize("alpha", ["post", "homogeneous", None])
def test_every_kind_of_alpha_keeps_the_contract(alpha):
    check_module(partial(PlasticRNN, alpha=alpha))


def test_initial_values_are_the_published_ones():
    net = PlasticRNN(50, 200, generator=seeded())
    assert net.weight_hh.std().item() == pytest.approx(0.01, rel=0.02)
    assert net.alpha.std().item() == pytest.approx(0.01, rel=0.02)
    assert abs(net.alpha.mean().item()) < 2e-4
    assert net.rule.eta.item() == pytest.approx(0.01)
    assert PlasticRNN(50, 200, alpha="homogeneous").alpha.item() == pytest.approx(0.01)
    like = torch.nn.Linear(50, 200)
    for ours, theirs in ((net.weight_ih, like.weight), (net.bias, like.bias)):
        assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.05)


def test_without_plasticity_it_is_the_ordinary_network():
    net = strong(PlasticRNN(3, 4, alpha=None, generator=seeded()))
    peer = torch.nn.RNN(3, 4)
    with torch.no_grad():
        peer.weight_ih_l0.copy_(net.weight_ih)
        peer.weight_hh_l0.copy_(net.weight_hh)
        peer.bias_ih_l0.copy_(net.bias)
        peer.bias_hh_l0.zero_()
    output, state = net(draw(6, 2, 3))
    torch.testing.assert_close(output, peer(draw(6, 2, 3))[0])
    assert state.trace.numel() == 0
    assert [name for name, _ in net.named_parameters()] == ["weight_ih", "bias", "weight_hh"]


def test_a_clamped_unit_takes_its_drive_and_the_rule_sees_it():
    net = strong(PlasticRNN(3, 4, generator=seeded()))
    sequence, clamp = 0.2 * draw(5, 2, 3), torch.tensor([True, False, True, False])
    output, state = net(sequence, clamp=clamp)
    drive = torch.nn.functional.linear(sequence, net.weight_ih, net.bias)
    assert torch.equal(output[..., clamp], drive[..., clamp])
    assert not torch.isclose(output[..., ~clamp], drive[..., ~clamp]).any()
    _, short = net(sequence[:-1], clamp=clamp)
    expected = net.rule.update(short.rule, output[-2], output[-1]).trace
    torch.testing.assert_close(state.trace, expected)


def test_batch_first_turns_the_clamp_too():
    net = strong(PlasticRNN(3, 4, batch_first=True, generator=seeded()))
    peer = PlasticRNN(3, 4)
    peer.load_state_dict(net.state_dict())
    sequence, clamp = 0.2 * draw(2, 5, 3), draw(1, 5, 4, seed=1) > 0
    output, _ = net(sequence, clamp=clamp)
    expected, _ = peer(sequence.transpose(0, 1), clamp=clamp.transpose(0, 1))
    assert torch.equal(output, expected.transpose(0, 1))


def test_frozen_input_weights_take_no_part_in_training():
    net = PlasticRNN(3, 4)
    net.weight_ih.requires_grad_(False)
    net.bias.requires_grad_(False)
    net(draw(4, 2, 3))[0].sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is not None] == ["weight_hh", "alpha", "rule.eta"]


def test_a_detached_state_carries_the_memory_and_not_the_graph():
    net = strong(PlasticRNN(3, 4, generator=seeded()))
    _, state = net(draw(4, 2, 3))
    detached = state.detach()
    assert torch.equal(detached.trace, state.trace)
    for _ in range(2):
        net(draw(4, 2, 3), detached)[0].sum().backward()


def test_torch_compile_takes_a_short_sequence_whole():
    net = strong(PlasticRNN(2, 3, rule=Oja(0.2), generator=seeded()))
    sequence, clamp = 0.2 * draw(3, 2, 2), draw(3, 2, 3, seed=1) > 0
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    with without_type_checks():
        output, state = compiled(sequence, clamp=clamp)
    expected, expected_state = net(sequence, clamp=clamp)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(state.trace, expected_state.trace)


def test_shapes_can_be_had_without_numbers():
    output, state = PlasticRNN(3, 4, device="meta")(torch.empty(5, 2, 3, device="meta"))
    assert output.shape == (5, 2, 4)
    assert state.trace.is_meta


def test_an_untrained_network_answers_by_chance():
    task = PatternCompletion()
    net = pattern_network(task, PlasticRNN(50, 51, generator=seeded()))
    assert error(net, task, 2000) == pytest.approx(0.25, abs=0.005)


def test_every_rule_beats_the_network_without_plasticity():
    task = PatternCompletion(bits=20)
    nets = {name: PlasticRNN(20, 21, rule=registry.get("rules", name)(), generator=seeded()) for name in RULE_NAMES}
    nets["none"] = PlasticRNN(20, 21, alpha=None, generator=seeded())
    errors = {name: error(trained(pattern_network(task, net), task), task, 500) for name, net in nets.items()}
    assert errors["none"] > 0.15
    for name in RULE_NAMES:
        assert errors[name] < 0.4 * errors["none"], errors


RULE_NAMES = registry.names("rules")


def pattern_network(task, net):
    """Return the network with the published input: each bit 20 times into its unit, and 20 into the last unit."""
    with torch.no_grad():
        net.weight_ih.copy_(20 * torch.eye(net.hidden_size, task.bits))
        net.bias.zero_()
        net.bias[-1] = 20
    net.weight_ih.requires_grad_(False)
    net.bias.requires_grad_(False)
    return net


def trained(net, task, updates=150):
    generator = seeded(1)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(updates):
        episode = task.sample(16, generator)
        output, _ = net(episode.inputs)
        loss = (output[..., : task.bits] - episode.targets)[episode.mask].square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


@torch.no_grad()
def error(net, task, episodes):
    episode = task.sample(episodes, seeded(2))
    output, _ = net(episode.inputs)
    return (output[..., : task.bits].sign() != episode.targets)[episode.mask].float().mean().item()


def test_an_eta_outside_the_unit_interval_is_told_once():
    net = PlasticRNN(2, 3, rule=Oja(eta=-0.1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            net(draw(2, 1, 2))
    assert [str(w.message) for w in caught] == ["eta of Oja is outside [0, 1]: the trace may grow without bound"]


def test_a_clamped_value_outside_the_range_of_the_units_is_told_once():
    net = PlasticRNN(2, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            net(torch.full((2, 1, 2), 100.0), clamp=torch.tensor(True))
            net(torch.full((2, 1, 2), 100.0), clamp=torch.tensor(False))
    assert [w.category for w in caught] == [RuntimeWarning]
    assert "clamped activity is outside [-1, 1]" in str(caught[0].message)


STATE = PlasticRNN(3, 4)(torch.zeros(1, 2, 3))[1]
BAD = {
    "alpha": (lambda: PlasticRNN(3, 4, alpha="conection"), ValueError, "alpha = 'conection': .*'connection', 'post', "),
    "nonlinearity": (
        lambda: PlasticRNN(3, 4, nonlinearity="sine"),
        ValueError,
        "nonlinearity = 'sine': .*'tanh', 'relu'",
    ),
    "size": (lambda: PlasticRNN(3, -4), ValueError, "hidden_size = -4: expected at least 1"),
    "size type": (lambda: PlasticRNN(3, 4.0), TypeError, "hidden_size"),
    "rule class": (lambda: PlasticRNN(3, 4, rule=Hebb), TypeError, "rule"),
    "rule": (lambda: PlasticRNN(3, 4, rule=Hebb(), alpha=None), ValueError, "rule = .*alpha = None"),
    "trace missing": (
        lambda: PlasticRNN(3, 4)(draw(1, 2, 3), PlasticRNN(3, 4, alpha=None)(draw(1, 2, 3))[1]),
        ValueError,
        r"state.trace.shape = \(2, 0, 0\): expected \(2, 4, 4\)",
    ),
    "trace unwanted": (
        lambda: PlasticRNN(3, 4, alpha=None)(draw(1, 2, 3), STATE),
        ValueError,
        r"state.trace.shape = \(2, 4, 4\): expected \(2, 0, 0\)",
    ),
    "clamp type": (lambda: PlasticRNN(3, 4)(draw(5, 2, 3), clamp=True), TypeError, "clamp"),
    "clamp dtype": (
        lambda: PlasticRNN(3, 4)(draw(5, 2, 3), clamp=torch.ones(4)),
        ValueError,
        "clamp.dtype = torch.float32: expected torch.bool",
    ),
    "clamp shape": (
        lambda: PlasticRNN(3, 4)(draw(5, 2, 3), clamp=torch.ones(5, 2, 3) > 0),
        ValueError,
        r"clamp.shape = \(5, 2, 3\): expected to be broadcastable to \(5, 2, 4\)",
    ),
    "clamp rank": (
        lambda: PlasticRNN(3, 4)(draw(5, 2, 3), clamp=torch.ones(1, 5, 2, 4) > 0),
        ValueError,
        r"clamp.shape = \(1, 5, 2, 4\)",
    ),
    "clamp device": (
        lambda: PlasticRNN(3, 4)(draw(5, 2, 3), clamp=torch.ones(4, device="meta") > 0),
        ValueError,
        "clamp.device = meta: expected cpu",
    ),
    "infinity, batch first": (
        lambda: PlasticRNN(3, 4, batch_first=True)(torch.tensor([[[0.0, 1, 2], [3, 4, float("-inf")]]])),
        ValueError,
        r"input at \(time=1, batch=0, feature=2\) is -inf",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    call, expected, message = BAD[name]
    with pytest.raises(expected, match=message):
        call()


@pytest.mark.parametrize("alpha", [*ALPHAS, None])
def test_repr_names_the_arguments(alpha):
    shown = repr(PlasticRNN(3, 4, alpha=alpha))
    assert f"3, 4, alpha={alpha!r}, nonlinearity='tanh', batch_first=False" in shown
