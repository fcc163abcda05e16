"""The data of a task: what is accepted, what is refused by name, and what order they come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from engram.continual import EWC, MAS, OnlineEWC, Replay, TaskData, task_batches
from engram.learned.updates import LearnedUpdate

X, Y = torch.eye(4), torch.tensor([0, 1, 0, 1])
WRONG = {
    "one label a row": ((X, Y[:, None]), r"labels of shape \(4, 1\): expected \(4,\), a class for each sample"),
    "too few labels": ((X, Y[:3]), r"labels of shape \(3,\): expected \(samples, ...\), and one label for each"),
    "a label for all": ((X, Y[0]), r"labels of shape \(\)"),
    "triple": ((X, Y, Y), r"holds a tuple \(Tensor, Tensor, Tensor\): expected a pair of tensors"),
    "batches of triples": ([(X, Y, Y)], r"holds a tuple \(Tensor, Tensor, Tensor\): expected a pair of tensors"),
    "dict": ({"x": X, "y": Y}, "task.train is a dict: expected a pair of tensors"),
    "batches of dicts": ([{"x": X, "y": Y}], "task.train holds a dict: expected a pair of tensors"),
    "data set": (TensorDataset(X, Y), "task.train is a TensorDataset: .* such as a DataLoader"),
    "arrays": ((X.numpy(), Y.numpy()), r"holds a tuple \(ndarray, ndarray\): expected a pair of tensors"),
    "an array": (np.eye(4), "task.train is a ndarray: expected a pair of tensors"),
    "inputs alone": (X, "task.train is a Tensor: expected a pair of tensors"),
    "nothing": (None, "task.train is a NoneType: expected a pair of tensors"),
    "no batch": ([], "task.train holds no sample: expected at least one"),
    "no sample": ((X[:0], Y[:0]), "task.train holds no sample: expected at least one"),
}


def network():
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
    return net


@pytest.mark.parametrize("make", [EWC, OnlineEWC, MAS, Replay, LearnedUpdate])
@pytest.mark.parametrize("case", WRONG)
def test_data_of_another_form_are_refused_by_name(make, case):
    train, message = WRONG[case]
    method = make(network())
    before = method.state_dict()
    with pytest.raises((TypeError, ValueError), match=message):
        method.end_task(TaskData(train))
    if make is Replay:
        assert len(method.memory) == 0
        assert method.classes == []
        assert torch.equal(method.state_dict()["memory"]["generator"], before["memory"]["generator"])


@pytest.mark.parametrize(
    "train",
    [(X, Y), [X, Y], [(X, Y)], ((X[:2], Y[:2]), (X[2:], Y[2:])), DataLoader(TensorDataset(X, Y), 2)],
    ids=["tuple", "list", "one batch", "tuple of batches", "loader"],
)
def test_pairs_and_batches_of_pairs_are_the_same_data(train):
    inputs, labels = (torch.cat(parts) for parts in zip(*task_batches(TaskData(train)), strict=True))
    assert torch.equal(inputs, X)
    assert torch.equal(labels, Y)


def in_order(n):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * n, 4, generator=generator)
    return x, torch.arange(2).repeat_interleave(n)


@pytest.mark.parametrize("make", [EWC, OnlineEWC, MAS])
@pytest.mark.parametrize("loaded", [False, True], ids=["pair", "loader"])
def test_data_in_the_order_of_classes_are_warned_of_where_not_all_are_measured(make, loaded, recwarn):
    def end(train, n_samples, classes=(0, 1)):
        if loaded:
            train = DataLoader(TensorDataset(*train), 10)
        make(network(), n_samples=n_samples).end_task(TaskData(train, classes))

    x, y = in_order(60)
    for n_samples in (40, 90):
        with pytest.warns(UserWarning, match=f"order of its classes, .* first {n_samples} samples.*: shuffle it"):
            end((x, y), n_samples)
    recwarn.clear()
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    end((x[order], y[order]), 40)
    end((x, y), 120)
    end((x, y), None)
    end((x[:60], y[:60]), 40, (0,))
    assert not [warning for warning in recwarn.list if "order" in str(warning.message)]


def test_how_many_samples_are_measured_is_as_set():
    x, y = in_order(20)
    few, first = EWC(network(), n_samples=7), EWC(network())
    few.end_task(TaskData(((x[:5], y[:5]), (x[5:], y[5:]))))
    first.end_task(TaskData((x[:7], y[:7])))
    for name, value in first.importance.items():
        torch.testing.assert_close(few.importance[name], value)
