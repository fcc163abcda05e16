"""Packed sequences through recurrent cores and their readout, held to each sequence alone."""

from functools import partial

import pytest
import torch
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    unpack_sequence,
)

from engram.nn import LeakyRNN, LIFNetwork, ReadoutNetwork
from engram.rules import Backprop, apply_rule, train_step
from engram.rules.temporal import EProp
from engram.testing.promises import assert_refused

INPUTS, UNITS, OUTPUTS, LENGTHS = 3, 7, 2, [4, 9, 1, 9, 6]
CORES = {"rates": partial(LeakyRNN, alpha=0.8), "spikes": partial(LIFNetwork, refractory=2)}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sequences(features=INPUTS, seed=0):
    generator = seeded(seed)
    return [2 * torch.randn(length, features, generator=generator, dtype=torch.float64) for length in LENGTHS]


def packed(parts):
    return pack_sequence(parts, enforce_sorted=False)


def made(core):
    return CORES[core](INPUTS, UNITS, dtype=torch.float64, generator=seeded())


def with_readout(core, **options):
    return ReadoutNetwork(made(core), OUTPUTS, generator=seeded(1), **options)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("continued", [False, True])
def test_each_sequence_runs_as_if_alone(core, continued):
    net, parts = made(core), sequences()
    state = net(torch.randn(3, len(parts), INPUTS, dtype=torch.float64, generator=seeded(5)))[1] if continued else None
    output, last = net(packed(parts), state)
    assert isinstance(output, PackedSequence)
    for row, (part, activity) in enumerate(zip(parts, unpack_sequence(output), strict=True)):
        own = None if state is None else type(state)(*(tensor[row : row + 1] for tensor in state))
        expected, end = net(part[:, None], own)
        torch.testing.assert_close(activity, expected[:, 0], rtol=1e-12, atol=1e-12)
        for tensor, expected_tensor in zip(last, end, strict=True):
            torch.testing.assert_close(tensor[row], expected_tensor[0], rtol=1e-12, atol=1e-12)
    again, _ = net(pack_padded_sequence(*pad_packed_sequence(packed(parts)), enforce_sorted=False), state)
    assert torch.equal(again.data, output.data)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(again[1:], output[1:], strict=True))


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("kappa", [0.0, 0.7])
def test_a_readout_of_packed_sequences_is_that_of_each_alone(core, kappa):
    parts = sequences()
    at_end, at_all = (with_readout(core, kappa=kappa, every_step=every_step) for every_step in (False, True))
    expected = [at_end(part[:, None])[0] for part in parts]
    torch.testing.assert_close(at_end(packed(parts)), torch.stack(expected), rtol=1e-12, atol=1e-12)
    for part, outputs in zip(parts, unpack_sequence(at_all(packed(parts))), strict=True):
        torch.testing.assert_close(outputs, at_all(part[:, None])[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("classes", [True, False], ids=["classes", "values"])
@pytest.mark.parametrize("every_step", [True, False], ids=["every step", "last step"])
@pytest.mark.parametrize("kappa", [0.0, 0.7])
@pytest.mark.parametrize("core", CORES)
def test_eprop_of_packed_sequences_is_the_mean_over_each_alone(core, kappa, every_step, classes):
    net, parts, rule = with_readout(core, kappa=kappa, every_step=every_step), sequences(), EProp.random()
    targets = sequences(OUTPUTS, seed=3)
    if classes:
        targets = [(target[:, 0] > 0).long() for target in targets]
    if not every_step:
        targets = [target[-1] for target in targets]
    state = rule.init(net, seeded(2))
    alone = [
        rule.update(net, part[:, None], target[:, None] if every_step else target[None], state)
        for part, target in zip(parts, targets, strict=True)
    ]
    together = apply_rule(rule, net, packed(parts), packed(targets) if every_step else torch.stack(targets), state)
    for name, grad in together.grads.items():
        expected = torch.stack([update.grads[name] for update in alone]).mean(0)
        assert expected.any(), name
        torch.testing.assert_close(grad, expected, rtol=1e-11, atol=1e-12)
    loss = torch.stack([update.info["loss"] for update in alone]).mean()
    torch.testing.assert_close(together.info["loss"], loss)
    same_length = torch.stack([parts[1], parts[3]], 1)
    target = torch.stack([targets[1], targets[3]], 1 if every_step else 0)
    whole = rule.update(net, same_length, target, state).grads
    as_packed = pack_sequence([targets[1], targets[3]]) if every_step else target
    for name, grad in rule.update(net, pack_sequence([parts[1], parts[3]]), as_packed, state).grads.items():
        torch.testing.assert_close(grad, whole[name], rtol=1e-11, atol=1e-12)


def test_a_network_is_trained_on_packed_sequences():
    net, rule = with_readout("rates"), EProp()
    batch = packed(sequences()), torch.tensor([0, 1, 1, 0, 1])
    sgd, state = torch.optim.SGD(net.parameters(), lr=0.3), rule.init(net, seeded())
    losses = [float(train_step(rule, net, sgd, batch, state).info["loss"]) for _ in range(30)]
    assert losses[-1] < losses[0] / 2


def test_bad_packed_sequences_are_named():
    net, parts = with_readout("rates", every_step=True), sequences()
    rule = EProp()
    bad = [part.clone() for part in parts]
    bad[0][0, 0] = torch.nan
    labels = [torch.zeros(len(part), dtype=torch.long) for part in parts]
    assert_refused(
        [
            (lambda: net.core(packed(sequences(2))), ValueError, r"input.data.*\(29, 2\)"),
            (
                lambda: net.core(packed([part.float() for part in parts])),
                ValueError,
                "input.data.dtype = torch.float32",
            ),
            (lambda: net.core(packed(bad)), ValueError, "input.data.*nan"),
            (lambda: net.core(packed(parts), net.core.init(4)), ValueError, r"state.potential.*\(4, 7\).*\(5, 7\)"),
            (lambda: rule.update(net, packed(parts), torch.zeros(9, 5).long(), None), TypeError, "target.*Packed"),
            (
                lambda: rule.update(net, packed(parts), packed([label.new_zeros(3) for label in labels]), None),
                ValueError,
                r"target has sequences of \[3, 3, 3, 3, 3\] steps: expected \[4, 9, 1, 9, 6\]",
            ),
            (lambda: rule.update(net, packed(bad), packed(labels), None), ValueError, "x.data.*nan"),
        ]
    )


@pytest.mark.parametrize("kappa", [0.0, 0.3, 0.95, 1 - 1e-9])
def test_filtering_by_recursion_is_the_sum_over_the_past(kappa):
    net, x = with_readout("rates", kappa=kappa, every_step=True), torch.randn(40, 3, INPUTS, dtype=torch.float64)
    activity, _ = net.core(x)
    lags = torch.arange(len(x), dtype=torch.float64)
    weights = torch.tril(kappa ** (lags[:, None] - lags).clamp(min=0))
    expected = net.readout(torch.einsum("ts,sbn->tbn", weights, activity))
    output = net(x)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    slopes = torch.randn_like(output)
    grads = [torch.autograd.grad((y * slopes).sum(), [*net.parameters()]) for y in (output, expected)]
    for grad, reference in zip(*grads, strict=True):
        torch.testing.assert_close(grad, reference, rtol=1e-10, atol=1e-10)


def test_filtering_keeps_no_square_of_the_number_of_steps():
    net = ReadoutNetwork(LeakyRNN(1, 4, generator=seeded()), 1, kappa=0.5, every_step=True, generator=seeded())
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            largest = max(
                largest, *(t.numel() for t in torch.utils._pytree.tree_leaves(result) if hasattr(t, "numel")), 0
            )
            return result

    with Watch():
        net(torch.ones(300, 1, 1))
    assert largest == 300 * 4
    assert Backprop().update(net, torch.ones(300, 1, 1), torch.zeros(300, 1, 1), None).grads


@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_rows_of_packed_outputs_are_those_of_the_input(enforce_sorted):
    net = ReadoutNetwork(LeakyRNN(INPUTS, UNITS, generator=seeded()), OUTPUTS, every_step=True, generator=seeded())
    lengths = [3] * 40 + [2] * 40  # so many of one length are sorted in another order when they are packed again
    packed = pack_sequence([torch.randn(n, INPUTS, generator=seeded(k)) for k, n in enumerate(lengths)], enforce_sorted)
    output = net(packed)
    torch.testing.assert_close(output.data, net.readout(net.core(packed)[0].data))
    for given, returned in zip(packed[1:], output[1:], strict=True):
        assert returned is given
