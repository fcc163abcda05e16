"""Each submodule keeps its own mode in training, and a frozen body keeps its statistics in any loop."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from engram.analysis.forgetting.extract import extract
from engram.continual import (
    ContinualMethod,
    FrozenBody,
    TaskData,
    fisher_diagonal,
    freeze_body,
    random_batches,
    train_on_tasks,
)
from engram.nn.modes import evaluation_mode, modes_of, training_modes


def network(norm):
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Linear(3, 6), norm, nn.ReLU()), nn.Linear(6, 4))


def tasks():
    draws = torch.Generator().manual_seed(1)
    inputs = torch.randn(12, 3, generator=draws)
    return [
        TaskData((9 * first + (first + 1) * inputs, torch.arange(12) % 2 + first), (first, first + 1))
        for first in (0, 2)
    ]


class Centred(nn.Module):
    """Its running mean is assigned, not changed in place."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


NORMS = {
    "batch": lambda: nn.BatchNorm1d(6),
    "cumulative": lambda: nn.BatchNorm1d(6, momentum=None, affine=False),
    "instance": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()
    ),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
    "own": Centred,
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loop", ["train_on_tasks", "own"])
def test_features_of_a_frozen_body_do_not_move_whatever_the_loop_says(norm, loop):
    net, (first, second) = network(NORMS[norm]()), tasks()
    method, sgd = FrozenBody(net), torch.optim.SGD(net.parameters(), lr=0.1)
    draw = random_batches(6, torch.Generator().manual_seed(2))
    if loop == "own":
        method.attach(sgd)
        for task in (first, second):
            for _ in range(3):
                net.train()
                x, y = draw(task, 0)
                sgd.zero_grad()
                logits = net(x)
                (nn.functional.cross_entropy(logits, y) + method.loss(x, y, logits)).backward()
                sgd.step()
            if task is first:
                method.end_task(task)
                before, head = extract(net[0], first.train[0]), net[1].weight.clone()
    else:
        for step in train_on_tasks(net, [first, second], method, sgd, steps=3, draw=draw):
            if step.step == 2:
                before, head = extract(net[0], first.train[0]), net[1].weight.clone()
            net.eval()  # to test it, as one does
            net.train()
    assert torch.equal(extract(net[0], first.train[0]), before)
    assert not torch.equal(net[1].weight, head)
    assert net[1].training


def test_the_statistics_of_a_thawed_body_move_again():
    for affine in (True, False):
        net = network(nn.BatchNorm1d(6, affine=affine))
        freeze_body(net)
        copied, stored = copy.deepcopy(net), pickle.loads(pickle.dumps(net))
        for each in (net, copied, stored):
            assert not each.train()[0][1].training
        copied.requires_grad_()
        assert copied.train()[0][1].training
        assert not net.train()[0][1].training
    tied = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    tied[0].weight = tied[2].weight
    freeze_body(tied)
    assert not tied.train()[1].training


def test_a_body_that_a_state_says_was_not_frozen_has_its_modes_of_then():
    net = network(nn.Sequential(nn.BatchNorm1d(6), nn.BatchNorm1d(6).eval()))
    method, modes = FrozenBody(net), modes_of(net)
    before = method.state_dict()
    method.end_task(tasks()[0])
    method.end_task(tasks()[1])
    assert not net[0][1][0].training
    method.load_state_dict(before)
    assert modes_of(net) == modes
    assert net.train()[0][1][0].training


def test_parts_keep_their_modes_and_the_whole_network_is_put_back():
    net = network(nn.Sequential(nn.BatchNorm1d(6).eval(), nn.Dropout(0.5)))
    norm, dropout = net[0][1]
    seen = []
    net.register_forward_pre_hook(lambda *_: seen.append((net.training, norm.training, dropout.training)))
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    draw = random_batches(6, torch.Generator().manual_seed(2))
    for step in train_on_tasks(net, tasks(), ContinualMethod(net), sgd, steps=3, draw=draw):
        if step.step == 0:
            net.eval()
        if step.step == 1:
            net.eval().train()
        if step.step == 2:
            dropout.eval()
        if step.step == 3:
            norm.train()
    default = (True, False, True)
    assert seen == [default, default, default, (True, False, False), (True, True, False), (True, True, False)]


def test_a_network_wholly_in_evaluation_mode_is_put_into_training_mode_before_the_first_step():
    net = network(nn.Dropout()).eval()
    assert all(training_modes(net, None).values())
    assert all(modes_of(net).values())


def test_measures_put_each_module_back_also_after_an_error():
    net = network(nn.BatchNorm1d(6).eval())
    before = modes_of(net)
    fisher_diagonal(net, [tasks()[0].train])
    extract(net, tasks()[0].train[0])
    assert modes_of(net) == before
    with pytest.raises(RuntimeError), evaluation_mode(net):
        net(torch.ones(2, 5))
    assert modes_of(net) == before
