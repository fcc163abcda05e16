"""Networks of learned rules: the definition against loops over neurons, and the kernels against the definition."""

import math
import warnings
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.learned.learning_to_remember import GatedRule, OuterRule, RuleNetwork, RuleState, StaticRule, Topology

TOPOLOGIES = {
    "visible": Topology.visible(5),
    "visible, forwards": Topology.visible(5, bidirectional=False),
    "recurrent": Topology.recurrent(4, 3, ticks=2),
    "layered": Topology.layered(3, 4, 2),
    "layered_skip": Topology.layered_skip(3, 4, 2),
    "feedforward": Topology.feedforward(3, 4, 2),
    "deep": Topology.deep(2, 3, 3, 2),
    "sparse": Topology.sparse(4, 5, fan_in=2),
}
RULES = {
    "gated": GatedRule,
    "additive": lambda *sizes, **options: GatedRule(*sizes, product=False, **options),
    "outer": OuterRule,
    "delta": lambda *sizes, **options: OuterRule(*sizes, delta=True, **options),
    "static": StaticRule,
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network(topology, rule="gated", *, seed=0, types=None, dtype=torch.float64, sigma=0.3, **options):
    """Return a network of a small rule none of whose parameters is at a special value."""
    generator = seeded(seed)
    types = len(topology.groups) if types is None else types
    made = RULES[rule](4, 2, types=types, type_size=3, body_hidden=5, generator=generator)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=generator), alpha=0.3)
    return RuleNetwork(topology, made, sigma=sigma, generator=generator, **options).to(dtype)


def somewhere(net, batch, seed=1):
    """Return a state with bodies that are not 0, and frames some of which are empty."""
    generator = seeded(seed)
    state, like = net.init(batch, generator), net.rule.readout
    bodies = torch.randn(state.bodies.shape, generator=generator).to(like)
    frames = torch.randn(4, batch, net.topology.features, generator=generator).sign().to(like)
    frames[2] = 0
    return RuleState(bodies, state.synapses), frames


def by_loops(net, state, frame, clamp):
    """Return the state one tick later of a stream, neuron by neuron and synapse by synapse, as the equations say it."""
    rule, topology = net.rule, net.topology
    groups = [n for n, size in enumerate(topology.groups) for _ in range(size)]
    edges = {}
    for number, (pre, post) in enumerate(topology.blocks):
        mask = getattr(net, f"mask_{number}")
        rows, columns = topology.of_group(post), topology.of_group(pre)
        for i in range(rows.start, rows.stop):
            for j in range(columns.start, columns.stop):
                if mask is None or mask[i - rows.start, j - columns.start]:
                    edges[i, j] = state.synapses[number][0, :, i - rows.start, j - columns.start]
    b = state.bodies[0]
    x, k = torch.zeros(len(b), dtype=b.dtype), torch.zeros(len(b), dtype=b.dtype)
    place = 0
    for group in dict.fromkeys((topology.inputs, topology.outputs)):
        for i in range(topology.of_group(group).start, topology.of_group(group).stop):
            x[i], k[i] = frame[place], clamp[place]
            place += 1
    power = {"sqrt": -0.5, "mean": -1.0}[net.aggregate]
    e = [rule.embedding[groups[i] if rule.types > 1 else 0] for i in range(len(b))]
    m, new = [], []
    for i in range(len(b)):
        arriving = [s * (b[to] @ rule.forward_projection) for (post, to), s in edges.items() if post == i]
        back = [s * (b[post] @ rule.backward_projection) for (post, to), s in edges.items() if to == i]
        zero = torch.zeros(rule.channels, dtype=b.dtype)
        m.append(sum(arriving, zero) * max(len(arriving), 1) ** power)
        r = sum(back, zero) * max(len(back), 1) ** power * topology.bidirectional
        q = torch.cat((b[i], m[i], r, x[i : i + 1], k[i : i + 1], e[i]))
        out = torch.tanh(q @ rule.body_in + rule.body_in_bias) @ rule.body_out + rule.body_out_bias
        a, g = out[: rule.body_size], out[rule.body_size :]
        new.append(b[i] + torch.sigmoid(g) * (torch.tanh(a) - b[i]))
    beta = [torch.cat((new[i], b[i], e[i])) for i in range(len(b))]
    changed = {}
    for (i, j), s in edges.items():
        if isinstance(rule, StaticRule):
            changed[i, j] = s
        elif isinstance(rule, OuterRule):
            factor = beta[i] @ rule.post_factor - (m[i] if rule.delta else 0)
            rate, keep = torch.log1p(rule.rate.exp()), torch.sigmoid(rule.keep)
            changed[i, j] = keep * s + rate * factor * (beta[j] @ rule.pre_factor)
        else:
            z = s @ rule.own + beta[i] @ rule.post + beta[j] @ rule.pre + rule.bias
            if rule.product:
                z = z + (beta[i] @ rule.post_factor) * (beta[j] @ rule.pre_factor)
            p, f, w = (torch.tanh(z) @ rule.out + rule.out_bias).view(3, -1)
            changed[i, j] = torch.sigmoid(f) * s + torch.sigmoid(w) * torch.tanh(p)
    return torch.stack(new), changed


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_drawn_from_its_generator(rule):
    rules = [RULES[rule](4, 2, types=2, generator=seeded(seed)).state_dict() for seed in (0, 0, 1)]
    for name, value in rules[0].items():
        assert torch.equal(value, rules[1][name])
    assert any(not torch.equal(value, rules[2][name]) for name, value in rules[0].items())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_tick_is_what_the_equations_say(topology, rule):
    for aggregate in ("sqrt", "mean"):
        net = network(TOPOLOGIES[topology], rule, aggregate=aggregate)
        state, frames = somewhere(net, 1)
        clamp = torch.rand(frames.shape[2], generator=seeded()).double()
        net.aggregate = aggregate
        bodies, edges = by_loops(net, state, frames[0, 0], clamp)
        after = net.tick(state, net._shown(frames[:1], clamp.expand(1, 1, -1))[0])
        torch.testing.assert_close(after.bodies[0], bodies)
        count = 0
        for number, (pre, post) in enumerate(net.topology.blocks):
            rows, columns = net.topology.of_group(post), net.topology.of_group(pre)
            for i in range(rows.start, rows.stop):
                for j in range(columns.start, columns.stop):
                    s = after.synapses[number][0, :, i - rows.start, j - columns.start]
                    torch.testing.assert_close(s, edges.get((i, j), torch.zeros_like(s)))
                    count += (i, j) in edges
        assert count == len(edges)


def results(net, state, frames):
    """Return what a window gives, with the gradients of a loss of all of it."""
    leaves = [state.bodies.clone().requires_grad_(), *(s.clone().requires_grad_() for s in state.synapses)]
    logits, after = net(frames, RuleState(leaves[0], tuple(leaves[1:])))
    weight = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view(logits.shape)
    loss = (logits * weight).sum() + after.bodies.square().sum() + sum((s * s.detach()).sum() for s in after.synapses)
    wanted = [*leaves, *net.rule.parameters()]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    return [logits, after.bodies, *after.synapses, *grads]


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_kernels_differ_from_the_definition_by_speed_only(topology):
    for rule, types, batch in (("gated", None, 19), ("gated", 1, 3), ("additive", None, 1)):
        for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 2e-4)):
            plain = network(TOPOLOGIES[topology], rule, types=types, dtype=dtype, backend="eager")
            fused = network(TOPOLOGIES[topology], rule, types=types, dtype=dtype)
            given = somewhere(plain, batch)
            for result, other in zip(results(plain, *given), results(fused, *given), strict=True):
                scale = 1 + max(result.detach().abs().flatten().tolist(), default=0)
                torch.testing.assert_close(result, other, rtol=tolerance, atol=tolerance * scale)
            with torch.no_grad():  # then the states of ticks take turns in memory
                (logits, state), (expected, after) = fused(given[1], given[0]), plain(given[1], given[0])
            torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(state.synapses, after.synapses, rtol=tolerance, atol=tolerance)


def test_messages_are_scaled_in_the_precision_of_the_state():
    net = network(Topology.visible(7))
    exact = torch.tensor([float(degree) ** -0.5 for degree in net.degree[:, 0]], dtype=torch.float64)
    torch.testing.assert_close(net._scale(net.rule.readout)[:, 0], exact, rtol=1e-15, atol=0)
    single = net.float()
    assert torch.equal(single._scale(single.rule.readout)[:, 0], net.degree[:, 0].float() ** -0.5)


def test_gradients_of_the_kernels_are_right():
    net = network(Topology.recurrent(2, 1))
    state, frames = somewhere(net, 2)

    def window(bodies, *rest):
        synapses, parameters = rest[:4], dict(zip(dict(net.named_parameters()), rest[4:], strict=True))
        given = (frames[:3], RuleState(bodies, synapses))
        logits, after = torch.func.functional_call(net, parameters, given)
        return logits, after.bodies, *after.synapses

    inputs = [t.detach().clone().requires_grad_() for t in (state.bodies, *state.synapses, *net.parameters())]
    assert torch.autograd.gradcheck(window, inputs)


def test_a_second_derivative_is_refused_by_the_kernels_and_given_by_the_definition():
    for backend in ("auto", "eager"):
        net = network(Topology.visible(2), backend=backend)
        state, frames = somewhere(net, 1)
        (grad,) = torch.autograd.grad(net(frames, state)[0].sum(), net.rule.own, create_graph=True)
        if backend == "auto":
            with pytest.raises(RuntimeError, match="backend='eager' to differentiate twice"):
                grad.sum().backward()
        else:
            grad.sum().backward()


def test_a_transform_of_torch_runs_over_many_rules():
    nets = [network(Topology.visible(3), seed=seed) for seed in range(3)]
    state, frames = somewhere(nets[0], 2)
    stacked, _ = torch.func.stack_module_state(nets)
    run = torch.func.vmap(lambda parameters: torch.func.functional_call(nets[0], parameters, (frames, state))[0])
    torch.testing.assert_close(run(stacked), torch.stack([net(frames, state)[0] for net in nets]))


@pytest.mark.parametrize("rule", ["gated", "delta"])
def test_a_window_goes_on_where_the_last_ended_and_streams_stay_apart(rule):
    net = network(Topology.recurrent(3, 2), rule)
    state, frames = somewhere(net, 5)
    whole, last = net(frames, state)
    first, between = net(frames[:1], state)
    second, after = net(frames[1:], between)
    torch.testing.assert_close(torch.cat((first, second)), whole)
    torch.testing.assert_close(net(frames, state, (frames != 0).to(frames))[0], whole)
    torch.testing.assert_close(after.synapses, last.synapses)
    alone, _ = net(frames[:, 3:4], RuleState(state.bodies[3:4], tuple(s[3:4] for s in state.synapses)))
    torch.testing.assert_close(alone, whole[:, 3:4])
    assert net(frames[:0], state)[0].shape == (0, 5, 3)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(5)), seed=st.integers(0, 1000))
def test_neurons_of_a_type_have_no_names(order, seed):
    net = network(Topology.visible(5), seed=seed)
    state, frames = somewhere(net, 2, seed)
    turned = RuleState(state.bodies[:, order], tuple(s[:, :, order][..., order] for s in state.synapses))
    torch.testing.assert_close(net(frames[..., order], turned)[0], net(frames, state)[0][..., order])


def test_hidden_neurons_that_begin_alike_remain_alike_unless_synapses_are_random():
    for sigma, alike in ((0.0, True), (0.3, False)):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            net = network(Topology.recurrent(3, 4), sigma=sigma)
        assert any("begin alike" in str(warning.message) for warning in warned) == alike
        state = net.init(1, seeded())
        hidden = net(somewhere(net, 1)[1], state)[1].bodies[0, 3:]
        assert torch.allclose(hidden, hidden[:1]) == alike


def test_a_fresh_state_is_as_said():
    net = network(Topology.recurrent(30, 20), sigma=0.3)
    state = net.init(40, seeded())
    assert not state.bodies.any()
    synapses = torch.cat([s.flatten(2) for s in state.synapses], 2)
    assert float(synapses[:, :1].std()) == pytest.approx(0.3, rel=0.01)
    assert not synapses[:, 1:].any()
    assert not network(Topology.visible(5), sigma=None).init(2).synapses[0].any()
    hidden = network(Topology.recurrent(3, 2), sigma=None).init(400, seeded()).synapses[0][:, 0]
    assert float(hidden.std()) == pytest.approx(0.3, rel=0.05)


def test_a_sparse_network_keeps_as_many_inputs_as_said_and_has_no_other_synapses():
    net = network(Topology.sparse(6, 5, fan_in=3))
    masks = [getattr(net, f"mask_{number}") for number in range(4)]
    assert all((mask.sum(1) == 3).all() for mask in masks)
    state, frames = somewhere(net, 2)
    for after in (net.init(2, seeded()), net(frames, state)[1]):
        assert not any((s * ~mask).any() for s, mask in zip(after.synapses, masks, strict=True))
    twin = network(Topology.sparse(6, 5, fan_in=3), seed=9)
    twin.load_state_dict(net.state_dict())
    torch.testing.assert_close(twin(frames, state)[0], net(frames, state)[0])


def test_a_rule_has_the_parameters_of_its_equations_alone():
    """Products of two neurons, and embeddings of types, are only where there are some."""
    factors = {"post_factor", "pre_factor"}
    names = [{name for name, _ in GatedRule(product=product).named_parameters()} for product in (True, False)]
    assert names[0] - names[1] == factors
    assert not names[1] & factors
    assert [GatedRule(types=types, type_size=3).embedding.shape for types in (1, 2)] == [(1, 0), (2, 3)]


def test_a_rule_is_small_whatever_the_network():
    rule = GatedRule(types=2, generator=seeded())
    assert sum(p.numel() for p in rule.parameters()) == 2909
    gates = rule.out_bias.view(3, 4)
    assert gates[:, 0].tolist() == [0.0, 4.0, -1.0]
    small, large = RuleNetwork(Topology.recurrent(3, 2), rule), RuleNetwork(Topology.recurrent(40, 20), rule)
    assert {p.data_ptr() for p in small.parameters()} == {p.data_ptr() for p in large.parameters()}


def test_initial_values_have_the_variance_of_their_fan_in_and_come_from_the_generator():
    rule = GatedRule(60, 50, types=3, type_size=40, body_hidden=70, synapse_hidden=80, generator=seeded(3))
    for name in ("forward_projection", "body_in", "body_out", "own", "post", "pre_factor", "out"):
        matrix = getattr(rule, name)
        assert float(matrix.detach().std()) == pytest.approx(len(matrix) ** -0.5, rel=0.05), name
    twin = GatedRule(60, 50, types=3, type_size=40, body_hidden=70, synapse_hidden=80, generator=seeded(3))
    assert all(torch.equal(a, b) for a, b in zip(rule.parameters(), twin.parameters(), strict=True))


def test_a_memory_is_stored_without_its_rule(tmp_path):
    net = network(Topology.visible(3))
    state, frames = somewhere(net, 2)
    torch.save(net(frames, state)[1].detach(), tmp_path / "memory.pt")
    loaded = torch.load(tmp_path / "memory.pt")
    torch.testing.assert_close(net(frames, loaded)[0], net(frames, net(frames, state)[1])[0])


def test_streams_begin_anew_where_told():
    net = network(Topology.recurrent(3, 2))
    state, fresh = somewhere(net, 3)[0], net.init(3, seeded(5))
    replaced = state.replaced(torch.tensor([False, True, False]), fresh)
    assert torch.equal(replaced.bodies[1], fresh.bodies[1])
    assert torch.equal(replaced.bodies[0], state.bodies[0])
    assert all(torch.equal(a[1], b[1]) for a, b in zip(replaced.synapses, fresh.synapses, strict=True))
    assert all(torch.equal(a[2], b[2]) for a, b in zip(replaced.synapses, state.synapses, strict=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Topology((3,), ((0, 1),)), "group in blocks = 1: expected 0 to 0"),
        (lambda: Topology((3,), ((0, 0),), outputs=2), "outputs = 2: expected 0 to 0"),
        (lambda: Topology((), ()), r"groups = \(\): expected one group"),
        (lambda: Topology((3,), ()), r"blocks = \(\): expected a pair"),
        (lambda: Topology((3, 3), ((1, 0),), 0, 1, 3), "expected a way from inputs to outputs"),
        (lambda: Topology.sparse(3, 2, fan_in=4), "fan_in = 4"),
        (lambda: network(Topology.recurrent(3, 2), types=3), "rule.types = 3: expected 1 or 2"),
    ],
)
def test_what_makes_no_network_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_frames_and_states_are_named():
    net = network(Topology.visible(3))
    state, frames = somewhere(net, 2)
    wrong = frames.clone()
    wrong[1, 0, 2] = math.nan
    for arguments, message in (
        ((frames[:, :1], state), "state has batch 2, input has 1"),
        ((wrong, state), "input at .frame=1, batch=0, feature=2. is nan"),
        ((frames[..., :2], state), "input.shape"),
        ((frames.float(), state), "input.dtype"),
        ((frames, state, frames[:2]), "clamp.shape"),
        ((frames, RuleState(state.bodies, (state.synapses[0][:, :1],))), r"state.synapses\[0\].shape"),
        ((frames, RuleState(state.bodies, ())), "state.synapses"),
    ):
        with pytest.raises(ValueError, match=message):
            net(*arguments)


def test_sequences_for_a_layered_network_are_told_from_pairs():
    net = network(Topology.layered(3, 4, 2))
    with pytest.raises(ValueError, match="expected 5 features, for 3 inputs and 2 outputs, as windows"):
        net(torch.ones(2, 1, 3, dtype=torch.float64), net.init(1, seeded()))


def test_an_output_that_cannot_see_its_input_is_warned_of():
    with pytest.warns(RuntimeWarning, match="ticks = 2: the output cannot see the input of its frame before tick 3"):
        short = replace(Topology.layered(2, 2, 2), ticks=2)
    for topology, sees in ((short, False), (Topology.layered(2, 2, 2), True), (Topology.deep(2, 2, 2, 2), True)):
        net = network(topology)
        state = net.init(1, seeded())
        shown = torch.zeros(1, 1, 4, dtype=torch.float64)
        answers = [net(shown.index_fill(2, torch.tensor([0]), x), state)[0] for x in (-1.0, 1.0)]
        assert torch.equal(*answers) != sees


def test_the_input_has_a_gradient_whatever_the_backend():
    grads = []
    for backend in ("auto", "eager"):
        net = network(Topology.visible(3), backend=backend)
        state, frames = somewhere(net, 2)
        frames.requires_grad_()
        net(frames, state)[0].square().sum().backward()
        grads.append(frames.grad)
    torch.testing.assert_close(*grads)
    assert grads[0].any()


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_all_parameters_of_a_rule_have_a_gradient(backend):
    net = network(Topology.visible(3), backend=backend)
    state, frames = somewhere(net, 2)
    gradients = torch.autograd.grad(net(frames, state)[0].sum(), list(net.parameters()))
    assert [gradient.shape for gradient in gradients] == [parameter.shape for parameter in net.parameters()]


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_a_window_whose_rule_has_changed_since_has_no_gradient(backend):
    net = network(Topology.visible(3), backend=backend)
    state, frames = somewhere(net, 2)
    _, after = net(frames, state)
    net(frames, after)[0].sum().backward(retain_graph=True)
    with torch.no_grad():
        net.rule.own.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        net(frames, after)[0].sum().backward()
    _, after = net(frames, state)
    net(frames, after)[0].sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        net(frames, after)[0].sum().backward()


def test_a_subclass_of_the_gated_rule_is_heeded():
    class Frozen(GatedRule):
        def synapse(self, synapse, *rest):
            return synapse

    net = RuleNetwork(Topology.visible(3), Frozen(4, 2, generator=seeded()), generator=seeded())
    state = net.init(2, seeded())
    after = net(torch.ones(4, 2, 3), state)[1]
    assert all(map(torch.equal, after.synapses, state.synapses))


@pytest.mark.parametrize("rule", ["gated", "additive", "outer", "delta"])
@pytest.mark.parametrize("change", [lambda x: x.to("meta"), torch.Tensor.to_sparse])
@pytest.mark.parametrize("name", ["synapse", "post", "pre"])
def test_tensors_without_numbers_at_hand_are_named(rule, change, name):
    shapes = {"synapse": (1, 2, 3, 5), "post": (1, 3, 8), "pre": (1, 5, 8), "forward": (1, 3, 2)}
    tensors = {argument: torch.ones(shape) for argument, shape in shapes.items()}
    call = partial(RULES[rule](4, 2).synapse, **tensors | {name: change(tensors[name])})
    with pytest.raises(RuntimeError, match=name):
        call()
