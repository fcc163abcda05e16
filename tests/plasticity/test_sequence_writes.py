"""The write rules: what each must do by its equation, the chunked forms against the steps, and second derivatives."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from engram.plasticity.sequence import (
    DecayedWrite,
    DeltaWrite,
    FastWeightLayer,
    FastWeights,
    GatedDeltaWrite,
    GradientWrite,
    HebbianWrite,
    LeastSquaresWrite,
    MomentumDeltaWrite,
    WriteRule,
    step_scan,
)

RULES = {
    "hebbian": HebbianWrite,
    "decayed": DecayedWrite,
    "delta": DeltaWrite,
    "gated-delta": GatedDeltaWrite,
    "momentum-delta": MomentumDeltaWrite,
    "gradient": lambda: GradientWrite(3),
    "gradient, without norm": lambda: GradientWrite(3, norm=False),
    "least-squares": LeastSquaresWrite,
}
FORGET, KEEP = -math.inf, 0.0
SIZES = {"chunks": 3, "short chunks": 1}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(rule, batch=2, heads=2, length=7, value=3, key=3, *, seed=0, dtype=torch.float64):  # noqa: PLR0917
    """Return state, query, key, value and signals; keys have unit length."""
    generator = seeded(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    shape = batch, heads, length
    signals = {
        "beta": normal(*shape).sigmoid(),
        "log_decay": functional.logsigmoid(normal(*shape)),
        "log_momentum": functional.logsigmoid(normal(*shape)),
    }
    state = rule.init(normal(batch, heads, value, key))
    sequences = normal(*shape, key), functional.normalize(normal(*shape, key), dim=-1), normal(*shape, value)
    return state, *sequences, *(signals[name] for name in rule.signals)


def written(rule, pairs, *signals):
    """Return the state after some pairs of one head, written with these signals."""
    state = rule.init(torch.zeros(1, 1, len(pairs[0][1]), len(pairs[0][0]), dtype=torch.float64))
    for key, value in pairs:
        numbers = [torch.full((1, 1), float(signal), dtype=torch.float64) for signal in signals]
        state = rule.write(state, key.view(1, 1, -1), value.view(1, 1, -1), *numbers)
    return state


def recalled(rule, state, key):
    return rule.recall(state, key.view(1, 1, -1)).flatten()


def pair(key_size=4, value_size=3, seed=0):
    generator = seeded(seed)
    key = torch.randn(key_size, generator=generator, dtype=torch.float64)
    return key / key.norm(), torch.randn(value_size, generator=generator, dtype=torch.float64)


def close(actual, expected, tolerance=1e-10):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def test_the_delta_rule_recalls_what_it_wrote_last_and_hebbs_rule_the_sum():
    (key, first), (_, second) = pair(), pair(seed=1)
    for rule, signals in ((DeltaWrite(), (1,)), (GatedDeltaWrite(), (1, -0.3)), (MomentumDeltaWrite(), (1, 0, FORGET))):
        state = written(rule, [(key, first), (key, second)], *signals)
        close(recalled(rule, state, key), second)
    hebbian = HebbianWrite()
    close(recalled(hebbian, written(hebbian, [(key, first), (key, second)], 1), key), first + second)


def test_with_orthonormal_keys_the_delta_rule_is_hebbs():
    keys = torch.linalg.qr(torch.randn(5, 5, generator=seeded(), dtype=torch.float64)).Q
    pairs = [(key, pair(seed=k)[1]) for k, key in enumerate(keys)]
    close(written(DeltaWrite(), pairs, 0.7).weight, written(HebbianWrite(), pairs, 0.7).weight)


def test_without_decay_the_gated_delta_rule_is_the_delta_rule_and_without_writes_it_only_decays():
    state, *sequences, beta, log_decay = drawn(GatedDeltaWrite())
    ungated = DeltaWrite().scan(state, *sequences, beta)
    close(GatedDeltaWrite().scan(state, *sequences, beta, torch.zeros_like(beta)), ungated)
    for rule in (GatedDeltaWrite(), DecayedWrite()):
        output, last = rule.scan(state, *sequences, torch.zeros_like(beta), log_decay)
        close(last.weight, state.weight * log_decay.sum(-1).exp()[..., None, None])
        decays = log_decay.cumsum(-1).exp().unsqueeze(-1)
        close(output, decays * sequences[0] @ state.weight.transpose(-1, -2))


def test_gradients_of_single_steps_without_norm_are_the_delta_rule():
    rule = GradientWrite(1, norm=False)
    state, *rest = drawn(rule)
    output, last = rule.scan(state, *rest)
    expected, weight = DeltaWrite().scan(DeltaWrite().init(state.weight), *rest)
    close((output, last.weight), (expected, weight.weight))


def test_gradients_are_those_of_the_loss_at_the_start_of_the_chunk():
    rule = GradientWrite(3)
    state, query, key, value, beta = drawn(rule, length=3)
    start = state.weight.clone().requires_grad_()
    recalls = functional.layer_norm(key @ start.transpose(-1, -2), value.shape[-1:], eps=1e-6)
    loss = (beta.unsqueeze(-1) * (key + recalls - value).square()).sum() / 2
    (gradient,) = torch.autograd.grad(loss, start)
    close(rule.scan(state, query, key, value, beta)[1].weight, state.weight - gradient)


def test_momentum_without_momentum_and_decay_is_the_delta_rule():
    rule = MomentumDeltaWrite()
    state, *sequences, beta, _, _ = drawn(rule)
    nothing = torch.zeros_like(beta)
    # The factor 0 of momentum is exact in the chunks too, where products of factors are not divided.
    for scan in (rule.scan, lambda *a: step_scan(rule, *a)):
        output, last = scan(rule.init(state.weight), *sequences, beta, nothing, nothing + FORGET)
        expected, delta = DeltaWrite().scan(DeltaWrite().init(state.weight), *sequences, beta)
        close((output, last.weight), (expected, delta.weight))


def test_least_squares_is_that_of_all_pairs_with_a_ridge_and_exact_without():
    key_size, value_size, ridge = 6, 4, 0.3
    rule = LeastSquaresWrite(ridge).double()
    state, query, key, value, beta, log_decay = drawn(rule, 1, 1, 15, value_size, key_size)
    empty = rule.init(torch.zeros_like(state.weight))
    with torch.no_grad():
        output, _ = rule.scan(empty, query, key, value, beta, log_decay)
    weights = (log_decay.sum() - log_decay.cumsum(-1)).exp() * beta
    root = weights.sqrt()[0, 0, :, None].numpy()
    # lstsq of all pairs, with rows for the ridge
    rows = np.vstack((root * key[0, 0].numpy(), np.sqrt(rule_ridge(rule)) * np.eye(key_size)))
    targets = np.vstack((root * value[0, 0].numpy(), np.zeros((key_size, value_size))))
    solution = np.linalg.lstsq(rows, targets, rcond=None)[0]
    np.testing.assert_allclose(output[0, 0, -1], query[0, 0, -1].numpy() @ solution, rtol=1e-9, atol=1e-10)

    nearly = LeastSquaresWrite(1e-12).double()
    pairs = [pair(key_size, value_size, seed) for seed in range(key_size)]
    last = written(nearly, pairs, 1, 0)
    for key, value in pairs:
        close(recalled(nearly, last, key).detach(), value, 1e-8)


def rule_ridge(rule):
    return functional.softplus(rule.raw_ridge).item()


@pytest.mark.parametrize("name", RULES)
@given(length=st.integers(1, 11), chunk=st.integers(1, 12), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_chunks_of_any_size_are_the_steps(name, length, chunk, seed):
    rule = RULES[name]().double()
    arguments = drawn(rule, length=length, seed=seed)
    close(rule.scan(*arguments, chunk_size=chunk), step_scan(rule, *arguments))


@pytest.mark.parametrize("name", RULES)
def test_a_long_chunk_with_strong_decay_is_the_steps(name):
    rule = RULES[name]().double()
    state, *sequences, beta = drawn(rule, length=200)[:5]
    signals = [beta, *(torch.full_like(beta, -20.0) for _ in rule.signals[1:])]  # the products underflow
    close(rule.scan(state, *sequences, *signals, chunk_size=200), step_scan(rule, state, *sequences, *signals))


@pytest.mark.parametrize("name", RULES)
def test_a_sequence_in_pieces_is_the_whole(name):
    rule = RULES[name]().double()
    state, *sequences = drawn(rule, length=11)
    output, last = rule.scan(state, *sequences, chunk_size=4)
    outputs = []
    for begin, end in ((0, 0), (0, 2), (2, 3), (3, 9), (9, 11)):
        part, state = rule.scan(state, *(t[:, :, begin:end] for t in sequences), chunk_size=4)
        outputs.append(part)
    close((torch.cat(outputs, 2), tuple(state)), (output, tuple(last)))


@pytest.mark.parametrize(
    ("name", "form"),
    [*itertools.product(RULES, ("steps", "chunks")), ("delta", "short chunks"), ("gated-delta", "short chunks")],
)
def test_first_and_second_derivatives_agree_with_finite_differences(name, form):
    rule = RULES[name]().double()
    state, *sequences = drawn(rule, 1, 1, 4, 2, 2)
    matrices = len([t for t in state if t.dim() == 4])

    def run(*tensors):
        start = type(state)(*tensors[:matrices], *state[matrices:])
        arguments = start, *tensors[matrices:]
        output, last = step_scan(rule, *arguments) if form == "steps" else rule.scan(*arguments, chunk_size=SIZES[form])
        return output, last.weight

    points = [t.clone().requires_grad_() for t in (*state[:matrices], *sequences)]
    # Signals at the ends of their ranges would leave them; keys may have any length.
    assert torch.autograd.gradcheck(run, points)
    assert torch.autograd.gradgradcheck(run, points)


@pytest.mark.parametrize("name", ["delta", "gated-delta"])
@pytest.mark.parametrize("chunk", [1, 3, 11])
def test_derivatives_without_a_graph_are_those_with_one(name, chunk):
    rule = RULES[name]()
    state, *sequences = drawn(rule, length=11, value=4, seed=chunk)
    sequences[3][:, :, 2] = 0.0  # nothing is written
    if name == "gated-delta":
        sequences[4][0, :, 4], sequences[4][:, :, 7] = FORGET, KEEP
    points = [t.clone().requires_grad_() for t in (*state, *sequences)]
    output, last = rule.scan(FastWeights(points[0]), *points[1:], chunk_size=chunk)
    generator = seeded()
    slopes = [torch.randn(t.shape, generator=generator, dtype=t.dtype) for t in (output, last.weight)]
    for outputs, grads in (((output, last.weight), slopes), ((output,), slopes[:1]), ((last.weight,), slopes[1:])):
        first, again = (
            torch.autograd.grad(outputs, points, grads, create_graph=graph, retain_graph=True, materialize_grads=True)
            for graph in (False, True)
        )
        close(first, again)
        assert all(slope.isfinite().all() for slope in first)
        assert not any(slope.requires_grad for slope in first)
    with torch.no_grad():
        close(rule.scan(FastWeights(points[0]), *points[1:], chunk_size=chunk), (output, last))


def test_the_delta_rule_stays_bounded_in_ten_thousand_steps_and_hebbs_grows():
    generator, steps = seeded(), 10_000
    key = functional.normalize(torch.randn(1, 1, steps, 8, generator=generator), dim=-1)
    value = torch.randn(1, 1, steps, 8, generator=generator).clamp(-1, 1)
    one = torch.ones(1, 1, steps)
    for strength in (0.5, 1.0):
        output, last = DeltaWrite().scan(DeltaWrite().init(torch.zeros(1, 1, 8, 8)), key, key, value, strength * one)
        assert last.weight.norm() < 100
        assert output.isfinite().all()
    _, grown = HebbianWrite().scan(HebbianWrite().init(torch.zeros(1, 1, 8, 8)), key, key, value, one)
    assert grown.weight.norm() > 200
    for strength in (0.0, 1.0, 2.0):
        eigenvalues = torch.linalg.eigvalsh(torch.eye(8) - strength * key[0, 0, 0].outer(key[0, 0, 0]))
        assert eigenvalues.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("name", RULES)
def test_32_bits_give_what_64_bits_give(name):
    rule = RULES[name]()
    arguments = drawn(rule, length=100, dtype=torch.float32)
    double = [type(arguments[0])(*(t.double() for t in arguments[0])), *(t.double() for t in arguments[1:])]
    output, exact = rule.scan(*arguments, chunk_size=32)[0], RULES[name]().double().scan(*double)[0]
    assert output.dtype == torch.float32
    # The layer norm divides by what may be small.
    torch.testing.assert_close(output.double(), exact, rtol=1e-3 if "gradient" in name else 1e-4, atol=1e-3)


BAD = {
    "beta above 2": (lambda a: a.update(beta=a["beta"] + 2), "beta contains"),
    "negative beta": (lambda a: a.update(beta=a["beta"] - 2), "beta contains"),
    "a decay above 1": (lambda a: a.update(log_decay=-a["log_decay"]), "log_decay contains"),
    "NaN in a key": (lambda a: a["key"].fill_(math.nan), "key at"),
    "half precision": (lambda a: a.update(key=a["key"].half()), "float16"),
    "a query of another length": (lambda a: a.update(query=a["query"][:, :, :3]), "query.shape"),
    "a value of another batch": (lambda a: a.update(value=a["value"][:1]), "value.shape"),
    "a state of another batch": (
        lambda a: a.update(state=FastWeights(a["state"].weight[:1])),
        "state.weight.shape",
    ),
    "a state of another rule": (lambda a: a.update(state=drawn(MomentumDeltaWrite())[0]), "state is a Momentum"),
    "NaN in the state": (lambda a: a["state"].weight.fill_(math.nan), "state.weight"),
    "NaN in beta": (lambda a: a["beta"].fill_(math.nan), "beta contains nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    rule, (change, message) = GatedDeltaWrite(), BAD[case]
    arguments = dict(zip(("state", "query", "key", "value", "beta", "log_decay"), drawn(rule), strict=True))
    change(arguments)
    for scan in (rule.scan, lambda *a: step_scan(rule, *a)):
        with pytest.raises((TypeError, ValueError), match=message):
            scan(*arguments.values())


def test_missing_signals_and_chunks_without_steps_are_refused():
    state, *sequences, beta, _ = drawn(GatedDeltaWrite())
    with pytest.raises(ValueError, match="signals has 1 items: expected 2, beta, log_decay"):
        GatedDeltaWrite().scan(state, *sequences, beta)
    with pytest.raises(ValueError, match="chunk_size = 0"):
        DeltaWrite().scan(state, *sequences, beta, chunk_size=0)
    with pytest.raises(ValueError, match="chunk_size = 0"):
        GradientWrite(0)
    with pytest.raises(ValueError, match="ridge = 0"):
        LeastSquaresWrite(0.0)


class Oja(WriteRule):
    """A rule of one's own, that defines no more than its step: Oja's rule with the value as postsynaptic activity."""

    def _write(self, state, key, value, *signals):
        (beta,) = signals
        change = value.unsqueeze(-1) * (key.unsqueeze(-2) - value.unsqueeze(-1) * state.weight)
        return FastWeights(state.weight + beta[..., None, None] * change)


def test_a_rule_of_ones_own_defines_its_step_alone():
    rule = Oja()
    arguments = drawn(rule, length=11)
    close(rule.scan(*arguments, chunk_size=4), step_scan(rule, *arguments))
    layer = FastWeightLayer(5, rule=rule, generator=seeded()).double()
    output, state = layer(torch.randn(9, 2, 5, generator=seeded(), dtype=torch.float64))
    output.square().sum().backward()
    assert state.weight.any()
    assert layer.weight_in.grad.any()


@pytest.mark.parametrize("name", RULES)
def test_a_single_write_and_recall_are_a_scan_of_one_step_and_name_what_is_wrong(name):
    rule = RULES[name]().double()
    state, query, key, value, *signals = drawn(rule, length=1)
    at_step = [signal[:, :, 0] for signal in signals]
    last = rule.write(state, key[:, :, 0], value[:, :, 0], *at_step)
    close(rule.scan(state, query, key, value, *signals), (rule.recall(last, query[:, :, 0]).unsqueeze(2), last))
    with pytest.raises((TypeError, ValueError), match="value"):
        rule.write(state, key[:, :, 0], value[:1, :, 0], *at_step)
    with pytest.raises(ValueError, match="beta contains -1"):
        rule.write(state, key[:, :, 0], value[:, :, 0], at_step[0] * 0 - 1, *at_step[1:])
    with pytest.raises(ValueError, match="signals has 0 items"):
        rule.write(state, key[:, :, 0], value[:, :, 0])
    with pytest.raises(ValueError, match=r"state.weight.shape"):
        rule.recall(state, query[:1, :, 0])
