"""The loop over tasks: what it calls when, and that an interrupted experiment goes on exactly."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from engram.continual import EWC, MAS, ContinualMethod, TaskData, random_batches, task_cross_entropy, train_on_tasks
from engram.continual.task import task_batches
from engram.lab import Run


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network():
    torch.manual_seed(0)
    return nn.Linear(3, 4)


def tasks():
    inputs = torch.rand(8, 3, generator=seeded(1))
    return [TaskData((inputs, torch.arange(8) % 2 + first), (first, first + 1)) for first in (0, 2)]


class Recorded(ContinualMethod):
    """It writes down what it is called with."""

    def __init__(self, model):
        super().__init__(model)
        self.calls = []

    def attach(self, optimizer):
        self.calls.append("attach")

    def loss(self, x, y, logits):
        self.calls.append((len(x), torch.equal(logits, self.model(x))))
        return logits.sum() * 0.1

    def end_task(self, task):
        self.calls.append(task)


def test_it_is_the_loop_that_one_would_write():
    net, plain, both = network(), network(), tasks()
    method, optimizer = Recorded(net), torch.optim.SGD(net.parameters(), lr=0.5)
    steps = train_on_tasks(net, both, method, optimizer, steps=[2, 3], draw=random_batches(5, seeded()))
    assert method.calls == ["attach"]
    records = list(steps)
    assert [(step, task, ends) for step, task, _, ends in records] == [
        (0, 0, False), (1, 0, True), (2, 1, False), (3, 1, False), (4, 1, True),
    ]  # fmt: skip
    assert method.calls == ["attach", *[(5, True)] * 2, both[0], *[(5, True)] * 3, both[1]]
    optimizer, draws = torch.optim.SGD(plain.parameters(), lr=0.5), seeded()
    for step in range(5):
        (inputs, labels), classes = both[step >= 2]
        rows = torch.randint(8, (5,), generator=draws)
        logits = plain(inputs[rows])
        loss = functional.cross_entropy(logits[:, list(classes)], labels[rows] - classes[0])
        torch.testing.assert_close(records[step].loss, loss.detach())
        assert not records[step].loss.requires_grad
        optimizer.zero_grad()
        (loss + 0.1 * logits.sum()).backward()
        optimizer.step()
    torch.testing.assert_close(net.weight, plain.weight)


def test_the_network_is_in_training_mode_at_each_step_and_hears_labels_if_asked():
    class Hears(nn.Linear):
        def forward(self, input, labels):
            assert self.training
            assert labels.shape == input.shape[:1]
            return super().forward(input)

    net = Hears(3, 4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    draw = random_batches(5, seeded())
    for _ in train_on_tasks(net, tasks(), ContinualMethod(net), optimizer, steps=2, draw=draw, labelled=True):
        net.eval()


@pytest.mark.parametrize("stop", [3, 4, 6])
def test_an_interrupted_loop_goes_on_exactly(tmp_path, stop):
    """Within a task, at its end, and in the next one."""

    class Loop(Run):
        """The checkpoint of a run, in memory."""

        def __init__(self, checkpoint=None):
            self.generator, self.checkpoint = seeded(5), checkpoint

        def steps(self, total, /, **state):
            state["generator"] = self.generator
            first = 0
            if self.checkpoint is not None:
                first, stored = self.checkpoint
                for name, part in state.items():
                    (part.set_state if name == "generator" else part.load_state_dict)(stored[name])
            for step in range(first, total):
                yield step
                if step + 1 == stop:
                    stored = {name: part.state_dict() for name, part in state.items() if name != "generator"}
                    self.checkpoint = stop, torch.load(self.saved(stored | {"generator": self.generator.get_state()}))

        def saved(self, stored):
            torch.save(stored, tmp_path / "state")
            return tmp_path / "state"

    def train(run, stops=None):
        net = network()
        optimizer = torch.optim.Adam(net.parameters(), 0.1)
        method = EWC(net, 3.0)
        loop = run.steps(8, net=net, method=method, optimizer=optimizer)
        draw = random_batches(3, run.generator)
        for step in train_on_tasks(net, tasks(), method, optimizer, steps=4, draw=draw, loop=loop):
            if step.step == stops:
                break
        return net.weight

    first = Loop()
    train(first, stops=stop)
    assert torch.equal(train(Loop(first.checkpoint)), train(Loop()))


def test_the_softmax_runs_over_the_classes_of_the_task():
    logits, labels = torch.randn(6, 5, generator=seeded()), torch.tensor([1, 3, 3, 1, 1, 3])
    loss = task_cross_entropy(logits, labels, (1, 3))
    torch.testing.assert_close(loss, functional.cross_entropy(logits[:, [1, 3]], labels // 2))
    assert torch.equal(task_cross_entropy(logits, labels), functional.cross_entropy(logits, labels))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tasks": []}, ValueError, "0 tasks"),
        ({"steps": [3]}, ValueError, "2 tasks and 1 steps"),
        ({"steps": 0}, ValueError, "steps = 0"),
        ({"tasks": [3]}, TypeError, "tasks"),
        ({"method": "ewc"}, TypeError, "method"),
        ({"model": 3}, TypeError, "model"),
    ],
)
def test_bad_input_is_named(options, error, message):
    net = network()
    arguments = {
        "model": net, "tasks": tasks(), "method": ContinualMethod(net), "steps": 2, "draw": random_batches(2, seeded()),
        "optimizer": torch.optim.SGD(net.parameters(), lr=1.0),
    }  # fmt: skip
    with pytest.raises(error, match=message):
        train_on_tasks(**{**arguments, **options})


@pytest.mark.parametrize("labels", [torch.arange(8) % 2, torch.rand(8, 4)], ids=["classes", "numbers"])
def test_a_pair_of_tensors_is_one_batch_as_a_tuple_and_as_the_list_that_a_loader_gives(labels):
    inputs, net = torch.rand(8, 3, generator=seeded(1)), network()
    importances = []
    for train in ((inputs, labels), [inputs, labels], [(inputs, labels)]):
        batches = list(task_batches(TaskData(train)))
        assert len(batches) == 1
        method = MAS(net)
        method.end_task(TaskData(train))
        importances.append(method.importance["weight"])
    assert torch.equal(importances[0], importances[1])
    assert torch.equal(importances[0], importances[2])
    x, y = random_batches(5, seeded())(TaskData([inputs, labels]), 0)
    assert (len(x), len(y)) == (5, 5)
    with pytest.raises(TypeError, match=r"task\.train is a DataLoader: expected a pair \(inputs, labels\)"):
        random_batches(5, seeded())(TaskData(DataLoader(TensorDataset(inputs, labels))), 0)


def test_batches_are_asked_for_by_the_step_within_the_task():
    net, both, asked = network(), tasks(), []

    def draw(task, step):
        asked.append((task.classes[0], step))
        return task.train

    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    list(train_on_tasks(net, both, ContinualMethod(net), optimizer, steps=[2, 3], draw=draw))
    assert asked == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)]
