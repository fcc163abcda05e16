"""The fast-weight layer: streams, packed and single sequences, second derivatives, and what it refuses."""

import copy

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence

from engram.plasticity.sequence import DeltaWrite, FastWeightLayer, GradientWrite, HebbianWrite, step_scan
from engram.plasticity.sequence.layer import WRITE_RULES


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def layer_with(rule, **options):
    rule = GradientWrite(4) if rule == "gradient" else rule
    layer = FastWeightLayer(5, 6, heads=2, key_size=3, rule=rule, generator=seeded(), dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.rand(parameter.shape, generator=seeded(1)).double(), alpha=0.3)
    return layer


def sequence(length, batch=2, seed=2):
    return torch.randn(length, batch, 5, generator=seeded(seed), dtype=torch.float64)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rule", WRITE_RULES)
def test_pieces_of_any_lengths_give_what_the_whole_gives(rule):
    layer, input = layer_with(rule, gate=True), sequence(45)
    output, last = layer(input)
    state, outputs = None, []
    for begin, end in ((0, 1), (1, 2), (2, 35), (35, 35), (35, 44), (44, 45)):
        part, state = layer(input[begin:end], state)
        state = state.detach()
        outputs.append(part)
    close((torch.cat(outputs), tuple(state)), (output, tuple(last)))


@pytest.mark.parametrize("rule", WRITE_RULES)
@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_packed_sequences_give_what_each_gives_alone(rule, enforce_sorted):
    layer = layer_with(rule)
    lengths = (7, 6, 3) if enforce_sorted else (3, 7, 6)
    sequences = [sequence(length, 1, seed=length)[:, 0] for length in lengths]
    _, start = layer(sequence(2, 3, seed=9))  # sequences that go on
    output, last = layer(pack_sequence(sequences, enforce_sorted), start)
    assert isinstance(output, PackedSequence)
    padded, _ = pad_packed_sequence(output)
    for k, alone in enumerate(sequences):
        expected, state = layer(alone, type(start)(*(t[k] for t in start)))
        close((padded[: len(alone), k], tuple(t[k] for t in last)), (expected, tuple(state)))
    # They ended at different steps, and all go on together.
    further, _ = layer(sequence(3, 3), last)
    alone, _ = layer(sequence(3, 3)[:, 1], type(last)(*(t[1] for t in last)))
    close(further[:, 1], alone)


@pytest.mark.parametrize("rule", WRITE_RULES)
def test_second_derivatives_agree_with_finite_differences(rule):
    layer = FastWeightLayer(2, 2, rule=rule, gate=True, generator=seeded(), dtype=torch.float64)
    names = [name for name, _ in layer.named_parameters()]

    def run(input, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (input,))[0]

    points = [torch.randn(3, 1, 2, generator=seeded(4), dtype=torch.float64), *layer.parameters()]
    points = [point.detach().clone().requires_grad_() for point in points]
    assert torch.autograd.gradgradcheck(run, points)


def test_a_gradient_penalty_trains_the_layer():
    layer, input = layer_with("gated-delta"), sequence(40).requires_grad_()
    (slope,) = torch.autograd.grad(layer(input)[0].square().sum(), input, create_graph=True)
    slope.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    assert all(parameter.grad.any() for parameter in layer.parameters())


def test_the_layer_is_its_equations():
    layer, input = layer_with("delta", gate=True), sequence(4, 1)
    heads = []
    parts = (input[:, 0] @ layer.weight_in.T + layer.bias_in).view(4, 2, 13)
    for head in range(2):
        q, k, v, gate, logit = parts[:, head].split([3, 3, 3, 3, 1], 1)
        q, k = (torch.nn.functional.silu(t) for t in (q, k))
        q, k = (t / (t.square().sum(1, keepdim=True) + 1e-6).sqrt() for t in (q, k))
        weight = torch.zeros(3, 3, dtype=torch.float64)
        outputs = []
        for t in range(4):
            weight = weight + logit[t].sigmoid() * torch.outer(v[t] - weight @ k[t], k[t])
            o = weight @ q[t]
            o = o / (o.square().mean() + 1e-6).sqrt() * layer.norm_weight[head]
            outputs.append(o * gate[t] * gate[t].sigmoid())
        heads.append(torch.stack(outputs))
    close(layer(input)[0][:, 0], torch.cat(heads, 1) @ layer.weight_out.T)


def test_negative_eigenvalues_double_beta():
    doubled, plain = layer_with("delta", negative_eigenvalues=True), layer_with("delta")
    assert not torch.allclose(doubled(sequence(4))[0], plain(sequence(4))[0])
    with torch.no_grad():
        for head in (9, 19):  # the last feature of each head is the logit of beta, here 2
            doubled.bias_in[head], doubled.weight_in[head] = 50.0, 0.0
    _, once = doubled(sequence(1))
    _, twice = doubled(sequence(1), once)  # the error changes its sign, and is taken back
    assert once.weight.abs().max() > 0.1
    torch.testing.assert_close(
        twice.weight, torch.zeros_like(twice.weight), rtol=0, atol=1e-3
    )  # a key is shorter than 1 by eps


@pytest.mark.parametrize("feature_map", ["l2-silu", "elu+1", "softmax", "identity"])
def test_every_feature_map_gives_finite_gradients_at_zero(feature_map):
    layer = FastWeightLayer(5, 6, heads=2, feature_map=feature_map, generator=seeded())
    input = torch.zeros(3, 1, 5, requires_grad=True)
    layer(input)[0].sum().backward()
    assert input.grad.isfinite().all()


def test_a_rule_becomes_part_of_the_layer_and_copies_share_nothing():
    rule = DeltaWrite()
    layer = FastWeightLayer(4, rule=rule)
    assert layer.rule is rule
    twin = copy.deepcopy(layer)
    assert twin.rule is not rule


def test_a_state_survives_a_file(tmp_path):
    layer, input = layer_with("momentum-delta"), sequence(5)
    _, state = layer(input)
    torch.save(state.detach(), tmp_path / "state.pt")
    again = torch.load(tmp_path / "state.pt", weights_only=True)
    close(layer(input, again)[0], layer(input, state)[0])


def test_half_precision_is_refused_by_name_and_autocast_keeps_32_bits():
    with pytest.raises(ValueError, match="bfloat16"):
        FastWeightLayer(4).bfloat16()(torch.ones(2, 1, 4, dtype=torch.bfloat16))
    layer, input = FastWeightLayer(4, generator=seeded()), torch.randn(6, 2, 4, generator=seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = layer(input)
    assert (output.dtype, state.weight.dtype) == (torch.float32, torch.float32)
    close(output, layer(input)[0])


def momentum_state():
    return layer_with("momentum-delta")(sequence(2))[1]


def broken_state():
    layer = layer_with("delta")
    _, state = layer(sequence(2))
    return layer(sequence(2), type(state)(state.weight * float("nan")))


BAD = {
    "heads that do not divide": (lambda: FastWeightLayer(5, 6, heads=4), "heads = 4: expected a divisor"),
    "no heads": (lambda: FastWeightLayer(5, heads=0), "heads = 0"),
    "no key features": (lambda: FastWeightLayer(5, key_size=0), "key_size = 0"),
    "an unknown rule": (lambda: FastWeightLayer(5, rule="oja"), "rule = 'oja'"),
    "an unknown map": (lambda: FastWeightLayer(5, feature_map="relu"), "feature_map = 'relu'"),
    "values that are no keys": (
        lambda: FastWeightLayer(5, key_size=3, value_size=2, rule="gradient"),
        "value_size = 2: expected key_size = 3",
    ),
    "an error where there is none": (
        lambda: FastWeightLayer(5, rule=HebbianWrite(), negative_eigenvalues=True),
        "negative_eigenvalues = True",
    ),
    "a state of another rule": (lambda: layer_with("delta")(sequence(2), momentum_state()), "state is a Momentum"),
    "a state of other sizes": (
        lambda: layer_with("delta")(sequence(2), FastWeightLayer(5, dtype=torch.float64)(sequence(2))[1]),
        r"state.weight.shape = \(2, 1, 5, 5\): expected \(2, 2, 3, 3\)",
    ),
    "a state of another batch": (
        lambda: layer_with("delta")(sequence(2, 3), layer_with("delta")(sequence(2))[1]),
        "state.weight.shape",
    ),
    "a state that is not finite": (broken_state, "state.weight"),
    "other features between pieces": (
        lambda: layer_with("delta")(sequence(2)[..., :4], layer_with("delta")(sequence(2))[1]),
        r"input.shape = \(2, 2, 4\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, message = BAD[case]
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_no_steps_and_one_step_are_sequences():
    layer = layer_with("gated-delta")
    output, state = layer(sequence(0))
    assert output.shape == (0, 2, 6)
    assert not state.weight.any()
    one, after = layer(sequence(1))
    assert one.shape == (1, 2, 6)
    assert after.weight.any()


def test_the_layer_computes_what_the_steps_give():
    layer, input = layer_with("delta"), sequence(70)
    output, _ = layer(input)
    layer.rule._run = lambda state, *sequences: step_scan(layer.rule, state, *sequences)
    close(output, layer(input)[0])
