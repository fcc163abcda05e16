from functools import wraps

import pytest
import torch

from engram.plasticity import (
    ClippedHebb,
    Hebb,
    Modulated,
    Neuromodulator,
    NodePerturbationRNN,
    PlasticLSTM,
    PlasticLSTMState,
    Retroactive,
    TraceState,
)
from engram.testing.module import check_module, rebuilt, tensors, without_type_checks

ALPHAS = ["connection", "post", "homogeneous", 2]
RULES = {
    "hebb": lambda: Hebb(0.2),
    "clipped": lambda: ClippedHebb(0.2, 0.3),
    "modulated": lambda: Modulated(0.2),
    "soft": lambda: Modulated(0.2, "soft"),
    "retroactive": lambda: Retroactive(0.4, 0.2),
    "half": lambda: Modulated(0.2, only_half=True, hebb_eta=0.2),
    "retroactive half": lambda: Retroactive(0.4, 0.2, only_half=True, hebb_eta=0.2),
    "retroactive soft": lambda: Retroactive(0.4, 0.2, mode="soft"),
}
POSTS = ["input", "recurrent", "cell", "hidden"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def strong(net, scale=0.5, seed=7):
    """Return the network with weights and alpha large enough for every part of it to matter."""
    generator = seeded(seed)
    with torch.no_grad():
        for parameter in (net.weight_hh, *(p for name, p in net.named_parameters() if name.startswith("alpha"))):
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return net


@pytest.mark.parametrize("alpha", ALPHAS)
def test_without_alpha_it_is_nn_lstm(alpha):
    net = PlasticLSTM(3, 4, alpha=alpha, generator=seeded())
    peer = torch.nn.LSTM(3, 4)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("alpha"):
                parameter.zero_()
        peer.weight_ih_l0.copy_(net.weight_ih)
        peer.weight_hh_l0.copy_(net.weight_hh)
        peer.bias_ih_l0.copy_(net.bias_ih)
        admit, forget, emit = net.bias_hh.chunk(3)
        peer.bias_hh_l0.copy_(torch.cat((admit, forget, torch.zeros(4), emit)))
    output, state = net(draw(3, 2, 3))
    expected, (hidden, cell) = peer(draw(3, 2, 3))
    torch.testing.assert_close((output, state.hidden, state.cell), (expected, hidden, cell))
    assert state.trace.any()


SOURCES = ["hidden", "cell", "previous"]


@pytest.mark.parametrize("modulator_source", SOURCES)
@pytest.mark.parametrize("hebb_post", POSTS)
def test_one_step_is_the_published_equations(hebb_post, modulator_source):
    options = {"hebb_post": hebb_post, "modulator_source": modulator_source, "dtype": torch.float64}
    net = strong(PlasticLSTM(3, 4, generator=seeded(), **options))
    _, start = net(draw(3, 2, 3, seed=1).double())
    output, state = net(draw(1, 2, 3, seed=2).double(), start)

    x, (h, c), H = draw(1, 2, 3, seed=2)[0].double(), (start.hidden[0], start.cell[0]), start.trace[0]
    Ui, Uf, Ug, Uo = net.weight_ih.chunk(4)
    Wi, Wf, Wg, Wo = net.weight_hh.chunk(4)
    bi, bf, bg, bo = net.bias_ih.chunk(4)
    di, df, do = net.bias_hh.chunk(3)
    i, f, o = (
        torch.sigmoid(x @ U.T + b + h @ W.T + d)
        for U, b, W, d in ((Ui, bi, Wi, di), (Uf, bf, Wf, df), (Uo, bo, Wo, do))
    )
    r = torch.einsum("bji,bi->bj", Wg + net.alpha[:, None] * H, h)
    g = torch.tanh(x @ Ug.T + bg + r)
    c = f * c + i * g
    new = o * torch.tanh(c)
    m = net.neuromodulator({"hidden": new, "cell": c, "previous": h}[modulator_source])
    post = {"input": g, "recurrent": r, "cell": c, "hidden": new}[hebb_post]
    trace = (H + (m * post)[:, :, None] * h[:, None, :]).clamp(-2, 2)
    torch.testing.assert_close((output, *state[:2], state.trace), (new[None], new[None], c[None], trace[None]))


@pytest.mark.parametrize(
    ("name", "alpha"),
    [
        pytest.param(name, alpha, marks=() if a == n % 4 else pytest.mark.soak)
        for n, name in enumerate(RULES)
        for a, alpha in enumerate(ALPHAS)
    ],
)
def test_gradients_agree_with_finite_differences(name, alpha):
    net = strong(PlasticLSTM(2, 3, rule=RULES[name](), alpha=alpha, dtype=torch.float64, generator=seeded()))
    check_gradients(net)


@pytest.mark.parametrize("modulator_source", SOURCES)
@pytest.mark.parametrize("hebb_post", POSTS)
def test_gradients_of_every_wiring_agree_with_finite_differences(hebb_post, modulator_source):
    options = {"hebb_post": hebb_post, "modulator_source": modulator_source, "dtype": torch.float64}
    check_gradients(strong(PlasticLSTM(2, 3, rule=Modulated(0.2), generator=seeded(), **options)))


def of_connections(name, size=3, **options):
    """Return a network in which every connection has a rate, or a weight of the modulatory signal, of its own."""
    options |= {"alpha": "connection", "modulator_source": "previous", "dtype": torch.float64}
    if name == "clipped":
        return PlasticLSTM(2, size, rule=ClippedHebb(0.2, 0.3, connections=(size, size)), **options)
    made = Neuromodulator(size, "connection", generator=seeded())
    return PlasticLSTM(2, size, rule=RULES[name](), neuromodulator=made, **options)


@pytest.mark.parametrize("name", ["clipped", "modulated", "soft", "retroactive", "half", "retroactive soft"])
def test_gradients_with_a_rate_for_each_connection_agree_with_finite_differences(name):
    check_gradients(strong(of_connections(name, generator=seeded())))


@pytest.mark.parametrize("name", ["clipped", "modulated", "soft", "retroactive", "half"])
def test_where_the_rates_of_a_unit_are_alike_they_are_one(name):
    each = strong(of_connections(name, 4, generator=seeded()))
    options = {"alpha": "connection", "modulator_source": "previous", "dtype": torch.float64}
    modulator = None if name == "clipped" else Neuromodulator(4, True)
    peer = PlasticLSTM(2, 4, rule=RULES[name](), neuromodulator=modulator, **options)
    values = each.state_dict()
    if modulator is None:
        peer.load_state_dict(values | {"rule.eta": values["rule.eta"][0, 0]})
    else:
        column, bias = values["neuromodulator.fan_weight"][:, :1], torch.zeros(4, dtype=torch.float64)
        peer.load_state_dict(values | {"neuromodulator.fan_weight": column.clone(), "neuromodulator.fan_bias": bias})
        with torch.no_grad():
            each.neuromodulator.fan_weight.copy_(column.expand(4, 4))
    sequence = 2 * draw(9, 3, 2, dtype=torch.float64)
    results, wanted = each(sequence), peer(sequence)
    assert wanted[1].trace.abs().max() > 0.05
    torch.testing.assert_close(tensors(results), tensors(wanted), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda **to: PlasticLSTM(2, 3, rule=ClippedHebb(connections=(3, 3)), **to), "expected connections=None"),
        (lambda **to: PlasticLSTM(2, 3, modulator_source="previous", **to), "modulator_source = 'previous': expected"),
        (lambda **to: PlasticLSTM(2, 3, neuromodulator=Neuromodulator(3, "connection"), **to), "expected fan_out=True"),
    ],
)
def test_what_no_kernel_runs_is_left_to_the_plain_scan(make, message):
    sequence = draw(50, 2, 2)
    net = make(backend="fused")
    with pytest.raises(ValueError, match=message):
        net(sequence.to(net.alpha.dtype))
    net = make(backend="auto")
    assert net(sequence.to(net.alpha.dtype))[0].shape == (50, 2, 3)


def check_gradients(net):
    names, parameters = zip(*net.named_parameters(), strict=True)
    _, state = net(draw(3, 2, 2, dtype=torch.float64))
    parts = len(tensors(state))

    def run(sequence, *values):
        named = dict(zip(names, values[parts:], strict=True))
        return tuple(tensors(torch.func.functional_call(net, named, (sequence, rebuilt(state, values[:parts])))))

    points = [draw(3, 2, 2, seed=2, dtype=torch.float64), *tensors(state), *parameters]
    assert torch.autograd.gradcheck(run, [p.detach().requires_grad_() for p in points], fast_mode=True)


@pytest.mark.parametrize(
    "rule",
    [pytest.param(ClippedHebb, marks=pytest.mark.soak), Modulated, pytest.param(Retroactive, marks=pytest.mark.soak)],
)
def test_every_kind_of_rule_keeps_the_contract(rule):
    @wraps(PlasticLSTM, updated=())
    def make(*sizes, **options):
        return PlasticLSTM(*sizes, rule=rule(), alpha="post" if rule is Modulated else 2, **options)

    check_module(make)


def test_traces_that_are_read_within_a_bound_grow_beyond_it():
    options = {"rule": Modulated(clip=None), "dtype": torch.float64}
    net = strong(PlasticLSTM(3, 4, read_clip=0.1, generator=seeded(), **options), scale=2.0)
    peer = PlasticLSTM(3, 4, **options)
    peer.load_state_dict(net.state_dict())
    _, start = net(3 * draw(9, 2, 3, dtype=torch.float64))
    assert start.trace.abs().max() > 0.2
    step = draw(1, 2, 3, seed=2, dtype=torch.float64)
    output, state = net(step, start)
    # The bound is where the trace acts, and not in the trace that the rule goes on from.
    within = start._replace(rule=start.rule._replace(trace=start.trace.clamp(-0.1, 0.1)))
    expected, after = peer(step, within)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(state.trace - start.trace, after.trace - within.trace)
    assert not torch.allclose(output, peer(step, start)[0])
    check_gradients(strong(PlasticLSTM(2, 3, read_clip=0.1, generator=seeded(), **options)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused(dtype):
    with pytest.raises(ValueError, match=rf"dtype = {dtype}: expected torch.float32 or torch.float64.*torch.autocast"):
        PlasticLSTM(3, 4).to(dtype)(draw(6, 2, 3).to(dtype))


@pytest.mark.parametrize("name", RULES)
def test_a_batch_of_one_gives_the_first_row_of_a_batch_of_two(name):
    net = strong(PlasticLSTM(3, 4, rule=RULES[name](), generator=seeded()))
    output, state = net(draw(3, 2, 3))
    first, first_state = net(draw(3, 2, 3)[:, :1])
    torch.testing.assert_close(first, output[:, :1])
    torch.testing.assert_close(tensors(first_state), [t[:, :1] for t in tensors(state)])


def test_the_language_models_have_as_many_parameters_as_the_published_ones():
    words, embedding, units = 10_000, 400, 1149
    plastic = [
        PlasticLSTM(size, out, device="meta") for size, out in ((embedding, units), (units, units), (units, 400))
    ]
    tied = words * embedding + words
    assert sum(p.numel() for net in plastic for p in net.parameters()) + tied == 24_198_893
    ordinary = [torch.nn.LSTM(size, out, device="meta") for size, out in ((400, 1150), (1150, 1150), (1150, 400))]
    assert sum(p.numel() for net in ordinary for p in net.parameters()) + tied == 24_221_600


def test_initial_values_are_the_published_ones():
    net = PlasticLSTM(50, 200, generator=seeded())
    for weight, bias, fan_in in ((net.weight_ih, net.bias_ih, 50), (net.weight_hh, net.bias_hh, 200)):
        assert weight.abs().max().item() == pytest.approx(fan_in**-0.5, rel=0.01)
        assert bias.abs().max().item() == pytest.approx(fan_in**-0.5, rel=0.01)
    assert net.weight_hh.chunk(4)[2].abs().max().item() == pytest.approx(0.01, rel=0.01)
    assert 0 <= net.alpha.min() < net.alpha.max() < 1e-4
    assert (net.rule.clip, net.neuromodulator.fan_weight.shape) == (2, (200, 1))
    assert PlasticLSTM(3, 4, alpha="homogeneous").alpha.item() == pytest.approx(1e-4)
    assert PlasticLSTM(3, 4, rule=ClippedHebb()).neuromodulator is None


@pytest.mark.parametrize("name", ["modulated", pytest.param("retroactive", marks=pytest.mark.soak)])
def test_torch_compile_takes_a_short_sequence_whole(name):
    torch.compiler.reset()
    net = strong(PlasticLSTM(2, 3, rule=RULES[name](), generator=seeded()))
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    with without_type_checks():
        results = compiled(draw(3, 2, 2))
    torch.testing.assert_close(tensors(results), tensors(net(draw(3, 2, 2))))


def test_a_detached_state_carries_the_memory_and_not_the_graph():
    net = strong(PlasticLSTM(3, 4, rule=Retroactive(0.2), generator=seeded()))
    _, state = net(draw(3, 2, 3))
    detached = state.detach()
    torch.testing.assert_close(tensors(detached), tensors(state))
    assert torch.equal(detached.eligibility, state.rule.eligibility)
    for _ in range(2):
        net(draw(3, 2, 3), detached)[0].sum().backward()


def test_a_plastic_lstm_learns_what_an_lstm_learns():
    # To say at the end which of two inputs came first: a task for the cell, which plasticity must not spoil.
    generator = seeded()
    net, readout = PlasticLSTM(2, 8, backend="eager", generator=generator), torch.nn.Linear(8, 1)
    torch.nn.init.zeros_(readout.bias)
    torch.nn.init.ones_(readout.weight)
    optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=0.02)
    for _ in range(60):
        first = torch.randint(2, (32,), generator=generator)
        inputs = 0.1 * torch.randn(6, 32, 2, generator=generator)
        inputs[0] += torch.nn.functional.one_hot(first, 2)
        answer = readout(net(inputs)[0][-1])[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(answer, first.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


NET = PlasticLSTM(3, 4)
ZEROS = torch.zeros(1, 2, 4)
BAD = {
    "hebb_post": (lambda: PlasticLSTM(3, 4, hebb_post="g"), ValueError, "hebb_post = 'g': expected one of 'input', "),
    "modulator_source": (
        lambda: PlasticLSTM(3, 4, modulator_source="input"),
        ValueError,
        "modulator_source = 'input': expected one of 'hidden', 'cell', 'previous'",
    ),
    "alpha": (lambda: PlasticLSTM(3, 4, alpha="none"), ValueError, "alpha = 'none'"),
    "read_clip": (lambda: PlasticLSTM(3, 4, read_clip=0.0), ValueError, "read_clip = 0.0: expected a number above 0"),
    "backend": (lambda: PlasticLSTM(3, 4, backend="fast"), ValueError, "backend = 'fast'"),
    "rule": (lambda: PlasticLSTM(3, 4, rule=Hebb), TypeError, "rule"),
    "neuromodulator": (
        lambda: PlasticLSTM(3, 4, rule=Hebb(), neuromodulator=Neuromodulator(4)),
        ValueError,
        "neuromodulator = .*is not modulated",
    ),
    "cell": (
        lambda: NET(draw(1, 2, 3), PlasticLSTMState(ZEROS, ZEROS[..., :3], NET.rule.init(2, 4, 4))),
        ValueError,
        r"state.cell.shape = \(1, 2, 3\): expected \(1, 2, 4\)",
    ),
    "trace": (
        lambda: NET(draw(1, 2, 3), PlasticLSTMState(ZEROS, ZEROS, TraceState(torch.zeros(1, 2, 4, 3)))),
        ValueError,
        r"state.trace.shape = \(1, 2, 4, 3\): expected \(1, 2, 4, 4\)",
    ),
    "rule state": (
        lambda: NET(draw(1, 2, 3), PlasticLSTMState(ZEROS, ZEROS, Retroactive().init(2, 4, 4))),
        TypeError,
        "state is a EligibilityState",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    call, expected, message = BAD[name]
    with pytest.raises(expected, match=message):
        call()


def test_repr_names_the_arguments():
    shown = repr(PlasticLSTM(3, 4, alpha=2))
    assert (
        "3, 4, alpha=2, hebb_post='input', modulator_source='hidden', read_clip=None, batch_first=False, backend='auto'"
        in shown
    )


def test_parts_of_a_first_state_share_no_memory():
    state = PlasticLSTM(3, 4).init(2)
    state.cell.fill_(1.0)
    assert not state.hidden.any()
    first = NodePerturbationRNN().init(2)
    parts = [part for part in first if isinstance(part, torch.Tensor)]
    assert len({part.data_ptr() for part in parts}) == len(parts)
