"""Training by short windows, what is measured of recall, and the memories that a learned rule is held against."""

import math
from functools import partial

import pytest
import torch

from engram.learned.learning_to_remember import (
    GatedRule,
    LSTMMemory,
    OuterRule,
    Recall,
    RuleNetwork,
    Topology,
    bit_accuracy,
    body_only_accuracy,
    delta_memory,
    hebb_memory,
    pseudo_inverse_memory,
    recall_by_age,
    remember_loss,
    sgd_recall,
    train_window,
)
from engram.tasks import SnippetStream


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(bits, snippets, windows, seed=0):
    return SnippetStream(bits, snippets, duplicates=True).sample(windows, seeded(seed)).snippets.unbind(2)


@pytest.mark.parametrize(
    ("bits", "hebb", "delta"),
    [
        (12, (0.000, 0.025, 0.098, 0.190), (0.010, 0.036, 0.115, 0.225)),
        (16, (0.000, 0.014, 0.078, 0.167), (0.002, 0.020, 0.075, 0.175)),
        (32, (0.000, 0.001, 0.019, 0.079), (0.000, 0.002, 0.016, 0.071)),
    ],
)
def test_errors_of_known_rules_are_those_of_an_independent_simulation(bits, hebb, delta):
    """That has 400 draws; an answer of exactly 0 is a wrong bit there, and half of one here."""
    for index, snippets in enumerate((2, 4, 8, 16)):
        x, y = pairs(bits, snippets, 1000)
        for weight, expected in ((hebb_memory(x, y), hebb[index]), (delta_memory(x, y), delta[index])):
            answers = x @ weight.transpose(1, 2)
            certain = answers.abs() > 1e-6
            error = float((certain & (answers.sign() != y)).float().mean())
            undecided = float((~certain).float().mean())
            assert error - 0.01 <= expected <= error + undecided + 0.01, (snippets, error, undecided)


def test_a_step_of_the_delta_rule_is_a_partial_memory_of_its_pair():
    generator = seeded()
    x, y = (torch.randn(3, 1, size, generator=generator, dtype=torch.float64) for size in (5, 2))
    square = x.square().sum(2)
    for rate in (0.01, 0.1):
        error = y - x @ delta_memory(x, y, rate).transpose(1, 2)
        torch.testing.assert_close(error, (1 - rate * square)[..., None] * y)
    x, y = pairs(12, 5, 20)
    last = x[:, -1:] @ delta_memory(x, y).transpose(1, 2)
    torch.testing.assert_close(last, y[:, -1:])


@pytest.mark.parametrize("memory", [hebb_memory, partial(hebb_memory, decay=0.999), partial(delta_memory, rate=0.01)])
def test_memories_of_half_precision_are_those_of_double_but_for_rounding(memory):
    x, y = (values[:1].bfloat16() for values in pairs(1500, 4, 1))
    half, exact = memory(x, y), memory(x.double(), y.double())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, rtol=1 / 256, atol=1e-3)


def test_the_pseudo_inverse_is_exact_as_far_as_cues_are_independent():
    x, y = torch.randn(10, 6, 6, generator=seeded(), dtype=torch.float64), torch.randn(10, 6, 3).double()
    torch.testing.assert_close(x @ pseudo_inverse_memory(x, y).transpose(1, 2), y)


def test_a_decaying_memory_recalls_the_last_best():
    x, y = pairs(16, 32, 400)
    answers = x @ hebb_memory(x, y, 0.9).transpose(1, 2)
    wrong = (answers.sign() != y).float().mean((0, 2))
    expected = {"all": 0.319, "newest": 0.028, "oldest": 0.486}
    assert {"all": float(wrong.mean()), "newest": float(wrong[-1]), "oldest": float(wrong[0])} == {
        name: pytest.approx(value, abs=0.02) for name, value in expected.items()
    }


def test_gradient_descent_online_takes_the_steps_of_autograd():
    x, y = torch.randn(1, 3, 4, generator=seeded()), torch.randn(1, 3, 2, generator=seeded(1))
    generator = seeded(2)
    first = (torch.randn(1, 5, 4, generator=generator)[0] / 2).requires_grad_()
    second = torch.zeros(2, 5, requires_grad=True)
    optimizer = torch.optim.SGD([first, second], 0.1)
    for cue, target in zip(x[0], y[0], strict=True):
        optimizer.zero_grad()
        ((target - second @ torch.tanh(first @ cue)).square().sum() / 2).backward()
        optimizer.step()
    expected = torch.tanh(x[0] @ first.T) @ second.T
    torch.testing.assert_close(sgd_recall(x, y, 0.1, 5, seeded(2))[0], expected.detach())


def test_what_bodies_alone_can_be_is_the_closed_form_and_what_counters_are():
    known = {1: 1.0, 2: 0.875, 3: 0.8125, 4: 0.773, 6: 0.726, 8: 0.696, 12: 0.661, 16: 0.640, 32: 0.599}
    assert {K: body_only_accuracy(K) for K in known} == {K: pytest.approx(v, abs=5e-4) for K, v in known.items()}
    x, y = pairs(8, 6, 4000)
    same = x[:, :, None] == x[:, None]  # query, shown, bit
    counted = (same * y[:, None]).sum(2)
    assert float(bit_accuracy(counted, y)) == pytest.approx(body_only_accuracy(6), abs=0.005)


def test_loss_and_accuracy_count_what_is_asked_for():
    logits, targets = torch.tensor([[[2.0, -1.0, 5.0]]]), torch.tensor([[[1.0, 1.0, 0.0]]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1))) / 2
    assert float(remember_loss(logits, targets)) == pytest.approx(expected)
    assert float(bit_accuracy(logits, targets)) == 0.5
    with pytest.raises(ValueError, match="targets = 0 everywhere"):
        remember_loss(logits, 0 * targets)


def test_recall_is_told_by_age():
    logits = torch.tensor([[[1.0, 1.0], [1.0, -1.0]], [[-1.0, -1.0], [1.0, 1.0]]])
    targets = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [0.0, 0.0]]])
    recalls = recall_by_age(logits, targets, torch.tensor([[0, 2], [2, 1]]))
    assert recalls[0] == Recall(0, 1.0, 1.0, 2.0)
    assert [(recall.age, recall.accuracy, recall.exact, recall.bits) for recall in recalls[1:]] == [
        (2, 0.25, 0.0, pytest.approx(0, abs=1e-6))
    ]
    half = torch.ones(1, 1, 8)
    half[..., :2] = -1
    entropy = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert recall_by_age(half, torch.ones(1, 1, 8), torch.zeros(1, 1).long())[0].bits == pytest.approx(
        8 * (1 - entropy)
    )


def test_a_logit_of_0_is_half_right_and_no_exact_recall():
    (undecided,) = recall_by_age(torch.zeros(1, 2, 4), torch.ones(1, 2, 4), torch.zeros(1, 2).long())
    assert (undecided.accuracy, undecided.exact, undecided.bits) == (0.5, 0.0, pytest.approx(0, abs=1e-7))


def learner(seed=0, **options):
    rule = GatedRule(4, 2, synapse_hidden=8, body_hidden=16, generator=seeded(seed))
    net = RuleNetwork(Topology.visible(12, bidirectional=False), rule, **options)
    return net, torch.optim.Adam(net.parameters(), 4e-3, betas=(0.9, 0.99), fused=True)


def test_a_rule_is_found_that_remembers_more_than_bodies_can():
    generator = seeded(102)
    net, optimizer = learner(102)
    stream, accuracies = SnippetStream(12, 2), []
    for _ in range(500):
        window = stream.sample(16, generator)
        trained = train_window(net, optimizer, window.inputs, window.targets, net.init(16))
        accuracies.append(float(trained.accuracy))
    assert accuracies[0] < 0.6
    assert sum(accuracies[-50:]) / 50 > body_only_accuracy(2) + 0.1


def test_the_state_goes_on_without_its_graph_and_a_graph_is_refused():
    net, optimizer = learner()
    window = SnippetStream().sample(3, seeded())
    before = [p.clone() for p in net.parameters()]
    trained = train_window(net, optimizer, window.inputs, window.targets, net.init(3), clip=1e-9)
    assert not trained.state.bodies.requires_grad
    assert trained.state.synapses[0].any()
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    _, attached = net(window.inputs, net.init(3))
    with pytest.raises(ValueError, match="state has a graph"):
        train_window(net, optimizer, window.inputs, window.targets, attached)


def test_the_gradient_is_clipped_and_one_that_is_not_finite_changes_nothing():
    net, _ = learner()
    optimizer = torch.optim.SGD(net.parameters(), 1.0)
    window = SnippetStream().sample(3, seeded())
    before = [p.detach().clone() for p in net.parameters()]
    train_window(net, optimizer, window.inputs, window.targets, net.init(3), clip=0.01)
    moved = sum(float((a - b.detach()).square().sum()) for a, b in zip(before, net.parameters(), strict=True))
    assert math.sqrt(moved) == pytest.approx(0.01, rel=1e-3)
    with torch.no_grad():
        net.rule.readout.fill_(math.nan)
    before = [p.detach().clone() for p in net.parameters()]
    with pytest.raises(FloatingPointError, match=r"loss = nan.*a lower learning rate"):
        train_window(net, optimizer, window.inputs, window.targets, net.init(3))
    assert all(a.equal(b) or a.isnan().all() for a, b in zip(before, net.parameters(), strict=True))


def test_an_outer_rule_can_be_hebbs():
    """With bodies that are what they are shown, and one channel that neither fades nor is scaled."""
    rule = OuterRule(2, 1, body_hidden=2, generator=seeded()).double()
    with torch.no_grad():
        for parameter in rule.parameters():
            parameter.zero_()
        rule.keep.fill_(50.0)
        rule.rate.fill_(math.log(math.expm1(1 / 12)))
        rule.post_factor[0], rule.pre_factor[2] = 1.0, 1.0  # the new body of post, and the old one of pre
    x, y = (patterns[:1].double() for patterns in pairs(12, 3, 1))
    weight = torch.zeros(1, 1, 12, 12, dtype=torch.float64)
    for k in range(3):
        known = [torch.zeros(1, 12, 4, dtype=torch.float64) for _ in range(2)]
        known[0][..., 0], known[1][..., 2] = y[:, k], x[:, k]
        weight = rule.synapse(weight, *known, torch.zeros(1, 12, 1, dtype=torch.float64))
    torch.testing.assert_close(weight[:, 0], hebb_memory(x, y))


def test_an_lstm_is_called_alike_and_draws_from_its_generator():
    lstm = LSTMMemory(12, 8, generator=seeded())
    optimizer = torch.optim.Adam(lstm.parameters(), 1e-2)
    window = SnippetStream().sample(4, seeded())
    losses = [float(train_window(lstm, optimizer, window.inputs, window.targets, lstm.init(4)).loss) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert LSTMMemory(12, 8, 5)(window.inputs, lstm.init(4))[0].shape == (*window.inputs.shape[:2], 5)
    twins = [LSTMMemory(12, 8, generator=seeded(4)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*(twin.parameters() for twin in twins), strict=True))
    shown = window.inputs, lstm.init(4)
    assert torch.equal(lstm(*shown)[0], lstm(*shown, (window.inputs != 0).float())[0])
    assert not torch.equal(lstm(*shown)[0], lstm(*shown, torch.ones_like(window.inputs))[0])
    with pytest.raises(ValueError, match=r"clamp\.shape"):
        lstm(window.inputs, lstm.init(4), window.inputs[:1])
