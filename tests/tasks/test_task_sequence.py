"""Sequences of tasks: what is permuted, split and padded, and what is not."""

from __future__ import annotations

import pytest
import torch

from engram.tasks import mixture, permuted, split


def digits(seed=0, count=400, classes=10):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 4, generator=generator), torch.arange(count) % classes


def test_permutations_reorder_features_alike_in_training_and_test():
    train, test = digits(0), digits(1, 50)
    tasks = permuted(train, test, 3, torch.Generator().manual_seed(0))
    again = permuted(train, test, 3, torch.Generator().manual_seed(0))
    for task, other in zip(tasks, again, strict=True):
        assert torch.equal(task.train.inputs, other.train.inputs)
        order = [(train[0].flatten(1) == task.train.inputs[:, [k]]).all(0).nonzero().item() for k in range(12)]
        assert sorted(order) == [*range(12)]
        assert torch.equal(task.test.inputs, test[0].flatten(1)[:, order])
        assert torch.equal(task.train.labels, train[1])
        assert task.classes == (*range(10),)
    assert not torch.equal(tasks[0].train.inputs, tasks[1].train.inputs)
    first = permuted(train, test, 1, torch.Generator().manual_seed(0), permute_first=False)[0]
    assert torch.equal(first.train.inputs, train[0].flatten(1))


def test_imbalance_is_geometric_and_spares_the_test():
    tasks = permuted(digits(), digits(1), 2, torch.Generator().manual_seed(1), imbalance=0.1)
    expected = sorted(round(0.1 ** (r / 9) * 40) for r in range(10))
    for task in tasks:
        assert sorted(task.train.labels.bincount().tolist()) == expected
        assert task.test.labels.bincount().tolist() == [40] * 10
    assert tasks[0].train.labels.bincount().tolist() != tasks[1].train.labels.bincount().tolist()


def test_split_shares_the_samples_out():
    tasks = split(digits(), digits(1, 50))
    assert [task.classes for task in tasks] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert sum(len(task.train.labels) for task in tasks) == 400
    for task in tasks:
        assert set(task.train.labels.tolist()) == set(task.test.labels.tolist()) == set(task.classes)


def test_a_constant_channel_stays_near_zero():
    images = torch.full((500, 1, 28, 28), 0.1)  # its deviation is rounding
    (task,) = mixture([((images, torch.zeros(500, dtype=torch.long)),) * 2])
    assert task.train.inputs.abs().max() < 1e-6


def test_mixture_pads_repeats_standardises_and_has_a_head_for_each():
    grey = torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    colour = torch.rand(4, 3, 6, 8, generator=torch.Generator().manual_seed(1)), torch.arange(4) % 2
    first, second = mixture([(grey, grey), (colour, colour)])
    assert first.train.inputs.shape == (6, 3, 6, 8)
    assert second.train.inputs.shape == (4, 3, 6, 8)
    assert (first.classes, second.classes) == ((0, 1, 2), (3, 4))
    assert second.test.labels.tolist() == [3, 4, 3, 4]
    assert torch.equal(first.train.inputs[:, 0], first.train.inputs[:, 2])
    for task in (first, second):
        torch.testing.assert_close(task.train.inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(task.train.inputs.std((0, 2, 3)), torch.ones(3))
    inner = first.train.inputs[:, 0, 1:5, 2:6]
    torch.testing.assert_close((inner - inner.mean()) / inner.std(), (grey[0] - grey[0].mean()) / grey[0].std())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: permuted(digits(), (digits()[0][:, :2], digits()[1]), 2, g), "features"),
        (lambda g: permuted(digits(), (digits()[0], digits()[1][:3]), 2, g), "test has labels"),
        (
            lambda g: permuted((digits()[0].byte(), digits()[1]), digits(), 2, g),
            r"train has inputs of torch.uint8 .*: expected floating-point numbers",
        ),
        (lambda g: split(digits(), digits(), [(0, 1), (1, 2)]), "groups"),
        (lambda g: split(digits(), digits(), [(0, 11)]), "class 11"),
        (lambda g: mixture([]), "data_sets"),
        (lambda g: mixture([((digits()[0].flatten(1), digits()[1]),) * 2]), "images"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.Generator().manual_seed(0))


def test_tasks_are_where_the_samples_are():
    data = torch.eye(4), torch.tensor([0, 1, 2, 3])
    with torch.device("meta"):  # as another default device than that of the samples
        tasks = split(data, data, [(0, 3), (1, 2)])
    assert [task.train.labels.tolist() for task in tasks] == [[0, 3], [1, 2]]
