"""Several layers, one sequence alone and packed sequences, held to what a network of one layer makes of a batch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence, unpack_sequence

from engram.nn.packed import each
from engram.plasticity import (
    ClippedHebb,
    Hebb,
    Instar,
    Modulated,
    Neuromodulator,
    Oja,
    PlasticLSTM,
    PlasticRNN,
    Retroactive,
    from_lstm,
    to_lstm,
)
from engram.plasticity.clamped_lstm import ClampedLSTM
from engram.testing.module import assert_close, check_module, tensors

INPUTS, UNITS = 3, 4
MAKERS = {
    "rnn": lambda **options: PlasticRNN(INPUTS, UNITS, **options),
    "rnn clipped": lambda **options: PlasticRNN(
        INPUTS, UNITS, rule=ClippedHebb(0.05, clip=9.0), alpha="post", **options
    ),
    "rnn retroactive": lambda **options: PlasticRNN(INPUTS, UNITS, rule=Retroactive(0.3, clip=9.0), alpha=2, **options),
    "rnn without plasticity": lambda **options: PlasticRNN(INPUTS, UNITS, alpha=None, **options),
    "lstm": lambda **options: PlasticLSTM(INPUTS, UNITS, **options),
    "lstm retroactive": lambda **options: PlasticLSTM(INPUTS, UNITS, rule=Retroactive(0.3), alpha=2, **options),
}
# Other tests compile the same kernels, except one.
NAMES = [pytest.param(name, marks=pytest.mark.soak if name == "lstm retroactive" else ()) for name in MAKERS]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def build(name, **options):
    """Return a network with parameters large enough for every part of it to matter."""
    net = MAKERS[name](dtype=torch.float64, generator=seeded(), **options)
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            parameter.add_(0.3 * draw(*parameter.shape, seed=number).sigmoid())
    return net


def gradients(net, *results):
    weighed = sum((t * torch.linspace(1, 2, t.numel()).view_as(t)).sum() for t in tensors(results))
    return torch.autograd.grad(weighed, list(net.parameters()), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("name", NAMES)
def test_two_layers_are_two_networks_one_after_the_other(name):
    net, below = build(name, num_layers=2), MAKERS[name](dtype=torch.float64)
    below.load_state_dict({key: value for key, value in net.state_dict().items() if not key.startswith("upper")})
    (above,) = net.upper
    first, second = draw(6, 2, INPUTS), draw(5, 2, INPUTS, seed=1)
    output, state = net(second, net(first)[1])
    hidden, lower = below(first)
    _, upper = above(hidden)
    hidden, lower = below(second, lower)
    expected, upper = above(hidden, upper)
    assert_close(output, expected)
    assert_close(each(lambda t: t[:1], state), lower)
    assert_close(each(lambda t: t[1:], state), upper)
    assert state.hidden.shape == (2, 2, UNITS)  # layers first, as in nn.LSTM


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_hooks_that_would_be_skipped_are_refused(name):
    net = build(name, num_layers=2)
    hook = net.upper[0].register_forward_hook(lambda module, inputs, output: None)
    with pytest.raises(ValueError, match=r"upper\[0\] has hooks, which do not run"):
        net(draw(3, 2, INPUTS))
    hook.remove()
    net(draw(3, 2, INPUTS))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_sequence_alone_is_a_batch_of_one(name, num_layers, batch_first):
    net, sequence = build(name, num_layers=num_layers, batch_first=batch_first), draw(7, INPUTS)
    output, state = net(sequence[3:], net(sequence[:3])[1])
    whole, last = net(sequence.unsqueeze(0 if batch_first else 1))
    assert output.shape == (4, UNITS)
    assert_close(output, whole.squeeze(0 if batch_first else 1)[3:])
    assert_close(state, each(lambda t: t.squeeze(1), last))


@pytest.mark.parametrize("name", NAMES)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5), num_layers=st.integers(1, 2))
def test_packed_sequences_are_each_alone(name, lengths, num_layers):
    net = build(name, num_layers=num_layers)
    parts = [[draw(length, INPUTS, seed=seed + 10 * k) for k, length in enumerate(lengths)] for seed in (0, 5)]
    packs = [pack_sequence(part, enforce_sorted=False) for part in parts]
    output, state = net(packs[1], net(packs[0])[1])
    assert isinstance(output, PackedSequence)
    alone = [net(second, net(first)[1]) for first, second in zip(*parts, strict=True)]
    expected = each(lambda *rows: torch.stack(rows, 1), *(state for _, state in alone))
    outputs = unpack_sequence(output)
    assert_close(tuple(outputs), tuple(output for output, _ in alone))
    assert_close(state, expected)
    rows = [output for output, _ in alone]
    assert_close(gradients(net, *outputs, state), gradients(net, *rows, expected))


def test_packed_sequences_give_what_nn_rnn_gives_without_plasticity():
    net = PlasticRNN(INPUTS, UNITS, num_layers=2, dropout=0.0, alpha=None, generator=seeded())
    peer = torch.nn.RNN(INPUTS, UNITS, num_layers=2)
    with torch.no_grad():
        for number, layer in enumerate((net, *net.upper)):
            for name, value in (
                ("weight_ih", layer.weight_ih),
                ("weight_hh", layer.weight_hh),
                ("bias_ih", layer.bias),
            ):
                peer.get_parameter(f"{name}_l{number}").copy_(value)
            peer.get_parameter(f"bias_hh_l{number}").zero_()
    padded, lengths = draw(6, 3, INPUTS).float(), torch.tensor([4, 6, 1])
    packed = pack_padded_sequence(padded, lengths, enforce_sorted=False)
    start = net(padded)[1]
    (output, state), (expected, hidden) = net(packed, start), peer(packed, start.hidden)
    torch.testing.assert_close(pad_packed_sequence(output), pad_packed_sequence(expected))
    torch.testing.assert_close(state.hidden, hidden)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_state_has_the_axes_of_torch(name, num_layers):
    net = build(name, num_layers=num_layers)
    output, state = net(draw(5, 3, INPUTS))
    assert state.hidden.shape == torch.nn.RNN(INPUTS, UNITS, num_layers)(torch.zeros(5, 3, INPUTS))[1].shape
    assert_close(state.hidden[-1], output[-1])
    assert {t.shape[:2] for t in tensors(state)} == {(num_layers, 3)}
    assert_close(net(draw(5, 3, INPUTS), net.init(3))[0], output)


@pytest.mark.parametrize("kind", [PlasticRNN, PlasticLSTM])
def test_what_torch_knows_and_makes_no_sense_is_refused(kind):
    with pytest.raises(ValueError, match="bidirectional = True: expected False, because traces"):
        kind(INPUTS, UNITS, bidirectional=True)
    with pytest.raises(ValueError, match=r"dropout = 0.5: expected 0, because num_layers = 1"):
        kind(INPUTS, UNITS, dropout=0.5)
    with pytest.raises(ValueError, match=r"dropout = 2\.0: expected a number from 0 to 1"):
        kind(INPUTS, UNITS, dropout=2.0, num_layers=2)


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_dropout_is_between_layers_and_while_training_alone(name):
    net, peer = build(name, num_layers=2, dropout=1.0), build(name, num_layers=2)
    sequence = draw(5, 3, INPUTS)
    assert_close(net.eval()(sequence), peer(sequence))
    output, state = net.train()(sequence)
    assert_close(state.hidden[0], peer(sequence)[1].hidden[0])
    assert_close(output, net.upper[0](torch.zeros(5, 3, UNITS, dtype=torch.float64))[0])


@pytest.mark.parametrize("alpha", ["connection", "homogeneous", 2])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "batch_first": True}, {"bias": False}])
def test_an_lstm_of_torch_becomes_plastic_and_comes_back(alpha, options):
    torch.manual_seed(0)  # three steps: too few for a kernel, which would have to be compiled
    lstm, sequence = torch.nn.LSTM(INPUTS, UNITS, dtype=torch.float64, **options), draw(3, 3, INPUTS)
    net = from_lstm(lstm, alpha=alpha, generator=seeded())
    (output, state), (expected, (hidden, cell)) = net(sequence), lstm(sequence)
    torch.testing.assert_close((output, state.hidden, state.cell), (expected, hidden, cell))
    torch.testing.assert_close(to_lstm(net)(sequence), lstm(sequence))
    output.sum().backward()
    assert any(parameter.grad.any() for name, parameter in net.named_parameters() if name.startswith("alpha"))


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"proj_size": 2}])
def test_an_lstm_that_has_no_plastic_form_is_refused(options):
    with pytest.raises(ValueError, match="expected one direction and no projection"):
        from_lstm(torch.nn.LSTM(INPUTS, UNITS, **options))


@pytest.mark.parametrize("name", ["rnn", pytest.param("lstm", marks=pytest.mark.soak)])
def test_several_layers_keep_the_contract(name):
    check_module(lambda *sizes, **options: type(build(name))(*sizes, num_layers=2, **options))


def test_one_layer_is_shown_and_stored_as_before():
    assert "upper" not in repr(PlasticRNN(3, 4))
    assert "3, 4, num_layers=2, dropout=0.0, alpha" in repr(PlasticRNN(3, 4, num_layers=2))
    assert set(PlasticRNN(3, 4).state_dict()) == {"weight_ih", "bias", "weight_hh", "alpha", "rule.eta"}


def test_layers_share_no_rule_and_draw_from_the_generator():
    modulator = Neuromodulator(UNITS)
    net = PlasticLSTM(INPUTS, UNITS, num_layers=3, rule=Modulated(), neuromodulator=modulator, generator=seeded())
    assert len({id(layer.neuromodulator) for layer in (net, *net.upper)}) == 3
    drawn = {name: value.clone() for name, value in net.state_dict().items() if "neuromodulator" not in name}
    net.reset_parameters(seeded(1))
    assert not torch.equal(net.upper[1].weight_hh, drawn["upper.1.weight_hh"])
    net.reset_parameters(seeded())
    assert all(torch.equal(net.state_dict()[name], value) for name, value in drawn.items())


def test_who_acts_with_several_layers_gives_what_the_sequence_gives():
    net, sequence = build("rnn", num_layers=2).float(), draw(4, 2, INPUTS).float()
    act = net.acting(2)
    torch.testing.assert_close(torch.stack([act(step) for step in sequence]), net(sequence)[0])


NET, DEEP, SEQUENCE = PlasticRNN(3, 4), PlasticLSTM(3, 4, num_layers=2), torch.zeros(3, 2, 3)
PACKED, MASK = pack_sequence([torch.zeros(3, 3), torch.zeros(1, 3)]), torch.ones(3, 2, 4, dtype=torch.bool)
BAD = {
    "num_layers": (lambda: PlasticRNN(3, 4, num_layers=0), ValueError, "num_layers = 0: expected at least 1"),
    "features alone": (lambda: NET(SEQUENCE[0, :, :2]), ValueError, r"input.shape = \(2, 2\): expected \(time, 3\)"),
    "features packed": (lambda: NET(pack_sequence([torch.zeros(2, 4)])), ValueError, r"input.data.*\(row, 3\)"),
    "packed half": (lambda: NET(pack_sequence([torch.zeros(2, 3).half()])), ValueError, "input.data.dtype"),
    "packed nan": (lambda: NET(pack_sequence([torch.full((2, 3), torch.nan)])), ValueError, "input.data at .row=0, fe"),
    "a state of one": (lambda: DEEP(SEQUENCE, PlasticLSTM(3, 4)(SEQUENCE)[1]), ValueError, r"expected \(2, 2, 4\)"),
    "a batch's state": (lambda: DEEP(SEQUENCE[:, 0], DEEP(SEQUENCE)[1]), ValueError, r"\(2, 2, 4\): expected \(2, 4\)"),
    "a packed state": (lambda: NET(PACKED, NET(SEQUENCE[:, :1])[1]), ValueError, r"\(1, 1, 4\): expected \(1, 2, 4\)"),
    "clamp packed": (lambda: NET(PACKED, clamp=MASK), ValueError, "clamp is given: expected None, because the seq"),
    "clamp deep": (
        lambda: PlasticRNN(3, 4, num_layers=2)(SEQUENCE, clamp=MASK),
        ValueError,
        "clamp is given: expected None, because num_layers = 2",
    ),
    "clamp alone": (lambda: NET(SEQUENCE[:, 0], clamp=MASK), ValueError, r"broadcastable to \(3, 4\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_a_sequence_alone_is_clamped_by_its_own_shape():
    net, sequence, clamp = build("rnn"), 0.1 * draw(5, INPUTS), torch.tensor([True, False, False, True])
    batch = net(sequence.unsqueeze(1), clamp=clamp)[0]
    assert_close(net(sequence, clamp=clamp.expand(5, 4))[0], batch.squeeze(1))
    assert not torch.equal(net(sequence)[0], batch.squeeze(1))


def test_a_converted_lstm_stays_in_its_mode_and_draws_nothing():
    lstm = torch.nn.LSTM(3, 4, num_layers=2, dropout=0.5).eval()
    lstm.weight_hh_l1.requires_grad_(False)
    net, x = from_lstm(lstm), torch.ones(3, 2, 3)
    assert [name for name, p in net.named_parameters() if not p.requires_grad] == ["upper.0.weight_hh"]
    torch.testing.assert_close(net(x)[0], lstm(x)[0])
    before = torch.random.get_rng_state()
    back = to_lstm(net)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not back.training
    assert [name for name, p in back.named_parameters() if not p.requires_grad] == ["weight_hh_l1"]
    torch.testing.assert_close(back(x)[0], lstm(x)[0])


@pytest.mark.parametrize("rule", [Oja(), Instar()])
@pytest.mark.parametrize("backend", ["auto", "eager"])
@pytest.mark.parametrize("kind", [PlasticRNN, PlasticLSTM])
def test_the_state_does_not_share_memory_with_the_output(kind, backend, rule):
    net = kind(INPUTS, UNITS, rule=rule, backend=backend)
    for has_graph in (False, True):  # which have kernels of their own
        with torch.set_grad_enabled(has_graph):
            output, state = net(torch.ones(8, 1, INPUTS))
        kept = state.hidden.clone()
        output.detach().zero_()
        assert torch.equal(state.hidden, kept)


@pytest.mark.parametrize("rule", [None, Oja(), Instar()])
def test_the_network_goes_on_as_before_if_what_it_returned_is_changed(rule):
    net = PlasticRNN(INPUTS, UNITS, rule=rule, alpha=None if rule is None else "post")
    touched, untouched = net.acting(1), net.acting(1)
    for _ in range(3):
        output = touched(torch.ones(1, INPUTS))
        assert torch.equal(output, untouched(torch.ones(1, INPUTS)))
        output.zero_()


@pytest.mark.parametrize("kind", [PlasticRNN, PlasticLSTM])
def test_a_rule_that_another_layer_has_cast_is_named(kind):
    rule = Hebb()
    net = kind(3, 4, rule=rule)
    kind(3, 4, rule=rule, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"rule.eta.dtype = torch.float64: expected torch.float32, as the weights have"):
        net(torch.zeros(7, 2, 3))


@pytest.mark.parametrize("name", ["rnn", "lstm"])
def test_an_upper_layer_with_a_forward_of_its_own_is_refused(name):
    net = build(name, num_layers=2)
    net.upper[0].forward = lambda *arguments: None
    with pytest.raises(ValueError, match=r"upper\[0\] has a forward of its own, which does not run"):
        net(draw(3, 2, INPUTS))
    if name == "lstm":
        with pytest.raises(ValueError, match=r"upper\[0\] has a forward of its own"):
            to_lstm(net)


def test_who_acts_runs_a_forward_that_was_replaced():
    net, input = PlasticRNN(INPUTS, UNITS), draw(1, 2, INPUTS).float()
    plain = net.forward
    net.forward = lambda *arguments: (2 * plain(*arguments)[0], plain(*arguments)[1])
    assert torch.allclose(net.acting(2)(input[0]), net(input)[0][0])


def test_a_rule_with_coefficients_of_its_own_runs_as_they_say():
    nets = [PlasticRNN(INPUTS, UNITS, rule=Hebb(eta=0.5), generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    with torch.no_grad():
        for net in nets:
            net.alpha.fill_(1.0)
            net.weight_ih.mul_(5)
    plain = nets[1].rule.coefficients
    nets[1].rule.coefficients = lambda post, modulator=None: plain(-post, modulator)
    input = draw(12, 2, INPUTS).float()
    with torch.no_grad():
        outputs = [net(input)[0] for net in nets]
    assert (outputs[0] - outputs[1]).abs().max() > 0.01


def test_an_lstm_that_computes_with_other_weights_than_its_own_is_refused():
    lstm = nn.LSTM(3, 4)
    nn.utils.parametrize.register_parametrization(lstm, "weight_hh_l0", nn.Tanh())
    with pytest.raises(ValueError, match="computes with other weights than those of its names"):
        from_lstm(lstm)
    lstm = nn.LSTM(3, 4)
    lstm.forward = lambda *arguments: None
    with pytest.raises(ValueError, match="lstm has a forward of its own"):
        from_lstm(lstm)


def test_an_lstm_with_a_forward_pass_of_its_own_is_refused():
    with pytest.raises(ValueError, match="lstm is a ClampedLSTM: expected an nn"):
        from_lstm(ClampedLSTM(2, 4))


def test_conversions_refuse_what_the_result_would_lack():
    class Doubled(PlasticLSTM):
        def forward(self, *arguments):
            output, state = super().forward(*arguments)
            return 2 * output, state

    lstm, net = nn.LSTM(3, 4), PlasticLSTM(3, 4)
    for module in (lstm, net):
        module.register_forward_hook(lambda module, inputs, output: output)
    with pytest.raises(ValueError, match="lstm has hooks, such as those of pruning"):
        from_lstm(lstm)
    with pytest.raises(ValueError, match="net has hooks, such as those of pruning"):
        to_lstm(net)
    with pytest.raises(ValueError, match="net is a Doubled: expected a PlasticLSTM"):
        to_lstm(Doubled(3, 4))
