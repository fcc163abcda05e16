import itertools
import math
import warnings
from functools import partial, wraps

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engram import registry
from engram.nn.packed import each
from engram.plasticity import (
    ClippedHebb,
    EligibilityState,
    Hebb,
    Modulated,
    Neuromodulator,
    Oja,
    PlasticRNN,
    PlasticState,
    Retroactive,
    TraceState,
)
from engram.tasks import PatternCompletion
from engram.testing.module import check_module, rebuilt, tensors, without_type_checks

ALPHAS = ["connection", "post", "homogeneous", 2]
RULES = {
    "hebb": lambda: Hebb(0.2),
    "oja": lambda: Oja(0.2),
    "clipped": lambda: ClippedHebb(0.2, 0.3),
    "modulated": lambda: Modulated(0.3),
    "soft": lambda: Modulated(0.3, "soft"),
    "decay": lambda: Modulated(0.3, "decay"),
    "retroactive": lambda: Retroactive(0.4, 0.3),
    "trace first": lambda: Retroactive(0.4, 0.3, trace_first=True),
    "modulated half": lambda: Modulated(0.3, only_half=True, hebb_eta=0.2),
    "retroactive half": lambda: Retroactive(0.4, 0.3, only_half=True, hebb_eta=0.2),
    "retroactive soft": lambda: Retroactive(0.4, 0.3, mode="soft"),
    "sigmoid": lambda: ClippedHebb(0.2, 0.3, eta_param="sigmoid"),
}
MODULATED = [name for name, rule in RULES.items() if rule().modulated]
# Up to so many steps a network runs the plain scan, on which these tests are; the kernels are held to it elsewhere.
PLAIN = 4


def soaked(cases, kept):
    """Return the cases of a grid, of which all but those kept are further sizes, left to ``make soak``."""
    return [case if case in kept else pytest.param(*case, marks=pytest.mark.soak) for case in cases]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def strong(net, scale=0.5, seed=7):
    """Return the network with weights and alpha large enough for every part of it to matter."""
    generator = seeded(seed)
    with torch.no_grad():
        alpha = (
            [] if net.alpha is None else [net.alpha] if isinstance(net.alpha, torch.Tensor) else net.alpha.parameters()
        )
        for parameter in (net.weight_hh, *alpha):
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return net


def fan(units, dtype=torch.float32, seed=5):
    """Return a neuromodulator with fan-out whose signals are large."""
    return Neuromodulator(units, True, dtype=dtype, generator=seeded(seed))


@pytest.mark.parametrize(
    ("name", "alpha", "clamped"),
    soaked(
        [*itertools.product(RULES, ALPHAS, (False, True)), (None, None, False), (None, None, True)],
        kept=[*((name, ALPHAS[n % 4], n % 2 == 0) for n, name in enumerate(RULES)), (None, None, True)],
    ),
)
def test_gradients_agree_with_finite_differences(name, alpha, clamped):
    rule = None if name is None else RULES[name]()
    modulator = fan(3) if name in MODULATED else None
    net = PlasticRNN(2, 3, rule=rule, alpha=alpha, neuromodulator=modulator, dtype=torch.float64, generator=seeded())
    strong(net)
    clamp = draw(4, 2, 3, seed=1) > 0.5 if clamped else None
    names, parameters = zip(*net.named_parameters(), strict=True)
    _, state = net(0.3 * draw(3, 2, 2, dtype=torch.float64))
    parts = len(tensors(state))

    def run(sequence, *values):
        named = dict(zip(names, values[parts:], strict=True))
        start = rebuilt(state, values[:parts])
        return tuple(tensors(torch.func.functional_call(net, named, (sequence, start), {"clamp": clamp})))

    points = [0.2 * draw(4, 2, 2, seed=2, dtype=torch.float64), *tensors(state), *parameters]
    assert torch.autograd.gradcheck(run, [p.detach().requires_grad_() for p in points], fast_mode=True)


@pytest.mark.filterwarnings("ignore:over 90 %")
@given(
    sizes=st.tuples(st.integers(1, PLAIN), *[st.integers(1, 5)] * 3),
    part=st.integers(0, 5),
    name=st.sampled_from([*RULES, None]),
    alpha=st.sampled_from(ALPHAS),
    fan_out=st.booleans(),
    clamped=st.booleans(),
)
def test_batches_and_parts_of_a_sequence_change_nothing(*, sizes, part, name, alpha, fan_out, clamped):
    time, batch, features, units = sizes
    rule = None if name is None else RULES[name]()
    modulator = Neuromodulator(units, fan_out) if name in MODULATED else None
    alpha = alpha if name else None
    net = PlasticRNN(features, units, rule=rule, alpha=alpha, neuromodulator=modulator, generator=seeded())
    strong(net)
    sequence = 0.1 * draw(time, batch, features)
    clamp = draw(time, batch, units, seed=1) > (0.5 if clamped else 100)
    whole, last = net(sequence, clamp=clamp)

    head, state = net(sequence[:part], clamp=clamp[:part])
    tail, final = net(sequence[part:], state, clamp=clamp[part:])
    torch.testing.assert_close(torch.cat((head, tail)), whole)
    torch.testing.assert_close(tensors(final), tensors(last))
    for b in range(batch):
        sample = slice(b, b + 1)
        alone, alone_last = net(sequence[:, sample], clamp=clamp[:, sample])
        torch.testing.assert_close(alone, whole[:, sample])
        torch.testing.assert_close(tensors(alone_last), [t[:, sample] for t in tensors(last)])


@pytest.mark.parametrize(
    ("alpha", "options"),
    soaked(
        itertools.product([*ALPHAS, None], [{}, {"batch_first": True, "nonlinearity": "relu"}, {"backend": "eager"}]),
        kept=[
            ("post", {}),
            (2, {"batch_first": True, "nonlinearity": "relu"}),
            ("connection", {"backend": "eager"}),
            (None, {}),
        ],
    ),
)
def test_acting_gives_what_the_steps_one_by_one_give(alpha, options):
    for name in RULES if alpha else [None]:
        rule = None if name is None else RULES[name]()
        net = strong(PlasticRNN(3, 5, rule=rule, alpha=alpha, generator=seeded(), **options), 0.2)
        sequence, state, act = 0.1 * draw(7, 2, 3), None, net.acting(2)
        for observation in sequence:
            expected, state = net(observation.unsqueeze(int(net.batch_first)), state)
            activity = act(observation)
            torch.testing.assert_close(activity, expected.reshape(2, 5))
            assert not activity.requires_grad


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_who_acts_is_told_of_bad_input(backend):
    act = PlasticRNN(3, 5, backend=backend).acting(2)
    with pytest.raises(ValueError, match=r"input at \(time=0, batch=1, feature=2\) is inf"):
        act(torch.tensor([[0.0, 1, 2], [3, 4, math.inf]]))
    with pytest.raises(ValueError, match=r"input.shape"):
        act(draw(2, 4))
    with pytest.raises(ValueError, match=r"expected \(2, |state.hidden.shape = \(1, 2, 5\): expected \(1, 3, 5\)"):
        act(draw(3, 3))
    with pytest.raises(ValueError, match="batch_size = 0: expected at least 1"):
        PlasticRNN(3, 5).acting(0)


@pytest.mark.parametrize("fan_out", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_a_batch_of_one_gives_the_first_row_of_a_batch_of_two(name, fan_out):
    modulator = Neuromodulator(4, fan_out, generator=seeded(5)) if name in MODULATED else None
    net = strong(PlasticRNN(3, 4, rule=RULES[name](), neuromodulator=modulator, generator=seeded()))
    sequence = draw(PLAIN, 2, 3)
    output, state = net(sequence)
    first, first_state = net(sequence[:, :1])
    torch.testing.assert_close(first, output[:, :1])
    torch.testing.assert_close(tensors(first_state), [t[:, :1] for t in tensors(state)])
    assert not torch.allclose(output[:, :1], output[:, 1:])


@pytest.mark.parametrize("name", ["modulated", "soft", "decay", "retroactive", "trace first"])
def test_without_a_signal_it_is_the_ordinary_network_bit_by_bit(name):
    modulator = fan(4)
    for parameter in modulator.parameters():
        torch.nn.init.zeros_(parameter)
    net = strong(PlasticRNN(3, 4, rule=RULES[name](), neuromodulator=modulator, backend="eager", generator=seeded()))
    ordinary = PlasticRNN(3, 4, alpha=None)
    ordinary.load_state_dict({key: net.get_parameter(key) for key in ("weight_ih", "bias", "weight_hh")})
    output, state = net(draw(6, 2, 3))
    assert not state.trace.any()
    assert torch.equal(output, ordinary(draw(6, 2, 3))[0])


def test_a_signal_that_depends_on_nothing_makes_it_the_clipped_rule():
    modulator = fan(4)
    torch.nn.init.zeros_(modulator.fan_weight)
    torch.nn.init.constant_(modulator.fan_bias, 0.2)
    net = strong(PlasticRNN(3, 4, rule=Modulated(0.3), neuromodulator=modulator, generator=seeded()))
    peer = PlasticRNN(3, 4, rule=ClippedHebb(0.2, 0.3))
    peer.load_state_dict({key: p for key, p in net.state_dict().items() if "modulator" not in key}, strict=False)
    output, state = net(draw(PLAIN, 2, 3))
    expected, expected_state = peer(draw(PLAIN, 2, 3))
    assert torch.equal(output, expected)
    assert torch.equal(state.trace, expected_state.trace)


def test_a_product_of_factors_does_what_its_coefficients_do():
    net = strong(PlasticRNN(3, 4, rule=Oja(0.2), alpha=2, generator=seeded()))
    peer = PlasticRNN(3, 4, rule=Oja(0.2))
    peer.load_state_dict({key: p for key, p in net.state_dict().items() if "alpha" not in key}, strict=False)
    with torch.no_grad():
        peer.alpha.copy_(torch.einsum("rj,ri->ji", net.alpha.post, net.alpha.pre))
    torch.testing.assert_close(net(draw(PLAIN, 2, 3)), peer(draw(PLAIN, 2, 3)))


@pytest.mark.parametrize(
    ("count", "units", "arguments"),
    [
        (22_406, 100, {"rule": Modulated()}),
        (22_407, 100, {"rule": Retroactive()}),
        (22_731, 101, {"rule": ClippedHebb()}),
        (22_523, 139, {"alpha": None}),
    ],
)
def test_the_maze_agents_have_as_many_parameters_as_the_published_ones(count, units, arguments):
    agent = torch.nn.ModuleList(
        [PlasticRNN(17, units, **arguments), torch.nn.Linear(units, 4), torch.nn.Linear(units, 1)]
    )
    assert sum(p.numel() for p in agent.parameters()) == count


@pytest.mark.parametrize(
    "alpha", [*(pytest.param(a, marks=pytest.mark.soak) for a in ("post", "homogeneous")), 2, None]
)
def test_every_kind_of_alpha_keeps_the_contract(alpha):
    check_module(partial(PlasticRNN, alpha=alpha))


@pytest.mark.parametrize(
    "rule",
    [
        Retroactive,
        partial(Retroactive, mode="soft", only_half=True),
        *(
            pytest.param(rule, marks=pytest.mark.soak)
            for rule in (
                ClippedHebb,
                partial(Modulated, mode="soft"),
                partial(Modulated, only_half=True),
                partial(Oja, eta_param="sigmoid"),
            )
        ),
    ],
)
def test_every_kind_of_rule_keeps_the_contract(rule):
    @wraps(PlasticRNN, updated=())
    def make(*sizes, **options):
        return PlasticRNN(*sizes, rule=rule(), **options)

    check_module(make)


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
    expected = net.rule.update(each(lambda t: t[0], short.rule), output[-2], output[-1]).trace
    torch.testing.assert_close(state.trace[0], expected)


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


@pytest.mark.parametrize(
    "name",
    [
        "modulated",
        *(
            pytest.param(name, marks=pytest.mark.soak)
            for name in ("oja", "soft", "retroactive", "retroactive half", "sigmoid")
        ),
    ],
)
def test_torch_compile_takes_a_short_sequence_whole(name):
    torch.compiler.reset()
    net = strong(PlasticRNN(2, 3, rule=RULES[name](), alpha=2, generator=seeded()))
    sequence, clamp = 0.2 * draw(3, 2, 2), draw(3, 2, 3, seed=1) > 0
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    with without_type_checks():
        output, state = compiled(sequence, clamp=clamp)
    expected, expected_state = net(sequence, clamp=clamp)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(tensors(state), tensors(expected_state))


def test_under_autocast_everything_but_the_input_layer_keeps_its_precision():
    net = strong(PlasticRNN(3, 4, rule=Retroactive(0.2), generator=seeded()))
    expected, _ = net(draw(PLAIN, 2, 3))
    with torch.autocast("cpu", torch.bfloat16):
        output, state = net(draw(PLAIN, 2, 3).bfloat16())
    assert {t.dtype for t in (output, *tensors(state))} == {torch.float32}
    torch.testing.assert_close(output, expected, rtol=0.05, atol=0.05)
    output.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_where_there_are_traces(dtype):
    net, ordinary = PlasticRNN(3, 4, dtype=dtype), PlasticRNN(3, 4, alpha=None).to(dtype)
    sequence = draw(6, 2, 3).to(dtype)
    with pytest.raises(ValueError, match=rf"dtype = {dtype}: expected torch.float32 or torch.float64.*torch.autocast"):
        net(sequence)
    assert net.float()(sequence.float())[0].dtype == torch.float32
    assert ordinary(sequence)[0].dtype == dtype


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_the_backend_changes_nothing_but_speed(backend):
    net, peer = (strong(PlasticRNN(3, 4, backend=name, generator=seeded())) for name in (backend, "eager"))
    torch.testing.assert_close(net(draw(6, 2, 3)), peer(draw(6, 2, 3)))


def test_only_a_retroactive_rule_has_an_eligibility_trace():
    _, state = PlasticRNN(3, 4, rule=Retroactive(0.2))(draw(PLAIN, 2, 3))
    assert state.eligibility.any()
    assert state.detach().eligibility.grad_fn is None
    _, state = PlasticRNN(3, 4)(draw(6, 2, 3))
    assert not hasattr(state, "eligibility")


def test_a_neuromodulator_is_made_for_a_modulated_rule_alone():
    assert PlasticRNN(3, 4).neuromodulator is None
    own = PlasticRNN(3, 4, rule=Modulated(), dtype=torch.float64).neuromodulator
    assert own.weight.dtype == torch.float64
    assert own.fan_weight is None
    given = fan(4)
    assert PlasticRNN(3, 4, rule=Modulated(), neuromodulator=given).neuromodulator is given


def test_shapes_can_be_had_without_numbers():
    output, state = PlasticRNN(3, 4, device="meta")(torch.empty(5, 2, 3, device="meta"))
    assert output.shape == (5, 2, 4)
    assert state.trace.is_meta


def test_an_untrained_network_answers_by_chance():
    task = PatternCompletion()
    net = pattern_network(task, PlasticRNN(50, 51, generator=seeded()))
    assert error(net, task, 2000) == pytest.approx(0.25, abs=0.005)


@pytest.mark.filterwarnings("ignore:over 90 %")
def test_every_rule_beats_the_network_without_plasticity():
    task = PatternCompletion(bits=20)
    nets = {
        name: PlasticRNN(20, 21, rule=registry.get("plasticity_rules", name)(), backend="eager", generator=seeded())
        for name in RULE_NAMES
    }
    nets["none"] = PlasticRNN(20, 21, alpha=None, generator=seeded())
    errors = {name: error(trained(pattern_network(task, net), task), task, 500) for name, net in nets.items()}
    assert errors["none"] > 0.15
    for name in RULE_NAMES:
        assert errors[name] < 0.4 * errors["none"], errors


RULE_NAMES = registry.names("plasticity_rules")


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


@pytest.mark.parametrize("steps", [2, 9])  # in the plain scan, and in the kernel
def test_a_state_whose_graph_is_gone_is_refused(steps):
    # By torch, and only in the backward pass: nothing public tells before whether a graph is still there.
    net = PlasticRNN(2, 3)
    output, state = net(draw(steps, 1, 2))
    output.sum().backward()
    again, _ = net(draw(steps, 1, 2), state)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        again.sum().backward()
    net(draw(steps, 1, 2), state.detach())[0].sum().backward()


@pytest.mark.parametrize("size", [1e38, 3e38])
def test_finite_numbers_with_an_infinite_sum_are_let_pass(size):
    net = PlasticRNN(4, 3, nonlinearity="tanh")
    torch.nn.init.zeros_(net.weight_ih)
    assert net(torch.full((3, 2, 4), size))[0].isfinite().all()


def test_an_eta_outside_the_unit_interval_is_told_once():
    net = PlasticRNN(2, 3, rule=Oja(eta=1.5))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            net(draw(2, 1, 2))
    assert [str(w.message) for w in caught] == ["eta of Oja is outside [0, 1]: the trace may grow without bound"]


def test_that_most_traces_are_saturated_is_told_once():
    # Each call of the kernel defines functions, to which the type checks of the tests are attached under a filter of
    # warnings of their own; whenever filters change, Python forgets what it has told. Without these checks it does not.
    net = PlasticRNN(3, 4, rule=ClippedHebb(eta=1.0), backend="eager")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            net(torch.full((9, 1, 3), 1.0), clamp=torch.tensor(False))
            net(torch.full((9, 1, 3), 100.0))
    assert [w.category for w in caught] == [RuntimeWarning]
    assert "over 90 % of the traces of ClippedHebb are at their bound" in str(caught[0].message)


def test_activity_that_grows_without_bound_is_an_error_that_names_the_step():
    net = PlasticRNN(1, 1, alpha=None, nonlinearity="relu")
    with torch.no_grad():
        net.weight_hh.fill_(1e20)
        net.weight_ih.fill_(1.0)
        net.bias.zero_()
    with pytest.raises(ValueError, match=r"activity at \(time=2, batch=0, feature=0\) is inf"):
        net(torch.ones(4, 1, 1))


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
ZEROS = torch.zeros(1, 2, 4, 4)
RETROACTIVE = PlasticRNN(3, 4, rule=Retroactive())
BAD = {
    "backend": (
        lambda: PlasticRNN(3, 4, backend="cuda"),
        ValueError,
        "backend = 'cuda': expected one of 'auto', 'eager'",
    ),
    "rank": (lambda: PlasticRNN(3, 4, alpha=0), ValueError, "alpha = 0: expected at least 1"),
    "neuromodulator unwanted": (
        lambda: PlasticRNN(3, 4, rule=Oja(), neuromodulator=fan(4)),
        ValueError,
        r"neuromodulator = .*expected None, because rule = Oja\(eta=0.01\) is not modulated",
    ),
    "neuromodulator without plasticity": (
        lambda: PlasticRNN(3, 4, alpha=None, neuromodulator=fan(4)),
        ValueError,
        "neuromodulator = .*expected None",
    ),
    "neuromodulator size": (
        lambda: PlasticRNN(3, 4, rule=Modulated(), neuromodulator=fan(3)),
        ValueError,
        "neuromodulator.hidden_size = 3: expected 4",
    ),
    "neuromodulator type": (
        lambda: PlasticRNN(3, 4, rule=Modulated(), neuromodulator=torch.nn.Linear(4, 1)),
        TypeError,
        "neuromodulator",
    ),
    "eligibility missing": (
        lambda: RETROACTIVE(draw(1, 2, 3), STATE),
        TypeError,
        "state is a TraceState: expected an instance of EligibilityState",
    ),
    "eligibility unwanted": (
        lambda: PlasticRNN(3, 4)(draw(1, 2, 3), PlasticState(draw(1, 2, 4), EligibilityState(ZEROS, ZEROS))),
        TypeError,
        "state is a EligibilityState: expected an instance of TraceState",
    ),
    "eligibility shape": (
        lambda: RETROACTIVE(draw(1, 2, 3), PlasticState(draw(1, 2, 4), EligibilityState(ZEROS, ZEROS[:, :1]))),
        ValueError,
        r"state.eligibility.shape = \(1, 1, 4, 4\): expected \(1, 2, 4, 4\)",
    ),
    "trace shape": (
        lambda: PlasticRNN(3, 4)(draw(1, 2, 3), PlasticState(draw(1, 2, 4), TraceState(ZEROS[:, :, :3]))),
        ValueError,
        r"state.trace.shape = \(1, 2, 3, 4\): expected \(1, 2, 4, 4\)",
    ),
    "decay": (
        lambda: PlasticRNN(3, 4, rule=Modulated(mode="decay", strict=True), neuromodulator=fan(4))(draw(PLAIN, 2, 3)),
        ValueError,
        r"modulator is between .* expected within \[0, 1\] in mode 'decay'",
    ),
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
        r"state.trace.shape = \(1, 2, 0, 0\): expected \(1, 2, 4, 4\)",
    ),
    "trace unwanted": (
        lambda: PlasticRNN(3, 4, alpha=None)(draw(1, 2, 3), STATE),
        ValueError,
        r"state.trace.shape = \(1, 2, 4, 4\): expected \(1, 2, 0, 0\)",
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
    assert f"3, 4, alpha={alpha!r}, nonlinearity='tanh', batch_first=False, backend='auto'" in shown


@pytest.mark.parametrize("time", [3, 9])
def test_a_hook_on_the_neuromodulator_is_called_or_refused(time):
    nets = {backend: PlasticRNN(4, 6, rule=Modulated(), backend=backend) for backend in ("auto", "eager")}
    signals = []
    for net in nets.values():
        net.neuromodulator.register_forward_hook(lambda module, inputs, output: signals.append(output))
    nets["eager"](torch.ones(time, 1, 4))
    assert len(signals) == time
    with pytest.raises(ValueError, match="neuromodulator has hooks, which kernels do not call"):
        nets["auto"](torch.ones(time, 1, 4))


@pytest.mark.parametrize("grad", [True, False])
def test_no_step_leaves_the_state_as_it_is(grad):
    net = PlasticRNN(3, 4)
    state = net(torch.ones(2, 5, 3))[1].detach()
    with torch.set_grad_enabled(grad):
        output, last = net(torch.ones(0, 5, 3), state)
    assert output.shape == (0, 5, 4)
    assert torch.equal(last.hidden, state.hidden)
    assert torch.equal(last.trace, state.trace)
