"""The baselines: a reservoir is uniform, a teacher is followed, a frozen body does not move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import nn

from engram.continual import (
    EWC,
    MAS,
    FrozenBody,
    L2Anchor,
    LwF,
    OnlineEWC,
    Replay,
    Reservoir,
    SynapticIntelligence,
    TaskData,
    freeze_body,
    random_batches,
    slow_parameters,
    task_cross_entropy,
    train_on_tasks,
)
from engram.plasticity import Modulated, PlasticRNN


def test_reservoir_is_uniform():
    counts = np.zeros(20)
    for seed in range(600):
        memory = Reservoir(5, torch.Generator().manual_seed(seed))
        for part in torch.arange(20).split(3):
            memory.add(part, part)
        counts[memory.sample(5)[1].numpy()] += 1
    assert counts.sum() == 3000
    assert chisquare(counts).pvalue > 0.001


def test_a_reservoir_of_one_keeps_the_second_of_two_with_probability_one_half():
    for seed in range(60):
        draws = torch.rand(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        memory = Reservoir(1, torch.Generator().manual_seed(seed))
        memory.add(torch.arange(2), torch.arange(2))
        assert memory.sample(1)[0].item() == (draws[1] < 0.5)


def test_a_reservoir_gives_as_many_as_asked_for_and_keeps_no_graph():
    memory, empty = (Reservoir(4, torch.Generator()) for _ in range(2))
    empty.load_state_dict(memory.state_dict())  # of which nothing is kept yet
    memory.add(torch.ones(4, 2, requires_grad=True), torch.ones(4, requires_grad=True))
    for count, length in ((1, 1), (3, 3), (9, 4)):
        inputs, labels, _ = memory.sample(count)
        assert len(inputs) == len(labels) == length
        assert not inputs.requires_grad
        assert not labels.requires_grad


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 12))
def test_how_samples_are_batched_does_not_matter(sizes, capacity):
    stream = torch.arange(sum(sizes))
    memories = [Reservoir(capacity, torch.Generator().manual_seed(0)) for _ in range(2)]
    for part in stream.split(sizes):
        memories[0].add(part[:, None].float(), part)
    memories[1].add(stream[:, None].float(), stream)
    states = [memory.state_dict() for memory in memories]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    inputs, labels, _ = memories[0].sample(100)
    assert len(set(labels.tolist())) == len(labels) == len(memories[0]) == min(len(stream), capacity)
    assert torch.equal(inputs[:, 0], labels.float())


def test_reservoir_goes_on_from_a_stored_state():
    first, second = (Reservoir(4, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    first.add(torch.arange(9), torch.arange(9))
    state = first.state_dict()
    before = state["inputs"].clone()
    second.load_state_dict(state)
    for memory in (first, second):
        memory.add(torch.arange(9, 20), torch.arange(9, 20))
    assert torch.equal(first.sample(3)[0], second.sample(3)[0])
    assert torch.equal(state["inputs"], before)


def test_student_follows_its_teacher():
    torch.manual_seed(0)
    net, x, y = nn.Linear(3, 4).double(), torch.randn(6, 3, dtype=torch.float64), torch.zeros(6)
    lwf = LwF(net, 2.0, temperature=3.0)
    assert lwf.loss(x, y, net(x)) == 0
    lwf.end_task(TaskData((x, y), [0, 1]))
    assert lwf.loss(x, y, net(x)).item() == pytest.approx(0, abs=1e-12)
    taught = net(x).detach()
    with torch.no_grad():
        net.weight += 0.3 * torch.randn_like(net.weight)
    lwf.end_task(TaskData((x, y), [2, 3]))
    lwf.load_state_dict({**lwf.state_dict(), "groups": [[0, 1], [2, 3]]})
    with torch.no_grad():
        net.weight += 0.3 * torch.randn_like(net.weight)
    student = nn.Linear(3, 4).double()
    student.load_state_dict(lwf.state_dict()["teacher"])
    taught, z = student(x).detach(), net(x)
    expected = 0.0
    for at in ([0, 1], [2, 3]):
        p = (taught[:, at] / 3).softmax(1)
        expected += (p * (p.log() - (z[:, at] / 3).log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(lwf.loss(x, y, z), 2 * expected)
    gradient = torch.autograd.grad(lwf.loss(x, y, z), z)[0]
    assert not gradient.sum(1).abs().gt(1e-12).any()


def test_a_teacher_answers_in_evaluation_mode_and_once_for_each_set_of_outputs():
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)), torch.randn(6, 3)
    lwf, logits = LwF(net), torch.randn(6, 4)
    lwf.end_task(TaskData((), [0, 1]))
    once = lwf.loss(x, x, logits)
    assert torch.equal(lwf.loss(x, x, logits), once)
    assert net.training
    for same in ([0, 1], [1, 0]):
        lwf.end_task(TaskData((), same))
        torch.testing.assert_close(lwf.loss(x, x, logits), once)


def test_a_state_of_another_capacity_is_refused():
    memory = Reservoir(4, torch.Generator())
    memory.add(torch.arange(9), torch.arange(9))
    with pytest.raises(ValueError, match="4 places: expected capacity = 5"):
        Reservoir(5, torch.Generator()).load_state_dict(memory.state_dict())


def test_growing_head_keeps_its_old_teacher():
    body = nn.Linear(3, 2)
    lwf = LwF(body)
    lwf.end_task(TaskData(()))
    assert lwf.loss(torch.ones(2, 3), torch.zeros(2), torch.zeros(2, 5)).item() > 0
    lwf.end_task(TaskData((), [2]))
    with pytest.raises(ValueError, match="classes hold 2: expected indices of the network's 2 outputs"):
        lwf.loss(torch.ones(2, 3), torch.zeros(2), torch.zeros(2, 5))


@pytest.mark.parametrize("classes", [None, (0, 1, 3)])
def test_lwf_leaves_out_the_outputs_that_the_old_network_had_closed(classes):
    torch.manual_seed(0)

    class Closing(nn.Linear):
        closed = (1, 4)

        def forward(self, input):
            return super().forward(input).index_fill(1, torch.tensor(self.closed), -torch.inf)

    net, x = Closing(3, 5), torch.rand(6, 3)
    lwf = LwF(net, temperature=1.5)
    lwf.end_task(TaskData((x, torch.zeros(6, dtype=torch.int64)), classes))
    net.weight.data.mul_(2)
    shared = [0, 3] if classes else [0, 2, 3]
    with torch.no_grad():
        old, new = (nn.functional.linear(x, w, net.bias)[:, shared] / 1.5 for w in (net.weight / 2, net.weight))
    expected = (old.softmax(1) * (old.log_softmax(1) - new.log_softmax(1))).sum(1).mean()
    loss = lwf.loss(x, x, net(x))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert net.weight.grad.isfinite().all()


def test_frozen_body_does_not_move():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    before = net[0].weight.clone()
    optimizer = torch.optim.SGD(freeze_body(net, "2"), lr=1.0)
    net(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    assert torch.equal(net[0].weight, before)
    assert net[0].weight.grad is None
    net[2].bias.requires_grad_(False)
    freeze_body(net)
    assert [p.requires_grad for p in net.parameters()] == [False, False, True, False]  # what was frozen stays so


def test_one_of_several_heads_goes_on_learning():
    net = nn.ModuleDict({"body": nn.Linear(2, 3), "heads": nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])})
    for head, trained in ((None, ["heads.0", "heads.1"]), ("heads.1", ["heads.1"])):
        learns = freeze_body(net.requires_grad_(), head)
        names = [name for name, p in net.named_parameters() if p.requires_grad]
        assert names == [f"{name}.{kind}" for name in trained for kind in ("weight", "bias")]
        assert [id(p) for p in learns] == [id(net.get_parameter(name)) for name in names]


def test_frozen_after_the_first_task_only_the_head_learns_with_a_new_state():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.Flatten())
    method, optimizer = FrozenBody(net), torch.optim.Adam(net.parameters())
    method.attach(optimizer)
    task = TaskData((torch.eye(3), torch.tensor([0, 1, 0])))
    for _ in range(2):
        nn.functional.cross_entropy(net(task.train[0]), task.train[1]).backward()
        optimizer.step()
        method.end_task(task)
        optimizer.zero_grad()
        assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]
    assert set(optimizer.state) == {net[2].weight, net[2].bias}  # which was not cleared again
    assert all(state["step"] == 1 for state in optimizer.state.values())


def test_replay_learns_each_sample_over_the_outputs_of_its_own_task():
    torch.manual_seed(0)
    net, generator = nn.Linear(3, 4), torch.Generator().manual_seed(0)
    replay = Replay(net, 4, generator=generator)
    tasks = [TaskData((torch.rand(2, 3), torch.tensor(labels)), labels) for labels in ([0, 1], [2, 3])]
    assert replay.loss(torch.ones(4, 3), torch.zeros(4), torch.zeros(4, 4)) == 0
    for task in tasks:
        replay.end_task(task)
    expected = sum(task_cross_entropy(net(task.train[0]), task.train[1], task.classes) for task in tasks) / 2
    loss = replay.loss(torch.ones(4, 3), torch.zeros(4), torch.zeros(4, 4))  # as many as are kept: all
    torch.testing.assert_close(loss, expected)
    alone = [
        task_cross_entropy(net(x[None]), y[None], task.classes).item()
        for task in tasks
        for x, y in zip(*task.train, strict=True)
    ]
    loss_of_a_sample = replay.loss(torch.ones(1, 3), torch.zeros(1), torch.zeros(1, 4))
    assert min(abs(loss_of_a_sample.item() - loss) for loss in alone) < 1e-6


def test_penalties_leave_out_the_fast_weights_of_plastic_modules():
    net = nn.ModuleDict({"core": PlasticRNN(3, 4, num_layers=2, rule=Modulated()), "out": nn.Linear(4, 2)})
    slow = set(slow_parameters(net))
    assert {"core.weight_hh", "core.upper.0.weight_hh", "out.bias"} <= slow
    assert not any("alpha" in name or "rule" in name or "neuromodulator" in name for name in slow)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: Reservoir(0, g), "capacity"),
        (lambda g: Reservoir(2, g).sample(1), "empty"),
        (lambda g: Reservoir(2, g).add(torch.ones(3, 1), torch.ones(2)), "labels"),
        (lambda g: LwF(nn.Linear(2, 2), -1.0), "strength"),
        (lambda g: LwF(nn.Linear(2, 2), temperature=0.0), "temperature"),
        (lambda g: LwF(nn.Linear(2, 2)).end_task(TaskData((), [])), "classes"),
        (lambda g: LwF(nn.Linear(2, 2)).end_task(TaskData((), [1, 1])), r"classes = \[1, 1\]: expected different"),
        (lambda g: Replay(nn.Linear(2, 2), 0), "capacity = 0"),
        (lambda g: LwF(nn.Linear(2, 2)).load_state_dict({}), "'groups'.* is missing"),
        (lambda g: freeze_body(nn.Linear(2, 2), "head"), "head"),
        (lambda g: FrozenBody(nn.Sequential(nn.ReLU())), "head"),
        (lambda g: freeze_body(nn.Sequential(nn.ReLU()), "0"), "head"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.Generator().manual_seed(0))


def test_samples_of_another_shape_are_refused():
    memory = Reservoir(3, torch.Generator())
    memory.add(torch.ones(2, 4), torch.zeros(2))
    with pytest.raises(ValueError, match="inputs"):
        memory.add(torch.ones(2, 5), torch.zeros(2))


@pytest.mark.parametrize("method", [EWC, FrozenBody, L2Anchor, LwF, MAS, OnlineEWC, Replay, SynapticIntelligence])
def test_a_method_draws_from_the_generator_that_it_is_given(method):
    generator = torch.Generator()
    assert method(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), generator=generator).generator is generator


def test_old_gradients_do_not_move_a_frozen_body():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.ones(4, 2)).square().sum().backward()
    freeze_body(net)
    before = net[0].weight.clone()
    optimizer.step()
    assert torch.equal(net[0].weight, before)


def test_a_used_reservoir_loads_the_state_of_an_empty_one():
    empty, used = (Reservoir(3, torch.Generator().manual_seed(0)) for _ in range(2))
    used.add(torch.ones(5, 2), torch.ones(5))
    used.load_state_dict(empty.state_dict())
    assert len(used) == used.seen == 0


def test_a_used_replay_loads_the_state_of_an_empty_one():
    empty, used = (Replay(nn.Linear(2, 2), 3) for _ in range(2))
    used.end_task(TaskData((torch.ones(5, 2), torch.arange(5) % 2)))
    used.load_state_dict(empty.state_dict())
    assert len(used.memory) == len(used.classes) == 0


def test_a_replay_that_goes_on_from_a_state_keeps_its_samples_where_the_network_is():
    before = Replay(nn.Linear(2, 2), 3)
    before.end_task(TaskData((torch.ones(5, 2), torch.arange(5) % 2)))
    resumed = Replay(nn.Linear(2, 2, device="meta"), 3)  # "meta" is a device on any machine
    resumed.load_state_dict(before.state_dict())
    assert all(part.is_meta for part in resumed.memory.sample(2))


def test_a_balanced_reservoir_stores_rare_classes_in_full_and_frequent_ones_alike():
    labels = torch.tensor([0] * 500 + [1] * 60 + [2] * 4)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    memory = Reservoir(30, torch.Generator().manual_seed(1), balanced=True)
    for part in torch.arange(len(labels)).split(7):
        memory.add(part[:, None], labels[part])
    inputs, stored, _ = memory.sample(30)
    assert stored.bincount().tolist() == [13, 13, 4]
    assert torch.equal(labels[inputs[:, 0]], stored)
    assert len(inputs.unique()) == 30


def test_a_balanced_reservoir_is_uniform_within_a_class():
    counts, labels = np.zeros(24), torch.tensor([0] * 16 + [1] * 8)
    for seed in range(500):
        generator = torch.Generator().manual_seed(seed)
        memory, order = Reservoir(8, generator, balanced=True), torch.randperm(24, generator=generator)
        memory.add(order, labels[order])
        counts[memory.sample(8)[0].numpy()] += 1
    assert counts.sum() == 4000
    assert chisquare(counts[:16]).pvalue > 0.001
    assert chisquare(counts[16:]).pvalue > 0.001
    assert counts[16:].sum() == pytest.approx(counts[:16].sum(), rel=0.1)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 12), st.integers(0, 5))
def test_a_balanced_reservoir_does_not_depend_on_batches_and_goes_on_from_its_state(sizes, capacity, seed):
    stream = torch.arange(sum(sizes))
    labels = torch.randint(3, (len(stream),), generator=torch.Generator().manual_seed(seed)) ** 2
    memories = [Reservoir(capacity, torch.Generator().manual_seed(seed), balanced=True) for _ in range(3)]
    memories[0].add(stream, labels)
    for part in stream.split(sizes):
        memories[1].add(part, labels[part])
        memories[2].load_state_dict(memories[1].state_dict())
        memories[1], memories[2] = memories[2], memories[1]
    states = [memory.state_dict() for memory in memories[:2]]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_balanced_reservoir_needs_classes():
    memory = Reservoir(4, torch.Generator(), balanced=True)
    for labels in (torch.rand(3), torch.zeros(3, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"balanced = True with labels of .*: expected classes, integers"):
            memory.add(torch.rand(3, 2), labels)
    assert len(memory) == 0


def test_replay_of_regression_repeats_the_loss_of_the_task():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20, 3, generator=generator), torch.randn(2, 20, 2, generator=generator)
    net = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=r"labels of torch.float32: expected classes, .* another task_loss"):
        Replay(net).end_task(TaskData((x[0], y[0])))
    replay = Replay(net, 40, task_loss=lambda output, y, classes: nn.functional.mse_loss(output, y))
    for task in range(2):
        replay.end_task(TaskData((x[task], y[task])))
    expected = nn.functional.mse_loss(net(x.flatten(0, 1)), y.flatten(0, 1))
    torch.testing.assert_close(replay.loss(torch.zeros(40, 3), y, y), expected)


def test_samples_that_cross_entropy_leaves_out_are_not_replayed():
    x, y = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, -100] * 4)
    replay = Replay(nn.Linear(3, 2), 12)
    for labels in (y, torch.full((12,), -100)):
        replay.end_task(TaskData((x, labels), (0, 1)))
    assert sorted(replay.memory.sample(12)[1].tolist()) == [0] * 4 + [1] * 4
    assert all(replay.loss(x[:1], y[:1], x[:1]).isfinite() for _ in range(9))


@pytest.mark.parametrize("given", [False, True])
def test_the_loss_given_to_the_training_reaches_replayed_samples(given):
    x, y = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2
    seen = []

    def loss(logits, labels, classes):
        seen.append((len(labels), classes))
        return nn.functional.cross_entropy(logits, labels)

    net, tasks = nn.Linear(3, 2), [TaskData((x, y), (0, 1)), TaskData((x, y), (1, 0))]
    method = Replay(net, 5, task_loss=None if given else loss)
    options = {"task_loss": loss} if given else {}
    sgd, draws = torch.optim.SGD(net.parameters(), 0.1), random_batches(4, torch.Generator())
    list(train_on_tasks(net, tasks, method, sgd, steps=2, draw=draws, **options))
    assert seen == [(4, (0, 1))] * 2 + [(4, (1, 0)), (4, [0, 1])] * 2
